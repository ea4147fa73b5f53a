import numpy as np
import pytest

from tests.training.conftest import toy_jets
from training.augment.jetclr import augment, rotated, smeared, split, translated
from training.config import AugmentConfig
from training.data.jets import DR, ETA, PHI, PT, RELE, RELPT, E, completed, wrapped
from training.keys import Draws, generator


@pytest.fixture
def jets() -> np.ndarray:
    return toy_jets(200, generator("jetclr"), two_prongs=True)


def _draws(purpose: str, jets: np.ndarray) -> Draws:
    return Draws(np.arange(len(jets)), (purpose,))


def _distances(jet: np.ndarray) -> np.ndarray:
    jet = jet[jet[:, PT] > 0].astype(float)
    deta = jet[:, None, ETA] - jet[None, :, ETA]
    return np.hypot(deta, wrapped(jet[:, None, PHI] - jet[None, :, PHI]))


def _centre(jet: np.ndarray) -> tuple[float, float]:
    jet = jet[jet[:, PT] > 0].astype(float)
    phi = jet[0, PHI] + wrapped(jet[:, PHI] - jet[0, PHI])
    return np.average(jet[:, ETA], weights=jet[:, PT]), np.average(phi, weights=jet[:, PT])


def _mass_squared(jets: np.ndarray) -> np.ndarray:
    pt, eta, e = (jets[:, :, i].astype(float) for i in (PT, ETA, E))
    return e**2 - (pt * np.cosh(eta)) ** 2


def test_rotation_keeps_centre_distances_and_pt(jets: np.ndarray) -> None:
    turned = rotated(jets, generator("angle").uniform(0, 2 * np.pi, len(jets)))
    np.testing.assert_array_equal(turned[:, :, PT], jets[:, :, PT])
    for before, after in zip(jets[:20], turned[:20], strict=True):
        np.testing.assert_allclose(_distances(after), _distances(before), atol=3e-6)
        deta, dphi = np.subtract(_centre(after), _centre(before))
        assert (deta, wrapped(dphi)) == pytest.approx((0, 0), abs=1e-6)


def test_rotation_by_a_quarter_turns_eta_into_phi(jets: np.ndarray) -> None:
    eta, phi = _centre(jets[0])
    turned = rotated(jets[:1], np.array([np.pi / 2]))[0, 0]
    assert turned[ETA] - eta == pytest.approx(-wrapped(jets[0, 0, PHI] - phi), abs=1e-5)
    assert wrapped(turned[PHI] - phi) == pytest.approx(jets[0, 0, ETA] - eta, abs=1e-5)


def test_translation_moves_every_constituent_alike(jets: np.ndarray) -> None:
    moved = translated(jets, np.tile([0.3, -3.0], (len(jets), 1)))
    here = jets[:, :, PT] > 0
    assert (moved - jets)[here][:, ETA] == pytest.approx(0.3, abs=1e-6)
    assert wrapped((moved - jets)[here][:, PHI] + 3.0) == pytest.approx(0, abs=1e-6)
    assert not moved[~here].any()


def test_smearing_has_the_width_scale_over_pt(jets: np.ndarray) -> None:
    draws = generator("smear").standard_normal((*jets.shape[:2], 2))
    moved = smeared(jets, draws, 0.1)
    hard = jets[:, :, PT] > 1
    pulls = (moved[hard] - jets[hard])[:, ETA] * jets[hard][:, PT] / 0.1
    assert (pulls.mean(), pulls.std()) == pytest.approx((0, 1), abs=0.05)


def test_a_very_soft_constituent_stays_in_the_jet() -> None:
    """One of 1e-6 GeV was sent to eta = 1e5 and its energy overflowed: the training ended in NaN."""
    jet = np.zeros((1, 2, 15), dtype=np.float32)
    jet[0, :, PT] = jet[0, :, E] = 100, 1e-6
    assert abs(smeared(jet, np.ones((1, 2, 2)), 0.1)[0, 1, ETA]) < 1


def test_splitting_conserves_momentum_and_adds_constituents_in_the_same_place(jets: np.ndarray) -> None:
    roomy = np.concatenate([jets, np.zeros((len(jets), 8, jets.shape[2]), dtype=np.float32)], axis=1)
    after = split(roomy, _draws("split", roomy), 8)
    assert after.shape == roomy.shape
    for column in (PT, E):
        assert after[:, :, column].sum(axis=1) == pytest.approx(jets[:, :, column].sum(axis=1), rel=1e-5)
    added = (after[:, :, PT] > 0).sum(axis=1) - (jets[:, :, PT] > 0).sum(axis=1)
    assert set(added) == set(range(9))
    for before, now in zip(jets, after, strict=True):
        assert set(now[:, ETA]) <= {*before[:, ETA], np.float32(0)}


def test_splitting_more_often_than_there_are_constituents_splits_each_once() -> None:
    jet = np.zeros((400, 3, 15), dtype=np.float32)
    jet[:, 0, PT] = jet[:, 0, E] = 10
    after = split(jet, _draws("few", jet), 5)
    assert after.shape == (400, 3, 15)
    assert set((after[:, :, PT] > 0).sum(axis=1)) == {1, 2}


def test_splitting_a_full_jet_keeps_its_slots_its_pt_and_its_directions(jets: np.ndarray) -> None:
    """Eight more slots cost a quarter more time, in training alone, and no jet that is judged has so many."""
    full = jets[:, :12][(jets[:, 11, PT] > 0)]
    after = split(full, _draws("full", full), 8)
    assert after.shape == full.shape
    assert after[:, :, PT].sum(axis=1) == pytest.approx(full[:, :, PT].sum(axis=1), rel=1e-6)
    assert np.mean((after[:, :, PT] != full[:, :, PT]).any(axis=1)) > 0.8
    lightest = _mass_squared(after).min()
    assert lightest > -1e-6 * float(after[:, :, E].max()) ** 2
    for before, now in zip(full, after, strict=True):
        assert set(now[:, ETA]) <= set(before[:, ETA])


@pytest.mark.parametrize("step", ["rotate", "translate", "smear"])
def test_moving_keeps_the_mass_of_each_constituent(jets: np.ndarray, step: str) -> None:
    off = {"rotate": False, "translate": 0.0, "smear": 0.0, "splits": 0}
    moved = augment(jets, _draws("mass", jets), AugmentConfig(**{**off, step: AugmentConfig().model_dump()[step]}))
    assert not np.array_equal(moved, jets)
    np.testing.assert_allclose(_mass_squared(moved), _mass_squared(jets), atol=1e-6 * float(jets[:, :, E].max()) ** 2)


def test_all_fifteen_features_are_consistent_afterwards(jets: np.ndarray) -> None:
    after = augment(jets, _draws("all", jets), AugmentConfig())
    again = completed(after)
    for column in (RELPT, RELE, DR):
        np.testing.assert_array_equal(after[:, :, column], again[:, :, column])
    assert np.isfinite(after).all()
    assert np.all(np.diff(after[:, :, PT], axis=1) <= 0)
    assert not after[after[:, :, PT] <= 0].any()


def test_the_key_and_the_object_alone_settle_the_draws(jets: np.ndarray) -> None:
    config = AugmentConfig()
    first, again, other = (augment(jets, _draws(key, jets), config) for key in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    some = np.array([150, 3, 77])
    np.testing.assert_array_equal(augment(jets[some], Draws(some, ("a",)), config), first[some])
