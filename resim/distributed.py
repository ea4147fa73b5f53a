"""Work spread over Dask's workers: the nodes of one allocation, or a notebook.

Parts are those that `simulate_part` makes anywhere: keys, files and digests know nothing of who makes them. A part
is there whole or not at all, so a worker that is killed leaves nothing, and its part is made by another.
"""

import contextlib
import logging
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import lru_cache
from pathlib import Path
from typing import Any

from resim.chain import View
from resim.config import Config
from resim.errors import UserError
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part, open_part, part_name

try:
    import dask
    from dask.delayed import Delayed, delayed
    from distributed import Client, KilledWorker, LocalCluster, SpecCluster, Status, Worker, as_completed
except ImportError as missing:
    raise UserError("Dask is not installed; run `pip install -c constraints.txt '.[dask]'`") from missing

WAYS = "local, slurm, htcondor, or the address of a scheduler, such as tcp://host:8786"
_CONNECT_S = "10s"
_PROGRAMS = {"slurm": "sbatch", "htcondor": "condor_submit"}
# Dask always starts HTTP servers. Without pages, and seen by this machine alone, they tell nobody anything.
_NO_PAGES: dict[str, list[str]] = {f"distributed.{kind}.http.routes": [] for kind in ("scheduler", "worker")}
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
_one_at_a_time = threading.Lock()


def simulate_parts(
    scheduler: str,
    simulation: Simulation,
    ranges: Sequence[tuple[int, int]],
    out: Path,
    views: Sequence[View],
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Part]:
    """Make parts by Dask; give them in the order of their ranges.

    Parameters
    ----------
    scheduler, workers
        As of `compute`.
    out
        Folder of the data set, seen by all workers under this path.
    progress
        Called with the number of events done, part by part.

    Raises
    ------
    UserError
        As `compute`; or if a worker runs another version of this program, or of what the numbers come from.
    """
    pool = simulation.pool and str(simulation.pool.resolve())
    told = simulation.config.model_dump_json(), simulation.sample, pool
    recipes, folder = {view.name: simulation.recipe(view) for view in views}, str(out.resolve())
    tasks = {part_name(*span): task(_make, told, span, folder, recipes) for span in ranges}
    compute(tasks, scheduler, workers, lambda _, events: progress(events))
    return [open_part(out / name) for name in tasks]


def _make(told: tuple[str, str, str | None], span: tuple[int, int], out: str, recipes: dict[str, str]) -> int:
    """Make one part, on a worker; give the number of its events."""
    # Engines have a state, and time is counted by process: a worker of several threads makes a part at a time.
    with _one_at_a_time:
        simulation = _simulation(*told)
        views = choose_views(simulation.all_views, list(recipes))
        other = [view.name for view in views if simulation.recipe(view) != recipes[view.name]]
        if other:
            what = f"would make view {other[0]!r} otherwise: its program, a package or a file is another"
            raise UserError(f"the worker on {socket.gethostname()} {what}; start workers in this command's environment")
        simulate_part(simulation, *span, Path(out), views)
    return span[1] - span[0]


@lru_cache(maxsize=4)
def _simulation(config: str, sample: str, pool: str | None) -> Simulation:
    return Simulation(Config.model_validate_json(config), sample, Path(pool) if pool else None)


def task(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """Give the call of a function, to be computed later."""
    return delayed(function, pure=False)(*arguments)


def compute(
    tasks: Mapping[str, Delayed],
    scheduler: str | None = None,
    workers: int | None = None,
    each: Callable[[str, Any], None] = lambda *_: None,
) -> None:
    """Compute tasks.

    Parameters
    ----------
    tasks
        By names, which errors tell.
    scheduler
        `local` for processes of this machine, `slurm` or `htcondor` for jobs as Dask's jobqueue.yaml describes them, or
        the address of a scheduler that runs. Without one, this process does all, one task after the other.
    workers
        How many to start, on a core each: all cores of this machine, or of one job, unless said; of a scheduler that
        runs, those it has.
    each
        Called with the name and the result of each task as it ends, in any order.

    Raises
    ------
    UserError
        If there is no such scheduler, or it has workers and a number is asked for; if workers are killed again and
        again; or what a task raises.
    """
    if scheduler is None:
        for name, task in tasks.items():
            each(name, task.compute(scheduler="synchronous"))
        return
    with _connected(scheduler, workers) as client:
        futures = client.compute(list(tasks.values()))
        names = {future.key: name for future, name in zip(futures, tasks, strict=True)}
        try:
            for future in as_completed(futures):
                each(names[future.key], future.result())
        except KilledWorker as error:
            what = f"{names[str(error.task)]} lost its worker {error.allowed_failures + 1} times, to a lack of memory"
            remedy = "give each more: fewer --workers, or larger jobs"
            raise UserError(f"--dask {scheduler}: {what} most likely; {remedy}") from error
        except CancelledError as error:
            raise UserError(
                f"--dask {scheduler}: the scheduler is gone; start it, and run the command again"
            ) from error


@contextlib.contextmanager
def _connected(scheduler: str, workers: int | None) -> Iterator[Client]:
    """Start workers, or find a scheduler that has some."""
    with contextlib.ExitStack() as stack:
        if scheduler == "local":
            stack.enter_context(dask.config.set(_NO_PAGES))
            cluster = stack.enter_context(_local(workers))
            yield stack.enter_context(Client(cluster))
        elif scheduler in _PROGRAMS:
            stack.enter_context(dask.config.set(_NO_PAGES))
            cluster = stack.enter_context(_jobqueue(scheduler, workers))
            yield stack.enter_context(Client(cluster))
        else:
            if workers:
                raise UserError(f"--workers {workers}: the scheduler at {scheduler} has its own; leave it out")
            try:
                client = Client(scheduler, timeout=_CONNECT_S)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"--dask {scheduler}: no scheduler answers there; give {WAYS}") from error
            stack.enter_context(client)
            if not client.nthreads():
                print(f"resim: the scheduler at {scheduler} has no workers yet; waiting for some", file=sys.stderr)
            yield client


def _local(workers: int | None) -> SpecCluster:
    """Start processes of this machine, which share its memory evenly; one that takes more than its share is ended."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs=_NO_DASHBOARD,
        silence_logs=logging.CRITICAL,
        preload=[*dask.config.get("distributed.worker.preload"), __name__],
    )


def dask_setup(_: Worker) -> None:
    """Leave Ctrl-C, which a terminal tells all, to the command, which ends its workers. Dask calls this in each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _jobqueue(system: str, workers: int | None) -> SpecCluster:
    """Ask for jobs in which workers run, as the user's jobqueue.yaml describes them; for others where some end."""
    from dask_jobqueue.htcondor import HTCondorCluster
    from dask_jobqueue.slurm import SLURMCluster

    told = dask.config.get(f"jobqueue.{system}", {})
    missing = [name for name in ("cores", "memory") if not told.get(name)]
    if missing:
        what = f"jobqueue.{system} says nothing of {' and '.join(missing)} in Dask's configuration"
        raise UserError(f"--dask {system}: {what}; write them to ~/.config/dask/jobqueue.yaml")
    if shutil.which(_PROGRAMS[system]) is None:
        raise UserError(f"--dask {system}: {_PROGRAMS[system]} is not found; run this where jobs are submitted")
    processes = told.get("processes") or told["cores"]  # a worker makes one part at a time
    kind = SLURMCluster if system == "slurm" else HTCondorCluster
    jobs = kind(processes=processes, scheduler_options={**told.get("scheduler-options", {}), **_NO_DASHBOARD})
    _submit_one(jobs, system)
    jobs.adapt(minimum=workers or processes, maximum=workers or processes)
    return jobs


def _submit_one(jobs: SpecCluster, system: str) -> None:
    """Ask for one job and see whether it is taken: where many are asked for, Dask waits forever for those refused."""
    jobs.worker_spec.update(jobs.new_worker_spec())
    try:
        jobs.sync(jobs._correct_state)
    except RuntimeError as error:
        for job in jobs.workers.values():
            job.status = Status.failed  # or the closing trips over it
        jobs.close()
        said = str(error).rpartition("stderr:")[2]
        remedy = f"mend jobqueue.{system} in ~/.config/dask/jobqueue.yaml"
        raise UserError(f"--dask {system}: {_PROGRAMS[system]} refuses the job ({said.strip()}); {remedy}") from error
