"""What counts as an object, its label, and which jet it gets."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from resim.errors import UserError
from resim.jets.cards import detector_settings
from resim.jets.clustering import JetSettings, make_objects
from resim.jets.detector import detect
from resim.jets.engine import replay
from resim.jets.features import JET_COLUMNS
from resim.jets.hard import generate
from resim.jets.lane import processes
from resim.jets.states import Hadrons, HardEvents
from resim.jets.truth import OBJECT_COLUMNS, match, object_table, splitting_class
from resim.keys import stream
from tests.jets.events import CONFIG, ENERGY, SEED, hard_block, nominal, rehadronize, shower_of, steps
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


@pytest.mark.parametrize(
    ("rows", "decay"),
    [
        pytest.param([resonance(25), product(5, 2), product(-5, 2)], 5, id="H -> bb"),
        pytest.param([resonance(25), product(21, 2), product(21, 2)], 21, id="H -> gg"),
        pytest.param([resonance(-24), product(3, 2), product(-4, 2)], 4, id="W -> cs"),
        pytest.param(
            [resonance(25), resonance(24, 2), resonance(-24, 2), product(1, 3), product(-2, 3), product(3, 4),
             product(-4, 4)], 24, id="H -> WW",
        ),
        pytest.param([resonance(6), resonance(24, 2), product(5, 2), product(1, 3), product(-2, 3)], 0, id="t -> bqq"),
        pytest.param([parton(5)], 0, id="b"),
    ],
)  # fmt: skip
def test_a_boson_tells_what_it_decays_to(rows: list[tuple[float, ...]], decay: int) -> None:
    assert object_table(hard_events([[*BEAMS, *rows]]), SETTINGS)["decay"].tolist() == [decay]


@cache
def process(name: str) -> HardEvents:
    """Make forty events of a process of the library."""
    return generate({**CONFIG.chain["hard"], **processes()[name]}, SEED, name, 0, 40)


OBJECTS_OF: dict[str, tuple[set[int], set[int]]] = {
    "qcd": ({1, 2, 3, 5}, {0}),
    "qcd_light": ({1, 2, 3}, {0}),
    "w_qq": ({11}, {2, 3, 4}),
    "z_qq": ({10}, {1, 2, 3, 4, 5}),
    "z_bb": ({10}, {5}),
    "t_bqq": ({9}, {0}),
    "h_bb": ({4}, {5}),
    "h_cc": ({4}, {4}),
    "h_gg": ({4}, {21}),
    "qcd_gluon": ({5}, {0}),
    "qcd_charm": ({2}, {0}),
    "qcd_bottom": ({3}, {0}),
}
"""Process -> what `jettype` and `decay` of its objects may be."""


def test_the_whole_library_is_looked_at() -> None:
    assert OBJECTS_OF.keys() == processes().keys()


@pytest.mark.parametrize("name", OBJECTS_OF)
def test_real_processes_give_the_objects_that_they_are_named_after(name: str) -> None:
    jettypes, decays = OBJECTS_OF[name]
    table = object_table(process(name), SETTINGS)
    assert len(table["object"]) > 20
    found = set(table["jettype"].tolist())
    assert found <= jettypes
    assert found >= {"qcd": {1, 5}, "qcd_light": {1}}.get(name, jettypes)  # of forty events few have c or b
    assert set(table["decay"].tolist()) <= decays
    if name in ("z_bb", "h_bb", "h_cc", "h_gg"):
        assert set(table["decay"].tolist()) == decays
    if name == "qcd_light":
        assert (table["jettype"] == 1).mean() > 0.75  # 91 % of 4,000 events
    slots = np.unique(table["object"] % 8)
    assert slots.tolist() == ([0, 1] if name.startswith(("t_", "qcd")) else [0])


def test_the_top_is_one_object_with_the_mass_of_a_top_jet() -> None:
    """The jet of t -> b q q' holds all three, so that its mass is the top's; both tops of an event have their own."""
    hadrons = shower_of(process("t_bqq"), "t_bqq", steps(), keep=False)[-1]
    out = make_objects(detect(hadrons, detector_settings({}, "test"), stream(1, "t", "detector")), SETTINGS)
    values = dict(zip([name for name, _, _ in JET_COLUMNS], out.columns.T, strict=True))
    assert (np.bincount(out.object // 8) == 2).sum() > 10
    assert 120 < np.median(values["mass"]) < 200
    assert (values["n_b_hadrons"] >= 1).mean() > 0.8
    assert not values["splitting"].any()


@pytest.mark.parametrize(
    ("particle", "first", "n_b", "n_c", "code"),
    [
        (21, 21, 0, 0, 8), (21, 1, 0, 0, 5), (21, 3, 1, 1, 5), (21, 5, 1, 0, 5), (21, 21, 2, 2, 7), (21, 4, 0, 2, 6),
        (21, 21, 1, 2, 8), (21, 0, 0, 0, 0), (21, 0, 2, 0, 7), (5, 0, 2, 2, 0), (-1, 0, 0, 2, 0), (25, 0, 2, 2, 0),
    ],
)  # fmt: skip
def test_splitting_classes(particle: int, first: int, n_b: int, n_c: int, code: int) -> None:
    columns = (np.array([particle], dtype=np.int32), np.array([first], dtype=np.int8), np.array([n_b]), np.array([n_c]))
    assert splitting_class(*columns).tolist() == [code]


def slow_first_branching(record: list[dict[str, Any]], at: int) -> int:
    """Walk down one gluon through Pythia's record."""
    while True:
        particle = record[at]
        daughters = sorted({particle["daughter1"], particle["daughter2"]} - {0})
        rows = [record[d] for d in daughters]
        if not rows or abs(rows[0]["id"]) > 21 or (len(rows) > 1 and not 40 < abs(rows[0]["status"]) < 60):
            return 0
        if len(rows) == 1:
            at = daughters[0]
            continue
        kinds = {abs(row["id"]) for row in rows}
        shared = [i for i, row in enumerate(rows) if row["mother2"]]
        if not shared:
            return kinds.pop()
        emitted = rows[shared[0]]
        distances = {m: product4(emitted, record[m]) for m in (emitted["mother1"], emitted["mother2"])}
        if len(kinds) == 1 and min(distances, key=lambda m: distances[m]) == at:
            return kinds.pop()
        at = daughters[1 - shared[0]]
        if record[at]["id"] != 21:
            return 0


def product4(a: dict[str, Any], b: dict[str, Any]) -> float:
    p, q = a["p"], b["p"]
    return p["e"] * q["e"] - p["px"] * q["px"] - p["py"] * q["py"] - p["pz"] * q["pz"]


@pytest.mark.parametrize("model", [1, 2], ids=["simple", "vincia"])
def test_first_branchings_agree_with_a_walk_through_the_record(model: int) -> None:
    """Follow every outgoing gluon of thirty events row by row."""
    path, hard = steps("walk", shower=(("PartonShowers:model", model),)), hard_block("qcd")
    batches = replay(hard, path[0].settings, ENERGY, [step.stream(SEED, "qcd") for step in path])
    hadrons = shower_of(hard, "qcd", path, keep=False)[-1]
    records = [record for batch in batches for record in batch["prt"].to_list()]
    assert len(records) == len(hadrons.event)
    slow = []
    for i, record in enumerate(records):
        rows = slice(*hard.partons.offsets[i : i + 2])
        ids, status = hard.partons["id"][rows].tolist(), hard.partons["status"][rows].tolist()
        assert [row["id"] for row in record[3 : 3 + len(ids)]] == ids
        outgoing = [kind == 21 and code == 23 for kind, code in zip(ids, status, strict=True)]
        slow += [slow_first_branching(record, 3 + k) if out else 0 for k, out in enumerate(outgoing)]
    assert hadrons.splitting.tolist() == slow
    assert slow.count(21) > 10


def same_splitting(a: Hadrons, b: Hadrons) -> bool:
    return np.array_equal(a.event, b.event) and np.array_equal(a.splitting, b.splitting)


def test_hadronized_again_a_gluon_has_the_same_first_branching() -> None:
    partons, hadrons = nominal("qcd")
    assert len(np.unique(hadrons.splitting)) > 2
    assert same_splitting(rehadronize(partons, "qcd", "rehadronized"), hadrons)
    some = np.array([3, 11])
    assert same_splitting(rehadronize(partons.take(some), "qcd", "rehadronized"), hadrons.take(some))


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
