"""Where data sets are read from: a folder, or a URL of any file system that fsspec knows. Nothing is written there."""

import errno
from pathlib import Path

from upath import UPath

from resim.errors import UserError

Place = Path | UPath


def place_of(where: Place | str) -> Place:
    """Tell a URL from a path.

    Raises
    ------
    UserError
        If the URL's protocol is none, or the package for it is missing.
    """
    if not (isinstance(where, str) and "://" in where):
        return where if isinstance(where, UPath) else Path(where)
    try:
        place = UPath(where.rstrip("/"))
        _ = place.fs  # opened now, by which a missing package shows
    except (ImportError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({error}); give a folder or a URL that fsspec reads") from error
    return place


def follow(place: Place, way: str) -> Place:
    """Go down, or up (`..`): a disk knows that word, an object store does not."""
    if isinstance(place, Path):
        return place / way
    for word in way.split("/"):
        place = place.parent if word == ".." else place / word
    return place


def size_of(place: Place) -> int:
    """Give a file's size in bytes, -1 where there is none."""
    try:
        return int(place.stat().st_size)
    except Exception:  # noqa: BLE001 - a file system raises what it likes
        return -1


def bytes_of(place: Place) -> bytes:
    """Read a file.

    Raises
    ------
    OSError
        Whatever went wrong.
    """
    if isinstance(place, Path):
        return place.read_bytes()
    try:
        return bytes(place.fs.cat_file(place.path))  # one request; `read_bytes` asks for the size before
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def local(place: Place) -> Path:
    """Give the path of what lies on a disk.

    Raises
    ------
    UserError
        If it lies behind a URL.
    """
    if isinstance(place, Path):
        return place
    raise UserError(f"{place}: is read from a URL, and this needs it on a disk; copy the data set first")
