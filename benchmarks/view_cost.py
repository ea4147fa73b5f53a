"""What a view costs, beside what Pythia alone takes for the same events, and beside a full event.

Numerator: everything that the view adds, writing included, from the records that travel with the part. Denominator:
`pythia.next()` in a loop over the same hard processes with the same seeds, and nothing else: no hook, no arrays, no
detector. A full event is one in the nominal view, from the hard process to the written jets.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from resim.chain import NOMINAL
from resim.config import Config
from resim.cost import marginal_cost
from resim.jets import pythia
from resim.jets.lane import JetsLane
from resim.jets.replay import REPLAY_SETTINGS, Replay
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part

VIEWS = ("shower_seed", "rehadronized", "redetected")


def view_cost(config: Config, events: int = 500, repeats: int = 5) -> dict[str, dict[str, float]]:
    """Measure sample by sample; medians over repeats of ratios that were taken side by side.

    Returns
    -------
    dict
        sample -> view -> CPU seconds that the view adds over those of bare `next()`; with `_of_full_event`, over those
        of a full event; and `next_ms`.
    """
    return {sample: _of_sample(config, sample, events, repeats) for sample in config.samples}


def _of_sample(config: Config, sample: str, events: int, repeats: int) -> dict[str, float]:
    simulation = Simulation(config, sample)
    bare = Bare(simulation)
    views = choose_views(simulation.all_views, (NOMINAL, *VIEWS))
    found: list[dict[str, float]] = []
    # The first turn starts the engines and compiles, and is not counted.
    for turn in tqdm(range(repeats + 1), desc=f"view cost, {sample}", disable=None):
        first = turn * events
        reference = bare.seconds(first, first + events)
        with tempfile.TemporaryDirectory() as folder:
            part = simulate_part(simulation, first, first + events, Path(folder), views)
        costs = {name: marginal_cost(part.cost, name).cpu_s for name in (NOMINAL, *VIEWS)}
        over_next = {name: cost / reference for name, cost in costs.items()}
        of_full = {f"{name}_of_full_event": costs[name] / costs[NOMINAL] for name in VIEWS}
        found.append({**over_next, **of_full, "next_ms": 1e3 * reference / events})
    return {name: round(statistics.median(f[name] for f in found[1:]), 4) for name in found[0]}


class Bare:
    """Pythia alone, on the hard processes of a sample."""

    def __init__(self, simulation: Simulation) -> None:
        assert isinstance(simulation.lane, JetsLane)
        self._simulation, lane = simulation, simulation.lane
        step = next(view for view in simulation.all_views if view.name == "shower_seed").path[0]
        self._stream = step.stream(simulation.config.seed, simulation.sample)
        chain = simulation.config.chain
        settings = [
            *lane.inherited,
            *(pair for stage in lane.fused for pair in chain.get(stage, {}).items()),
        ]
        self._pythia: Any = pythia.make([*settings, *REPLAY_SETTINGS.items()])
        self._source = Replay(self._pythia.rndm, lane.energy)
        self._pythia.setLHAupPtr(self._source)
        pythia.initialise(self._pythia, settings)

    def seconds(self, first: int, stop: int) -> float:
        """Give the CPU seconds of `next()` over the events [first, stop)."""
        size = self._simulation.config.block_size
        total = 0.0
        for block in range(first // size, stop // size):
            self._source.load(self._simulation.lane.source(block), self._stream)
            start = time.process_time()
            for _ in range(size):
                self._pythia.next()
            total += time.process_time() - start
        return total
