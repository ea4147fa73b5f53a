import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from resim.keys import PYTHIA_SEED_MAX, block_seed, stream, to_normal, uniform_of_event


def test_draws_of_an_event_do_not_depend_on_its_neighbours() -> None:
    """Event 7 drawn in a crowd and drawn alone."""
    s = stream(1, "qcd", "detector")
    crowd = s.uniform(np.array([5, 7, 9]), np.array([2, 3, 4]), 2)
    alone = s.uniform(np.array([7]), np.array([3]), 2)
    np.testing.assert_array_equal(crowd[2:5], alone)


def test_a_longer_draw_begins_like_a_shorter_one() -> None:
    s = stream(1, "qcd", "detector")
    longer, shorter = (s.uniform(np.array([3]), np.array([n]), 1) for n in (9, 4))
    np.testing.assert_array_equal(longer[:4], shorter)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    rows=st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 11)), max_size=5),
    columns=st.integers(0, 5),
)
def test_uniforms_are_numpys(seed: int, rows: list[tuple[int, int]], columns: int) -> None:
    """Bit for bit what NumPy's Philox gives with the same key and the event as its highest counter word."""
    s = stream(seed, "qcd", "detector")
    events, counts = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    drawn = s.uniform(events, counts, columns)
    assert drawn.shape == (counts.sum(), columns)
    for event, piece in zip(events, np.split(drawn, np.cumsum(counts)[:-1]), strict=False):
        counter = np.array([0, 0, 0, event], dtype=np.uint64)
        numpys = np.random.Generator(np.random.Philox(key=s.key, counter=counter)).random(piece.shape)
        np.testing.assert_array_equal(piece, numpys)
        np.testing.assert_array_equal(piece, s.generator(int(event)).random(piece.shape))


def test_a_place_in_an_event_has_four_uniforms_of_its_own() -> None:
    s = stream(3, "qcd", "detector")
    events, counts = np.array([8, 2**40]), np.array([5, 3])
    here, there = np.array([8, 2**40, 8]), np.array([4, 1, 0])  # rows 4, 6 and 0
    np.testing.assert_array_equal(s.uniform_at(here, there), s.uniform(events, counts, 4)[[4, 6, 0]])
    assert s.uniform_at(here[:0], there[:0]).shape == (0, 4)


def test_normals_are_the_quantiles_of_the_uniforms() -> None:
    uniforms = stream(3, "qcd", "detector").uniform(np.array([4, 9]), np.array([4, 2]), 3)
    np.testing.assert_allclose(norm.cdf(to_normal(uniforms)), uniforms, rtol=1e-12)


def test_the_outermost_uniforms_give_finite_normals() -> None:
    np.testing.assert_allclose(to_normal(np.array([0.0, 0.5, 1 - 2**-53])), [-8.29, 0, 8.21], atol=0.01)


def test_as_many_counts_as_events() -> None:
    with pytest.raises(ValueError, match="2 events and 3 counts"):
        stream(1, "a", "b").uniform(np.arange(2), np.ones(3, dtype=np.int64), 1)


@pytest.mark.parametrize(
    "other",
    [
        stream(2, "qcd", "shower", "a", 0),
        stream(1, "hbb", "shower", "a", 0),
        stream(1, "qcd", "detector", "a", 0),
        stream(1, "qcd", "shower", "b", 0),
        stream(1, "qcd", "shower", "a", 1),
        stream(1, "qcd", "shower", "a", 0).child("x"),
    ],
    ids=["seed", "sample", "stage", "view", "replica", "purpose"],
)
def test_every_word_of_the_name_gives_other_numbers(other: object) -> None:
    first = stream(1, "qcd", "shower", "a", 0)
    events, counts = np.arange(50), np.ones(50, dtype=np.int64)
    assert not np.isin(first.uniform(events, counts, 4), other.uniform(events, counts, 4)).any()  # type: ignore[attr-defined]
    assert first.pythia_seed(0) != other.pythia_seed(0)  # type: ignore[attr-defined]


def test_numbers_are_frozen() -> None:
    """The key scheme is a promise: data made today must be made again by the code of tomorrow."""
    s = stream(20260101, "qcd", "shower", "shower_seed", 0)
    assert [s.pythia_seed(e) for e in (0, 1, 10**9)] == [401652933, 612122048, 390681465]
    np.testing.assert_array_equal(
        s.uniform(np.array([5]), np.array([1]), 2)[0], [0.1993741235168568, 0.9143935747603711]
    )
    assert [block_seed(20260101, "qcd", b) for b in (0, 1, 899_999_999)] == [314484111, 891105770, 410824594]


def test_uniforms_are_uniform_and_normals_normal() -> None:
    events, counts = np.arange(4000), np.full(4000, 5)
    u = stream(1, "a", "b").uniform(events, counts, 2)
    z = to_normal(stream(1, "a", "c").uniform(events, counts, 2))
    # 40,000 draws: the mean of uniforms has an error of 0.0014, that of normals 0.005
    assert abs(u.mean() - 0.5) < 0.007
    assert abs(u.var() - 1 / 12) < 0.002
    assert abs(z.mean()) < 0.025
    assert abs(z.std() - 1) < 0.02
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 0.04
    assert abs(np.corrcoef(z[:, 0], z[:, 1])[0, 1]) < 0.04
    assert kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert kstest(z.ravel(), "norm").pvalue > 1e-3


def test_pythia_seeds_are_in_pythias_range_and_differ_by_attempt() -> None:
    s = stream(1, "qcd", "hadronization")
    seeds = np.array([s.pythia_seed(e, a) for e in range(500) for a in range(2)])
    assert seeds.min() >= 1
    assert seeds.max() <= PYTHIA_SEED_MAX
    assert len(set(seeds.tolist())) == 1000


@settings(max_examples=20)
@given(seed=st.integers(0, 2**62), start=st.integers(0, PYTHIA_SEED_MAX - 300))
def test_block_seeds_never_collide(seed: int, start: int) -> None:
    seeds = {block_seed(seed, "qcd", block) for block in range(start, start + 300)}
    assert len(seeds) == 300
    assert all(1 <= s <= PYTHIA_SEED_MAX for s in seeds)


def test_block_out_of_range() -> None:
    with pytest.raises(ValueError, match="outside 0"):
        block_seed(1, "qcd", PYTHIA_SEED_MAX)


def test_no_events() -> None:
    assert stream(1, "a", "b").uniform(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 3).shape == (0, 3)
    assert uniform_of_event(1, "a", "split", np.empty(0, dtype=np.int64)).shape == (0,)
