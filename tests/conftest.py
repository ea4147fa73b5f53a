"""Fixtures that several folders of tests share."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


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
