"""How a command ends early: by a user's mistake, too little memory, or a signal to stop; each is told in one line."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NoReturn

from resim.errors import UserError

_NO_MEMORY = (
    "can't start new thread",
    "can't allocate memory",
    "cannot allocate memory",
    "cuda out of memory",
    "not enough memory",
)
"""What RuntimeErrors of Python and torch say then, and OSErrors of the system and of codecs; in lower case."""
_RESERVE, _ROOM = 16_000_000, 256_000_000  # bytes


class Stopped(BaseException):
    """Told to end; on the way out whatever is half-written is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


_told: list[int] | None = None
"""Where the main thread is `unbroken`, the signals that it was told of meanwhile."""


def _stop(number: int, _: object) -> None:
    if _told is not None:
        _told.append(number)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the tidying up
    raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """End by `Stopped` where a batch system (SIGTERM, some time before SIGKILL) or Ctrl-C (SIGINT) says so.

    Only the main thread is told of signals; another one goes on as before.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if _is_main_thread() else ()
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """Let no signal break off what is done here: `Stopped` is raised at its end.

    For what works in threads of its own, as Zarr does: else they would go on writing while the folder is removed.
    """
    global _told
    if not _is_main_thread() or _told is not None:
        yield
        return
    _told = told = list[int]()
    try:
        yield
    finally:
        _told = None
    if told:
        _stop(told[0], None)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def run_command(command: Callable[[], object], program: str, *, less: str, kept: str) -> None:
    """Run a command; the exit code is 2 of a mistake, 1 without memory, 128 + the signal's number of a signal.

    Parameters
    ----------
    command
        What is run.
    program
        Its name, the first word of the line.
    less
        What to ask for less of where memory is short.
    kept
        What was kept when it was stopped, and what the same command then does.
    """
    # Without memory nothing could be said either, nor the error be caught: what both take is taken now.
    reserve, _ = bytearray(_RESERVE), sys._getframe()
    try:
        _refuse_empty(sys.argv[1:])
        with stoppable(), _finalizers_told():
            command()
    except UserError as error:
        _end(program, 2, " ".join(str(error).split()))
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":  # how Python carries bytes that are not UTF-8
            raise
        why = "a name that is not UTF-8, and Zarr's codecs take no other"
        _end(program, 2, f"{error.object!a}: {why}; rename the folder or file")
    except Stopped as stopped:
        _end(program, 128 + stopped.signal, f"stopped by {stopped.signal.name}; {kept}")
    except SystemExit:
        raise
    except BaseException as error:  # Rust's panics are no Exceptions
        del reserve
        lack = _lack_of_memory(error)
        if lack is None:
            raise
        _end(program, 1, f"out of memory ({lack}); give the job more, or {less}; nothing half-written was kept")


@contextmanager
def _finalizers_told() -> Iterator[None]:
    """Let Python tell of errors that nobody can catch, but those of a lack of memory, which is told at the end."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda told: None if issubclass(told.exc_type, MemoryError) else before(told)
    try:
        yield
    finally:
        sys.unraisablehook = before


def _lack_of_memory(error: BaseException) -> str | None:
    """Tell in a line of an error that comes of a lack of memory; None of another."""
    lines = [line for line in str(error).splitlines() if line] or ["no more is given"]
    if isinstance(error, MemoryError):
        return lines[0]
    found = [line for line in lines if any(words in line.lower() for words in _NO_MEMORY)]
    if found or _has_room():
        return found[0] if found else None
    # Libraries say what they like then: a file that is not found, an error that was lost, a panic.
    return f"{type(error).__name__}: {lines[0]}"


def _has_room() -> bool:
    try:
        bytearray(_ROOM)
    except MemoryError:
        return False
    return True


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse `--out ""`, which would be the folder where one is: most likely a variable of a script has no value."""
    for before, word in pairwise(["the command", *words]):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            where = option if equals else before
            raise UserError(f"{where}: an empty word follows; give it a value (is a variable of yours empty?)")


def _end(program: str, code: int, words: str) -> NoReturn:
    print(f"{program}:", words, file=sys.stderr)
    sys.exit(code)
