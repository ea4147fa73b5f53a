"""Ten thousand shards that are done, made cheaply: `python -m tests.scale.finished FOLDER TARGET`.

Snakemake looks at two things of a job that was run: the stamp that is its output, and the record of its code, inputs
and params. To run ten thousand jobs for them would take hours; here the stamps are touched, and the records written by
the function of Snakemake's own that writes them after a job.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import DAGSettings, OutputSettings, Quietness, ResourceSettings

from resim.store import Part, part_name, write_part
from resim.store.encoding import write_group
from resim.store.files import link_tree, read_json, sealed, sha256, write_json
from resim.store.part import DATA, DIGEST_FILE
from tests.conftest import ROOT, small_config
from tests.store.store_samples import SCHEMA, attributes, objects_of, view_of

SHARDS = 10_000
_NONE = np.zeros(0, dtype=np.int64)


def config(shards: int = SHARDS, **changes: Any) -> dict[str, Any]:
    """Give a config with a shard an event."""
    values = small_config("lartpc", block_size=1, events_per_part=1, views={"nominal": {}}, checkpoint=None)
    values["samples"] = {"proton": {**values["samples"]["proton"], "events": shards}}
    return {key: value for key, value in values.items() if key not in ("training", "evaluation")} | changes


def finish(folder: Path, target: str) -> None:
    """Leave a folder as a run that is over does."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    data = folder / "results/data/proton"
    for event in range(SHARDS):
        part = data / part_name(event, event + 1)
        part.mkdir(parents=True)
        (part / "done").touch()
    (data / "manifest.json").touch()
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=ROOT / "Snakefile", workdir=folder)
        workflow.dag(DAGSettings(targets={target})).execute_workflow(executor="dryrun")
        made = workflow._workflow
        for job in made.dag.jobs:
            made.async_run(made.persistence.finished(job))


def empty_parts(directory: Path, shards: int) -> list[Path]:
    """Write parts whose events gave no object, so that all but two files of each are the same, which are linked."""
    objects, view = objects_of(_NONE), view_of(_NONE.astype(bool), _NONE)
    first = write_part(directory, objects, {"nominal": view}, SCHEMA, attributes(0, 1, ["nominal"], block_size=1))
    return [first.path, *(_likewise(first, event) for event in range(1, shards))]


def _likewise(first: Part, event: int) -> Path:
    """Give another event's part of the same content."""
    path = first.path.with_name(part_name(event, event + 1))
    path.mkdir()
    link_tree(first.path / DATA, path / DATA)
    (path / DATA / "zarr.json").unlink()
    write_group(path / DATA, first.attributes | {"first": event, "stop": event + 1})
    told = read_json(first.path / DIGEST_FILE) | {"first": event, "stop": event + 1}
    del told["self"]
    raw = (path / DATA / "zarr.json").read_bytes()
    told["files"][f"{DATA}/zarr.json"] = [len(raw), sha256(raw)]
    told["objects"] = {str(event): told["objects"]["0"]}
    told["views"] = {name: {str(event): blocks["0"]} for name, blocks in told["views"].items()}
    write_json(path / DIGEST_FILE, sealed(told))
    return path


if __name__ == "__main__":
    finish(Path(sys.argv[1]), sys.argv[2])
