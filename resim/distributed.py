"""Parts of a sample spread over Dask's workers: the nodes of one allocation, or a notebook.

The parts are those that `simulate_part` makes anywhere: keys, files and digests know nothing of who makes them. A part
is there whole or not at all, so a worker that is killed leaves nothing, and its part is made by another.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import dask
from distributed import Client, LocalCluster, SpecCluster, as_completed

from resim.chain import View
from resim.config import Config
from resim.errors import UserError
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part, open_part, part_name

WAYS = "local, slurm, htcondor, or the address of a scheduler, such as tcp://host:8786"
_CONNECT_S = "10s"
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
    scheduler
        `local` for processes of this machine, `slurm` or `htcondor` for jobs as Dask's jobqueue.yaml describes them, or
        the address of a scheduler that runs.
    out
        Folder of the data set, seen by all workers under this path.
    workers
        How many to start: all cores of this machine unless said; of a scheduler that runs, those it has.
    progress
        Called with the number of events done, part by part.

    Raises
    ------
    UserError
        If there is no such scheduler, or it has workers and a number is asked for.
    """
    pool = simulation.pool and str(simulation.pool.resolve())
    told = simulation.config.model_dump_json(), simulation.sample, pool
    names, folder = tuple(view.name for view in views), str(out.resolve())
    with _connected(scheduler, workers) as client:
        futures = {client.submit(_make, told, span, folder, names, pure=False): span for span in ranges}
        for future in as_completed(list(futures)):
            future.result()
            first, stop = futures[future]
            progress(stop - first)
    return [open_part(out / part_name(*span)) for span in ranges]


def _make(told: tuple[str, str, str | None], span: tuple[int, int], out: str, views: tuple[str, ...]) -> None:
    """Make one part, on a worker."""
    simulation = _simulation(*told)
    # Engines have a state, and time is counted by process: a worker of several threads makes a part at a time.
    with _one_at_a_time:
        simulate_part(simulation, *span, Path(out), choose_views(simulation.all_views, views))


@lru_cache(maxsize=4)
def _simulation(config: str, sample: str, pool: str | None) -> Simulation:
    return Simulation(Config.model_validate_json(config), sample, Path(pool) if pool else None)


@contextlib.contextmanager
def _connected(scheduler: str, workers: int | None) -> Iterator[Client]:
    """Start workers, or find a scheduler that has some."""
    with contextlib.ExitStack() as stack:
        if scheduler == "local":
            # No dashboard: its port would be open to all on this machine.
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
            )
            yield stack.enter_context(Client(stack.enter_context(cluster)))
        elif scheduler in ("slurm", "htcondor"):
            jobs = stack.enter_context(_jobqueue(scheduler))
            jobs.scale(workers or 1)
            yield stack.enter_context(Client(jobs))
        else:
            if workers:
                raise UserError(f"--workers {workers}: the scheduler at {scheduler} has its own; leave it out")
            try:
                client = Client(scheduler, timeout=_CONNECT_S)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"--dask {scheduler}: no scheduler answers there; give {WAYS}") from error
            yield stack.enter_context(client)


def _jobqueue(system: str) -> SpecCluster:
    """Describe the jobs in which workers run, as the user's jobqueue.yaml does."""
    import dask_jobqueue

    kind = {"slurm": dask_jobqueue.SLURMCluster, "htcondor": dask_jobqueue.HTCondorCluster}[system]
    told = dask.config.get(f"jobqueue.{system}", {})
    missing = [name for name in ("cores", "memory") if not told.get(name)]
    if missing:
        what = f"jobqueue.{system} says nothing of {' and '.join(missing)} in Dask's configuration"
        raise UserError(f"--dask {system}: {what}; write them to ~/.config/dask/jobqueue.yaml")
    return kind()
