"""Interactions of hadrons with argon, against published numbers, and their energy, to rounding."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resim.keys import stream
from resim.lartpc.transport.draws import Draws, draws_of
from resim.lartpc.transport.hadrons import (
    ARGON_MASS,
    FREE_PATH,
    elastic,
    elastic_length,
    inelastic,
    inelastic_length,
    ionising,
    reaction,
)
from resim.lartpc.transport.kinematics import Out, energy_of, rows
from resim.lartpc.transport.nucleus import BINDING
from resim.lartpc.transport.particles import (
    ALPHA,
    DEUTERON,
    NEUTRON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PROTON,
    PROTON_MASS,
)

HADRONS = (PI_PLUS, PI_MINUS, PROTON, NEUTRON)
CHARGES = {PI_PLUS: 1, PI_MINUS: -1, PROTON: 1, NEUTRON: 0, PHOTON: 0, DEUTERON: 1, ALPHA: 2}
NUCLEONS = {PI_PLUS: 0, PI_MINUS: 0, PROTON: 1, NEUTRON: 1, PHOTON: 0, DEUTERON: 2, ALPHA: 4}
DENSITY = 1.396  # g/cm3, PDG


def _draws(event: int = 0) -> Draws:
    return draws_of(stream(1, "hadrons", "test").key, event)


def _reactions(
    pdg: int, kinetic: float, n: int
) -> Iterator[tuple[list[tuple[int, float, NDArray[np.float64]]], float, float]]:
    draws, out = _draws(), rows()
    for _ in range(n):
        count, local, invisible = inelastic(pdg, kinetic, draws, out)
        yield _secondaries(out, count), local, invisible


def _secondaries(out: Out, count: int) -> list[tuple[int, float, NDArray[np.float64]]]:
    return [(int(out[0][i]), float(out[1][i]), out[2][i].copy()) for i in range(count)]


@settings(max_examples=400, deadline=None)
@example(PROTON, 989.0, 17913)
@given(st.sampled_from(HADRONS), st.floats(2, 3000), st.integers(0, 2**31))
def test_energy_is_kept_and_nothing_is_negative(pdg: int, kinetic: float, event: int) -> None:
    """Every energy, kind and event: the sum is what came in, to rounding, and the nucleus had what left it."""
    draws, out = _draws(event), rows()
    for interact in (inelastic, elastic):
        for _ in range(5):
            count, local, invisible = interact(pdg, kinetic, draws, out)
            total = local + invisible + sum(energy_of(int(out[0][i]), out[1][i]) for i in range(count))
            assert total == pytest.approx(energy_of(pdg, kinetic), rel=1e-9)
            assert local >= 0
            assert invisible >= -1e-9
            assert np.all(np.isfinite(out[1][:count]) & (out[1][:count] >= 0))
            assert np.allclose(np.linalg.norm(out[2][:count], axis=1), 1)
            found = [int(x) for x in out[0][:count]]
            assert set(found) <= set(CHARGES)
            protons = 18 + CHARGES[pdg] - sum(CHARGES[x] for x in found)
            neutrons = 40 + NUCLEONS[pdg] - sum(NUCLEONS[x] for x in found) - protons
            assert min(protons, neutrons) >= 0


@pytest.mark.parametrize(("pdg", "depth"), [(PI_PLUS, 149.0), (PI_MINUS, 149.0), (PROTON, 119.7)])
def test_interaction_length_at_high_energy(pdg: int, depth: float) -> None:
    """PDG, Atomic and nuclear properties, liquid argon: 119.7 g/cm2 for nucleons, 149.0 for pions (200 GeV/c)."""
    assert inelastic_length(pdg, 2e5) == pytest.approx(depth / DENSITY, rel=0.05)


def test_collision_length_at_high_energy() -> None:
    """PDG, the same table: nuclear collision length 75.7 g/cm2, from the total cross-section."""
    both = 1 / (1 / inelastic_length(PROTON, 2e5) + 1 / elastic_length(PROTON, 2e5))
    assert both == pytest.approx(75.7 / DENSITY, rel=0.05)


@pytest.mark.parametrize("kinetic", [100, 150, 200, 300, 500, 800, 1000, 2000])
def test_proton_reactions_follow_letaw(kinetic: float) -> None:
    """Letaw, Silberberg, Tsao, ApJS 51 (1983) 271: 45 A^0.7 (1 + 0.016 sin(5.3 - 2.63 ln A)) mb times a shape."""
    size = 39.948
    high = 45 * size**0.7 * (1 + 0.016 * math.sin(5.3 - 2.63 * math.log(size)))
    shape = 1 - 0.62 * math.exp(-kinetic / 200) * math.sin(10.9 * kinetic**-0.28)
    assert reaction(PROTON, kinetic) == pytest.approx(high * shape, rel=0.06)


def test_nothing_else_interacts() -> None:
    for pdg in (11, 13, 22, DEUTERON, ALPHA):
        assert inelastic_length(pdg, 100.0) == math.inf
        assert elastic_length(pdg, 100.0) == math.inf
    assert inelastic_length(NEUTRON, 1.0) == math.inf
    assert elastic_length(NEUTRON, 1.0) < 20


@pytest.mark.parametrize(
    ("kinetic", "absorbed", "error"), [(70, 180, 43), (118, 320, 65), (162, 351, 49), (239, 283, 28), (330, 225, 17)]
)
def test_absorption_of_pions(kinetic: float, absorbed: float, error: float) -> None:
    """LADS, pi+ on argon, mb (Kotlinski et al., EPJ A9 (2000) 537): reactions without a pion, real or decayed, after.

    A neutral pion is known by its two photons, which have more energy than the nucleus can radiate at once.
    """
    n, none = 600, 0
    for secondaries, _, _ in _reactions(PI_PLUS, kinetic, n):
        pions = any(pdg in (PI_PLUS, PI_MINUS) for pdg, _, _ in secondaries)
        none += not pions and sum(e for pdg, e, _ in secondaries if pdg == PHOTON) < 100
    found = none / n * FREE_PATH / inelastic_length(PI_PLUS, kinetic)
    scatter = math.sqrt(none) / n * reaction(PI_PLUS, kinetic)
    assert abs(found - absorbed) < math.hypot(1.2 * error, 3 * scatter)


def test_charge_goes_where_it_should() -> None:
    """Positive pions leave protons behind, negative ones neutrons; charge exchange is what makes photons of 100 MeV."""
    fast = {}
    for pdg in (PI_PLUS, PI_MINUS):
        found = [s for secondaries, _, _ in _reactions(pdg, 200.0, 400) for s in secondaries if s[1] > 40]
        protons, neutrons = (sum(s[0] == nucleon for s in found) for nucleon in (PROTON, NEUTRON))
        fast[pdg] = protons / max(neutrons, 1)
    assert fast[PI_PLUS] > 3
    assert fast[PI_MINUS] < 1 / 3


@pytest.mark.parametrize(("kinetic", "number"), [(500, 0.127), (1000, 0.572)])
def test_pions_that_protons_make(kinetic: float, number: float) -> None:
    """Pions a reaction of p with Fe: 86.6 of 679 mb at 500 MeV, 420.8 of 735 at 1 GeV (CEM03, Mashnik, for GENIE)."""
    n, charged, neutral = 800, 0, 0
    for secondaries, _, _ in _reactions(PROTON, kinetic, n):
        charged += sum(pdg in (PI_PLUS, PI_MINUS) for pdg, _, _ in secondaries)
        neutral += sum(e for pdg, e, _ in secondaries if pdg == PHOTON) > 100
    assert (charged + neutral) / n == pytest.approx(number, abs=0.06)


def test_invisible_is_binding() -> None:
    """Each nucleon freed beside the projectile costs `BINDING`, bound ones in alphas and deuterons less."""
    for secondaries, _, invisible in _reactions(PROTON, 300.0, 300):
        freed = sum(NUCLEONS.get(pdg, 0) for pdg, _, _ in secondaries) - 1
        if any(pdg in (DEUTERON, ALPHA) for pdg, _, _ in secondaries):
            assert invisible < freed * BINDING
        else:
            assert invisible == pytest.approx(freed * BINDING, abs=1e-9)


def test_more_energy_frees_more() -> None:
    freed = [
        np.mean([sum(NUCLEONS.get(s[0], 0) for s in secondaries) for secondaries, _, _ in _reactions(PROTON, e, 300)])
        for e in (20.0, 100.0, 500.0)
    ]
    assert freed[0] < freed[1] < freed[2] < 8


def test_knocked_on_nucleons_go_forward() -> None:
    cosines = [s[2][2] for secondaries, _, _ in _reactions(PROTON, 400.0, 300) for s in secondaries if s[1] > 100]
    assert np.mean(cosines) > 0.5


def test_elastic_scattering_is_two_body_and_forward() -> None:
    """Mean |t| is 1/b in the diffraction peak (b = 169 / GeV^2); energy and momentum fix angle and recoil."""
    draws, out, transfers = _draws(), rows(), []
    kinetic, mass = 500.0, PROTON_MASS
    momentum = math.sqrt(kinetic * (kinetic + 2 * mass))
    for _ in range(2000):
        count, local, invisible = elastic(PROTON, kinetic, draws, out)
        recoil = local + invisible
        assert count == 1
        assert local == pytest.approx(ionising(recoil), rel=1e-9)
        after = math.sqrt(out[1][0] * (out[1][0] + 2 * mass))
        transfer = momentum**2 + after**2 - 2 * momentum * after * out[2][0, 2]
        assert transfer == pytest.approx(recoil * (recoil + 2 * ARGON_MASS), rel=1e-6, abs=1e-3)
        transfers.append(2 * ARGON_MASS * recoil / 1e6)
    assert np.median(transfers) == pytest.approx(math.log(2) / (14.5 * 39.948 ** (2 / 3)), rel=0.35)
    assert np.quantile(transfers, 0.9) < 0.2


def test_lindhard() -> None:
    """The ionising share of a 100 keV argon recoil is a good third (Lindhard's formula, k = 0.144)."""
    assert 0.3 < ionising(0.1) / 0.1 < 0.45
    assert ionising(1.0) / 1.0 > ionising(0.1) / 0.1
