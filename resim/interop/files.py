"""Files that events are read from: told apart by their content, which is read again only when it may have changed."""

import hashlib
from functools import lru_cache
from pathlib import Path

from resim.errors import UserError

State = tuple[int, int]
"""Size, and time of the last change (ns)."""


def file_digest(path: Path) -> str:
    """Digest the content of a file; computed again only when its size or time has changed."""
    return _digest(path, file_state(path))


def file_state(path: Path) -> State:
    """Give what changes when a file does.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a file that exists") from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4096)
def _digest(path: Path, _state: State) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
