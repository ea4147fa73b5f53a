"""Decays and captures of pions and muons, against PDG and measurements in argon."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from resim.keys import stream
from resim.lartpc.transport.decays import MICHEL_END, at_rest, decay_in_flight, decay_length, michel
from resim.lartpc.transport.draws import Draws, draws_of
from resim.lartpc.transport.kinematics import energy_of, rows
from resim.lartpc.transport.particles import (
    ANTIMUON,
    ELECTRON,
    ELECTRON_MASS,
    MUON,
    MUON_MASS,
    NEUTRON,
    PI_MINUS,
    PI_PLUS,
    PION_MASS,
    POSITRON,
    PROTON,
)
from tests.lartpc.published import michel as stopped

DAUGHTERS = {MUON: ELECTRON, ANTIMUON: POSITRON, PI_PLUS: ANTIMUON, PI_MINUS: MUON}


def _draws(event: int = 0) -> Draws:
    return draws_of(stream(1, "decays", "test").key, event)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(DAUGHTERS)), st.floats(0, 2000), st.integers(0, 2**31))
def test_energy_and_charge_are_kept_in_flight(pdg: int, kinetic: float, event: int) -> None:
    draws, out = _draws(event), rows()
    count, local, invisible = decay_in_flight(pdg, kinetic, draws, out)
    assert (count, out[0][0], local) == (1, DAUGHTERS[pdg], 0)
    assert energy_of(DAUGHTERS[pdg], out[1][0]) + invisible == pytest.approx(energy_of(pdg, kinetic), rel=1e-9)
    assert out[1][0] >= 0
    assert invisible >= 0
    assert np.linalg.norm(out[2][0]) == pytest.approx(1)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(DAUGHTERS)), st.integers(0, 2**31))
def test_energy_is_kept_at_rest(pdg: int, event: int) -> None:
    draws, out = _draws(event), rows()
    for _ in range(3):
        count, local, invisible, delay = at_rest(pdg, draws, out)
        total = local + invisible + sum(energy_of(int(out[0][i]), out[1][i]) for i in range(count))
        assert total == pytest.approx(energy_of(pdg, 0.0), rel=1e-9)
        assert min(local, invisible, delay) >= 0
        assert np.all(np.isfinite(out[1][:count]) & (out[1][:count] >= 0))
        assert np.allclose(np.linalg.norm(out[2][:count], axis=1), 1)


def test_nothing_happens_to_others() -> None:
    assert at_rest(PROTON, _draws(), rows()) == (0, 0.0, 0.0, 0.0)
    assert decay_length(PROTON, 100.0) == math.inf


def test_michel_spectrum() -> None:
    """Endpoint (m_mu^2 + m_e^2) / 2 m_mu = 52.83 MeV (PDG); density 2 x^2 (3 - 2x), so mean x 0.7, mean x^2 8/15."""
    draws = _draws()
    x = np.array([michel(draws) for _ in range(6000)]) / MICHEL_END
    assert pytest.approx(52.83, abs=0.005) == MICHEL_END
    assert 0.98 < x.max() <= 1
    assert x.mean() == pytest.approx(0.7, abs=0.01)
    assert (x**2).mean() == pytest.approx(8 / 15, abs=0.012)


def test_michel_spectrum_of_stopped_muons() -> None:
    """What stopped mu+ leave late, less the annihilation, has the density 2 x^2 (3 - 2x): distribution 2x^3 - x^4."""
    x = (stopped(1500) + ELECTRON_MASS) / 52.83
    assert len(x) > 1480  # a hundredth of the muons decays within 0.01 microseconds
    assert 0.97 < x.max() < 1.001
    assert kstest(x, lambda x: 2 * x**3 - x**4).pvalue > 0.01


def test_muon_of_a_pion() -> None:
    """Kinetic energy 4.12 MeV (PDG masses: (m_pi - m_mu)^2 / 2 m_pi)."""
    draws, out = _draws(), rows()
    count, _, invisible, _ = at_rest(PI_PLUS, draws, out)
    assert (count, out[0][0]) == (1, ANTIMUON)
    assert out[1][0] == pytest.approx(4.120, abs=0.002)
    assert invisible == pytest.approx(29.79, abs=0.01)


@pytest.mark.parametrize(("pdg", "life"), [(ANTIMUON, 2.197), (PI_PLUS, 0.02603), (MUON, 0.537)])
def test_mean_life_at_rest(pdg: int, life: float) -> None:
    """PDG; mu- in argon 0.537 +- 0.032 µs (quoted by Suzuki et al., PRC 35 (1987) 2212)."""
    draws, out = _draws(), rows()
    delays = [at_rest(pdg, draws, out)[3] for _ in range(4000)]
    assert np.mean(delays) == pytest.approx(life, rel=0.06)


def test_capture_of_negative_muons() -> None:
    """76 % are captured: 1 - 0.98 * 0.537 / 2.197; a capture frees about one neutron (Ca 0.75, Fe 1.13: Measday)."""
    draws, out, decays, neutrons, n = _draws(), rows(), 0, 0, 3000
    for _ in range(n):
        count = at_rest(MUON, draws, out)[0]
        decays += ELECTRON in out[0][:count]
        neutrons += np.sum(out[0][:count] == NEUTRON)
    assert 1 - decays / n == pytest.approx(0.76, abs=0.025)
    assert 0.6 < neutrons / (n - decays) < 1.3


def test_capture_of_negative_pions() -> None:
    """The rest mass goes to a few nucleons, neutrons first: pairs of them leave with about 60 MeV each."""
    draws, out, n = _draws(), rows(), 400
    fast, freed = {PROTON: 0, NEUTRON: 0}, {PROTON: 0, NEUTRON: 0}
    for _ in range(n):
        count, _, invisible, delay = at_rest(PI_MINUS, draws, out)
        assert delay == 0
        assert invisible > 0
        for nucleon in (PROTON, NEUTRON):
            chosen = out[1][:count][out[0][:count] == nucleon]
            freed[nucleon] += len(chosen)
            fast[nucleon] += int(np.sum(chosen > 30))
    assert 2 < freed[NEUTRON] / n < 4.5
    assert freed[PROTON] < freed[NEUTRON] / 3
    assert 0.7 < fast[NEUTRON] / n < 2


@pytest.mark.parametrize(
    ("pdg", "mass", "path"), [(MUON, MUON_MASS, 65863.8), (PI_PLUS, PION_MASS, 780.45), (ANTIMUON, MUON_MASS, 65863.8)]
)
def test_decay_length(pdg: int, mass: float, path: float) -> None:
    """Beta gamma c tau; c tau 658.6384 m and 7.8045 m (PDG)."""
    kinetic = mass * (math.sqrt(2) - 1)  # beta gamma 1
    assert decay_length(pdg, kinetic) == pytest.approx(path, rel=1e-4)
    assert decay_length(pdg, 0.0) == 0


def test_two_body_limits_in_flight() -> None:
    """A pion of 300 MeV/c: its muon has between E (m_mu^2 / m_pi^2) type limits, gamma (E* -+ beta p*)."""
    draws, out = _draws(), rows()
    kinetic = math.hypot(300, PION_MASS) - PION_MASS
    gamma, boost = (kinetic + PION_MASS) / PION_MASS, 300 / PION_MASS
    energy = (PION_MASS**2 + MUON_MASS**2) / (2 * PION_MASS)
    momentum = math.sqrt(energy**2 - MUON_MASS**2)
    found = []
    for _ in range(2000):
        decay_in_flight(PI_PLUS, kinetic, draws, out)
        found.append(out[1][0] + MUON_MASS)
    assert min(found) == pytest.approx(gamma * energy - boost * momentum, rel=0.005)
    assert max(found) == pytest.approx(gamma * energy + boost * momentum, rel=0.005)
    assert np.mean(found) == pytest.approx(gamma * energy, rel=0.01)


def test_electrons_are_light_beside_the_end_of_the_spectrum() -> None:
    draws, out = _draws(), rows()
    kinetic = []
    for _ in range(1000):
        at_rest(ANTIMUON, draws, out)
        kinetic.append(out[1][0])
    assert max(kinetic) <= MICHEL_END - ELECTRON_MASS
