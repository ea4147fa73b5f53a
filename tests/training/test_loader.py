"""What the batches hold, and that it is the same wherever they are made and from whichever step they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from resim.errors import UserError
from resim.store import Place, place_of
from tests.training.conftest import write_toy
from training.cli import data_folders
from training.config import Config, TrainingConfig
from training.data.loader import Batch, Epochs, Loader
from training.data.make import bucketed
from training.data.packed import Packed
from training.encoders import make_encoder
from training.keys import torch_generator
from training.meter import Meter
from training.pretrain import contrastive_loader, open_store

Toy = Callable[[int, int], dict[str, Path]]
SMALL = {
    "encoder": {"constituents": 12, "width": 8, "layers": 1, "heads": 2},
    "pretrain": {"batch": 16},
    "loader": {"group": 8, "shuffle": 40},
}


def _settings(**training: Any) -> TrainingConfig:
    return Config.model_validate({"training": SMALL | training}).training


def _loader(folders: dict[str, Any], method: str = "resim", **training: Any) -> Loader:
    settings = _settings(**training)
    return contrastive_loader(open_store(folders, settings), settings, method, 0, Meter())


def _with(**loader: int) -> dict[str, Any]:
    return {"loader": SMALL["loader"] | loader}


def _assert_same(found: Batch, expected: Batch) -> None:
    assert (found.epoch, found.step) == (expected.epoch, expected.step)
    assert found.rows.tolist() == expected.rows.tolist()
    assert torch.equal(found.labels, expected.labels)
    for one, other in zip(found.views, expected.views, strict=True):
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.present, other.present)
        assert [(at.tolist(), width) for at, width in one.buckets] == [(a.tolist(), w) for a, w in other.buckets]


def _assert_all_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        _assert_same(one, other)


@pytest.mark.parametrize("method", ["resim", "generic", "both"])
def test_every_train_object_comes_once_an_epoch_and_none_of_another_split(toy: Toy, method: str) -> None:
    loader = _loader(toy(80, 40), method)
    batches = list(loader.batches(range(2)))
    assert len(batches) == loader.steps(2)
    assert [(b.epoch, b.step) for b in batches] == [(e, s) for e in range(2) for s in range(loader.steps(1))]
    for epoch in range(2):
        rows = np.concatenate([batch.rows for batch in batches if batch.epoch == epoch])
        assert sorted(rows) == loader.index.rows("train", loader.views).tolist()
    assert all(np.array_equal(batch.labels, loader.labels[batch.rows]) for batch in batches)


@pytest.mark.parametrize("shared_by", [1, 8])
def test_another_sample_beside_changes_neither_pairs_nor_augmentation(toy: Toy, tmp_path: Path, shared_by: int) -> None:
    """It comes before them in the index, and its size is no multiple of a group."""
    alone = _loader(toy(80, 40), "both", pairs={"shared_by": shared_by})
    folders = {**toy(80, 40), "aaa": write_toy(tmp_path / "aaa", "aaa", 60, 60)}
    beside = replace(_loader(folders, "both", pairs={"shared_by": shared_by}), normalisation=alone.normalisation)
    found, expected = ({o[:2]: o[2:] for o in _objects(loader)} for loader in (beside, alone))
    assert len(expected) == 2 * len(alone.rows)
    for of, (shown, *sides) in expected.items():
        assert found[of][0].tolist() == shown.tolist()
        assert all(torch.equal(one, other) for one, other in zip(found[of][1:], sides, strict=True))


def _objects(loader: Loader) -> Iterator[tuple[Any, ...]]:
    """Give epoch, object, the views shown, and the constituents of each side."""
    index = loader.index
    for batch in loader.batches(range(2)):
        for place in range(len(batch.rows)):
            sides = [jets.values[place][jets.present[place]] for jets in batch.views]
            yield batch.epoch, index.told(batch.rows[place : place + 1]), batch.shown[place], *sides


def _shown(loader: Loader, epochs: range) -> Iterator[tuple[int, int, list[set[str]]]]:
    """Give epoch, row, and for each side the views that look as it does."""
    converted = {}
    for view in loader.views:
        values, present = loader.normalisation(loader.source.read(view, loader.rows))
        converted[view] = {int(row): v[p] for row, v, p in zip(loader.rows, values, present, strict=True)}
    for batch in loader.batches(epochs):
        for place, row in enumerate(batch.rows.tolist()):
            sides = [jets.values[place][jets.present[place]].numpy() for jets in batch.views]
            alike = [{v for v in loader.views if np.array_equal(side, converted[v][row])} for side in sides]
            yield batch.epoch, row, alike


def test_a_pair_shows_two_different_views_that_have_the_object(toy: Toy) -> None:
    loader = _loader(toy(80, 40))
    pairs: list[dict[int, tuple[str, ...]]] = [{}, {}]
    for epoch, row, (first, second) in _shown(loader, range(2)):
        assert len(first) == len(second) == 1
        assert first != second
        assert all(loader.index.present[view][row] for view in first | second)
        pairs[epoch][row] = (*first, *second)
    assert len({pair for drawn in pairs for pair in drawn.values()}) == 30  # all of the six views, in both orders
    assert np.mean([pairs[0][row] == pairs[1][row] for row in loader.rows]) < 0.2  # drawn anew; 1 in 30 by chance


def test_pairs_with_nominal_are_of_the_objects_that_nominal_has(toy: Toy) -> None:
    loader = _loader(toy(80, 40), pairs={"first": "nominal", "weights": {"redetected": 1000}})
    assert loader.rows.tolist() == loader.index.rows("train", ["nominal"]).tolist()
    shown = [sides for _, _, sides in _shown(loader, range(1))]
    assert len(shown) == len(loader.rows)
    assert all(first == {"nominal"} for first, _ in shown)
    heavy = [second == {"redetected"} for _, second in shown]
    assert 0.85 < np.mean(heavy) < 1  # where it has the object


def test_neighbours_share_their_pair_but_for_absences_if_they_are_told_to(toy: Toy) -> None:
    loader = _loader(toy(80, 40), pairs={"shared_by": 8})
    everywhere = np.all([loader.index.present[view] for view in loader.views], axis=0)
    pairs: dict[tuple[int, int], set[tuple[str, ...]]] = {}
    for epoch, row, sides in _shown(loader, range(2)):
        if everywhere[row]:
            pairs.setdefault((epoch, row // 8), set()).add(tuple(view for side in sides for view in side))
    assert {len(found) for found in pairs.values()} == {1}
    assert len(set.union(*pairs.values())) > 10


@pytest.mark.parametrize("method", ["resim", "both"])
def test_batches_are_the_same_wherever_they_are_read_from(toy: Toy, method: str) -> None:
    expected = list(_loader(toy(80, 80), method).batches(range(2)))
    _assert_all_same(list(_loader(toy(80, 20), method, **_with(memory_mb=0)).batches(range(2))), expected)


@pytest.mark.parametrize(("memory_mb", "workers"), [(0, 2), (100, 1)], ids=["URL", "memory"])
def test_spawned_workers_make_the_same_batches_and_meter_their_work(toy: Toy, memory_mb: int, workers: int) -> None:
    places = {sample: place_of(f"file://{folder}") for sample, folder in toy(80, 40).items()}
    loader = _loader(places, "both", **_with(workers=workers, memory_mb=memory_mb, buckets=3))
    expected = list(_loader(toy(80, 40), "both", **_with(buckets=3)).batches(range(2)))
    _assert_all_same(list(loader.batches(range(2))), expected)
    assert loader.meter.objects["augment"] == 2 * 2 * len(loader.rows)
    assert loader.meter.cpu_s["augment"] > 0


def test_the_mistake_that_a_worker_meets_comes_in_one_line(tmp_path: Path) -> None:
    folders = {sample: write_toy(tmp_path / sample, sample, 40, 20) for sample in ("qcd", "hbb")}
    loader = _loader(folders, **_with(workers=1, memory_mb=0))
    for file in (tmp_path / "qcd").glob("part-*/data.zarr/views/shower_seed/constituents/c.0.0"):
        file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(UserError, match=r"views/shower_seed/constituents.*make the part again") as caught:
        list(loader.batches(range(1)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", [1, 3, 5])
def test_from_a_step_on_the_batches_are_those_that_are_left(toy: Toy, start: int) -> None:
    loader = _loader(toy(80, 40), "both")
    assert loader.steps(1) > 5
    _assert_all_same(list(loader.batches(range(1, 3), start)), list(loader.batches(range(1, 3)))[start:])


class Counting:
    """A source that counts what is read from another."""

    def __init__(self, source: Any) -> None:
        self.source, self.rows = source, 0

    def read(self, view: str, rows: np.ndarray) -> np.ndarray:
        """Read and count."""
        self.rows += len(rows)
        return self.source.read(view, rows)


def test_to_resume_reads_nothing_of_what_was_seen(toy: Toy) -> None:
    loader = _loader(toy(400, 200), "generic")
    counting = replace(loader, source=Counting(loader.source))
    left = list(counting.batches(range(1), loader.steps(1) - 3))
    assert counting.source.rows == sum(len(batch.rows) for batch in left)


def test_epochs_go_on_from_their_state_and_tell_it_before_what_was_made_ahead(toy: Toy) -> None:
    loader = _loader(toy(80, 40), "both")
    expected, epochs = list(loader.batches(range(3))), Epochs(loader, 3)
    seen = list(epochs) + list(islice(epochs, 2))
    state, steps = epochs.state_dict(), len(epochs)
    assert state == {"epoch": 1, "step": 2}
    epochs.close()
    resumed = Epochs(loader, 3)
    resumed.load_state_dict(state)
    rest = [list(resumed) for _ in range(2)]
    assert [len(epoch) for epoch in rest] == [steps - 2, steps]
    assert resumed.state_dict() == {"epoch": 3, "step": 0}
    _assert_all_same(seen + rest[0] + rest[1], expected)


def test_the_shares_of_ranks_are_the_batch_of_one_process(toy: Toy) -> None:
    loader = _loader(toy(80, 40), "both")
    shares = zip(*(replace(loader, rank=rank, ranks=3).batches(range(1)) for rank in range(3)), strict=True)
    for parts, whole in zip(shares, loader.batches(range(1)), strict=True):
        assert np.concatenate([part.rows for part in parts]).tolist() == whole.rows.tolist()
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        for side, jets in enumerate(whole.views):
            values = [v[p] for part in parts for v, p in [(part.views[side].values, part.views[side].present)]]
            assert torch.equal(torch.cat(values), jets.values[jets.present])


def test_ranks_that_cannot_share_a_batch_are_refused(toy: Toy) -> None:
    loader = _loader(toy(80, 40), pretrain={"batch": 2})
    with pytest.raises(UserError, match=r"a batch of \d objects cannot be shared by 3 processes"):
        list(replace(loader, rank=2, ranks=3).batches(range(1)))


@pytest.fixture
def remote(toy: Toy) -> Iterator[dict[str, Place]]:
    folders, files = toy(80, 40), fsspec.filesystem("memory")
    for sample, folder in folders.items():
        files.put(str(folder), f"/loader/{sample}", recursive=True)
    yield data_folders([f"{sample}=memory://loader/{sample}" for sample in folders])
    files.rm("/loader", recursive=True)


def test_batches_from_a_url_are_those_from_the_disk(toy: Toy, remote: dict[str, Place]) -> None:
    expected = list(_loader(toy(80, 40)).batches(range(1)))
    _assert_all_same(list(_loader(remote, **_with(memory_mb=0)).batches(range(1))), expected)


def test_a_url_without_a_data_set_is_refused() -> None:
    folders = data_folders(["qcd=memory://nowhere/qcd", "hbb=memory://nowhere/hbb"])
    with pytest.raises(UserError, match="memory://nowhere/qcd: is no data set"):
        open_store(folders, _settings())


@pytest.mark.parametrize("kind", ["plain", "part"])
def test_buckets_change_neither_batches_nor_what_a_network_says(toy: Toy, kind: str) -> None:
    encoder_config = SMALL["encoder"] | {"kind": kind, "constituents": 40}
    whole, cut = (_loader(toy(80, 40), encoder=encoder_config, **_with(buckets=b)) for b in (1, 4))
    encoder = make_encoder(_settings(encoder=encoder_config).encoder, whole.normalisation, torch_generator("net"))
    for one, other in zip(whole.batches(range(1)), cut.batches(range(1)), strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        for jets, in_pieces in zip(one.views, other.views, strict=True):
            assert torch.equal(jets.values, in_pieces.values)
            assert len(in_pieces.buckets) == 4
            torch.testing.assert_close(in_pieces.through(encoder), jets.through(encoder), rtol=1e-4, atol=1e-5)


def test_buckets_hold_every_jet_once_and_pad_less() -> None:
    lengths = np.array([3, 40, 17, 0, 8, 9, 21])
    buckets = bucketed(lengths, 3, 40)
    assert sorted(np.concatenate([b.places for b in buckets])) == list(range(7))
    assert [(lengths[b.places].tolist(), b.width) for b in buckets] == [([0, 3, 8], 8), ([9, 17], 24), ([21, 40], 40)]
    assert [b.width for b in bucketed(lengths[:2], 9, 38)] == [8, 38]
    assert bucketed(lengths, 1, 40) == ()


def test_what_is_packed_comes_out_as_it_was() -> None:
    item = [np.arange(5), (np.zeros((0, 3), np.float32), "word"), np.array([True, False]), np.eye(3)[:, :2]]
    found = Packed.of(item).item()
    np.testing.assert_array_equal(found[0], item[0])
    assert (found[1][0].shape, found[1][1], found[2].tolist()) == ((0, 3), "word", [True, False])
    np.testing.assert_array_equal(found[3], item[3])
    assert found[0].flags.writeable


def test_a_batch_can_be_moved(toy: Toy) -> None:
    batch = next(iter(_loader(toy(80, 40), **_with(buckets=2)).batches(range(1))))
    _assert_same(batch.to("cpu"), batch)
    there = batch.to("meta")
    assert {x.device.type for jets in there.views for x in (jets.values, jets.present, jets.buckets[0][0])} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_batches_come_in_pinned_memory_where_there_is_a_gpu(toy: Toy) -> None:
    batch = next(iter(replace(_loader(toy(80, 40)), pin=True).batches(range(1))))
    assert batch.labels.is_pinned()
    assert all(jets.values.is_pinned() and jets.present.is_pinned() for jets in batch.views)
    _assert_same(batch.to("cuda").to("cpu"), batch)


def test_what_was_opened_stays_in_its_process_and_no_jet_column_is_kept(toy: Toy) -> None:
    store = open_store(toy(80, 40), _settings())
    store.read("nominal", np.arange(8))
    assert "columns" not in vars(store.parts[0].view("nominal"))
    assert store.__getstate__()["_views"] == {}
