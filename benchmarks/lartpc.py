"""What a detector throw of the LArTPC lane costs, beside a fresh event: `python -m benchmarks.lartpc [--events N]`.

A fresh event is one in the nominal view, from the gun to the written image; the throw costs what it alone adds, from
the deposits to the written image. Both are CPU time of one process, records that travel with the part.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from resim.chain import NOMINAL
from resim.config import Config, load_config
from resim.cost import add, marginal_cost
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part

CONFIG = Path(__file__).parents[1] / "workflow/config/lartpc.yaml"
VIEW = "thrown_1"
LARND_SIM_JAX = Path(__file__).parents[1] / "tests/lartpc/data/summary.json"
"""What larnd-sim-jax took on a CPU for the files beside it, once compiled."""


def lartpc_cost(config: Config, events: int = 100, repeats: int = 5) -> dict[str, Any]:
    """Measure sample by sample; medians over repeats.

    Returns
    -------
    dict
        `view_cost`: CPU time of throws of one event of each sample, over that of these events made afresh;
        `ms_per_segment`: of the throws; `speedup`: of the fastest figure of larnd-sim-jax over it; `samples`: both, and
        stages in ms an event, of each sample.
    """
    samples = {sample: _of_sample(config, sample, events, repeats) for sample in config.samples}
    fresh, throw, segments = (
        sum(row[name] for row in samples.values()) for name in ("fresh_ms", "throw_ms", "segments")
    )
    per_segment = throw / segments
    jax = [run["timing"]["warm_ms_per_segment"] for run in json.loads(LARND_SIM_JAX.read_text()).values()]
    return {
        "view_cost": round(throw / fresh, 4),
        "ms_per_segment": round(per_segment, 6),
        "speedup": round(min(jax) / per_segment, 1),
        "samples": samples,
    }


def _of_sample(config: Config, sample: str, events: int, repeats: int) -> dict[str, Any]:
    simulation = Simulation(config, sample)
    views = choose_views(simulation.all_views, (NOMINAL, VIEW))
    found = []
    # The first turn compiles, and is not counted.
    for turn in tqdm(range(repeats + 1), desc=f"view cost, {sample}", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            part = simulate_part(simulation, turn * events, (turn + 1) * events, Path(folder), views)
            found.append(_measured(part, events))
    row = {name: statistics.median(turn[name] for turn in found[1:]) for name in found[0]}
    ratio = statistics.median(turn["throw_ms"] / turn["fresh_ms"] for turn in found[1:])
    return {"view_cost": round(ratio, 4), **{name: round(value, 4) for name, value in row.items()}}


def _measured(part: Part, events: int) -> dict[str, float]:
    fresh, throw = marginal_cost(part.cost, NOMINAL), marginal_cost(part.cost, VIEW)
    stages = {f"{record.stage}_ms": 1e3 * record.cpu_s / events for record in add(part.cost) if record.view == VIEW}
    segments = part.checkpoint("deposits").offsets[-1] / events
    return {
        "fresh_ms": 1e3 * fresh.cpu_s / events,
        "throw_ms": 1e3 * throw.cpu_s / events,
        "segments": float(segments),
        **stages,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lartpc", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--events", type=int, default=100, help="events a turn, whole blocks")
    arguments = parser.parse_args()
    print(json.dumps(lartpc_cost(load_config(arguments.config), arguments.events)))


if __name__ == "__main__":
    main()
