"""The four pairwise features against four-momenta in double precision."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.conftest import toy_jets
from training.config import EncoderConfig
from training.data.jets import ETA, INPUTS, PHI, PT, wrapped
from training.encoders.pairwise import ANGLE_MIN, pairwise, standardised
from training.encoders.part import ParT
from training.keys import generator
from training.lanes import JETS, Normalisation


def _coordinates(seed: int) -> Tensor:
    """Draw pT, eta, phi of seven constituents, (3, 1, 7); the last pair is nearly collinear and across phi = pi."""
    draws = torch.Generator().manual_seed(seed)
    pt = torch.rand(7, generator=draws) * 200 + 0.5
    eta, phi = torch.randn(7, generator=draws), math.pi * (2 * torch.rand(7, generator=draws) - 1)
    eta[6], phi[5], phi[6] = eta[5] + 2e-3, math.pi - 1e-3, -math.pi + 1e-3
    return torch.stack([pt, eta, phi])[:, None]


def _pair(a: list[float], b: list[float]) -> list[float]:
    """Give the features of a pair from its momenta: ln kT, ln z, ln dR, ln m^2."""
    (pt_a, eta_a, phi_a), (pt_b, eta_b, phi_b) = a, b
    angle = math.hypot(eta_a - eta_b, math.remainder(phi_a - phi_b, 2 * math.pi))
    p, q = (
        np.array([pt * math.cosh(eta), pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)])
        for pt, eta, phi in (a, b)
    )
    total = p + q
    mass_squared = total[0] ** 2 - total[1:] @ total[1:]
    softer = min(pt_a, pt_b)
    return [math.log(v) for v in (softer * angle, softer / (pt_a + pt_b), angle, mass_squared)]


def test_agrees_with_four_momenta_pair_by_pair() -> None:
    x = _coordinates(0).double()
    found = pairwise(x[0].log(), x[1], x[2])
    assert found.shape == (4, 1, 7, 7)
    for i in range(7):
        for j in range(7):
            if i != j:
                expected = _pair(x[:, 0, i].tolist(), x[:, 0, j].tolist())
                assert found[:, 0, i, j].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_single_precision_keeps_the_mass_of_near_pairs() -> None:
    """From E^2 - p^2 in single precision the mass of a pair 3 mrad apart would be rounding noise."""
    x = _coordinates(1)
    found = pairwise(x[0].log(), x[1], x[2])
    expected = pairwise(x[0].double().log(), x[1].double(), x[2].double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-3)
    energy, p = x[0] * x[1].cosh(), torch.stack([x[0] * x[2].cos(), x[0] * x[2].sin(), x[0] * x[1].sinh()])
    naive = (energy[0, 5] + energy[0, 6]) ** 2 - (p[:, 0, 5] + p[:, 0, 6]).square().sum()
    assert abs(naive / expected[3, 0, 5, 6].exp() - 1) > 0.01


def test_does_not_change_under_boosts_along_the_beam_turns_about_it_and_exchange() -> None:
    x = _coordinates(2).double()
    expected = pairwise(x[0].log(), x[1], x[2])
    torch.testing.assert_close(pairwise(x[0].log(), x[1] + 0.7, x[2] + 2.0), expected)
    torch.testing.assert_close(expected.transpose(2, 3), expected)


def test_identical_directions_have_the_floor_of_angles() -> None:
    same = pairwise(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2))
    floor = math.log(ANGLE_MIN)
    torch.testing.assert_close(same[:, 0, 0, 1], torch.tensor([floor, math.log(0.5), floor, 2 * floor]))


def test_the_encoder_has_the_momenta_back_from_standardised_inputs() -> None:
    """What adds to the attention scores is the pair perceptron of the features of the stored columns themselves."""
    jets = toy_jets(6, generator("pairs"), two_prongs=True, width=12)
    normalisation = Normalisation.measured(JETS, jets)
    values, present = (torch.from_numpy(x) for x in normalisation(jets))
    encoder = ParT(EncoderConfig(kind="part", width=16, heads=2), normalisation, torch.Generator().manual_seed(0))
    jets = jets[:, : present.shape[1]]
    stored = [np.log(np.where(present, jets[:, :, PT], 1)), jets[:, :, ETA], wrapped(jets[:, :, PHI])]
    features = standardised(pairwise(*(torch.from_numpy(x.astype(np.float64)) for x in stored))).float()
    both = present[:, :, None] & present[:, None, :]
    apart = both & ~torch.eye(present.shape[1], dtype=torch.bool)
    found, expected = (x.permute(0, 2, 3, 1)[apart] for x in (encoder.bias(values, present), encoder.pair(features)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
    absent = encoder.bias(values, present).permute(0, 2, 3, 1)[~present[:, None, :].expand_as(both)]
    assert len(absent) > 0
    assert bool((absent == -torch.inf).all())


def test_the_fixed_numbers_bring_features_to_the_order_of_one() -> None:
    jets = toy_jets(50, generator("pairs"), two_prongs=True, width=24)
    x = torch.from_numpy(jets).double()
    features = standardised(pairwise(x[:, :, PT].clamp(min=0.5).log(), x[:, :, ETA], x[:, :, PHI]))
    pairs = features[:, (x[:, :, None, PT] > 0) & (x[:, None, :, PT] > 0) & ~torch.eye(24, dtype=torch.bool)]
    assert pairs.mean(dim=1).abs().max() < 1.5
    assert 0.3 < pairs.std(dim=1).min() < pairs.std(dim=1).max() < 3


def test_pairs_reach_the_output() -> None:
    """With the pair perceptron at zero the network is another one."""
    values = torch.randn(3, 8, len(INPUTS), generator=torch.Generator().manual_seed(0))
    present = torch.ones(3, 8, dtype=torch.bool)
    normalisation = Normalisation(JETS, np.zeros(len(INPUTS), np.float32), np.ones(len(INPUTS), np.float32))
    encoder = ParT(EncoderConfig(kind="part", width=16, heads=2), normalisation, torch.Generator().manual_seed(0))
    before = encoder(values, present)
    torch.nn.init.zeros_(encoder.pair.down.weight)
    assert not torch.allclose(encoder(values, present), before, rtol=0.01)
