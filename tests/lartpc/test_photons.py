"""Photons and annihilation against published tables.

NIST, X-ray mass attenuation coefficients, argon (cm2/g): the total has coherent scattering in it, which we leave out;
from 0.5 MeV it is less than 1 %.
"""

import math

import numpy as np
import pytest

from resim.keys import stream
from resim.lartpc.transport.argon import ATOMS, DENSITY, RADIATION_LENGTH
from resim.lartpc.transport.draws import draws_of
from resim.lartpc.transport.electrons import annihilation_rate, draw_annihilation
from resim.lartpc.transport.particles import ELECTRON_MASS
from resim.lartpc.transport.photons import compton_rate, draw_compton, draw_pair, pair_rate, photoelectric_rate
from tests.lartpc.shots import deposited, fire

ATTENUATION = {
    0.5: 0.07958,
    1: 0.05762,
    1.25: 0.05150,
    1.5: 0.04695,
    2: 0.04074,
    3: 0.03384,
    5: 0.02802,
    10: 0.02451,
    15: 0.02418,
    20: 0.02453,
}
PHOTOELECTRIC = {0.05: 32.81, 0.1: 3.691, 0.3: 0.1215, 1.0: 0.005696}
"""NIST XCOM, argon, barn an atom."""


@pytest.mark.parametrize(("energy", "reference"), ATTENUATION.items())
def test_attenuation(energy: float, reference: float) -> None:
    total = compton_rate(float(energy)) + pair_rate(float(energy)) + photoelectric_rate(float(energy))
    assert total / DENSITY == pytest.approx(reference, rel=0.015)


@pytest.mark.parametrize(("energy", "reference"), PHOTOELECTRIC.items())
def test_photoelectric(energy: float, reference: float) -> None:
    assert photoelectric_rate(energy) / ATOMS * 1e24 == pytest.approx(reference, rel=0.01)


def test_conversion_length() -> None:
    """Pairs: 9/7 X0 at infinite energy; 5 % longer at 1 GeV."""
    lengths = np.array([7 / (9 * pair_rate(e) * RADIATION_LENGTH) for e in (100.0, 1000.0, 80000.0)])
    assert np.all(np.diff(lengths) < 0)
    assert lengths[1] == pytest.approx(1.05, abs=0.03)
    assert lengths[2] == pytest.approx(1, abs=0.02)


def test_photons_convert_where_they_should() -> None:
    """Of 500 MeV photons that many get through a radiation length untouched, and escape with all their energy."""
    made = fire("gamma", 500, 1000, world_half_size=(1.0, 1.0, RADIATION_LENGTH))
    rate = compton_rate(500.0) + pair_rate(500.0)
    through = math.exp(-rate * RADIATION_LENGTH)
    assert np.mean(deposited(made) == 0) == pytest.approx(through, abs=4 * math.sqrt(through / 1000))


def test_compton_conserves_and_follows_klein_and_nishina() -> None:
    """Energy and angle are tied; the mean share of the electron is that of the tables: 0.440 at 1 MeV (Attix, 7.3)."""
    draws = draws_of(stream(1, "a", "b").key, 1)
    drawn = np.array([draw_compton(1.0, draws) for _ in range(4000)])
    assert np.allclose(1 / drawn[:, 0] - 1, (1 - drawn[:, 1]) / ELECTRON_MASS)
    assert np.mean(1 - drawn[:, 0]) == pytest.approx(0.440, abs=0.02)


@pytest.mark.parametrize("energy", [1.5, 20.0, 500.0])
def test_pairs_share_the_energy(energy: float) -> None:
    draws = draws_of(stream(1, "a", "b").key, 2)
    drawn = np.array([draw_pair(energy, draws) for _ in range(1000)])
    rest = energy - 2 * ELECTRON_MASS
    assert np.allclose(drawn[:, 0] + drawn[:, 2], rest)
    assert drawn[:, [0, 2]].min() >= 0
    assert drawn[:, 0].mean() == pytest.approx(rest / 2, abs=4 * rest / math.sqrt(12 * 1000))


def test_annihilation_in_flight_conserves() -> None:
    """Both photons are on their mass shell: the second one's momentum is its energy."""
    draws, kinetic = draws_of(stream(1, "a", "b").key, 3), 3.0
    momentum = math.sqrt(kinetic * (kinetic + 2 * ELECTRON_MASS))
    for _ in range(100):
        energy, cosine = draw_annihilation(kinetic, draws)
        other = kinetic + 2 * ELECTRON_MASS - energy
        assert math.sqrt(momentum**2 + energy**2 - 2 * momentum * energy * cosine) == pytest.approx(other, rel=1e-9)
    # Heitler at 3 MeV: gamma = 6.87; 2 % of positrons of some MeV annihilate in flight on each 1 g/cm2
    assert annihilation_rate(kinetic) / DENSITY == pytest.approx(0.025, rel=0.3)


def test_stopped_positrons_make_two_photons() -> None:
    """In a world of half a centimetre most photons escape, two of 511 keV; the kinetic energy stays."""
    made = fire("e+", 0.3, 200, world_half_size=(0.5, 0.5, 0.5))
    both = np.abs(made.escaped - 2 * ELECTRON_MASS) < 1e-9
    assert np.mean(both) > 0.75
    assert deposited(made)[both] == pytest.approx(0.3, rel=1e-6)
