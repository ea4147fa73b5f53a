"""What counts as an object, its label, and which jet it gets."""

import numpy as np
import pytest

from resim.errors import UserError
from resim.jets.clustering import JetSettings
from resim.jets.truth import OBJECT_COLUMNS, match, object_table
from tests.jets.handmade import hard_events

SETTINGS = JetSettings()
BEAMS = [(21, -21, -1, 1e-3, 14.0, 0.0, 0.0), (21, -21, -1, 1e-3, -14.0, 0.0, 0.0)]


def parton(particle: int, pt: float = 500.0, eta: float = 0.3, phi: float = 1.0) -> tuple[float, ...]:
    return (particle, 23, 0, pt, eta, phi, 0.0)


def resonance(particle: int, mother: int = 0, pt: float = 500.0) -> tuple[float, ...]:
    return (particle, -22, mother, pt, 0.1, 1.0, 100.0)


def product(particle: int, mother: int) -> tuple[float, ...]:
    return (particle, 23, mother, 400.0, 0.1, 1.0, 0.0)


def jettypes(*rows: tuple[float, ...]) -> list[int]:
    return object_table(hard_events([[*BEAMS, *rows]]), SETTINGS)["jettype"].tolist()


@pytest.mark.parametrize(("particle", "code"), [(1, 1), (-2, 1), (3, 1), (4, 2), (-4, 2), (5, 3), (-5, 3), (21, 5)])
def test_partons_have_the_published_codes(particle: int, code: int) -> None:
    assert jettypes(parton(particle), parton(21)) == [code, 5]


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        pytest.param(
            [resonance(25), resonance(23), product(5, 2), product(-5, 2), product(12, 3), product(-12, 3)],
            [4], id="H Z -> bb nunu",
        ),
        pytest.param([resonance(25), product(21, 2), product(21, 2)], [4], id="H -> gg"),
        pytest.param([resonance(25), product(15, 2), product(-15, 2)], [], id="H -> tautau"),
        pytest.param([resonance(25), product(22, 2), product(22, 2)], [], id="H -> gamma gamma"),
        pytest.param([resonance(23), parton(4), product(3, 2), product(-3, 2)], [10, 2], id="Z + c"),
        pytest.param([resonance(-24), product(1, 2), product(-2, 2)], [11], id="W -> qq"),
        pytest.param(
            [resonance(6), resonance(-6), resonance(24, 2), product(5, 2), resonance(-24, 3), product(-5, 3),
             product(2, 4), product(-1, 4), product(11, 6), product(-12, 6)],
            [9], id="tt, one leptonic",
        ),
        pytest.param([parton(22), parton(1)], [1], id="photon + jet"),
    ],
)  # fmt: skip
def test_resonances_count_once_and_only_if_they_decay_to_hadrons(
    rows: list[tuple[float, ...]], codes: list[int]
) -> None:
    assert jettypes(*rows) == codes


def test_soft_and_forward_partons_are_no_objects() -> None:
    assert jettypes(parton(1, pt=349.0), parton(2, pt=351.0)) == [1]
    assert jettypes(parton(5, eta=-2.01), parton(4, eta=-1.99)) == [2]


def test_columns_are_those_of_the_hard_process() -> None:
    events = [[*BEAMS, parton(1, 400.0, 0.5, -2.0), parton(21, 450.0)], BEAMS, [*BEAMS, parton(5, 600.0)]]
    table = object_table(hard_events(events, first=12), SETTINGS)
    assert list(table) == [name for name, _, _ in OBJECT_COLUMNS]
    assert table["object"].tolist() == [96, 97, 112]
    assert table["event"].tolist() == [12, 12, 14]
    assert table["parton_id"].tolist() == [1, 21, 5]
    np.testing.assert_allclose(table["parton_pt"], [400, 450, 600])
    np.testing.assert_allclose((table["parton_eta"][0], table["parton_phi"][0]), (0.5, -2.0))
    np.testing.assert_allclose(table["parton_e"][0], 400 * np.cosh(0.5))
    assert [table[name].dtype for name in ("object", "jettype", "parton_id", "process")] == [
        np.int64, np.int8, np.int32, np.int32,
    ]  # fmt: skip


def test_events_without_objects_give_an_empty_table() -> None:
    for events in ([], [BEAMS]):
        assert [len(column) for column in object_table(hard_events(events), SETTINGS).values()] == [0] * 12


def test_more_objects_than_ids_is_an_error_with_the_event() -> None:
    with pytest.raises(UserError, match="event 5: more than 8 objects; raise object_pt_min"):
        object_table(hard_events([BEAMS, [*BEAMS, *[parton(21)] * 9]], first=4), SETTINGS)


def matched(
    partons: list[tuple[int, float, float]], jets: list[tuple[int, float, float]], most: float = 0.8
) -> list[int]:
    """Match rows (event, eta, phi)."""
    columns = []
    for rows in (partons, jets):
        table = np.array(rows, dtype=float).reshape(-1, 3)
        columns += [table[:, 0].astype(np.int64), table[:, 1], table[:, 2]]
    jet, distance = match(*columns, max_distance=most)
    np.testing.assert_array_equal(np.isnan(distance), jet < 0)
    return jet.tolist()


def test_each_parton_gets_its_nearest_jet() -> None:
    assert matched([(0, 0.0, 0.0), (0, 0.0, 2.0)], [(0, 0.1, 2.0), (0, 0.1, 0.0)]) == [1, 0]


def test_a_jet_serves_one_parton_and_the_nearest_pair_wins() -> None:
    """The first parton is the nearer one of jet 0; the second, although nearest to jet 0 as well, gets jet 1."""
    assert matched([(0, 0.0, 0.1), (0, 0.0, 0.3)], [(0, 0.0, 0.15), (0, 0.0, 0.6)]) == [0, 1]
    assert matched([(0, 0.0, 0.3), (0, 0.0, 0.1)], [(0, 0.0, 0.15)]) == [-1, 0]


def test_jets_of_other_events_and_far_away_do_not_match() -> None:
    assert matched([(0, 0.0, 0.0), (3, 0.0, 0.0)], [(1, 0.0, 0.0), (3, 0.79, 0.0)]) == [-1, 1]
    assert matched([(3, 0.0, 0.0)], [(3, 0.81, 0.0)]) == [-1]


def test_matching_goes_round_the_circle() -> None:
    assert matched([(0, 0.0, 3.1)], [(0, 0.0, -3.1)]) == [0]


def test_matching_agrees_with_a_greedy_loop() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    partons = [(event, *rng.normal(0, 0.7, 2)) for event in range(40) for _ in range(4)]
    jets = [(event, *rng.normal(0, 0.7, 2)) for event in range(40) for _ in range(5)]
    pairs = sorted(
        (np.hypot(p[1] - j[1], p[2] - j[2]), a, b)
        for a, p in enumerate(partons)
        for b, j in enumerate(jets)
        if p[0] == j[0]
    )
    slow = [-1] * len(partons)
    for distance, a, b in pairs:
        if distance < 0.8 and slow[a] < 0 and b not in slow:
            slow[a] = b
    assert matched(partons, jets) == slow


def test_nothing_to_match() -> None:
    assert matched([], [(0, 0.0, 0.0)]) == []
    assert matched([(0, 0.0, 0.0)], []) == [-1]
