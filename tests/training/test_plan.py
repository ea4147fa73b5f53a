import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.plan import Load, choose_pairs, plan_epoch
from training.keys import generator


def _plan(rows: np.ndarray, seed: int = 0, *, group: int = 8, shuffle: int = 40, batch: int = 16) -> list[Load]:
    return list(plan_epoch(rows, group=group, shuffle=shuffle, batch=batch, generator=generator(seed)))


def _order(loads: list[Load]) -> list[int]:
    return [int(row) for load in loads for batch in load.batches for row in load.rows[batch]]


@given(
    rows=st.sets(st.integers(0, 500), max_size=200),
    group=st.integers(1, 40),
    shuffle=st.integers(2, 90),
    batch=st.integers(1, 50),
)
def test_every_row_comes_once_in_batches_of_almost_one_size(
    rows: set[int], group: int, shuffle: int, batch: int
) -> None:
    loads = _plan(np.array(sorted(rows), dtype=np.int64), group=group, shuffle=shuffle, batch=batch)
    assert sorted(_order(loads)) == sorted(rows)
    for load in loads:
        sizes = [len(b) for b in load.batches]
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1
        assert len(load.rows) <= max(shuffle, group)
        assert np.all(np.diff(load.rows) > 0)


def test_groups_are_never_cut() -> None:
    group_of = [set(load.rows // 8) for load in _plan(np.arange(200))]
    assert sum(map(len, group_of)) == len(set.union(*group_of))


def test_the_same_key_gives_the_same_order_and_another_another() -> None:
    rows = np.arange(100)
    assert _order(_plan(rows, 1)) == _order(_plan(rows, 1)) != _order(_plan(rows, 2))


def test_no_rows_give_no_loads() -> None:
    assert _plan(np.array([], dtype=np.int64)) == []


def test_pairs_are_two_different_present_views_all_equally_often() -> None:
    present = np.tile([True, False, True, True], (30_000, 1))
    pairs = choose_pairs(present, np.argsort(generator("pairs").random((30_000, 4)), axis=1))
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    assert kinds.tolist() == [[0, 2], [0, 3], [2, 0], [2, 3], [3, 0], [3, 2]]
    assert counts == pytest.approx(5000, abs=5 * np.sqrt(5000))


def test_an_object_that_is_in_one_view_only_is_its_own_partner() -> None:
    assert choose_pairs(np.array([[False, True, False]]), np.array([[2, 0, 1]])).tolist() == [[1, 1]]
