"""What is declared, pinned, installed and imported is one and the same."""

import ast
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
MODULES = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "backports": "backports.zstd",
    "upath": "universal-pathlib",
}  # where the module is called otherwise than the package
SIMULATORS = {"fastjet", "pythia8mc"}
INSTALLERS = ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "envs/base.yaml", "envs/train.yaml"]


def pin_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "--"))]


PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in pin_lines())}


def declared(*extras: str) -> set[NormalizedName]:
    """Canonical names of the runtime dependencies, and of the extras asked for."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def needed_by(name: str) -> set[NormalizedName]:
    """Canonical names of what an installed package needs on this Python and machine."""
    requirements = map(Requirement, metadata.requires(name) or [])
    return {canonicalize_name(r.name) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}


def imports(package: str) -> set[NormalizedName]:
    """Packages that the sources import, within functions too; our own and the standard library's aside."""
    nodes = [node for path in (ROOT / package).rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"resim", "training"}
    return {canonicalize_name(MODULES.get(top, top)) for top in tops}


def test_every_pin_is_exact_and_stands_once() -> None:
    assert all(str(Requirement(line).specifier).startswith("==") and "*" not in line for line in pin_lines())
    assert len(PINS) == len(pin_lines())


def test_every_declared_requirement_is_pinned() -> None:
    assert declared(*EXTRAS) - PINS.keys() == set()


def test_the_pins_are_closed_and_are_what_is_installed() -> None:
    """Follow the installed packages' own requirements: each is pinned, and its version is the pin."""
    # Not all of sys.path: setuptools, once imported, adds a folder with its own copies of packages, of other versions.
    site = [sysconfig.get_path("purelib")]
    installed = {canonicalize_name(d.name): d.version for d in metadata.distributions(path=site)}
    todo, seen = declared(*EXTRAS) & installed.keys(), set[NormalizedName]()
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= (needed_by(name) & installed.keys()) - seen
        assert needed_by(name) - PINS.keys() == set(), f"{name} needs packages without a pin"
        assert Version(installed[name]).public == PINS[name], name
    assert declared("dev", "workflow") <= seen


@pytest.mark.parametrize(("env", "extras"), [("base", []), ("train", ["train"])])
def test_conda_environments_have_the_same_pins(env: str, extras: list[str]) -> None:
    dependencies = yaml.safe_load((ROOT / f"envs/{env}.yaml").read_text())["dependencies"]
    pinned = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert pinned == [f"{name}=={PINS[name]}" for name in sorted(declared(*extras))]


@pytest.mark.parametrize("file", INSTALLERS)
def test_installation_leaves_the_choice_of_registry_to_the_machine(file: str) -> None:
    text = (ROOT / file).read_text()
    assert [word for word in ("://", "index-url", "find-links", "trusted-host") if word in text] == []


def test_imports_are_the_declared_dependencies() -> None:
    """No undeclared import, no dependency that nothing uses, no torch in resim and no simulator in training."""
    assert imports("resim") <= declared("dask")
    assert imports("training") <= declared("train") - SIMULATORS
    assert imports("resim") | imports("training") == declared("train", "dask")


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_console_scripts_are_installed_and_explain_themselves(script: str) -> None:
    done = subprocess.run([Path(sys.executable).parent / script, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_readme_has_no_figure_left_to_fill_in() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "| `nominal` |" in readme
    assert "@" not in readme
