"""Small data sets of real events, made once."""

from pathlib import Path

import pytest
import yaml

from resim.config import Config
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Dataset, open_dataset, write_manifest
from tests.conftest import ROOT, small_config

VIEWS = ("nominal", "shower_seed", "fsr_mur_2", "fsr_mur_half")
IMAGE_VIEWS = ("nominal", "noise", "all_max")
LARTPC = ROOT / "workflow/config/lartpc.yaml"


def _simulated(folder: Path, sample: str) -> Dataset:
    return _made(folder, Simulation(Config.model_validate(small_config()), sample), VIEWS)


def _made(folder: Path, simulation: Simulation, names: tuple[str, ...]) -> Dataset:
    views = choose_views(simulation.all_views, names)
    write_manifest(folder, [simulate_part(simulation, *r, folder, views).path for r in ((0, 20), (20, 40))])
    return open_dataset(folder)


@pytest.fixture(scope="session")
def qcd(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty dijet events, in two parts: quarks and gluons."""
    return _simulated(tmp_path_factory.mktemp("exchange") / "qcd", "qcd")


@pytest.fixture(scope="session")
def hbb(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty events with H -> bb, in two parts."""
    return _simulated(tmp_path_factory.mktemp("exchange") / "hbb", "hbb")


def folder_of(dataset: Dataset) -> Path:
    """Give the folder where it lies."""
    return dataset.manifest.path.parent


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty protons in liquid argon, in two parts; a view has the test split alone."""
    values = yaml.safe_load(LARTPC.read_text())
    views = {name: values["views"][name] for name in IMAGE_VIEWS}
    samples = {"proton": values["samples"]["proton"] | {"events": 40}}
    config = Config.model_validate(values | {"block_size": 10, "samples": samples, "views": views})
    return _made(tmp_path_factory.mktemp("exchange") / "proton", Simulation(config, "proton"), IMAGE_VIEWS)
