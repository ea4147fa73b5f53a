"""Fixtures that several folders of tests share."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from resim.cli import main

ROOT = Path(__file__).parent.parent
Done = subprocess.CompletedProcess[str]


def resim(*arguments: object) -> Done:
    """Run a command in this process: to start a new one, and load the engines, takes longer than most commands."""
    command, out, err = ["resim", *map(str, arguments)], io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code
    return Done(command, int(code or 0), out.getvalue(), err.getvalue())


_SHIPPED = {"jets": "config.yaml", "lartpc": "workflow/config/lartpc.yaml"}


def small_config(lane: str = "jets", **changes: Any) -> dict[str, Any]:
    """Give the shipped config of a lane cut down to what a test can simulate in seconds."""
    values: dict[str, Any] = yaml.safe_load((ROOT / _SHIPPED[lane]).read_text())
    values |= {"block_size": 10, "events_per_part": 20}
    if lane == "lartpc":
        values["samples"] = {name: values["samples"][name] for name in ("electron", "proton")}
        shipped = values["views"]
        values["views"] = {"nominal": {}, "redeposited": {"from": "deposits"}}
        values["views"] |= {"thrown": {**shipped["thrown"], "replicas": 1}}
        values["views"] |= {name: shipped[name] for name in ("noise", "all_max")}
    for sample in values["samples"].values():
        sample["events"] = 40
    return values | changes


@pytest.fixture
def write_config(tmp_path: Path) -> Any:
    """Write a config file and give its path."""

    def write(values: dict[str, Any]) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write
