"""What the engines' environments hold is what the project pins, and what the programs import."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = {"Sherpa": "sherpa-mc"}  # where the module is called otherwise than the package


@pytest.mark.parametrize("engine", ["pythia", "sherpa"])
def test_environment_pins_what_the_program_imports(engine: str) -> None:
    tree = ast.parse((ROOT / f"workflow/engines/{engine}/generate.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    dependencies = yaml.safe_load((ROOT / f"envs/{engine}.yaml").read_text())["dependencies"]
    pinned = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert {line.partition("==")[0] for line in pinned} == {PACKAGES.get(name, name) for name in imported} | {"numpy"}
    assert set(pinned) <= set((ROOT / "constraints.txt").read_text().splitlines())


@pytest.mark.parametrize("engine", ["delphes", "herwig"])
def test_environment_names_a_version(engine: str) -> None:
    packages = yaml.safe_load((ROOT / f"envs/{engine}.yaml").read_text())["dependencies"]
    assert packages[0].startswith(f"{engine} ==")
