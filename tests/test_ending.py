"""How commands end early: exit codes, one line each, and nothing that is broken off halfway."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from resim.ending import Stopped, run_command, stoppable, unbroken
from resim.errors import UserError


def _raise(error: BaseException) -> Callable[[], object]:
    def command() -> None:
        raise error

    return command


def _kill(number: signal.Signals) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (_raise(UserError("a: is b;\n  do c")), 2, "a: is b; do c"),
        (
            _raise(MemoryError()),
            1,
            "out of memory (no more is given); give the job more, or less; nothing",
        ),
        (
            _raise(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes\nat alloc_cpu.cpp")),
            1,
            "out of memory (DefaultCPUAllocator: can't allocate memory: 9 bytes); give the job more, or less",
        ),
        (
            _raise(OSError("Allocation error : not enough memory")),
            1,
            "out of memory (Allocation error : not enough memory)",
        ),
        (
            _raise(OSError(errno.ENOMEM, "Cannot allocate memory")),
            1,
            "out of memory ([Errno 12] Cannot allocate memory)",
        ),
        (_kill(signal.SIGTERM), 143, "stopped by SIGTERM; all was kept"),
        (_kill(signal.SIGINT), 130, "stopped by SIGINT; all was kept"),
    ],
)
def test_an_early_end_is_one_line_and_an_exit_code(
    command: Callable[[], object], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as ended:
        run_command(command, "prog", less="less", kept="all was kept")
    assert ended.value.code == code
    told = capsys.readouterr().err
    assert told.startswith(f"prog: {line}")
    assert told.count("\n") == 1
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "", "--dask", "local"], "--out: an empty word follows"),
        (["--dask="], "--dask: an empty word follows"),
        ([""], "the command: an empty word follows"),
        (["a", "b=", "--c=d", "--"], None),
    ],
)
def test_an_empty_word_is_no_value(
    words: list[str], told: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", *words])
    run = list[bool]()
    with pytest.raises(SystemExit) if told else contextlib.nullcontext():
        run_command(lambda: run.append(True), "prog", less="", kept="")
    assert capsys.readouterr().err.startswith(f"prog: {told}" if told else "")
    assert run == ([] if told else [True])


def test_an_error_where_no_memory_is_left_is_of_that() -> None:
    code = """if True:
        import resource
        from pathlib import Path
        from resim.ending import run_command
        def command():
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            class Panic(BaseException): ...
            raise Panic("\\n\\nliba.so: failed to map segment from shared object")
        run_command(command, "prog", less="less", kept="")
    """
    for room, ours in ((10_000_000, True), (1_000_000_000, False)):
        words = [sys.executable, "-c", code.replace("ROOM", str(room))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        why = "Panic: liba.so: failed to map segment from shared object"
        assert done.stderr.startswith(f"prog: out of memory ({why}); give the job more, or less;") == ours
        assert ("Traceback" in done.stderr) != ours


def test_finalizers_without_memory_say_nothing_and_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    told = list[type]()
    monkeypatch.setattr(sys, "unraisablehook", lambda said: told.append(said.exc_type))
    run_command(lambda: [Dying(MemoryError()), Dying(ValueError())].clear(), "prog", less="", kept="")
    assert told == [ValueError]
    Dying(MemoryError())  # after the command, all are told again
    assert told == [ValueError, MemoryError]


@pytest.mark.parametrize("kind", [RuntimeError, OSError, UnicodeEncodeError, BaseException])
def test_a_mistake_of_ours_keeps_its_traceback(kind: type[BaseException]) -> None:
    words = ("ascii", "ü", 0, 1, "ours") if kind is UnicodeEncodeError else ("ours",)
    with pytest.raises(kind, match="ours"):
        run_command(_raise(kind(*words)), "prog", less="", kept="")


def test_a_second_signal_does_not_break_off_the_tidying_up() -> None:
    tidied = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied.append(True)

    with pytest.raises(Stopped), stoppable():
        work()
    assert tidied == [True]


def test_in_another_thread_signals_are_left_as_they_are() -> None:
    before, within = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stoppable():
            within.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == [before]


def test_what_must_not_be_broken_off_ends_before_it_is_stopped() -> None:
    ended = []

    @unbroken()
    def part(number: signal.Signals) -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(number)

    @unbroken()
    def whole() -> None:
        part(signal.SIGTERM)
        ended.append("whole")

    with pytest.raises(Stopped) as stopped, stoppable():
        whole()
    assert stopped.value.signal == signal.SIGTERM
    assert ended == [signal.SIGTERM, "whole"]
    with pytest.raises(Stopped), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
