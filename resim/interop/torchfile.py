"""Files that `torch.save` wrote, read without torch and without running anything that they ask for.

Such a file is a zip archive with a pickle in it. A pickle may name any function and have it called; here it may name
what NumPy's arrays and numbers are pickled with, and gets stand-ins of ours in their place: `weights_only=True` with
NumPy's types allowed and nothing else, not even tensors. What a file needs beyond that is told, and the file refused.
"""

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from resim.errors import UserError

LARGEST = 1 << 24
"""Bytes, unpacked, of a file of one event; more would be a trap."""
_MOST_AXES = 32
_REFUSED = (
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS,
    pickle.DICT, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4,
)  # fmt: skip
"""Opcodes that dicts of arrays, numbers and words do without; the first reserves what its length says."""
_CODE = re.compile(r"b1|[iu][1248]|f[248]")
_SIMPLE = (None, None, None)  # of a dtype: no shape, no names, no fields


def read_torch(path: Path) -> dict[str, Any]:
    """Read a file that holds a dict of arrays, numbers and words.

    Raises
    ------
    UserError
        If it is no such file, is damaged, or needs more than NumPy's numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.read(_record(archive))
        content = _Reader(io.BytesIO(record)).load()  # whose reads give what is left, whatever length is asked for
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"holds {type(content).__name__}, not dict")
        return {str(name): _plain(value) for name, value in content.items()}
    except MemoryError as error:
        raise UserError(f"{path}: asks for more memory than there is; get the file again") from error
    except (
        OSError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, ArithmeticError, AttributeError,
        LookupError, NotImplementedError, RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip  # what damaged archives and pickles raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a file of torch.save ({words[:200]}); get it again") from error


def _record(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Find the pickle of an archive."""
    found = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError(f"has {len(found)} records data.pkl, not one")
    size = max(found[0].file_size, found[0].compress_size)
    if size > LARGEST:
        raise ValueError(f"would be {size} bytes, and {LARGEST} are allowed")
    if found[0].compress_type != zipfile.ZIP_STORED:
        raise ValueError("is compressed, as torch.save does not do")
    return found[0]


class _Type:
    """Stands in for a dtype of plain numbers."""

    __slots__ = ("numbers",)

    def __init__(self, code: str) -> None:
        self.numbers = np.dtype(code)

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Take the byte order; what makes of a dtype more than numbers is refused."""
        if tuple(state[2:5]) != _SIMPLE or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("needs arrays of other things than numbers")
        self.numbers = self.numbers.newbyteorder(state[1])


class _Array:
    """Stands in for an array."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take shape, type and bytes."""
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("has an array without a type or bytes")
        # prod would repeat words and tuples, and multiply numbers of any length
        if len(shape) > _MOST_AXES or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
            raise pickle.UnpicklingError("has an array of no possible shape")
        if prod(shape) * kind.numbers.itemsize != len(content):
            raise pickle.UnpicklingError("has an array whose bytes do not fit its shape")
        self.values = np.frombuffer(content, kind.numbers).reshape(shape, order="F" if by_columns else "C")


class _Names(dict[str, Any]):
    """Stands in for a dict: hashing other keys than words could go deeper than the machine's stack."""

    def __setitem__(self, name: str, value: Any) -> None:
        """Take a value under a word."""
        if not isinstance(name, str):
            raise pickle.UnpicklingError("has a dict with other names than words")
        super().__setitem__(name, value)


class _Reader(pickle._Unpickler):
    """Gives a pickle the stand-ins: it can call them, and change none but dtypes and arrays.

    Pickle's reader in Python is used, for that in C reserves memory for any place that a pickle names.
    """

    _to_encode = LARGEST  # bytes: one word of a pickle can be encoded many times

    def _refuse(self) -> NoReturn:
        raise pickle.UnpicklingError("needs other things than dicts, lists, arrays, numbers and words")

    def _empty_dict(self) -> None:
        self.append(_Names())  # type: ignore[attr-defined]

    def _build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        built = self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(built, _Type | _Array):
            raise pickle.UnpicklingError("changes other things than arrays and their types")
        built.__setstate__(state)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((code[0] for code in _REFUSED), _refuse),
        pickle.EMPTY_DICT[0]: _empty_dict,
        pickle.BUILD[0]: _build,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands in for a name, where the name is allowed."""
        allowed = {
            "numpy.core.multiarray._reconstruct": self._array,
            "numpy.core.multiarray.scalar": self._number,
            "numpy.ndarray": None,  # handed to _reconstruct
            "numpy.dtype": self._type,
            "_codecs.encode": self._encode,  # what the second protocol has for bytes
            "__builtin__.bytes": self._no_bytes,  # and for none
        }
        asked = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)
        if asked not in allowed:
            raise pickle.UnpicklingError(f"needs {module}.{name}, and only NumPy's arrays and numbers are allowed")
        return allowed[asked]

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse tensors."""
        raise pickle.UnpicklingError("needs tensors, and only NumPy's arrays and numbers are allowed")

    def _array(self, *_: Any) -> _Array:
        return _Array()

    def _type(self, code: str, *_: Any) -> _Type:
        if not _CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"needs arrays of {code!r}, and only those of numbers are allowed")
        return _Type(code)

    def _number(self, kind: _Type, content: bytes) -> Any:
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("has a number without a type or bytes")
        return np.frombuffer(content, kind.numbers)[0]

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"needs bytes in {encoding!r}, not latin1")
        self._to_encode -= len(text)
        if self._to_encode < 0:
            raise pickle.UnpicklingError(f"would make more than {LARGEST} bytes")
        return text.encode("latin1")

    def _no_bytes(self) -> bytes:
        return b""


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
