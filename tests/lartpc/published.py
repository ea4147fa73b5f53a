"""What the transport gives, beside published numbers: the table of docs/physics.md, and what test_published.py asserts.

`python -m tests.lartpc.published` measures everything and prints the table. References are numbers of the sources,
or formulas of theirs with their constants: none is taken from the transport.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.stats import gamma as gamma_distribution
from scipy.stats import gaussian_kde

from resim.keys import stream
from resim.lartpc.deposits import DepositSettings, deposit
from resim.lartpc.states import Deposits
from resim.lartpc.transport.draws import draws_of
from resim.lartpc.transport.hadrons import inelastic_length
from resim.lartpc.transport.kernel import Limits, _make, _step
from resim.lartpc.transport.tables import Tables, make_tables
from tests.lartpc.shots import WORLD, deposited, fire, primaries

F8 = NDArray[np.float64]

# PDG, Atomic and nuclear properties of materials, "argon, liquid": g/cm3, g/cm2, MeV, eV, g/mol
DENSITY, X0, MOLIERE, CRITICAL, EXCITATION, Z, A = 1.396, 19.55, 12.62, 32.84, 188e-6, 18, 39.948
STERNHEIMER = 0.19559, 3.0, 0.2, 3.0, 5.2146
ELECTRON, MUON = 0.51099895, 105.6583755
COARSE = {"step": 1.0, "electron_cut": 1.0}
"""Settings for what does not hang on them."""


@dataclass(frozen=True)
class Check:
    """A quantity, what is published of it, and how it is measured."""

    quantity: str
    unit: str
    source: str
    reference: float
    tolerance: float
    """Relative."""
    measure: Callable[[], float]

    def row(self) -> str:
        """Measure, and give a row of the table."""
        found = self.measure()
        cells = f"{self.reference:.4g} {self.unit} | {found:.4g} | {100 * (found / self.reference - 1):+.1f} %"
        return f"| {self.quantity} | {self.source} | {cells} |"


# ---- Ionisation


def mean_loss(particle: str, kinetic: float, loss: float, window: float) -> float:
    """Give the energy left on a window of depth in whose middle the particle has some energy, MeV cm2/g.

    What delta rays carry out of the window, others carry in. `loss` (MeV cm2/g) says where to begin.
    """
    number, cuts = 400, {"step": window / 20, "electron_cut": 1.0}
    made = fire(particle, kinetic + loss * DENSITY * window, number, hadronic=False, **cuts)
    z = (made.segments["z_start"] + made.segments["z_end"]) / 2
    inside = (z > window / 2) & (z < 3 * window / 2)
    return float(made.segments["energy"][inside].sum(dtype=np.float64) / number / window / DENSITY)


def path(particle: str, kinetic: float, number: int) -> float:
    """Give the mean path of particles until they stop, g/cm2."""
    made = fire(particle, kinetic, number, hadronic=False)
    primary = made.segments["track"] == 0
    return float(made.segments["length"][primary].sum(dtype=np.float64) / number * DENSITY)


def cells_of(particle: str, kinetic: float, number: int, thickness: float, depth: float) -> F8:
    """Give the energy in each cell of some thickness, cm, along the way of each particle."""
    made = fire(particle, kinetic, number, world_half_size=(100.0, 100.0, depth))
    s, parts = made.segments, (np.arange(10) + 0.5) / 10
    z = s["z_start"][:, None] + (s["z_end"] - s["z_start"])[:, None] * parts
    event, cell = np.repeat(np.arange(number), np.diff(s.offsets)), np.floor(z / thickness).astype(int)
    last = int(depth / thickness) - 2
    inside = (cell >= 0) & (cell < last)
    index = (event[:, None] * last + cell)[inside]
    energies = np.repeat(s["energy"][:, None].astype(np.float64) / 10, 10, axis=1)
    return np.bincount(index, energies[inside], minlength=number * last)


def most_probable(kinetic: float, thickness: float) -> float:
    """Give the most probable loss of muons in a thickness (cm), MeV/cm."""
    lost = cells_of("mu-", kinetic, 60, thickness, 28.0)
    expected = landau(kinetic - 14 * 2.1, thickness) * thickness
    near = lost[(lost > 0.5 * expected) & (lost < 2.5 * expected)]
    grid = np.linspace(0.7, 1.5, 1601) * expected
    return float(grid[np.argmax(gaussian_kde(near, bw_method=0.1)(grid))] / thickness)


def landau(kinetic: float, thickness: float) -> float:
    """Give the most probable loss of muons (MeV/cm) by Landau, Vavilov and Bichsel (PDG 34.2.9, equation 34.12)."""
    gamma = 1 + kinetic / MUON
    momentum2 = gamma**2 - 1
    beta2 = momentum2 / gamma**2
    x, (a, k, x0, x1, c) = math.log10(momentum2) / 2, STERNHEIMER
    delta = 0.0 if x < x0 else 2 * math.log(10) * x - c + (a * (x1 - x) ** k if x < x1 else 0.0)
    xi = 0.307075 / 2 * Z / A * DENSITY * thickness / beta2
    logarithms = math.log(2 * ELECTRON * momentum2 / EXCITATION) + math.log(xi / EXCITATION)
    return xi * (logarithms + 0.2 - beta2 - delta) / thickness


# ---- Radiation


@njit
def _followed(
    key: NDArray[np.uint64], number: int, kinetic: float, length: float, tables: Tables, limits: Limits
) -> tuple[float, float, float]:
    """Follow electrons by the kernel for a length; give the sums of path, energy to photons, energy to electrons."""
    work = _make(100_000)
    sums = np.zeros(3)
    for event in range(number):
        draws = draws_of(key, event)
        work.particle[:] = 0.0
        work.particle[0], work.particle[6], work.particle[9] = kinetic, 1.0, 11.0
        work.counts[:] = 0
        alive = True
        while alive and work.particle[3] < length:
            alive = _step(work, tables, limits, draws)
        for row in range(work.counts[0]):
            sums[1 if work.stack[row, 9] == 22 else 2] += work.stack[row, 0]
        used = work.counts[1]
        sums[0] += work.values[:used, 6].sum()
        sums[2] += work.values[:used, 7].sum()
    return sums[0], sums[1], sums[2]


@lru_cache
def followed(kinetic: float, length: float, number: int) -> tuple[float, float]:
    """Give what electrons lose on a way (cm): to photons, as a share (cm2/g), and to electrons (MeV cm2/g)."""
    card = DepositSettings(**WORLD, step=1.0)
    tables = make_tables(card.step, card.electron_cut, card.photon_cut)
    key = stream(1, "followed", "electrons").key
    way, radiated, struck = _followed(key, number, kinetic, length, tables, card.limits())
    x = way / number * DENSITY
    return -math.log(1 - radiated / number / kinetic) / x, struck / number / x


def untouched(energy: float, length: float, number: int) -> float:
    """Give 1 / depth (cm2/g) at which photons interact, from the share that crosses a slab of some length (cm)."""
    made = fire("gamma", energy, number, world_half_size=(1.0, 1.0, length), **COARSE)
    return -math.log(np.mean(deposited(made) == 0)) / length / DENSITY


def bethe_heitler(energy: float) -> float:
    """Give the cross-section of pairs (cm2/g): Bethe and Heitler's, screened, with the Coulomb correction.

    Nuclei and electrons of the atom; Thomas and Fermi's screening in Butcher and Messel's form, as in EGS4 (Nelson,
    Hirayama and Rogers, SLAC-265, 2.7).
    """
    x = (np.arange(20000) + 0.5) / 20000
    a = (Z / 137.036) ** 2
    coulomb = a * (1 / (1 + a) + 0.20206 - 0.0369 * a + 0.0083 * a**2)
    triplets = math.log(1440 / Z ** (2 / 3)) / (math.log(183 / Z ** (1 / 3)) - coulomb)
    delta = 136 * ELECTRON / energy / (x * (1 - x)) / Z ** (1 / 3)
    far = 21.12 - 4.184 * np.log(delta + 0.952)
    one = np.where(delta <= 1, 20.867 - 3.242 * delta + 0.625 * delta**2, far)
    two = np.where(delta <= 1, 20.209 - 1.930 * delta - 0.086 * delta**2, far)
    less = 4 / 3 * math.log(Z) + 4 * coulomb
    shape = (x**2 + (1 - x) ** 2) * (one - less) + 2 / 3 * x * (1 - x) * (two - less)
    allowed = (x > ELECTRON / energy) & (1 - x > ELECTRON / energy)
    section = 2.8179403e-13**2 / 137.036 * Z * (Z + triplets) * np.mean(np.maximum(shape, 0) * allowed)
    return float(section * 6.02214076e23 / A)


def compton(energy: float) -> float:
    """Give Klein and Nishina's cross-section, cm2/g, integrated over the angle."""
    cosine = -1 + (np.arange(200000) + 0.5) / 100000
    share = 1 / (1 + energy / ELECTRON * (1 - cosine))
    section = math.pi * 2.8179403e-13**2 * np.mean(share**2 * (share + 1 / share - 1 + cosine**2)) * 2
    return float(section * Z * 6.02214076e23 / A)


# ---- Showers


@lru_cache
def showers(particle: str, kinetic: float, number: int, **settings: float) -> Deposits:
    """Give showers that several checks look at."""
    return fire(particle, kinetic, number, **settings)


def contained(kinetic: float, number: int, radii: float) -> float:
    """Give the share of the energy within some Moliere radii of the axis."""
    s = showers("e-", kinetic, number).segments
    radius = np.hypot((s["x_start"] + s["x_end"]) / 2, (s["y_start"] + s["y_end"]) / 2)
    near = radius < radii * MOLIERE / DENSITY
    return float(s["energy"][near].sum(dtype=np.float64) / s["energy"].sum(dtype=np.float64))


def maximum(particle: str, kinetic: float, number: int) -> float:
    """Give the maximum, X0, of the gamma distribution fitted to the longitudinal profile (PDG 34.5.1)."""
    s = showers(particle, kinetic, number).segments
    depth = (s["z_start"] + s["z_end"]) / 2 * DENSITY / X0
    found, edges = np.histogram(depth, bins=np.arange(0, 20.1, 0.5), weights=s["energy"])
    middle, share = (edges[:-1] + edges[1:]) / 2, found / found.sum() / 0.5

    def shape(t: F8, a: float, b: float) -> F8:
        return np.asarray(gamma_distribution.pdf(t, a, scale=1 / b))

    (a, b), _ = curve_fit(shape, middle, share, p0=(2.5, 0.5))
    return float((a - 1) / b)


def mean_depth(particle: str, kinetic: float, number: int, **settings: float) -> float:
    """Give the centre of gravity along the axis, X0."""
    s = showers(particle, kinetic, number, **settings).segments
    depth = (s["z_start"] + s["z_end"]) / 2 * DENSITY / X0
    return float(np.average(depth, weights=s["energy"].astype(np.float64)))


def grindhammer(kinetic: float) -> tuple[float, Callable[[float], float]]:
    """Give mean depth (X0) and the share within a radius (cm), by the parametrisation for homogeneous media.

    Grindhammer and Peters, hep-ex/0001020, appendix A: fitted to GEANT3; the same numbers are in Geant4's GFlash. It
    has a critical energy of its own, 2.66 (X0 Z / A)^1.1, and a Moliere radius 21.2 MeV X0 / E_c. It is
    for energies of some GeV and more.
    """
    critical = 2.66 * (X0 * Z / A) ** 1.1
    unit, y, log = 21.2 / critical * X0 / DENSITY, math.log(kinetic / critical), math.log(kinetic / 1000)
    top, alpha = y - 0.858, 0.21 + (0.492 + 2.38 / Z) * y
    beta = (alpha - 1) / top
    t = (np.arange(6000) + 0.5) / 100
    weight = gamma_distribution.pdf(t, alpha, scale=1 / beta) / 100
    tau = t / top
    core = 0.0251 + 0.00319 * log + (0.1162 - 0.000381 * Z) * tau
    fast, slow = np.exp(-2.59 * (tau - 0.645)), np.exp((0.3585 + 0.0421 * log) * (tau - 0.645))
    tail = (0.659 - 0.00309 * Z) * (fast + slow)
    u = (0.401 + 0.00187 * Z - tau) / (1.313 - 0.0686 * log)
    p = np.clip((2.632 - 0.00094 * Z) * np.exp(u - np.exp(u)), 0, 1)

    def share(radius: float) -> float:
        r2 = (radius / unit) ** 2
        return float(np.sum(weight * (p * r2 / (r2 + core**2) + (1 - p) * r2 / (r2 + tail**2))))

    return alpha / beta, share


# ---- Hadrons and decays


def reaction_depth(particle: str, kinetic: float, depth: float, wide: float, number: int) -> float:
    """Give the mean depth of inelastic reactions, g/cm2, from the share of tracks that cross a block of some depth."""
    shot = replace(primaries(particle, 100.0, number), kinetic_energy=np.full(number, kinetic))
    length = depth / DENSITY
    card = DepositSettings(
        world_centre=(0, 0, 0), world_half_size=(wide, wide, length), photon_cut=1.0, neutron_cut=20, **COARSE
    )
    s = deposit(shot, card, stream(1, particle, "depth")).segments
    event = np.repeat(np.arange(number), np.diff(s.offsets))
    crossed = np.unique(event[(s["track"] == 0) & (s["z_end"] > length - 1e-3)])
    return -depth / math.log(len(crossed) / number)


def length_of(pdg: int, kinetic: float) -> float:
    """Give the mean depth of inelastic reactions as the transport has it, g/cm2."""
    return inelastic_length(pdg, kinetic) * DENSITY


def letaw(kinetic: float) -> float:
    """Give the depth of proton reactions, g/cm2 (Letaw, Silberberg and Tsao, ApJS 51 (1983) 271)."""
    high = 45 * A**0.7 * (1 + 0.016 * math.sin(5.3 - 2.63 * math.log(A)))
    section = high * (1 - 0.62 * math.exp(-kinetic / 200) * math.sin(10.9 * kinetic**-0.28))
    return A / (6.02214076e23 * section * 1e-27)


@lru_cache
def michel(number: int) -> F8:
    """Give the kinetic energies of positrons of mu+ at rest, MeV: what is left late, less the annihilation."""
    made = fire("mu+", 10.0, number, photon_cut=0.005)
    s = made.segments
    late, event = s["time"] > 0.01, np.repeat(np.arange(number), np.diff(s.offsets))
    energy = np.bincount(event[late], s["energy"][late].astype(np.float64), number)
    return energy[energy > 0] - 2 * ELECTRON


def of_pions(number: int) -> float:
    """Give the median kinetic energy of muons of pi+, nearly all of which decay at rest, MeV."""
    s = fire("pi+", 10.0, number, hadronic=False).segments
    event, muon = np.repeat(np.arange(number), np.diff(s.offsets)), s["pdg"] == -13
    return float(np.median(np.bincount(event[muon], s["energy"][muon].astype(np.float64), number)))


def lives(particle: str, number: int) -> float:
    """Give the mean time after which stopped particles leave something, µs."""
    made = fire(particle, 5.0, number, **COARSE)
    s = made.segments
    event = np.repeat(np.arange(number), np.diff(s.offsets))
    late = (s["track"] > 0) & (s["time"] > 1e-3)
    first = np.full(number, np.inf)
    np.minimum.at(first, event[late], s["time"][late])
    return float(first[np.isfinite(first)].mean())


# ---- All of it

_GROOM = "Groom et al., PDG table muE_liquid_argon"
_PSTAR = "NIST PSTAR, argon"
_NIST = "NIST, X-ray mass attenuation coefficients"
_PDG = "PDG, atomic and nuclear properties"
_ROSSI = "PDG 34.5"
_GRINDHAMMER = "Grindhammer and Peters, hep-ex/0001020"

# kinetic energy: MeV cm2/g, and the window's width in cm
_MUON_LOSS = {100: (1.669, 4.0), 250: (1.508, 20.0), 500: (1.547, 20.0), 1000: (1.644, 20.0)}
_PROTON_LOSS = {50: (8.783, 0.3), 100: (5.213, 1.0), 400: (2.210, 10.0)}
_MUON_PATH = {20: (3.321, 40), 50: (15.10, 40), 100: (42.50, 40), 200: (106.3, 20), 500: (303.5, 10), 1000: (616.3, 8)}
_PROTON_PATH = {20: (0.6335, 40), 50: (3.208, 40), 100: (10.92, 40), 200: (36.27, 20), 400: (113.8, 10)}
_ATTENUATION = {1: 0.05762, 5: 0.02802, 10: 0.02451, 20: 0.02453}


def _ionisation() -> list[Check]:
    checks = []
    for name, particle, source, losses in (
        ("µ", "mu-", _GROOM, _MUON_LOSS),
        ("p", "proton", _PSTAR, _PROTON_LOSS),
    ):
        for energy, (loss, window) in losses.items():
            measure = partial(mean_loss, particle, energy, loss, window)
            checks.append(Check(f"mean loss, {name}, {energy} MeV", "MeV cm²/g", source, loss, 0.05, measure))
    for name, particle, source, paths in (
        ("µ", "mu-", _GROOM, _MUON_PATH),
        ("p", "proton", _PSTAR, _PROTON_PATH),
    ):
        for energy, (length, number) in paths.items():
            measure = partial(path, particle, energy, number)
            checks.append(Check(f"range, {name}, {energy} MeV", "g/cm²", source, length, 0.05, measure))
    for energy, cell in ((280, 0.3), (280, 1.0), (1000, 0.3)):
        reference, what = landau(energy - 14 * 2.1, cell), f"{cell} cm, µ, {energy} MeV"
        measure = partial(most_probable, energy, cell)
        source = "PDG 34.2.9, density effect of the liquid"
        checks.append(Check(f"most probable loss in {what}", "MeV/cm", source, reference, 0.05, measure))
    return checks


def _radiation() -> list[Check]:
    checks = [
        Check(
            "radiation length: energy over loss to photons, e⁻, 10 GeV",
            "g/cm²",
            _PDG,
            X0,
            0.05,
            lambda: 1 / followed(1e4, 2.0, 20_000)[0],
        ),
        Check(
            "critical energy: loss to electrons in X0, e⁻ of 32.84 MeV",
            "MeV",
            _PDG + ", Rossi",
            CRITICAL,
            0.05,
            lambda: followed(32.84, 0.2, 20_000)[1] * X0,
        ),
    ]
    for energy, reference in _ATTENUATION.items():
        measure = partial(untouched, energy, 14.0, 15_000)
        checks.append(Check(f"attenuation of photons, {energy} MeV", "cm²/g", _NIST, reference, 0.05, measure))
    for energy in (100, 1000):
        source, reference = "Bethe and Heitler; Klein and Nishina", bethe_heitler(energy) + compton(energy)
        measure = partial(untouched, energy, 14.0, 15_000)
        checks.append(Check(f"attenuation of photons, {energy} MeV", "cm²/g", source, reference, 0.05, measure))
    measure = partial(untouched, 10000, 14.0, 15_000)
    checks.append(Check("conversion of photons, 10 GeV", "cm²/g", "7/9 of 1/X0, PDG 34.4.5", 7 / 9 / X0, 0.05, measure))
    return checks


def _showers() -> list[Check]:
    checks = []
    for energy, number in ((500, 60), (1000, 50)):
        for radii, share, tolerance in ((1, 0.90, 0.10), (2, 0.95, 0.10), (3.5, 0.99, 0.10)):
            what = f"e⁻, {energy} MeV: share within {radii} Molière radii"
            checks.append(Check(what, "", _ROSSI, share, tolerance, partial(contained, energy, number, radii)))
    for name, particle, energy, number, shift in (
        ("e⁻", "e-", 3000, 30, -0.5),
        ("e⁻", "e-", 10_000, 10, -0.5),
        ("γ", "gamma", 3000, 30, 0.5),
    ):
        top, measure = math.log(energy / CRITICAL) + shift, partial(maximum, particle, energy, number)
        checks.append(Check(f"{name}, {energy} MeV: maximum", "X0", _ROSSI + ".1", top, 0.10, measure))
    for energy, number in ((1000, 50), (3000, 30), (10_000, 10)):
        depth = grindhammer(energy)[0]
        measure = partial(mean_depth, "e-", energy, number)
        checks.append(Check(f"e⁻, {energy} MeV: mean depth", "X0", _GRINDHAMMER, depth, 0.10, measure))
    for radii in (1, 2):
        reference, measure = grindhammer(10_000)[1](radii * MOLIERE / DENSITY), partial(contained, 10_000, 10, radii)
        what = f"e⁻, 10000 MeV: share within {radii} Molière radii"
        checks.append(Check(what, "", _GRINDHAMMER, reference, 0.10, measure))
    return checks


def _hadrons() -> list[Check]:
    checks = []
    for name, pdg, depth in (("π⁺", 211, 149.0), ("p", 2212, 119.7)):
        measure = partial(length_of, pdg, 2e5)
        checks.append(Check(f"interaction length, {name}, 200 GeV", "g/cm²", _PDG, depth, 0.05, measure))
    measure = partial(reaction_depth, "pi+", 1e5, 149.0, 1.0, 2_500)
    checks.append(Check("the same, π⁺ of 100 GeV that cross 107 cm", "g/cm²", _PDG, 149.0, 0.05, measure))
    measure = partial(reaction_depth, "proton", 1000.0, 80.0, 40.0, 5_000)
    checks.append(
        Check("reaction length, p of 1 GeV that cross 57 cm", "g/cm²", "Letaw et al.", letaw(930), 0.05, measure)
    )
    return checks


def _decays() -> list[Check]:
    return [
        Check("end of the Michel spectrum", "MeV", "PDG masses", 52.83 - ELECTRON, 0.01, lambda: michel(1500).max()),
        Check(
            "mean of the Michel spectrum",
            "MeV",
            "x²(3 − 2x)",
            0.7 * 52.83 - ELECTRON,
            0.02,
            lambda: michel(1500).mean(),
        ),
        Check("µ of π⁺ at rest", "MeV", "PDG masses", 4.120, 0.01, partial(of_pions, 100)),
        Check("mean life, µ⁺", "µs", "PDG", 2.197, 0.05, partial(lives, "mu+", 4000)),
        Check("mean life, µ⁻", "µs", "Suzuki et al., PRC 35 (1987) 2212", 0.537, 0.06, partial(lives, "mu-", 4000)),
    ]


CHECKS = [*_ionisation(), *_radiation(), *_showers(), *_hadrons(), *_decays()]


def main() -> None:
    """Print the table."""
    print("| quantity | source | reference | measured | difference |\n|---|---|---|---|---|")
    for check in CHECKS:
        print(check.row(), flush=True)


if __name__ == "__main__":
    main()
