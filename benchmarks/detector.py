"""What detector, jets and features take of an event, beside Pythia's own time for the same events, and beside Delphes.

Pythia's time is that of a bare `next()` (view_cost.Bare). Delphes's was measured elsewhere, on the same kind of machine
and with Pythia beside it, so that what is compared are the ratios to Pythia.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.view_cost import Bare
from resim.config import Config
from resim.jets.states import Hadrons
from resim.simulate import Simulation

DELPHES_OVER_PYTHIA = {"qcd": 87 / 69, "hbb": 103 / 90}
"""CPU time of Delphes 3.5.1 (CMS card, HepMC3 in, ROOT out) over Pythia's: events per second of both, of 500 events."""


def detector_cost(config: Config, events: int = 500, repeats: int = 5) -> dict[str, Any]:
    """Measure the samples that Delphes was measured on; medians over repeats of ratios that were taken side by side.

    Returns
    -------
    dict
        Of the dearer sample `ms_per_event` and `ratio_to_pythia` of detector, jets and features, the truth's
        generator-level jets among them; `without_generator_jets`, the ratio to Pythia when these are not wanted;
        `ratio_to_delphes`, which finds them, too; `large_over_small`, the time per event in one large block over that
        in blocks of the usual size (1: linear); and `samples` with all of it.
    """
    measured = [sample for sample in config.samples if sample in DELPHES_OVER_PYTHIA]
    found = {sample: _of_sample(config, sample, events, repeats) for sample in measured}
    return {name: max(row[name] for row in found.values()) for name in next(iter(found.values()))} | {"samples": found}


def _of_sample(config: Config, sample: str, events: int, repeats: int) -> dict[str, float]:
    simulation = Simulation(config, sample)
    chain = {**config.chain, "jets": {**config.chain.get("jets", {}), "generator_jets": False}}
    without = Simulation(config.model_copy(update={"chain": chain}), sample)
    large = Simulation(config.model_copy(update={"block_size": events, "events_per_part": events}), sample)
    bare, per_turn = Bare(simulation), events // config.block_size
    found = []
    # The first turn compiles, and is not counted.
    for turn in tqdm(range(repeats + 1), desc=f"detector, {sample}", disable=None):
        pythia = bare.seconds(turn * events, (turn + 1) * events)
        blocks = [_hadrons(simulation, turn * per_turn + i) for i in range(per_turn)]
        ours, whole = _seconds(without, blocks), _seconds(simulation, blocks)
        at_once = _seconds(large, [_hadrons(large, turn)])
        found.append(
            {
                "ms_per_event": 1e3 * whole / events,
                "ratio_to_pythia": whole / pythia,
                "without_generator_jets": ours / pythia,
                "ratio_to_delphes": whole / pythia / DELPHES_OVER_PYTHIA[sample],
                "large_over_small": at_once / whole,
            }
        )
    return {name: round(statistics.median(f[name] for f in found[1:]), 4) for name in found[0]}


def _hadrons(simulation: Simulation, block: int) -> Hadrons:
    lane = simulation.lane
    steps = simulation.all_views[0].path[: len(lane.fused)]
    streams = [step.stream(simulation.config.seed, simulation.sample) for step in steps]
    pythia, keep = lane.fused_runs[steps[0].stage], [False] * len(steps)
    hadrons: Hadrons = pythia.run_fused(lane.source(block), steps, streams, keep)[-1]
    return hadrons


def _seconds(simulation: Simulation, blocks: Sequence[Hadrons]) -> float:
    """Give the CPU seconds from stable particles to the rows of the data set."""
    start = time.process_time()
    for block in blocks:
        state: Any = block
        for step in simulation.all_views[0].path[len(simulation.lane.fused) :]:
            stream = step.stream(simulation.config.seed, simulation.sample)
            state = simulation.lane.runs[step.stage].run(state, step.settings, stream)
        simulation.lane.rows(state)
    return time.process_time() - start
