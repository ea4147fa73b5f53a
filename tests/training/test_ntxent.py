import math

import pytest
import torch

from training.losses.ntxent import ntxent


def _projections(seed: int, batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 5, generator=draws), torch.randn(batch, 5, generator=draws)


def _one_by_one(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    z = [v / v.norm() for v in [*first, *second]]
    total = 0.0
    for i in range(len(z)):
        partner = (i + len(first)) % len(z)
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(len(z)) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[partner]) / temperature) / others)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_agrees_with_the_sum_written_out(temperature: float) -> None:
    first, second = _projections(0)
    assert ntxent(first, second, temperature).item() == pytest.approx(_one_by_one(first, second, temperature), rel=1e-5)


def test_does_not_change_when_views_are_swapped_objects_permuted_or_vectors_stretched() -> None:
    first, second = _projections(1)
    loss = ntxent(first, second, 0.2).item()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert ntxent(second, first, 0.2).item() == pytest.approx(loss, rel=1e-6)
    assert ntxent(first[order], second[order], 0.2).item() == pytest.approx(loss, rel=1e-6)
    assert ntxent(3 * first, second / 7, 0.2).item() == pytest.approx(loss, rel=1e-5)


def test_is_the_log_of_the_number_of_others_when_all_are_parallel() -> None:
    same = torch.ones(4, 3)
    assert ntxent(same, same, 0.5).item() == pytest.approx(math.log(7))


def test_has_the_closed_form_of_orthogonal_objects() -> None:
    z = torch.eye(3)
    assert ntxent(z, z, 0.5).item() == pytest.approx(-2 + math.log(math.exp(2) + 4), rel=1e-6)
