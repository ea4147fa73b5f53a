import numpy as np
import pytest

from tests.training.conftest import toy_jets
from training.data.fetch import pad
from training.data.jets import DR, ETA, INPUTS, PHI, PT, RELE, RELPT, E, completed, inputs
from training.keys import generator
from training.lanes import JETS, Normalisation


@pytest.fixture
def jets() -> np.ndarray:
    return toy_jets(50, generator("features"), two_prongs=True)


def test_derived_features_agree_with_four_vectors_added_one_by_one(jets: np.ndarray) -> None:
    jet = completed(jets)[7]
    here = jet[jet[:, PT] > 0].astype(float)
    px = sum(c[PT] * np.cos(c[PHI]) for c in here)
    py = sum(c[PT] * np.sin(c[PHI]) for c in here)
    pz = sum(c[PT] * np.sinh(c[ETA]) for c in here)
    pt = np.hypot(px, py)
    dphi = (here[:, PHI] - np.arctan2(py, px) + np.pi) % (2 * np.pi) - np.pi
    assert here[:, RELPT] == pytest.approx(here[:, PT] / pt, rel=1e-5)
    assert here[:, RELE] == pytest.approx(here[:, E] / sum(here[:, E]), rel=1e-5)
    assert here[:, DR] == pytest.approx(np.hypot(here[:, ETA] - np.arcsinh(pz / pt), dphi), abs=1e-5)


def test_padding_has_no_inputs_and_nothing_is_infinite(jets: np.ndarray) -> None:
    values = inputs(jets)
    assert values.shape == (*jets.shape[:2], len(INPUTS))
    assert np.isfinite(values).all()
    assert not values[jets[:, :, PT] == 0].any()


def test_turning_the_detector_about_the_beam_changes_no_input(jets: np.ndarray) -> None:
    turned = jets.copy()
    turned[:, :, PHI] = np.where(jets[:, :, PT] > 0, (jets[:, :, PHI] + 2.5 + np.pi) % (2 * np.pi) - np.pi, 0)
    np.testing.assert_allclose(inputs(turned), inputs(jets), atol=2e-5)


def test_normalised_inputs_have_mean_zero_and_width_one(jets: np.ndarray) -> None:
    values, present = Normalisation.measured(JETS, jets)(jets)
    assert values[present][:, :9].mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert values[present][:, :9].std(axis=0) == pytest.approx(1, abs=1e-4)


def test_columns_of_padding_alone_are_cut_off(jets: np.ndarray) -> None:
    normalisation = Normalisation.measured(JETS, jets)
    padded = np.pad(jets, ((0, 0), (0, 30), (0, 0)))
    for wide, narrow in zip(normalisation(padded), normalisation(jets), strict=True):
        np.testing.assert_array_equal(wide, narrow)


def test_pad_keeps_the_first_constituents_of_each_row() -> None:
    constituents = np.arange(1, 13, dtype=np.float32).reshape(6, 2)
    offsets = np.array([0, 1, 1, 4, 6])
    padded = pad(constituents, offsets, np.array([0, 1, 2]), 2)
    assert padded.tolist() == [[[1, 2], [0, 0]], [[0, 0], [0, 0]], [[3, 4], [5, 6]]]
    assert pad(constituents, offsets, np.array([3]), 2, columns=[1]).tolist() == [[[10], [12]]]
