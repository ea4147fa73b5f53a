"""What each intervention costs beside a full nominal event: `python -m benchmarks.interventions [--events N]`.

A full event is one in the nominal view, from the hard process to the rows of its jets, without pile-up; a view costs
what it alone adds. Events, hard processes and machine are the same for all, in one process; ratios are taken within a
turn, and their median over the turns is quoted. Starting the engines is not in it. The line of JSON comes last.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from resim.chain import NOMINAL
from resim.config import Config, load_config
from resim.cost import START, marginal_cost
from resim.jets.lane import pool_settings
from resim.jets.pileup import make_pool
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.typed import parse

MU = 30.0
FSR, ISR = "TimeShower:renormMultFac", "SpaceShower:renormMultFac"
_ROPES = {"Ropewalk:RopeHadronization": True, "Ropewalk:doFlavour": True}
_SHOWERS: dict[str, dict[str, Any]] = {
    "shower_seed": {},
    "fsr_mur_2": {FSR: 4.0},
    "fsr_mur_half": {FSR: 0.25},
    "isr_mur_2": {ISR: 4.0},
    "isr_mur_half": {ISR: 0.25},
    "both_mur_half": {FSR: 0.25, ISR: 0.25},
    "alphas": {"TimeShower:alphaSvalue": 0.118},
    "recoil": {"TimeShower:recoilToColoured": False},
    "dipole_recoil": {"SpaceShower:dipoleRecoil": True},
    "no_mpi": {"PartonLevel:MPI": False},
    "no_reconnection": {"ColourReconnection:reconnect": False},
    "qcd_reconnection": {"ColourReconnection:mode": 1},
    "tune_pp": {"Tune:pp": 5},
    "pdf": {"PDF:pSet": 8},
    "fsr_drawn": {FSR: {"log_uniform": [0.25, 4.0], "values": 4}},
    "vertices": {"PartonVertex:setVertex": True},
    "vincia": {"PartonShowers:model": 2},
}
_HADRONIZATIONS: dict[str, dict[str, Any]] = {
    "rehadronized": {},
    "a_lund": {"StringZ:aLund": 1.0},
    "b_lund": {"StringZ:bLund": 0.7},
    "sigma": {"StringPT:sigma": 0.4},
    "thermal": {"Fragmentation:model": 1},
}
_DETECTORS: dict[str, dict[str, Any]] = {
    "redetected": {},
    "scaled": {"tracking.scale": 1.02, "ecal.scale": 1.02, "hcal.scale": 1.02},
    "scale_drawn": {"ecal.scale": {"uniform": [0.95, 1.05], "values": 4}},
    "coarse": {"ecal.coarsen": 5},
    "atlas": {"card": "atlas"},
}
VIEWS: dict[str, dict[str, Any]] = {
    NOMINAL: {},
    **{name: {"from": "shower", "set": changes} for name, changes in _SHOWERS.items()},
    **{name: {"from": "hadronization", "set": changes} for name, changes in _HADRONIZATIONS.items()},
    "ropes": {"from": "hadronization", "base": "vertices", "set": _ROPES},
    "redecayed": {"from": "decays"},
    "pileup": {"from": "pileup", "set": {"mu": MU}},
    "pileup_redrawn": {"from": "pileup", "base": "pileup"},
    "pileup_subtracted": {"from": "pileup", "base": "pileup", "set": {"vertex_dz_max": 1.0}},
    "pileup_none": {"from": "pileup", "base": "pileup", "set": {"mu": 0.0}},
    **{name: {"from": "detector", "set": changes} for name, changes in _DETECTORS.items()},
    "small_jets": {"from": "jets", "set": {"radius": 0.4}},
    "composite": {"from": "detector", "base": "fsr_mur_2", "set": {"card": "atlas"}},
}
BANDS = {
    "UncertaintyBands:doVariations": True,
    "UncertaintyBands:List": ["mur_2 fsr:muRfac=2.0", "mur_half fsr:muRfac=0.5"],
}
FROM_DISK: dict[str, dict[str, Any]] = {NOMINAL: {}, "rehadronized": {"from": "hadronization"}}
LIMITS = {"rehadronized": 0.25, "pileup_redrawn": 0.3, "pileup_subtracted": 0.3, "rehadronized_from_disk": 0.35}


def main() -> None:
    """Measure, and print the conditions, the table and the line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interventions", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--events", type=int, default=100, help="events a turn, that is a part")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS), help="only these")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    conditions = {**_machine(), "events": arguments.events, "turns": arguments.turns}
    with tempfile.TemporaryDirectory() as folder:
        size, names = (arguments.events, arguments.turns), {NOMINAL, *arguments.views}
        found = {s: _of_sample(config, s, *size, names, Path(folder)) for s in config.samples}
    result = {"conditions": conditions, "load_after": _load(), "limits": LIMITS, **found}
    print(_table(found))
    print(json.dumps(result))


def _of_sample(config: Config, sample: str, events: int, turns: int, names: set[str], folder: Path) -> dict[str, float]:
    """Give medians over turns: view -> CPU seconds that it adds over those of a full event; `full_ms` beside."""
    views = _simulation(config, sample, events, turns, VIEWS)
    banded = _simulation(config, sample, events, turns, {NOMINAL: {}}, shower=BANDS)
    kept = _simulation(config, sample, events, turns, FROM_DISK, checkpoint="shower")
    pool = folder / "pool"
    make_pool(pool, pool_settings(views.config), views.config.pileup.events, views.config.seed)
    views = replace(views, pool=pool)
    found = []
    for turn in tqdm(range(turns), desc=sample, disable=None):
        first, stop = turn * events, (turn + 1) * events
        spent = _spent(views, first, stop, names)
        full = spent.pop(NOMINAL)
        spent["rehadronized_from_disk"] = _from_disk(kept, first, stop)
        spent["reweighted"] = _spent(banded, first, stop, {NOMINAL})[NOMINAL] - full
        found.append({n: s / full for n, s in spent.items()} | {"full_ms": 1e3 * full / events})
    return {name: round(statistics.median(turn[name] for turn in found), 3) for name in found[0]}


def _simulation(
    config: Config, sample: str, events: int, turns: int, views: dict[str, Any], shower: Any = (), **changes: Any
) -> Simulation:
    """Bind the shipped config with other views, in parts of a turn."""
    values = config.model_dump(by_alias=True, exclude_none=True)
    values["chain"]["shower"] = {**values["chain"].get("shower", {}), **dict(shower)}
    values["samples"] = {sample: {**values["samples"][sample], "events": events * turns}}
    ours = {"views": views, "pileup": {"events": 500}, "block_size": min(events, config.block_size)}
    ours["events_per_part"] = events
    return Simulation(parse(Config, {**values, **ours, **changes}, "benchmark"), sample)


def _spent(simulation: Simulation, first: int, stop: int, names: set[str]) -> dict[str, float]:
    """Make events in some views; give the CPU seconds that each adds."""
    views = choose_views(simulation.all_views, list(names))
    with tempfile.TemporaryDirectory() as folder:
        cost = simulate_part(simulation, first, stop, Path(folder), views).cost
    return {view.name: marginal_cost(cost, view.name).cpu_s for view in views}


def _from_disk(simulation: Simulation, first: int, stop: int) -> float:
    """Hadronize again what lies in a part: CPU seconds of the call, with reading and writing, without the start."""
    with tempfile.TemporaryDirectory() as folder:
        simulate_part(simulation, first, stop, Path(folder), choose_views(simulation.all_views, [NOMINAL]))
        before = time.process_time()
        part = simulate_part(simulation, first, stop, Path(folder), simulation.all_views)
        spent = time.process_time() - before
    return spent - sum(record.cpu_s for record in part.cost if record.view == START)


def _table(found: dict[str, dict[str, float]]) -> str:
    """Lay the costs out in Markdown, in the order of the views."""
    lines = [f"| view | {' | '.join(found)} | limit |", f"|---|{'---|' * (len(found) + 1)}"]
    for name in next(iter(found.values())):
        cells = [f"{row[name]:.1f}" if name == "full_ms" else f"{row[name]:.2f}" for row in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {LIMITS.get(name, '')} |")
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": _load(),
    }


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
