"""The supervised contrastive losses and VICReg, against sums written out and against pytorch-metric-learning."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss, VICRegLoss
from torch import Tensor

from training.config import PretrainConfig
from training.losses import objective
from training.losses.ntxent import ntxent
from training.losses.supcon_in import supcon_in
from training.losses.supcon_out import supcon_out
from training.losses.vicreg import covariance, variance, vicreg

LABELS = torch.tensor([0, 1, 1, 0, 2, 1])
OBJECTIVES = {
    "ntxent": {},
    "supcon_in": {"alpha": 0.5},
    "supcon_in fully": {"alpha": 1},
    "supcon_out": {"alpha": 0.5},
    "supcon_out fully": {"alpha": 1},
    "vicreg": {},
}


def _projections(seed: int, batch: int = 6) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(batch, 5, generator=draws, dtype=torch.float64) for _ in range(2))
    return first, second


def _shares(first: Tensor, second: Tensor, temperature: float) -> list[list[float]]:
    """Give exp(s_ij / t) over its sum over all j but i, one by one."""
    z = [v / v.norm() for v in [*first, *second]]
    raw = [[math.exp(float(a @ b) / temperature) * (a is not b) for b in z] for a in z]
    return [[value / sum(row) for value in row] for row in raw]


def _weight(i: int, j: int, labels: Tensor, alpha: float) -> float:
    same_class = labels[i % len(labels)] == labels[j % len(labels)]
    same_object = i % len(labels) == j % len(labels)
    return (alpha * bool(same_class) + (1 - alpha) * same_object) * (i != j)


def _in_one_by_one(first: Tensor, second: Tensor, labels: Tensor, alpha: float, temperature: float) -> float:
    shares = _shares(first, second, temperature)
    n = len(shares)
    terms = [-math.log(sum(_weight(i, j, labels, alpha) * shares[i][j] for j in range(n))) for i in range(n)]
    return sum(terms) / n


def _out_one_by_one(first: Tensor, second: Tensor, labels: Tensor, alpha: float, temperature: float) -> float:
    shares, total = _shares(first, second, temperature), 0.0
    n = len(shares)
    for i in range(n):
        w = [_weight(i, j, labels, alpha) for j in range(n)]
        total -= sum(w[j] * math.log(shares[i][j]) for j in range(n) if w[j]) / sum(w)
    return total / n


@pytest.mark.parametrize("alpha", [0, 0.25, 1])
@pytest.mark.parametrize(
    ("loss", "twin"), [(supcon_in, _in_one_by_one), (supcon_out, _out_one_by_one)], ids=["in", "out"]
)
def test_supcon_agrees_with_the_sum_written_out(
    loss: Callable[..., Tensor], twin: Callable[..., float], alpha: float
) -> None:
    first, second = _projections(0)
    expected = twin(first, second, LABELS, alpha, 0.3)
    assert loss(first, second, LABELS, alpha, 0.3).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [supcon_in, supcon_out])
def test_supcon_without_labels_is_ntxent(loss: Callable[..., Tensor]) -> None:
    first, second = _projections(1)
    gradients = []
    for of in (lambda z: loss(z, second, LABELS, 0, 0.1), lambda z: ntxent(z, second, 0.1)):
        z = first.clone().requires_grad_()
        value = of(z)
        value.backward()
        gradients.append((value.detach(), z.grad))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [supcon_in, supcon_out])
def test_supcon_does_not_change_when_views_are_swapped_or_objects_permuted(loss: Callable[..., Tensor]) -> None:
    first, second = _projections(2)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    value = loss(first, second, LABELS, 0.5, 0.2).item()
    assert loss(second, first, LABELS, 0.5, 0.2).item() == pytest.approx(value, rel=1e-12)
    assert loss(first[order], second[order], LABELS[order], 0.5, 0.2).item() == pytest.approx(value, rel=1e-12)
    assert loss(first, second, LABELS[order], 0.5, 0.2).item() != pytest.approx(value, rel=1e-3)


def test_supcon_has_its_closed_form_when_all_are_parallel() -> None:
    """Four objects, two a class: three partners among seven others, weights alpha, alpha and 1."""
    same, labels = torch.ones(4, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    assert supcon_in(same, same, labels, 0.4, 0.1).item() == pytest.approx(math.log(7 / 1.8))
    assert supcon_out(same, same, labels, 0.4, 0.1).item() == pytest.approx(math.log(7))


def test_objects_of_another_class_are_pushed_away_and_of_the_same_class_only_with_alpha() -> None:
    first, second = torch.eye(4, dtype=torch.float64)[:3], torch.eye(4, dtype=torch.float64)[:3]
    labels = torch.tensor([0, 0, 1])
    for loss in (supcon_in, supcon_out):
        moved = {}
        for alpha in (0, 1):
            z = first.clone().requires_grad_()
            loss(z, second, labels, alpha, 0.5).backward()
            moved[alpha] = -z.grad[0]  # the way that a step down takes the first object
        assert moved[0][1] < 0 < moved[1][1]
        assert max(moved[0][2], moved[1][2]) < 0


def _vicreg_one_by_one(first: Tensor, second: Tensor) -> float:
    n, d = first.shape
    total = 25 * sum(float((first[b, c] - second[b, c]) ** 2) for b in range(n) for c in range(d)) / (n * d)
    for view in (first, second):
        x = view - view.mean(dim=0)
        matrix = [[sum(float(x[b, i] * x[b, j]) for b in range(n)) / (n - 1) for j in range(d)] for i in range(d)]
        total += 25 * sum(max(0, 1 - math.sqrt(matrix[c][c] + 1e-4)) for c in range(d)) / d / 2
        total += sum(matrix[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return total


def test_vicreg_agrees_with_the_sum_written_out() -> None:
    first, second = _projections(3)
    assert vicreg(first, second, 25, 25, 1).item() == pytest.approx(_vicreg_one_by_one(first, second), rel=1e-12)


def test_vicreg_terms_vanish_where_they_should() -> None:
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 2
    assert variance(spread).item() == 0
    assert covariance(spread).item() == pytest.approx(0, abs=1e-6)
    assert vicreg(spread, spread, 25, 25, 1).item() == pytest.approx(0, abs=1e-6)
    assert vicreg(spread, spread + 3, 1, 25, 1).item() == pytest.approx(9, rel=1e-6)
    assert variance(torch.ones(4, 2)).item() == pytest.approx(0.99)
    assert covariance(torch.tensor([[1.0, 1], [-1, -1]])).item() == pytest.approx(4)  # 2 * 2^2 over two columns


def test_losses_agree_with_an_independent_implementation() -> None:
    first, second = _projections(4, batch=12)
    both, objects, labels = torch.cat([first, second]), torch.arange(12).repeat(2), LABELS.repeat(2)
    assert ntxent(first, second, 0.1).item() == pytest.approx(NTXentLoss(0.1)(both, objects).item(), rel=1e-6)
    expected = SupConLoss(0.1)(both, labels.repeat(2)).item()
    assert supcon_out(first, second, labels, 1, 0.1).item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(vicreg(first, second, 25, 25, 1), VICRegLoss()(first, ref_emb=second))


@pytest.mark.parametrize("case", OBJECTIVES)
@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        (*_projections(5, batch=4), torch.arange(4)),
        (*_projections(6, batch=1), torch.zeros(1)),
        (torch.ones(4, 5), torch.ones(4, 5), torch.tensor([0, 0, 1, 1])),
        (torch.zeros(4, 5), torch.zeros(4, 5), torch.tensor([0, 0, 1, 1])),
        (1e4 * torch.eye(4), -1e4 * torch.eye(4), torch.zeros(4)),
    ],
    ids=["no pair of a class", "one object", "all equal", "all zero", "far apart"],
)
def test_nothing_is_nan_in_a_degenerate_batch(case: str, first: Tensor, second: Tensor, labels: Tensor) -> None:
    config = PretrainConfig.model_validate({"loss": case.split()[0], "temperature": 0.05, **OBJECTIVES[case]})
    z = [x.float().clone().requires_grad_() for x in (first, second)]
    loss = objective(config, *z, labels)
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)


@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_loss_is_computed_in_single_precision_under_autocast(case: str) -> None:
    config = PretrainConfig.model_validate({"loss": case.split()[0], **OBJECTIVES[case]})
    first, second = (x.bfloat16() for x in _projections(7))
    expected = objective(config, first.float(), second.float(), LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective(config, first, second, LABELS), expected)


def test_the_config_chooses_the_loss_and_its_settings() -> None:
    first, second = (x.float() for x in _projections(8))
    settings: dict[str, Any] = {"temperature": 0.3}
    expected = {
        "ntxent": ntxent(first, second, 0.3),
        "supcon_in": supcon_in(first, second, LABELS, 0.7, 0.3),
        "supcon_out": supcon_out(first, second, LABELS, 0.7, 0.3),
        "vicreg": vicreg(first, second, 1, 2, 3),
    }
    for name, value in expected.items():
        settings |= {"loss": name, "alpha": 0.7 * name.startswith("supcon")}
        settings["vicreg"] = {"invariance": 1, "variance": 2, "covariance": 3}
        assert torch.equal(objective(PretrainConfig.model_validate(settings), first, second, LABELS), value)


def test_alpha_with_a_loss_that_reads_no_labels_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"alpha 0.5 needs loss supcon_in or supcon_out, not ntxent"):
        PretrainConfig(alpha=0.5)
