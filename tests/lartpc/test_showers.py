"""Electromagnetic showers against what is known of them."""

import math

import numpy as np
import pytest

from resim.lartpc.states import Deposits
from resim.lartpc.transport.argon import CRITICAL_ENERGY, MOLIERE_RADIUS, RADIATION_LENGTH
from tests.lartpc.shots import fire


@pytest.fixture(scope="module")
def showers() -> Deposits:
    return fire("e-", 1000, 25)


def test_moliere_radius(showers: Deposits) -> None:
    """90 % of the energy lies within a Moliere radius of the axis, 95 % within two (PDG 34.5; 9.04 cm in argon)."""
    s = showers.segments
    radius = np.hypot((s["x_start"] + s["x_end"]) / 2, (s["y_start"] + s["y_end"]) / 2)
    share = [s["energy"][radius < k * MOLIERE_RADIUS].sum() / s["energy"].sum() for k in (1, 2)]
    assert share[0] == pytest.approx(0.90, rel=0.1)
    assert share[1] == pytest.approx(0.95, rel=0.05)


def test_longitudinal_profile(showers: Deposits) -> None:
    """The maximum lies at ln(E / E_c) - 0.5 radiation lengths (PDG 34.5.1), 2.9 at 1 GeV."""
    s = showers.segments
    depth = (s["z_start"] + s["z_end"]) / 2 / RADIATION_LENGTH
    profile, edges = np.histogram(depth, bins=np.arange(0, 12.1, 0.5), weights=s["energy"])
    top = slice(2, 12)
    fit = np.polyfit((edges[:-1] + 0.25)[top], np.log(profile[top]), 3)
    grid = np.linspace(1.5, 5, 351)
    expected = math.log(1000 / CRITICAL_ENERGY) - 0.5
    assert grid[np.argmax(np.polyval(fit, grid))] == pytest.approx(expected, abs=0.6)


def test_photons_and_electrons_begin_differently() -> None:
    """A photon's first centimetre holds a pair, twice the loss of an electron."""
    losses = []
    for particle in ("e-", "gamma"):
        made = fire(particle, 500, 40)
        s = made.segments
        event = np.repeat(np.arange(40), np.diff(s.offsets))
        begin = np.array([s["z_start"][start] for start in s.offsets[:-1]])
        near = (s["z_start"] - begin[event] >= 0) & (s["z_start"] - begin[event] < 1.5)
        losses.append(np.median(np.bincount(event[near], s["energy"][near], minlength=40)) / 1.5)
    assert losses[0] == pytest.approx(2.1, rel=0.15)
    assert losses[1] / losses[0] == pytest.approx(2, rel=0.15)
