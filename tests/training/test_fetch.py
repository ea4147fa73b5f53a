from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from resim.errors import UserError
from resim.store import open_dataset
from tests.training.conftest import SPLITS, VIEWS, write_toy
from training.config import Task
from training.data.fetch import Memory, Store, held_if_small, prefetched
from training.data.jets import FEATURES, PT
from training.labels import labelled_rows
from training.tasks import labels_of

Toy = Callable[[int, int], dict[str, Path]]


def test_rows_are_those_of_the_parts_one_by_one(toy: Toy) -> None:
    folders = toy(80, 40)
    store = Store(folders, constituents=12, group=8)
    rows = np.array([0, 1, 5, 38, 39, 40, 41, 77, 79, 80, 85, 130, 159])
    jets = store.read("shower_seed", rows)
    for row, jet in zip(rows, jets, strict=True):
        dataset = open_dataset(folders[store.index.samples[row // 80]])
        view = dataset.parts[row % 80 // 40].view("shower_seed")
        start, stop = view.offsets[row % 40 : row % 40 + 2]
        stored = np.asarray(view.constituents[start:stop])[:12]
        np.testing.assert_array_equal(jet[: len(stored)], stored)
        assert not jet[len(stored) :].any()


def test_no_rows_give_no_jets(toy: Toy) -> None:
    store = Store(toy(80, 40), constituents=12, group=8)
    assert store.read("nominal", np.array([], dtype=np.int64)).shape == (0, 12, len(FEATURES))


def test_the_index_is_the_same_however_the_data_is_cut_and_named(toy: Toy) -> None:
    one, many = (Store(folders, 12, 8) for folders in (toy(80, 80), dict(reversed(toy(80, 20).items()))))
    assert one.index.samples == many.index.samples == ("hbb", "qcd")
    for name in ("object", "event", "split", "weight", "pt", "sample"):
        np.testing.assert_array_equal(getattr(one.index, name), getattr(many.index, name))
    for view in VIEWS:
        rows = np.flatnonzero(one.index.present[view])
        np.testing.assert_array_equal(one.read(view, rows), many.read(view, rows))
    assert one.digests() == many.digests()


def test_splits_follow_the_view(toy: Toy) -> None:
    store = Store(toy(80, 40), 12, 8)
    assert store.splits_of("nominal") == ("train", "validation", "test")
    assert store.splits_of("vincia") == ("test",)
    assert len(store.index.rows("train", ["vincia"])) == 0
    assert set(store.index.split[store.index.rows("test", ["vincia"])]) == {2}


def test_samples_that_number_their_splits_differently_are_refused(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes of the first sample would be read for all: test objects of the others would be trained on."""
    monkeypatch.setattr("tests.training.conftest.SPLITS", SPLITS[::-1])
    hbb = write_toy(tmp_path / "hbb", "hbb", 40, 20)
    told = (
        r"'hbb' and 'qcd' have other splits.*: \[test, validation, train\] and \[train, validation, test\]; make both"
    )
    with pytest.raises(UserError, match=told):
        Store({"hbb": hbb, "qcd": toy(80, 40)["qcd"]}, 12, 8)


def test_memory_gives_what_the_store_gives_and_is_used_if_it_is_large_enough(toy: Toy) -> None:
    store = Store(toy(80, 40), 12, 8)
    rows = store.index.rows("train", ["nominal"])
    held = held_if_small(store, ["nominal"], rows, 12, megabytes=1)
    assert isinstance(held, Memory)
    np.testing.assert_array_equal(held.read("nominal", rows[3:9]), store.read("nominal", rows[3:9]))
    assert held_if_small(store, ["nominal"], rows, 12, megabytes=0) is store


def test_labels_are_nested_balanced_and_differ_between_seeds(toy: Toy) -> None:
    store = Store(toy(400, 200), 12, 8)
    index, labels = store.index, labels_of(store, Task(classes=["qcd", "hbb"]))
    few, some, everything = (labelled_rows(index, labels, fraction, 1, 0) for fraction in (0.01, 0.1, 1.0))
    assert set(few) < set(some) < set(everything)
    assert everything.tolist() == index.rows("train", ["nominal"]).tolist()
    assert labels.value[few].sum() == np.ceil(0.01 * labels.value[everything].sum())
    assert set(some) != set(labelled_rows(index, labels, 0.1, 1, 1))


def test_prefetched_keeps_the_order_and_hands_on_an_error() -> None:
    def items() -> Generator[int, None, None]:
        yield from range(10)
        raise UserError("the disk is gone")

    reader = prefetched(items())
    assert [next(reader) for _ in range(10)] == list(range(10))
    with pytest.raises(UserError, match="the disk is gone"):
        next(reader)


def test_a_reader_that_stops_early_leaves_no_thread_behind() -> None:
    made = []

    def items() -> Generator[int, None, None]:
        for i in range(1000):
            made.append(i)
            yield i

    reader = prefetched(items(), depth=2)
    assert next(reader) == 0
    reader.close()
    count = len(made)
    assert count <= 5
    assert len(made) == count


def test_stored_features_are_in_the_order_of_the_inputs(toy: Toy) -> None:
    view = open_dataset(toy(80, 40)["qcd"]).parts[0].view("nominal")
    assert tuple(column.name for column in view.constituent_columns) == FEATURES
    assert FEATURES[PT] == "pt"


def test_a_folder_with_another_sample_than_its_name_is_refused(toy: Toy) -> None:
    """Labels go by the name: with the folders swapped, signal was trained as background without a word."""
    folders = toy(80, 40)
    swapped = {"qcd": folders["hbb"], "hbb": folders["qcd"]}
    with pytest.raises(UserError, match=r"--data hbb=.*: holds the sample 'qcd'; name it so"):
        Store(swapped, 8, 16)
