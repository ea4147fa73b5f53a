"""Programs that run by themselves, in place of stages: where they stand in a path, and how one is run.

A program is ended with all that it started, and what it gives lies in its place only when it is whole.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resim.chain import Step
from resim.config import Engine, filled
from resim.cost import CostRecord, Meter, from_json, to_json
from resim.ending import stoppable
from resim.errors import UserError
from resim.keys import Stream, stream
from resim.store.files import replace_folder

STAGE = "engine"
SUFFIXES = {"lhe": ".lhe.gz", "hepmc3": ".hepmc3.gz", "delphes_root": ".root"}
_PREPARED = ".resim-prepared"  # a file that marks folders that `prepare` filled
_GRACE = 10  # seconds that a program has to end by itself, once told
_SUBREAPER = 36  # prctl(2): orphans below us become our children


def engine_step(name: str, engine: Engine, view: str, replica: int) -> Step:
    """Give the step that an engine is: its settings are all of its config that its numbers may depend on."""
    words = engine.model_dump(exclude={"minutes", "may_lose"})
    return Step(STAGE, (("engine", name), *words.items()), view, replica)


def kind_of(step: Step) -> tuple[str, str]:
    """Give what the engine of a step takes and gives."""
    words = dict(step.settings)
    return words["input"], words["output"]


@dataclass(frozen=True)
class Job:
    """The run of an engine for a part."""

    name: str
    engine: Engine
    recipe: str
    """Digest of all that what comes back depends on."""
    stream: Stream
    """What the seeds come from."""
    sample: str
    view: str
    first: int
    stop: int
    n_events: int
    """Events that go out: those of the view's splits."""

    def __str__(self) -> str:
        """Name the run for a message."""
        return f"engine {self.name!r}, {self.sample}, view {self.view}, events {self.first}:{self.stop}"

    def words(self, given: Path | None, output: Path, scratch: Path | None, work: Path) -> dict[str, str]:
        """Give the values of the placeholders."""
        paths = {"input": given, "output": output, "scratch": scratch, "work": work}
        numbers = {"first": self.first, "stop": self.stop, "events": self.n_events}
        part_seed = self.stream.child("part").pythia_seed(self.first)
        numbers |= {"seed": self.stream.pythia_seed(0), "part_seed": part_seed}
        return {n: str(p.resolve()) for n, p in paths.items() if p} | {n: str(v) for n, v in numbers.items()}


def run_job(
    job: Job, given: Path | None, out: Path, log: Path, scratch: Path | None, check: Callable[[Path], object]
) -> None:
    """Run an engine for a part; what it took lies beside what it gave, in `OUT.json`.

    Parameters
    ----------
    given
        What went out (`resim outgoing`); None for an engine that takes nothing.
    out
        Where to put what it gives. It is written in a folder of its own, and moved when it is whole.
    log
        Where the program's words go.
    scratch
        The folder that `prepare_engine` filled.
    check
        Raises where a file is not what is expected.

    Raises
    ------
    UserError
        If the program fails, runs too long, or gives nothing or not what it should; names run and log.
    """
    meter = Meter()
    with _working_folder(out) as work:
        made = work / out.name
        command = filled(job.engine.command, job.words(given, made, scratch, work))
        with meter.measure(STAGE, job.view, events=job.n_events):
            if job.n_events:
                _run(command, job.engine.minutes, log, str(job))
            else:
                made.touch()  # programs do not agree on what to make of no event
        if made.is_symlink() or not made.is_file():
            there = "left a link as" if made.is_symlink() else "wrote no"
            raise UserError(f"{job}: {there} {{output}}, though it ended well; its words are in {log}")
        try:
            check(made)
        except UserError as error:
            raise UserError(f"{job}: {str(error).replace(str(work) + os.sep, '')}; its words are in {log}") from error
        beside(out).write_text(json.dumps({"recipe": job.recipe, "cost": to_json(meter.records)}, indent=2))
        made.replace(out)


def prepare_engine(name: str, engine: Engine, seed: int, out: Path, log: Path) -> None:
    """Fill the folder that an engine needs for all its parts, whole or not at all.

    Raises
    ------
    UserError
        If the program fails or runs too long, or the folder holds something else.
    """
    if engine.prepare is None:
        raise UserError(f"engine {name!r}: has nothing to prepare; leave the command out")
    if out.exists() and not (out / _PREPARED).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: holds something that `resim prepare` did not make; give another folder")
    with _working_folder(out) as work:
        command = filled(
            engine.prepare, {"scratch": str(work.resolve()), "seed": str(stream(seed, name, STAGE).pythia_seed(0))}
        )
        _run(command, engine.minutes, log, f"engine {name!r}, prepare")
        (work / _PREPARED).write_text(name)
        replace_folder(work, out)


def beside(path: Path) -> Path:
    """Name the file beside what an engine gave: what it took, and the digest of what it depends on."""
    return path.with_name(f"{path.name}.json")


def read_beside(path: Path, recipe: str, view: str) -> tuple[CostRecord, ...]:
    """Read what an engine took; nothing where it was run by hand.

    Raises
    ------
    UserError
        If the file is of another config.
    """
    try:
        found = json.loads(beside(path).read_text())
        made_for, cost = found["recipe"], from_json(found["cost"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{beside(path)}: cannot be read ({error!r}); run the engine again") from error
    if made_for != recipe:
        raise UserError(f"{path}: was made for another config than view {view!r} has now; run the engine again")
    return cost


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder beside a file to be, for as long as it is made."""
    work = out.with_name(f".{out.name}.work")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be made ({error.strerror}); choose another --out") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(command: str, minutes: float, log: Path, what: str) -> None:
    """Run a shell command with a time limit, and end all that it left behind."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        words = log.open("wb")
    except OSError as error:
        raise UserError(f"--log {log}: cannot be written ({error.strerror}); choose another --log") from error
    # a step of a pipe that fails is a failure, too
    line = ["bash", "-c", f"set -euo pipefail\n{command}"]
    with words, _reaping():
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            raise UserError(
                f"{what}: was ended after {minutes:g} minutes; raise `minutes` of the engine, or see {log}"
            ) from None
    if code:
        ended = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        raise UserError(f"{what}: {ended}; its words are in {log}")


@contextmanager
def _reaping() -> Iterator[None]:
    """Take in the orphans of what is run, and end whatever is left of it; also when we are told to stop."""
    before = set(_children())
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        with stoppable():
            yield
    finally:
        # each that ends leaves its own children to us
        while left := [child for child in _children() if child not in before]:
            for child in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, 0)


def _children() -> Iterator[int]:
    """Give the processes whose parent we are (proc(5): the parent is the second word behind the name)."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    yield int(entry.name)


def named_files(option: str, words: Mapping[str, str], known: Mapping[str, Step]) -> dict[str, Path]:
    """Turn VIEW=FILE into paths.

    Raises
    ------
    UserError
        For a view that no engine makes.
    """
    for view in words:
        if view not in known:
            has = ", ".join(known) or "none"
            raise UserError(f"{option} {view}=...: no engine makes the view {view!r}; those made by engines: {has}")
    return {view: Path(file) for view, file in words.items()}
