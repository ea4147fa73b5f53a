"""Files of training: written whole or not at all, checkpoints without pickled code."""

import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from resim.errors import UserError

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun, which says in RANK which of its processes this is
_SEAL = hashlib.sha256().digest_size  # bytes at the end of a checkpoint
M = TypeVar("M", bound=BaseModel)


class Layout(BaseModel):
    """What a checkpoint must hold; a field's type is taken as it stands, and what else is there is left alone."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)


def is_first() -> bool:
    """Tell whether this process is the one that writes: the only one, or the first of torchrun's."""
    return LAUNCHED not in os.environ or os.environ["RANK"] == "0"


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the final name, then rename; makes the folder if need be.

    Raises
    ------
    UserError
        If the file cannot be written; nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; free space or give another path") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a result as JSON."""
    write_atomically(path, (model.model_dump_json(indent=1) + "\n").encode())


def read_model(path: Path, kind: type[M]) -> M:
    """Read a result from JSON.

    Raises
    ------
    UserError
        If the file is missing or is something else.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a result of `resim-train`") from None
    except ValidationError as error:
        raise UserError(f"{path}: not a {kind.__name__}: {_first(error)}; make it anew") from None


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write plain values and tensors as torch does, and behind them their SHA-256: torch notices no flipped bit."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


def read_checkpoint(path: Path) -> Any:
    """Read what `save_checkpoint` wrote; code in the file is never run.

    Raises
    ------
    UserError
        If the file is missing, is no checkpoint, or is damaged.
    """
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a checkpoint of `resim-train`") from None
    if hashlib.sha256(sealed[:-_SEAL]).digest() != sealed[-_SEAL:]:
        raise UserError(f"{path}: not a checkpoint, or a damaged one (its checksum does not fit); make it anew")
    try:
        return torch.load(io.BytesIO(sealed), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 torch raises half a dozen types for what is not weights alone
        raise UserError(f"{path}: not a file of weights ({type(error).__name__}); make it anew") from None


def load_checkpoint(path: Path, form: str, version: int, layout: type[Layout]) -> dict[str, Any]:
    """Read a checkpoint of a format.

    Raises
    ------
    UserError
        If the file is missing, damaged, of another format or version, or does not hold what `layout` says.
    """
    content = read_checkpoint(path)
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if found != (form, version):
        raise UserError(f"{path}: format {found[0]!r} version {found[1]!r}, expected {form!r} {version}; make it anew")
    try:
        layout.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: damaged: {_first(error)}; make it anew") from None
    return content


def _first(error: ValidationError) -> str:
    """Tell where the first mistake is and what it is."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    return f"{where}: {first['msg']}"


def digest(content: bytes) -> str:
    """Give a SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
