"""Files that are whole or not there, and checksums; the only place that reads and writes bytes of a part itself."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from resim.errors import UserError
from resim.store.places import Place, bytes_of

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # some network disks are mounted without
_SYNC_THREADS = 8  # fsync waits for the disk or the file server; side by side they share one commit of the journal


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a `UserError` naming the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = f"{folder}: no space left on the disk or in the quota; nothing half-written was kept"
            raise UserError(f"{message}. Free space or choose another folder, then run the command again") from error
        if error.errno in _NOT_WRITABLE:
            message = f"{folder}: cannot write there ({error.strerror})"
            raise UserError(f"{message}. Choose a folder that you may write to, or change its permissions") from error
        raise


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end; the kernel lets go of it when the process is killed.

    Raises
    ------
    UserError
        `busy`, if another process holds it; without a message it is waited for.
    """
    if path.is_symlink() or path.is_dir():
        remove(path)
    while True:
        with path.open("a") as file:
            _lock(file, busy)
            if _is_at(path, file):  # or else its last holder removed it between the opening and the locking
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)  # while the lock is held: nobody else's file can be there
                return


def _lock(file: IO[str], busy: str | None) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError as error:
        raise UserError(busy) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def canonical_json(value: Any) -> bytes:
    """Write JSON in one way only: sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256(*pieces: bytes | memoryview) -> str:
    """Give the hex SHA-256 of some bytes, one after the other."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Add `self`, the digest of everything else, so that a changed byte in a JSON file shows."""
    return {**content, "self": sha256(canonical_json(content))}


def is_sealed(content: dict[str, Any]) -> bool:
    """Tell whether `self` fits the rest."""
    try:
        return bool(content.get("self") == sealed({k: v for k, v in content.items() if k != "self"})["self"])
    except ValueError:  # an infinity or a NaN, which is never written
        return False


def check_keys(path: Place, content: Any, kinds: Mapping[str, type], where: str = "") -> None:
    """Refuse a JSON object that lacks a key, or has another kind of value there; a seal does not tell of that.

    Parameters
    ----------
    path, where
        The file, and the place in it, which are named.
    content
        What should be the object.
    kinds
        Key -> type of its value.

    Raises
    ------
    UserError
        If it is not as it should be.
    """
    if not isinstance(content, dict):
        raise UserError(f"{path}: {where}is no JSON object; it is not of this format, make it again")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            what = f"{key} is no {kind.__name__}" if key in content else f"lacks {key}"
            raise UserError(f"{path}: {where}{what}; it is not of this format, make it again")


def read_json(path: Place) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(bytes_of(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8; nested without end
        raise UserError(f"{path}: is not JSON ({error}); it is damaged, make it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; it is damaged, make it again")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file to be read by people as well."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def replace_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file under a temporary name, then rename it: readers see the old file or the new one.

    One process at a time: who calls holds a lock.

    Raises
    ------
    UserError
        If a folder has the file's name.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder, and a file is to be written there; remove or rename the folder")
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    for leftover in path.parent.glob(f".{path.name}-*"):  # of killed writers
        leftover.unlink(missing_ok=True)
    try:
        write_json(temporary, content)
        sync([temporary])
        temporary.replace(path)
        sync([path.parent])
    finally:
        temporary.unlink(missing_ok=True)


def sync(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk. A full network disk may be told only here."""
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_tree(source: Path, target: Path) -> None:
    """Hard-link all files of a folder into a new one; copy where the file system has no links."""
    _each_file(source, target, _link)


def copy_tree(source: Path, target: Path) -> None:
    """Copy all files of a folder into a new one."""
    _each_file(source, target, shutil.copyfile)


def _each_file(source: Path, target: Path, put: Callable[[Path, Path], Any]) -> None:
    """Go through a folder, parents first; `shutil.copytree` would hide from its caller that a disk is full."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        there.mkdir() if path.is_dir() else put(path, there)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another device, or a file system without hard links: a failing copy tells the rest
        shutil.copyfile(source, target)


def remove(path: Path) -> None:
    """Remove what has this name, if anything: a folder with all that is in it; of a symbolic link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace_folder(temporary: Path, target: Path) -> None:
    """Put a whole new folder in the place of `target`, if there is anything; `temporary` stands beside it."""
    aside = temporary.with_name(f"{temporary.name}-old")
    try:
        if os.path.lexists(target):
            target.rename(aside)
        temporary.rename(target)
    except BaseException:  # told to stop just between the two: the old one goes back
        if os.path.lexists(aside) and not os.path.lexists(target):
            aside.rename(target)
        raise
    sync([target.parent])
    with suppress(OSError):  # the new folder is in its place; the next writer tries again and tells
        remove(aside)
