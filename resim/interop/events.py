"""The events behind a data set, as HepMC3: a store keeps no particles, but what makes them again to the bit."""

from pathlib import Path

from resim.chain import NOMINAL
from resim.errors import UserError
from resim.interop.exchange import Progress, chosen_views, require_jets, whole_file
from resim.interop.hepmc import write_hepmc
from resim.jets.lane import JetsLane
from resim.simulate import simulation_of, states_before
from resim.store import Dataset

_SEEN_BY = "detector"  # what it starts from is what is written


def export_hepmc(
    dataset: Dataset, out: Path, views: list[str] | None = None, pool: Path | None = None, progress: Progress = iter
) -> int:
    """Write the stable particles of a view, pile-up included, block by block.

    The events are made again from the part's hard processes (or parton levels, where it keeps them): those that Pythia
    gave up on are missing, as they were. Event numbers and weights are the data set's.

    Parameters
    ----------
    out
        The name says how it is compressed: .gz, .zst, or not.
    views
        One view; by default nominal.
    pool
        Where the pool of pile-up lies, if the view has some.

    Returns
    -------
    int
        Number of events written.

    Raises
    ------
    UserError
        If there are several views, or the view's events cannot be made again as they were (see `states_before`).
    """
    names = chosen_views(dataset, views or [NOMINAL])
    if len(names) > 1:
        raise UserError(f"--views {','.join(names)}: a HepMC3 file holds the events of one view; export each by itself")
    require_jets(dataset, "hepmc3")
    simulations = [simulation_of(part, pool) for part in dataset.parts]
    lane = simulations[0].lane
    assert isinstance(lane, JetsLane)
    made = (
        hadrons
        for part, simulation in progress(list(zip(dataset.parts, simulations, strict=True)))
        for hadrons in states_before(simulation, part, names[0], _SEEN_BY)
    )
    with whole_file(out) as temporary:
        return write_hepmc(made, temporary, lane.energy)
