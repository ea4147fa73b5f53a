"""Bookkeeping of the transport: energy, identity, edges."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from resim.errors import UserError
from resim.keys import stream
from resim.lartpc.deposits import DepositSettings, deposit, initial_energy
from resim.lartpc.gun import GunSettings, shoot
from resim.lartpc.states import SEGMENT_COLUMNS, Deposits, Primaries
from resim.lartpc.transport.kernel import transport
from resim.lartpc.transport.tables import make_tables
from tests.lartpc.shots import deposited, fire

KINDS = ["e-", "e+", "gamma", "mu-", "mu+", "pi-", "pi+", "proton"]
CARD = DepositSettings()


def primaries(particle: Any, number: int, **settings: Any) -> Primaries:
    gun = GunSettings(**{"particle": particle, "kinetic_energy": (50, 300), **settings})
    return shoot(gun, stream(1, particle, "gun"), np.arange(number))


def same(a: Deposits, b: Deposits) -> bool:
    columns = all(np.array_equal(a.segments[name], b.segments[name]) for name in SEGMENT_COLUMNS)
    sums = np.array_equal(a.escaped, b.escaped) and np.array_equal(a.invisible, b.invisible)
    return columns and sums and np.array_equal(a.segments.offsets, b.segments.offsets)


@pytest.mark.parametrize("particle", KINDS)
@pytest.mark.parametrize("half", [400.0, 20.0, 3.0])
@pytest.mark.parametrize("energies", [(1, 50), (50, 300), (300, 1000)])
def test_energy_is_conserved(particle: str, half: float, energies: tuple[float, float]) -> None:
    """Deposited + escaped + invisible = initial, event by event, and nothing lies outside."""
    centre = (0.0, 0.0, 650.0)
    card = DepositSettings(world_centre=centre, world_half_size=(half, half, half))
    shot = primaries(particle, 6, half_size=(2, 2, 2), kinetic_energy=energies)
    made = deposit(shot, card, stream(1, particle, "deposits"))
    total = deposited(made) + made.escaped + made.invisible
    assert total == pytest.approx(initial_energy(shot), rel=1e-6)
    assert made.escaped.min() >= 0
    assert made.segments["energy"].min() > 0
    for axis, middle in zip("xyz", centre, strict=True):
        for end in ("start", "end"):
            assert np.abs(made.segments[f"{axis}_{end}"] - middle).max() <= half + 1e-4  # single precision at 10 m


@pytest.mark.parametrize("particle", ["gamma", "pi-"])
def test_an_event_is_the_same_alone_and_in_any_order(particle: str) -> None:
    shot, draws = primaries(particle, 6), stream(1, particle, "deposits")
    block = deposit(shot, CARD, draws)
    for rows in ([4], [5, 0, 4]):
        chosen = np.array(rows)
        assert same(deposit(shot.take(chosen), CARD, draws), block.take(chosen))
    assert not same(deposit(shot, CARD, stream(2, particle, "deposits")), block)


def test_segments_are_short_and_joined() -> None:
    """The primary's segments follow each other, none is longer than the step; the path is at least the chord."""
    made = fire("mu-", 100, 1)
    s = made.segments
    mine = s["track"] == 0
    ends, starts = (np.column_stack([s[f"{axis}_{end}"][mine] for axis in "xyz"]) for end in ("end", "start"))
    assert np.array_equal(starts[1:], ends[:-1])
    assert s["length"][mine].max() <= 0.1 + 1e-6
    assert np.all(np.linalg.norm(ends - starts, axis=1) <= s["length"][mine] * (1 + 1e-5) + 1e-5)  # single precision
    assert np.all(np.diff(s["time"][mine]) > 0)


def test_a_shorter_step_gives_the_same_energy() -> None:
    """The mean loss of a track does not hang on the step."""
    means = []
    for step in (0.03, 0.3):
        made = fire("mu-", 400, 60, step=step, world_half_size=(10.0, 10.0, 20.0))
        means.append(deposited(made).mean())
    assert means[0] == pytest.approx(means[1], rel=0.02)


def test_a_track_leaves_the_box() -> None:
    """The last step ends at the boundary, with that part of its energy."""
    made = fire("mu-", 1000, 3, world_half_size=(50.0, 50.0, 50.0))
    s = made.segments
    for axis in "xyz":
        assert max(np.abs(s[f"{axis}_{end}"]).max() for end in ("start", "end")) <= 50 + 1e-5
    last = s["z_end"] > 50 - 1e-5
    assert np.count_nonzero(last & (s["track"] == 0)) == 3
    loss = s["energy"][last] / s["length"][last]
    assert np.all((loss > 0.5) & (loss < 10))
    assert made.escaped == pytest.approx(1000 + 105.66 - 50 * 2.2, rel=0.05)


def test_an_endless_event_is_told_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard against a runaway event once left energy in place without a word."""
    shot, draws = primaries("e-", 4), stream(1, "e-", "deposits")
    limits = CARD.limits()._replace(most_steps=100)
    rows = np.column_stack([shot.kinetic_energy, shot.vertex, shot.direction, np.zeros((4, 2)), shot.pdg])
    _, _, values, escaped, invisible, steps = transport(
        draws.key, shot.event, rows, make_tables(0.1, 0.1, 0.02), limits
    )
    assert np.all(steps > 100)
    total = values[:, 7].sum(dtype=np.float64) + escaped.sum() + invisible.sum()
    assert total == pytest.approx(shot.kinetic_energy.sum(), rel=1e-6)
    monkeypatch.setattr("resim.lartpc.deposits.MOST_STEPS", 100)
    with pytest.raises(
        UserError, match=r"deposits: 4 event\(s\), the first of them 0, took more than 100 steps; shoot"
    ):
        deposit(shot, CARD, draws)


def test_a_vertex_outside_leaves_nothing() -> None:
    made = deposit(primaries("mu-", 2, centre=(0, 0, 0)), CARD, stream(1, "mu-", "deposits"))
    assert len(made.segments["energy"]) == 0
    assert np.allclose(made.escaped, initial_energy(made.primaries))


def test_no_events() -> None:
    made = deposit(primaries("e-", 0), CARD, stream(1, "e-", "deposits"))
    assert made.segments.offsets.tolist() == [0]
    assert list(made.segments.columns) == list(SEGMENT_COLUMNS)
    assert [made.segments[name].dtype for name in SEGMENT_COLUMNS] == list(SEGMENT_COLUMNS.values())


@pytest.mark.parametrize(("particle", "energy"), [("e-", 0.05), ("gamma", 0.015), ("proton", 0.5)])
def test_a_primary_below_the_cut_stays_where_it_is(particle: str, energy: float) -> None:
    made = fire(particle, energy, 4)
    assert np.diff(made.segments.offsets).tolist() == [1] * 4
    assert deposited(made) == pytest.approx(energy, rel=1e-6)
    assert np.abs(made.segments["z_end"]).max() < 0.01


@pytest.mark.parametrize(
    ("key", "value"), [("step", 5), ("electron_cut", 2), ("world_half_size", (1, 0, 1)), ("colour", 1)]
)
def test_settings_are_checked(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        DepositSettings(**{key: value})
