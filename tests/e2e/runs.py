"""Run the workflow and commands as a user does, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, Done

BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    """Put the programs of this environment first."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def command(folder: Path, *arguments: str) -> list[str]:
    """Give the command of the workflow in a folder that holds config.yaml."""
    fixed = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--rerun-incomplete"]
    return [str(BIN / "snakemake"), *arguments, *fixed]


def snakemake(folder: Path, *arguments: str) -> Done:
    """Run the workflow."""
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, timeout=900, check=False, env=environment()
    )


def resim(*arguments: object) -> str:
    """Run a command that must succeed, and give what it prints."""
    words = [str(BIN / "resim"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, check=True).stdout.strip()
