"""Where data sets are read from: a folder, or a URL of any file system that fsspec knows. Nothing is written there."""

import errno
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from zarr.storage import FsspecStore

from resim.errors import UserError


@dataclass(frozen=True)
class Remote:
    """A file or folder behind a URL, with what reading needs of `Path`."""

    url: str

    def __str__(self) -> str:
        """Give the URL."""
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        """Go down, or up (`..`)."""
        protocol, path = self.url.split("://", 1)
        return Remote(f"{protocol}://{posixpath.normpath(posixpath.join(path, name))}")

    @property
    def name(self) -> str:
        """Last word of the URL."""
        return posixpath.basename(self.url.rstrip("/"))

    @property
    def parent(self) -> "Remote":
        """The folder that it lies in."""
        return self / ".."

    def is_file(self) -> bool:
        """Tell whether it is a JSON file of ours, and there: web servers show folders as files."""
        return self.name.endswith(".json") and self.size() >= 0

    def size(self) -> int:
        """Give a file's size in bytes, -1 where there is none."""
        files, path = self._opened()
        try:
            return int(files.size(path))
        except Exception:  # noqa: BLE001 - a file system raises what it likes
            return -1

    def read_bytes(self) -> bytes:
        """Read a file.

        Raises
        ------
        OSError
            Whatever went wrong.
        """
        files, path = self._opened()
        try:
            return bytes(files.cat_file(path))
        except Exception as error:
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error

    def store(self) -> FsspecStore:
        """Give what Zarr reads it through."""
        return FsspecStore.from_url(self.url, read_only=True)

    def _opened(self) -> tuple[Any, str]:
        try:
            return url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # a package that is missing, a protocol that is none
            raise UserError(
                f"{self.url}: cannot be read ({error}); give a folder or a URL that fsspec reads"
            ) from error


Place = Path | Remote


def place_of(where: Place | str) -> Place:
    """Tell a URL from a path."""
    if isinstance(where, str) and "://" in where:
        return Remote(where.rstrip("/"))
    return where if isinstance(where, Remote) else Path(where)


def local(place: Place) -> Path:
    """Give the path of what lies on a disk.

    Raises
    ------
    UserError
        If it lies behind a URL.
    """
    if isinstance(place, Remote):
        raise UserError(f"{place}: is read from a URL, and this needs it on a disk; copy the data set first")
    return place
