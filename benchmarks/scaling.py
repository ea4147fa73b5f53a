"""What cores give and what Snakemake takes: `python -m benchmarks.scaling [--shards N] [--default-shards N]`.

The same small shards of images are made by one core and by two; then some of the default size by two. All by the
workflow's profile for one machine, each run in a folder of its own. Three times are told of a run:

- `wall_s`: the command's, from its start to its end, planning and manifest included;
- `jobs_s`: the sum over jobs of the wall time of their processes, as Snakemake's benchmark files have it;
- `work_s`: the sum over parts of the wall time of their cost records, so without starting Python and loading modules.

`overhead` is (wall_s - jobs_s / cores) / wall_s: what Snakemake takes itself, and cores that wait for the last job.
`idle` is the same with work_s: all that is not simulation.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from resim.store import open_dataset

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "workflow/config/lartpc.yaml"
SAMPLE = "proton"
VIEWS = ("nominal", "noise")


def scaling(shards: int, events: int, default_shards: int) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    shards, events
        How many small shards, and events of each.
    default_shards
        How many of the default size, of the shipped config of jets with all its views.

    Returns
    -------
    dict
        `one`, `two`, `default`: the runs; `efficiency`: of two cores, wall time of one over twice that of two;
        `overhead`: at the default size.
    """
    small, default = _small(shards, events), _default(default_shards)
    _run(_small(1, events), 1)  # compiles, or loads what was compiled from the disk
    one, two = _run(small, 1), _run(small, 2)
    usual = _run(default, 2) if default_shards else None
    efficiency = round(one["wall_s"] / (2 * two["wall_s"]), 3)
    overhead = {"overhead": usual["overhead"]} if usual else {}
    return {"efficiency": efficiency, **overhead, "shards": shards, "one": one, "two": two, "default": usual}


def _small(shards: int, events: int) -> dict[str, Any]:
    """Describe one sample of the second lane, whose jobs start soonest, in shards of few events."""
    config = yaml.safe_load(CONFIG.read_text())
    sample = {**config["samples"][SAMPLE], "events": shards * events}
    views = {name: config["views"][name] for name in VIEWS}
    return _simulation(config) | {
        "samples": {SAMPLE: sample}, "views": views, "block_size": events, "events_per_part": events,
    }  # fmt: skip


def _default(shards: int) -> dict[str, Any]:
    """Describe one sample of the shipped config as it is, but for the number of its events."""
    config = _simulation(yaml.safe_load((ROOT / "config.yaml").read_text()))
    name, sample = next(iter(config["samples"].items()))
    size = config.get("events_per_part", 500)
    return config | {"samples": {name: {**sample, "events": shards * size}}}


def _simulation(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("training", "evaluation")}


def _run(config: dict[str, Any], cores: int) -> dict[str, float]:
    """Run the workflow in a new folder, and take its times."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        profile = str(ROOT / "workflow/profiles/local")
        command = ["snakemake", "views", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--profile", profile, "--cores", str(cores)],
            capture_output=True, text=True, check=False, env={**os.environ, "PATH": path},
        )  # fmt: skip
        wall = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"the workflow failed:\n{done.stderr[-3000:]}")
        return _times(Path(folder, "results"), wall, cores)


def _times(results: Path, wall: float, cores: int) -> dict[str, float]:
    tables = [csv.DictReader(path.open(), delimiter="\t") for path in (results / "benchmarks").rglob("*.tsv")]
    jobs = sum(float(row["s"]) for table in tables for row in table)
    manifests = [path.parent for path in (results / "data").glob("*/manifest.json")]
    work = sum(record.wall_s for folder in manifests for record in open_dataset(folder).cost)
    return {
        "cores": cores,
        "wall_s": round(wall, 1),
        "jobs": len(tables),
        "jobs_s": round(jobs, 1),
        "work_s": round(work, 1),
        "overhead": round(1 - jobs / cores / wall, 4),
        "idle": round(1 - work / cores / wall, 4),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--shards", type=int, default=200, help="small shards, made twice")
    parser.add_argument("--events", type=int, default=20, help="events of each")
    parser.add_argument("--default-shards", type=int, default=12, help="shards of the default size; 0: none")
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    found = scaling(arguments.shards, arguments.events, arguments.default_shards)
    print(json.dumps({"load_before": load, **found}))


if __name__ == "__main__":
    main()
