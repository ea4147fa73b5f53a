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


def small_config(**changes: Any) -> dict[str, Any]:
    """Give the shipped config cut down to what a test can simulate in seconds."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    values |= {"block_size": 10, "events_per_part": 20}
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
