"""One bit flipped, anywhere in a data set: `validate` tells, or what is read is the same; so do the readers."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from resim.config import Config
from resim.errors import UserError
from resim.keys import Stream
from resim.read import read
from resim.simulate import Simulation, simulate_part
from resim.store import dataset_digest, open_dataset, validate, write_manifest
from tests.faults.conftest import Faults
from tests.lanes import CASES, LaneCase
from training.data.fetch import Store

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]
FLIPS = 600  # a lane
READ_EVERY = 6


def made(case: LaneCase, folder: Path) -> list[Path]:
    """Make a data set of one part with all kinds of files; give them."""
    values = case.config(checkpoint=case.kept, views=case.only("nominal", case.after))
    simulation = Simulation(Config.model_validate(values), case.samples[1])
    write_manifest(folder, [simulate_part(simulation, 0, 10, folder, simulation.all_views).path])
    return sorted(path for path in folder.rglob("*") if path.is_file())


def kind_of(file: Path, folder: Path) -> str:
    """Name the kind of a file: what it is, and in which group."""
    way = file.relative_to(folder).parts
    what = file.name if file.suffix == ".json" else "chunks"
    return f"{way[2]}: {what}" if len(way) > 3 else what


def flip(file: Path, draws: np.random.Generator) -> bytes:
    """Flip a bit of a file; give the bytes as they were."""
    sound = file.read_bytes()
    changed = bytearray(sound)
    changed[draws.integers(len(sound))] ^= 1 << draws.integers(8)
    file.write_bytes(changed)
    return sound


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_flipped_bit_is_told_or_harmless(case: LaneCase, faults: Faults, tmp_path: Path) -> None:
    files = made(case, tmp_path)
    wanted = dataset_digest(open_dataset(tmp_path).parts, recompute=True)
    readers = {reader: reader(tmp_path) for reader in (events_of, inputs_of)}
    kinds = Counter(kind_of(file, tmp_path) for file in files)
    assert len(kinds) >= 9
    for n in range(FLIPS):
        # every file in turn, so that those of a kind with few bytes come as often
        file, draws = files[n % len(files)], Stream(("bit flips", case.name)).generator(n)
        with faults.inject(f"bit flipped, {kind_of(file, tmp_path)}") as outcome:
            sound = flip(file, draws)
            try:
                if validate(tmp_path):
                    outcome.clear_error()
                elif dataset_digest(open_dataset(tmp_path).parts, recompute=True) == wanted:
                    outcome.right()
                if n % READ_EVERY == 0:
                    assert all(reads_right_or_tells(reader, tmp_path, right) for reader, right in readers.items())
            finally:
                file.write_bytes(sound)
    assert validate(tmp_path) == []


def events_of(folder: Path) -> list[ak.Array]:
    """Read as an analysis does."""
    return [read(folder)]


def inputs_of(folder: Path) -> list[ak.Array]:
    """Read as a training does."""
    store = Store({open_dataset(folder).sample: folder}, constituents=64, group=4)
    index = store.index
    rows = [np.flatnonzero(index.present[view]) for view in store.views]
    columns = [index.object, index.event, index.sample, index.split, index.weight]
    matched = [] if index.pt is None else [index.pt]
    return [*columns, *matched, *rows, *map(store.read, store.views, rows)]


def reads_right_or_tells(reader: Callable[[Path], list[ak.Array]], folder: Path, right: list[ak.Array]) -> bool:
    try:
        found = reader(folder)
    except UserError:
        return True
    return all(ak.array_equal(one, other, equal_nan=True) for one, other in zip(found, right, strict=True))
