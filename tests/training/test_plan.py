from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.errors import UserError
from training.data.plan import Load, Plan, choose_pairs, dealt
from training.keys import generator

MANY = np.arange(1000)


def _plan(rows: np.ndarray, seed: int = 0, *, group: int = 8, shuffle: int = 40, batch: int = 16) -> Plan:
    return Plan(rows, group, shuffle, batch, (seed,))


def _batches(loads: list[Load]) -> list[list[int]]:
    return [load.rows[batch].tolist() for load in loads for batch in load.batches]


@given(
    rows=st.sets(st.integers(0, 500), max_size=200),
    group=st.integers(1, 40),
    shuffle=st.integers(2, 90),
    batch=st.integers(1, 50),
    ranks=st.integers(1, 4),
)
def test_every_row_comes_once_on_one_rank_in_as_many_steps_on_each(
    rows: set[int], group: int, shuffle: int, batch: int, ranks: int
) -> None:
    plan = _plan(np.array(sorted(rows), dtype=np.int64), group=group, shuffle=shuffle, batch=batch)
    whole = _batches(list(plan.epoch(3)))
    assert sorted(chain(*whole)) == sorted(rows)
    assert len(whole) == plan.steps
    sizes = {len(each) for each in whole}
    assert max(sizes, default=0) <= batch
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    if len(rows) < ranks * plan.steps:
        return
    shares = [_batches(list(plan.epoch(3, 0, rank, ranks))) for rank in range(ranks)]
    assert [list(chain(*share)) for share in zip(*shares, strict=True)] == whole


@given(start=st.integers(0, 62), ranks=st.integers(1, 3))
def test_from_a_step_on_the_batches_are_those_that_are_left(start: int, ranks: int) -> None:
    plan = _plan(MANY)
    for rank in range(ranks):
        loads = list(plan.epoch(1, start, rank, ranks))
        assert _batches(loads) == _batches(list(plan.epoch(1, 0, rank, ranks)))[start:]
        assert [load.first for load in loads][:1] == [start][: plan.steps - start]
        assert set(np.concatenate([load.rows for load in loads])) == set(chain(*_batches(loads)))


def test_ranks_share_every_batch_evenly_and_read_other_groups() -> None:
    plan = Plan(np.arange(8192), 256, 8192, 256, (0,))
    shares = [list(plan.epoch(0, 0, rank, 4)) for rank in range(4)]
    assert {len(batch) for loads in shares for load in loads for batch in load.batches} == {64}
    groups = [set(loads[0].rows // 256) for loads in shares]
    assert sum(map(len, groups)) == 32
    assert len(set.union(*groups)) == 32


def test_a_load_is_about_as_large_as_asked_for_and_groups_are_cut_at_its_borders_alone() -> None:
    loads = list(_plan(MANY, group=8, shuffle=100, batch=10).epoch(0))
    assert len(loads) == 10
    assert {len(load.rows) for load in loads} == {100}
    assert sum(len(np.unique(load.rows // 8)) for load in loads) <= 125 + len(loads) - 1
    assert all(np.all(np.diff(load.rows) > 0) for load in loads)


def test_neighbours_come_to_different_batches() -> None:
    (load,) = Plan(np.arange(64), 64, 64, 8, (0,)).epoch(0)
    batch_of = np.empty(64, dtype=int)
    for number, places in enumerate(load.batches):
        batch_of[load.rows[places]] = number
    assert all(len(set(each)) == 8 for each in batch_of.reshape(8, 8))


def test_any_two_rows_meet_about_equally_often() -> None:
    """Of a load of 24 in 4 batches, a row meets one of another round in every fourth epoch."""
    draws = generator("meet")
    deals = [dealt(24, 4, draws) for _ in range(4000)]
    met = np.sum([batch[:, None] == batch[None, :] for batch in deals], axis=0)
    other = (np.arange(24)[:, None] // 4) != (np.arange(24)[None, :] // 4)
    assert met[other] == pytest.approx(1000, abs=5 * np.sqrt(750))


def test_the_same_key_gives_the_same_order_and_another_or_another_epoch_another() -> None:
    first, again, other = (_batches(list(_plan(MANY, seed).epoch(0))) for seed in (1, 1, 2))
    assert first == again != other
    assert first != _batches(list(_plan(MANY, 1).epoch(1)))


def test_no_rows_give_no_loads() -> None:
    plan = _plan(np.array([], dtype=np.int64))
    assert plan.steps == 0
    assert list(plan.epoch(0)) == []


def test_batches_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UserError, match=r"a batch of 3 objects cannot be shared by 4 processes; start fewer, or raise"):
        list(_plan(np.arange(9), batch=3).epoch(0, 0, 1, 4))


def _pairs(present: list[bool], weights: list[float], first: int | None = None) -> dict[tuple[int, ...], int]:
    uniform = generator("pairs").random((30_000, len(present)))
    pairs = choose_pairs(np.tile(present, (30_000, 1)), uniform, np.array(weights), first)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    return dict(zip(map(tuple, kinds.tolist()), counts.tolist(), strict=True))


def test_pairs_are_two_different_present_views_all_equally_often() -> None:
    found = _pairs([True, False, True, True], [1, 1, 1, 1])
    assert list(found) == [(0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2)]
    assert list(found.values()) == pytest.approx([5000] * 6, abs=5 * np.sqrt(5000))


def test_pairs_are_drawn_in_proportion_to_the_weights() -> None:
    """First by its weight of 6, then by its weight of what is left: 3/6 * 2/3, 3/6 * 1/3, 2/6 * 3/4 ..."""
    found = _pairs([True, True, True], [3, 2, 1])
    expected = {(0, 1): 10_000, (0, 2): 5000, (1, 0): 7500, (1, 2): 2500, (2, 0): 3000, (2, 1): 2000}
    assert list(found) == list(expected)
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=5 * np.sqrt(10_000))


def test_nominal_is_paired_with_any_other_by_weight_where_it_is_asked_for() -> None:
    found = _pairs([True, True, False, True], [1, 2, 1, 1], first=1)
    assert list(found) == [(1, 0), (1, 3)]
    found = _pairs([True, True, True], [1, 9, 3], first=1)
    assert found[1, 2] == pytest.approx(22_500, abs=5 * np.sqrt(5625))


def test_an_object_that_is_in_one_view_only_is_its_own_partner() -> None:
    assert choose_pairs(np.array([[False, True, False]]), np.array([[0.2, 0.1, 0.3]]), np.ones(3)).tolist() == [[1, 1]]


def test_groups_begin_anew_with_each_sample() -> None:
    plan = Plan(np.arange(200), 8, 8, 8, (0,), starts=np.array([0, 60, 60]))
    groups = {tuple(group) for group in np.split(plan._order(0), np.flatnonzero(np.diff(plan._order(0)) != 1) + 1)}
    borders = {0, 60} | set(range(0, 60, 8)) | set(range(60, 200, 8))
    assert {row for group in groups for row in group} == set(range(200))
    assert {group[0] for group in groups} <= borders
