import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score

from training import metrics
from training.keys import generator


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = generator("metrics")
    label = draws.integers(0, 2, 300)
    score = np.round(draws.normal(size=300) + label, 1)  # with ties
    return score, label, np.stack([np.ones(300), draws.poisson(1, 300), draws.random(300)])


def test_auc_agrees_with_scikit_learn_for_every_weighting(sample: tuple[np.ndarray, ...]) -> None:
    score, label, weight = sample
    expected = [roc_auc_score(label, score, sample_weight=w) for w in weight]
    assert metrics.roc(score, label, weight).auc() == pytest.approx(expected)


def test_background_at_an_efficiency_agrees_with_counting() -> None:
    label = np.repeat([1, 0], 100)
    score = np.concatenate([np.arange(100), np.arange(100) - 60.5])
    curve = metrics.roc(score, label, np.ones((1, 200)))
    assert curve.threshold_at(0.5) == [50]
    assert curve.signal[0, np.searchsorted(-curve.threshold, -50) + 1] == 0.5
    assert np.sum((label == 0) & (score >= 50)) == 0
    assert metrics.roc(score + 61 * (label == 0), label, np.ones((1, 200))).background_at(0.5) == pytest.approx([0.5])


def test_a_threshold_keeps_half_of_the_signal_in_every_resampling(sample: tuple[np.ndarray, ...]) -> None:
    score, label, weight = sample
    threshold = metrics.roc(score, label, weight).threshold_at(0.5)
    kept = metrics.efficiency_above(score[label == 1], threshold, weight[:, label == 1])
    above = metrics.efficiency_above(score[label == 1], threshold + 0.1, weight[:, label == 1])
    assert np.all(kept >= 0.5)
    assert np.all(above < 0.5)


def test_wasserstein_agrees_with_scipy_for_every_weighting(sample: tuple[np.ndarray, ...]) -> None:
    first, _, weight = sample
    second = first + generator("shift").normal(0.3, 1, 300)
    expected = [wasserstein_distance(first, second, w, w) for w in weight]
    assert metrics.wasserstein(first, second, weight, weight) == pytest.approx(expected)


def test_rejection_is_no_larger_than_the_sample_can_show() -> None:
    assert metrics.rejection(np.array([0.0, 0.02]), 40).tolist() == [40, 40]
    assert metrics.rejection(np.array([0.1]), 40) == pytest.approx([10])


def test_the_effective_number_counts_equal_weights_and_discounts_unequal_ones() -> None:
    assert metrics.effective_number(np.full(7, 0.3)) == pytest.approx(7)
    assert metrics.effective_number(np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx(2)
    assert metrics.effective_number(np.array([3.0, 1.0])) == pytest.approx(1.6)


def test_cosines_agree_with_pairs_taken_one_by_one() -> None:
    first, second = generator("cos").normal(size=(2, 7, 4)).astype(np.float32)
    pairs = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in second] for a in first]
    positive, random = metrics.cosine_pairs(first, second)
    assert positive == pytest.approx(np.trace(pairs) / 7, rel=1e-5)
    assert random == pytest.approx((np.sum(pairs) - np.trace(pairs)) / 42, rel=1e-5)
