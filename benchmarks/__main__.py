"""All that `make bench` reports: one line of JSON at the end, all ratios taken in this run."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.detector import detector_cost
from benchmarks.lartpc import CONFIG as LARTPC
from benchmarks.lartpc import lartpc_cost
from benchmarks.view_cost import view_cost
from resim.config import Config, load_config
from resim.plan import choose_views
from resim.simulate import Simulation, part_ranges, simulate_part
from resim.store import write_manifest

TRAINING_EVENTS = 1000


def main() -> None:
    """Run the benchmarks and print their conditions, a table, and the line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--events", type=int, default=500, help="events a turn, whole blocks")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    parts: dict[str, Callable[[], Any]] = {
        "view_cost": lambda: _worst(view_cost(config, arguments.events)),
        "detector": lambda: detector_cost(config, arguments.events),
        "lartpc": lambda: lartpc_cost(load_config(LARTPC)),
        "training": lambda: _training(config, arguments.config),
    }
    result = {"conditions": _conditions(), **{name: run() for name, run in parts.items()}}
    print(json.dumps(result))


def _conditions() -> dict[str, Any]:
    load = round(os.getloadavg()[0], 1)
    return {"python": platform.python_version(), "cores": os.cpu_count(), "load": load, "machine": platform.machine()}


def _worst(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Quote for each view the dearer sample, and tell both."""
    for sample, row in found.items():
        cells = "  ".join(f"{name} {value:.3f}" for name, value in row.items())
        print(f"{sample:6s} {cells}", file=sys.stderr)
    columns = next(iter(found.values()))
    return {name: max(row[name] for row in found.values()) for name in columns if name != "next_ms"} | {
        "samples": found
    }


def _training(config: Config, path: Path) -> dict[str, Any]:
    from benchmarks.training import training_cost
    from training.config import load

    with tempfile.TemporaryDirectory() as folder:
        folders = {sample: _store(config, sample, Path(folder) / sample) for sample in config.samples}
        return training_cost(folders, load(path).training)


def _store(config: Config, sample: str, folder: Path) -> Path:
    """Simulate what training is measured on, without the view that is for evaluation only."""
    simulation = Simulation(config, sample)
    views = choose_views(simulation.all_views, [v.name for v in simulation.all_views if "train" in v.splits])
    ranges = part_ranges(0, TRAINING_EVENTS, config.events_per_part, config.block_size)
    write_manifest(folder, [simulate_part(simulation, *r, folder, views).path for r in ranges])
    return folder


if __name__ == "__main__":
    main()
