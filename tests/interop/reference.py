"""Where the reference sample of Delphes lies: beside the checkout, or where the environment says."""

import os
from pathlib import Path

import pytest

from benchmarks.delphes import REFERENCE


def reference() -> Path:
    """Give the folder, or skip the test where there is none."""
    folder = Path(os.environ.get("RESIM_REFERENCE", REFERENCE.parent)) / "delphes"
    if not (folder / "response.json").is_file():
        pytest.skip(f"no reference of Delphes in {folder}; set RESIM_REFERENCE to the folder that has it")
    return folder
