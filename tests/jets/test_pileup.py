"""Pile-up: the pool, what is laid over real events, and what the detector makes of both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy.stats import kstest, poisson

from resim.chain import Step
from resim.errors import UserError
from resim.jets import pileup
from resim.jets.cards import detector_settings
from resim.jets.clustering import JetSettings, from_hard_vertex, make_objects
from resim.jets.detector import detect
from resim.jets.features import JET_COLUMNS
from resim.jets.pileup import PileupSettings, Pool, make_pool, overlay, read_pool, recipe, to_poisson
from resim.jets.pythia import initialise, make
from resim.jets.states import Candidates, Hadrons
from resim.ragged import Ragged, row_of
from resim.store.files import locked
from tests.jets.events import SEED, nominal

SETTINGS: dict[str, Any] = {"Beams:eCM": 13000.0, "SoftQCD:nonDiffractive": True}
EVENTS = 1000
CMS = detector_settings({}, "test")
STREAM = Step("pileup", (), "pileup").stream(SEED, "qcd")
MU = PileupSettings(mu=20.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool"
    make_pool(path, SETTINGS, EVENTS, SEED)
    return path


@pytest.fixture(scope="module")
def pool(path: Path) -> Pool:
    return read_pool(path, recipe(SETTINGS, EVENTS, SEED))


def _same(a: Ragged, b: Ragged) -> bool:
    return np.array_equal(a.offsets, b.offsets) and all(np.array_equal(a[n], b[n]) for n in a.columns)


def _many(events: int) -> Hadrons:
    """Give many events with nothing in them: pile-up does not look at the hard collision."""
    few = nominal("qcd")[1].take(np.zeros(events, dtype=np.int64))
    empty = Ragged(np.zeros(events + 1, dtype=np.int64), {n: c[:0] for n, c in few.particles.columns.items()})
    return replace(few, event=np.arange(events), particles=empty)


# --- the pool ----------------------------------------------------------------------------------------------------


def test_the_same_recipe_gives_the_same_pool_and_another_seed_another(pool: Pool, tmp_path: Path) -> None:
    for seed in (SEED, SEED + 1):
        make_pool(tmp_path / str(seed), SETTINGS, 500, seed)
    one, other = (read_pool(tmp_path / str(s), recipe(SETTINGS, 500, s)).particles for s in (SEED, SEED + 1))
    assert _same(one, pool.particles.take(np.arange(len(one))))  # half as many events: the first block is the same
    assert not _same(one, other)


def test_a_block_alone_is_the_block_among_others(pool: Pool) -> None:
    alone = pileup._block(initialise(make(SETTINGS.items()), SETTINGS.items()), SEED, 1)
    assert _same(alone, pool.particles.take(np.arange(len(pool) - len(alone), len(pool))))


def test_a_pool_has_collisions_with_what_can_reach_a_detector(pool: Pool) -> None:
    table = pool.particles
    assert 0.99 * EVENTS <= len(pool) <= EVENTS
    pt = np.hypot(table["px"], table["py"])
    assert np.arcsinh(np.abs(table["pz"]) / pt).max() < 6.0001
    assert not np.isin(np.abs(table["id"]), (12, 14, 16)).any()
    central = (table["charge"] != 0) & (np.abs(table["pz"]) < pt * np.sinh(0.5))
    assert 5 < central.sum() / len(pool) < 9  # tracks a unit of pseudorapidity


def test_a_pool_that_is_there_is_kept_and_another_configs_is_made_anew(tmp_path: Path) -> None:
    make_pool(tmp_path / "pool", SETTINGS, 500, SEED)
    before = (tmp_path / "pool" / "zarr.json").stat().st_mtime_ns
    make_pool(tmp_path / "pool", SETTINGS, 500, SEED)
    assert (tmp_path / "pool" / "zarr.json").stat().st_mtime_ns == before
    for leftover in (".pool.tmp", ".pool.tmp-old"):  # as a process leaves it that was killed
        (tmp_path / leftover / "px").mkdir(parents=True)
    with (
        locked(tmp_path / ".pool.lock"),
        pytest.raises(UserError, match=r"pool: another process is making this pool; wait for it or stop it, then run"),
    ):
        make_pool(tmp_path / "pool", SETTINGS, 500, SEED + 1)
    make_pool(tmp_path / "pool", SETTINGS, 500, SEED + 1)
    assert len(read_pool(tmp_path / "pool", recipe(SETTINGS, 500, SEED + 1))) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def _damage(path: Path) -> None:
    """Change one momentum."""
    group = zarr.open_group(str(path), mode="r+")
    array = group["px"]
    assert isinstance(array, zarr.Array)
    array[3] = 1.0


def test_what_is_wrong_with_a_pool_is_said_in_a_line(tmp_path: Path) -> None:
    good = recipe(SETTINGS, 500, SEED)
    make_pool(tmp_path / "pool", SETTINGS, 500, SEED)
    with pytest.raises(UserError, match=r"^\S*none: no pool of pile-up here; make it with `resim pool --out \S*none`$"):
        read_pool(tmp_path / "none", good)
    with pytest.raises(UserError, match=r"is not the pool that the config describes; make it again with `resim pool`$"):
        read_pool(tmp_path / "pool", recipe(SETTINGS, 1000, SEED))
    _damage(tmp_path / "pool")
    with pytest.raises(UserError, match=r"the pool is damaged; remove it and make it again with `resim pool`$"):
        read_pool(tmp_path / "pool", good)
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(
        UserError, match=r"text: is no pool of pile-up; make one with `resim pool` elsewhere, or remove it$"
    ):
        read_pool(tmp_path / "text", good)


def test_what_is_no_pool_is_not_replaced(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "other"), mode="w").create_array("mine", data=np.arange(3))
    with pytest.raises(UserError, match=r"other: is no pool of pile-up; make one with `resim pool` elsewhere, or rem"):
        make_pool(tmp_path / "other", SETTINGS, 500, SEED)
    assert np.asarray(zarr.open_group(str(tmp_path / "other"), mode="r")["mine"]).tolist() == [0, 1, 2]


# --- what is laid over -------------------------------------------------------------------------------------------


def _collisions(hadrons: Hadrons) -> list[np.ndarray]:
    """Split the pile-up of each event into collisions: particles made there and then have the collision's z and t."""
    assert hadrons.pileup is not None
    table = hadrons.pileup
    return [np.unique(table["t"][slice(*table.offsets[i : i + 2])]) for i in range(len(table))]


def test_numbers_are_poisson_and_vertices_spread_as_asked(pool: Pool) -> None:
    events = _many(2000)
    one = Pool(Ragged(np.array([0, 1]), {n: c[:1] for n, c in pool.particles.columns.items()}))
    one.particles.columns.update({n: np.zeros(1, dtype=np.float32) for n in ("x", "y", "z", "t")})
    found = overlay(events, MU, one, STREAM).pileup
    assert found is not None
    number = np.diff(found.offsets)
    assert abs(number.mean() - 20) < 4 * np.sqrt(20 / 2000)
    assert abs(number.var() - 20) < 4 * 20 * np.sqrt(2 / 2000)
    assert kstest(found["z"] / 53.0, "norm").pvalue > 0.01
    assert kstest(found["t"] / 48.0, "norm").pvalue > 0.01
    assert abs(np.corrcoef(found["z"], found["t"])[0, 1]) < 0.02
    angle = np.arctan2(found["py"], found["px"])
    assert kstest(angle / (2 * np.pi) + 0.5, "uniform").pvalue > 0.01
    np.testing.assert_allclose(
        np.hypot(found["px"], found["py"]), np.hypot(*(one.particles[n][0] for n in ("px", "py")))
    )


def test_every_collision_of_the_pool_is_drawn(pool: Pool) -> None:
    found = overlay(_many(2000), MU, pool, STREAM).pileup
    assert found is not None
    assert set(np.unique(pool.particles["pz"].astype(float))) == set(np.unique(found["pz"]))


def test_a_collision_is_turned_and_moved_as_a_whole(pool: Pool) -> None:
    """Energies, longitudinal momenta and the distances of its particles are those of the pool."""
    single = Pool(pool.particles.take(np.array([7])))
    settings = PileupSettings(mu=1.0)
    found = overlay(_many(50), settings, single, STREAM).pileup
    assert found is not None
    n = int(single.particles.offsets[-1])
    wanted = {name: column.astype(float) for name, column in single.particles.columns.items()}
    energy = np.sqrt(sum(wanted[q] ** 2 for q in ("px", "py", "pz", "m")))
    assert len(found["e"]) > n
    for start in range(0, len(found["e"]), n):
        mine = {name: column[start : start + n] for name, column in found.columns.items()}
        np.testing.assert_allclose(mine["e"], energy)
        np.testing.assert_array_equal(mine["pz"], wanted["pz"])
        for name in "zt":
            np.testing.assert_allclose(mine[name] - mine[name][0], wanted[name] - wanted[name][0], atol=1e-9)
        turned = (mine["px"] + 1j * mine["py"]) / (wanted["px"] + 1j * wanted["py"])
        np.testing.assert_allclose(turned, turned[0])
        np.testing.assert_allclose(mine["x"] + 1j * mine["y"], turned[0] * (wanted["x"] + 1j * wanted["y"]), atol=1e-9)


def test_pileup_belongs_to_the_event_and_the_key(pool: Pool) -> None:
    hadrons = nominal("qcd")[1]
    whole = overlay(hadrons, MU, pool, STREAM)
    assert whole.particles is hadrons.particles
    assert whole.pileup is not None
    for rows in (np.array([5]), np.array([3, 20, 21]), np.arange(30)[::-1]):
        some = overlay(hadrons.take(rows), MU, pool, STREAM).pileup
        assert some is not None
        assert _same(some, whole.pileup.take(rows))
    other = overlay(hadrons, MU, pool, Step("pileup", (), "other").stream(SEED, "qcd")).pileup
    assert other is not None
    assert not _same(other, whole.pileup)
    more = overlay(hadrons, PileupSettings(mu=25.0), pool, STREAM).pileup
    assert more is not None
    assert (np.diff(more.offsets) >= np.diff(whole.pileup.offsets)).all()


def test_no_pileup_and_no_events(pool: Pool) -> None:
    hadrons = nominal("qcd")[1]
    none = overlay(hadrons, PileupSettings(mu=0.0), pool, STREAM)
    assert none.pileup is not None
    assert len(none.pileup["px"]) == 0
    assert _same(detect(none, CMS, STREAM).candidates, detect(hadrons, CMS, STREAM).candidates)
    nobody = overlay(hadrons.take(np.array([], dtype=np.int64)), MU, pool, STREAM)
    assert len(nobody.event) == 0
    assert len(detect(nobody, CMS, STREAM).candidates) == 0


# --- the detector ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(pool: Pool) -> dict[float, Candidates]:
    """Give the same events with the same draws of the detector, without pile-up and with some and more."""
    hadrons = nominal("qcd")[1]
    laid = {mu: overlay(hadrons, PileupSettings(mu=mu), pool, STREAM) for mu in (0.0, 20.0, 60.0)}
    return {mu: detect(h, CMS, Step("detector", (), "nominal").stream(SEED, "qcd")) for mu, h in laid.items()}


def _tracks(candidates: Candidates) -> Ragged:
    table = candidates.candidates
    keep = table["charge"] != 0
    count = np.bincount(row_of(table.offsets)[keep], minlength=len(table))
    return Ragged(np.concatenate([[0], np.cumsum(count)]), {n: c[keep] for n, c in table.columns.items()})


def test_tracks_of_the_hard_collision_keep_their_draws(seen: dict[float, Candidates]) -> None:
    """Draws belong to particles by place: the impact parameters, which energy flow leaves alone, are the same."""
    alone, laid = _tracks(seen[0.0]), _tracks(seen[60.0])
    for i in range(len(alone)):
        mine, theirs = slice(*alone.offsets[i : i + 2]), slice(*laid.offsets[i : i + 2])
        n = mine.stop - mine.start
        for name in ("d0", "dz", "d0_error"):
            np.testing.assert_array_equal(laid[name][theirs][:n], alone[name][mine])


def test_rates_grow_with_pileup(seen: dict[float, Candidates]) -> None:
    def rates(mu: float) -> list[float]:
        table, jets = seen[mu].candidates, make_objects(seen[mu], JetSettings())
        columns = dict(zip([c for c, _, _ in JET_COLUMNS], jets.columns.T, strict=True))
        ht = np.hypot(table["px"], table["py"]).sum() / len(table)
        return [
            float(x)
            for x in (ht, len(table["px"]) / len(table), columns["pt"].mean(), columns["n_constituents"].mean())
        ]

    none, some, more = (rates(mu) for mu in (0.0, 20.0, 60.0))
    for quantity in zip(none, some, more, strict=True):
        assert quantity[0] < quantity[1] < quantity[2]
    # three times the pile-up adds about three times as much: shared cells and energy flow are not linear
    for k in range(2):
        assert 2.3 < (more[k] - none[k]) / (some[k] - none[k]) < 3.7


def test_a_cut_on_dz_takes_most_tracks_of_pileup_and_few_others(seen: dict[float, Candidates]) -> None:
    """At 1 mm: what it takes of the hard collision are soft tracks, with errors of that size, and decays far away."""
    settings = JetSettings(vertex_dz_max=1.0)

    def tracks(mu: float) -> np.ndarray:
        """Give number and summed pT of tracks, before the cut and after it."""
        both = [_tracks(c) for c in (seen[mu], from_hard_vertex(seen[mu], settings))]
        return np.array([(len(t["px"]), np.hypot(t["px"], t["py"]).sum()) for t in both])

    hard = tracks(0.0)
    assert hard[1, 0] > 0.85 * hard[0, 0]
    assert hard[1, 1] > 0.95 * hard[0, 1]
    before, after = tracks(60.0)[:, 0] - hard[:, 0]
    assert before > hard[0, 0]
    assert after < 0.05 * before
    neutral = [(c.candidates["charge"] == 0).sum() for c in (seen[60.0], from_hard_vertex(seen[60.0], settings))]
    assert neutral[0] == neutral[1]


@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.7, 50.0, 200.0, 1000.0])
def test_numbers_of_collisions_are_poissons(mean: float) -> None:
    """To the number, and at the very steps of the distribution."""
    steps = poisson.cdf(poisson.ppf(np.linspace(0.01, 0.99, 50), mean), mean)
    draws = np.concatenate([np.linspace(0.001, 0.999, 2000), steps, np.nextafter(steps, 0), [1e-12, 1 - 1e-12]])
    draws = draws[draws < 1]
    assert np.array_equal(to_poisson(draws, mean), poisson.ppf(draws, mean))
