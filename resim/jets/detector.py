"""A parametric detector: tracks, two calorimeters and energy flow, on flat arrays for a whole block of events.

The logic is that of Delphes 3 (arXiv:1307.6346) and the default numbers are those of its CMS card; the impact
parameter resolution, which that card lacks, follows the CMS tracker paper (arXiv:1405.6569). GeV, mm, rad, tesla.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from resim.errors import UserError
from resim.jets.states import F8, I8, Candidates, Hadrons, Ragged
from resim.keys import Stream
from resim.ragged import offsets_of, row_of

CHARGED_HADRON, NEUTRAL_HADRON, PHOTON, ELECTRON, MUON = range(5)
"""Codes of `kind` in `Candidates`."""

_CURVATURE = 0.299792458e-3  # GeV / (T mm): pT = _CURVATURE * B * radius
_NEUTRINOS = (12, 14, 16)
_K0S, _LAMBDA = 310, 3122  # they shower partly in the ECAL


def _require_rising(name: str, edges: tuple[float, ...]) -> None:
    if not edges or any(high <= low for low, high in pairwise(edges)):
        raise ValueError(f"{name} must rise, got {edges}")


class _Settings(BaseModel, extra="forbid", frozen=True):
    pass


class Efficiency(_Settings):
    """Tracking efficiency, constant in bins of pT and |eta|; zero below the first pT edge and beyond the last |eta|."""

    pt_edges: tuple[float, ...] = Field(description="lower edges of the pT bins, GeV")
    eta_edges: tuple[float, ...] = Field(description="upper edges of the |eta| bins; eta at the calorimeter face")
    values: tuple[tuple[float, ...], ...] = Field(description="probability in 0..1, one row an |eta| bin")
    decline: float = Field(0.0, ge=0, description="exponential loss above the last pT edge, 1/GeV")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_rising("pt_edges", self.pt_edges)
        _require_rising("eta_edges", self.eta_edges)
        if [len(row) for row in self.values] != [len(self.pt_edges)] * len(self.eta_edges):
            raise ValueError(f"values must be {len(self.eta_edges)} rows (|eta|) of {len(self.pt_edges)} numbers (pT)")
        if not all(0 <= value <= 1 for row in self.values for value in row):
            raise ValueError("values must lie in 0..1")
        return self

    def at(self, pt: F8, abs_eta: F8) -> F8:
        """Give the efficiency at some pT (GeV) and |eta|."""
        table = np.zeros((len(self.eta_edges) + 1, len(self.pt_edges) + 1))
        table[:-1, 1:] = self.values
        # a bin is (low, high] in both, as in the card
        value: F8 = table[np.searchsorted(self.eta_edges, abs_eta), np.searchsorted(self.pt_edges, pt)]
        return value * np.exp(-self.decline * np.maximum(pt - self.pt_edges[-1], 0))


class PtResolution(_Settings):
    """Track resolution sigma(pT)/pT = sqrt(a^2 + (b pT)^2), at most 1, in bins of |eta|."""

    eta_edges: tuple[float, ...] = Field((0.5, 1.5, 2.5), description="upper edges of the |eta| bins")
    a: tuple[float, ...] = Field(description="constant term of each bin")
    b: tuple[float, ...] = Field(description="term that grows with pT, 1/GeV")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_rising("eta_edges", self.eta_edges)
        if not len(self.a) == len(self.b) == len(self.eta_edges):
            raise ValueError(f"a and b need {len(self.eta_edges)} numbers, one an |eta| bin")
        if min(self.a + self.b) < 0:
            raise ValueError("a and b must not be negative")
        return self

    def at(self, pt: F8, abs_eta: F8) -> F8:
        """Give the relative resolution at some pT (GeV) and |eta|."""
        strip = np.minimum(np.searchsorted(self.eta_edges, abs_eta), len(self.eta_edges) - 1)
        return np.minimum(np.hypot(np.asarray(self.a)[strip], np.asarray(self.b)[strip] * pt), 1.0)


class ImpactResolution(_Settings):
    """Gaussian resolution of the impact parameters: a detector term and a multiple-scattering term.

    sigma(d0)^2 = d0_a^2 + (d0_b / (pT sin^(1/2) theta))^2, sigma(dz)^2 = dz_a^2 + (dz_b / (pT sin^(3/2) theta))^2.
    The numbers give 78 (21) um in d0 and 108 (41) um in dz at eta = 0 and 1 (10) GeV; arXiv:1405.6569 quotes 25-90
    and 45-150 um for 1-10 GeV and |eta| < 1.4.
    """

    d0_a: float = Field(0.020, ge=0, description="transverse, high pT, mm")
    d0_b: float = Field(0.075, ge=0, description="transverse, multiple scattering, mm GeV")
    dz_a: float = Field(0.040, ge=0, description="longitudinal, high pT, mm")
    dz_b: float = Field(0.100, ge=0, description="longitudinal, multiple scattering, mm GeV")

    def at(self, pt: F8, eta: F8) -> tuple[F8, F8]:
        """Give sigma(d0) and sigma(dz) in mm at some pT (GeV) and eta of the momentum."""
        sine = 1 / np.cosh(eta)
        root = np.sqrt(sine)
        return np.hypot(self.d0_a, self.d0_b / (pt * root)), np.hypot(self.dz_a, self.dz_b / (pt * root * sine))


class Tracking(_Settings):
    """Which charged particles become tracks, and how well they are measured."""

    hadron_efficiency: Efficiency = Field(
        Efficiency(pt_edges=(0.1, 1), eta_edges=(1.5, 2.5), values=((0.70, 0.95), (0.60, 0.85))),
        description="efficiency of charged hadrons",
    )
    electron_efficiency: Efficiency = Field(
        Efficiency(pt_edges=(0.1, 1, 100), eta_edges=(1.5, 2.5), values=((0.73, 0.95, 0.99), (0.50, 0.83, 0.90))),
        description="efficiency of electrons",
    )
    muon_efficiency: Efficiency = Field(
        Efficiency(
            pt_edges=(0.1, 1, 1000), eta_edges=(1.5, 2.5), values=((0.75, 0.99, 0.99), (0.70, 0.98, 0.98)), decline=5e-4
        ),
        description="efficiency of muons",
    )
    hadron_resolution: PtResolution = Field(
        PtResolution(a=(0.06, 0.10, 0.25), b=(1.3e-3, 1.7e-3, 3.1e-3)), description="pT resolution of charged hadrons"
    )
    electron_resolution: PtResolution = Field(
        PtResolution(a=(0.03, 0.05, 0.15), b=(1.3e-3, 1.7e-3, 3.1e-3)), description="pT resolution of electrons"
    )
    muon_resolution: PtResolution = Field(
        PtResolution(a=(0.01, 0.015, 0.025), b=(1.0e-4, 1.5e-4, 3.5e-4)), description="pT resolution of muons"
    )
    impact: ImpactResolution = Field(ImpactResolution(), description="impact parameter resolution")


class Ring(_Settings):
    """Equal cells on both sides, from where the ring before ends (or 0) to `eta_max`."""

    eta_max: float = Field(gt=0, description="upper |eta| of the ring")
    eta_cells: int = Field(1, ge=1, description="cells between the lower and upper |eta|, on each side")
    phi_cells: int = Field(ge=1, description="cells around")


class Calorimeter(_Settings):
    """Cells, response and thresholds of one calorimeter.

    sigma(E) = shape(|eta|) sqrt((constant E)^2 + stochastic^2 E + noise^2); the shape is 1 + barrel_slope eta^2 up to
    `endcap_from`, endcap_scale + endcap_slope (|eta| - 2)^2 up to `forward_from`, and 1 beyond, with the forward terms.
    """

    rings: tuple[Ring, ...] = Field(min_length=1, description="cells, from the centre outwards")
    electromagnetic: float = Field(ge=0, le=1, description="share of their energy that electrons and photons leave")
    long_lived: float = Field(ge=0, le=1, description="share that K0S and Lambda leave")
    hadron: float = Field(ge=0, le=1, description="share that other hadrons leave")
    constant: float = Field(ge=0, description="constant term of the resolution")
    stochastic: float = Field(ge=0, description="stochastic term, sqrt(GeV)")
    noise: float = Field(0.0, ge=0, description="noise term, GeV")
    barrel_slope: float = Field(0.0, ge=0, description="rise of the resolution with eta^2 in the barrel")
    endcap_from: float = Field(1.5, ge=0, description="|eta| where the endcap's shape begins")
    endcap_scale: float = Field(1.0, ge=0, description="the endcap's shape at |eta| = 2")
    endcap_slope: float = Field(0.0, ge=0, description="its rise with (|eta| - 2)^2")
    forward_from: float = Field(ge=0, description="|eta| where the forward calorimeter begins")
    forward_constant: float = Field(ge=0, description="its constant term")
    forward_stochastic: float = Field(ge=0, description="its stochastic term, sqrt(GeV)")
    energy_min: float = Field(ge=0, description="least energy of a cell, and of a neutral excess, GeV")
    significance_min: float = Field(ge=0, description="least energy over its resolution, likewise")
    spread: float = Field(1.0, ge=0, le=1, description="share of the cell over which directions are drawn; 0: centre")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_rising("rings.eta_max", tuple(ring.eta_max for ring in self.rings))
        return self

    def resolution(self, eta: F8, energy: F8) -> F8:
        """Give sigma(E) in GeV for cells centred at `eta` with `energy` (GeV)."""
        abs_eta = np.abs(eta)
        endcap = self.endcap_scale + self.endcap_slope * (abs_eta - 2) ** 2
        shape = np.where(abs_eta <= self.endcap_from, 1 + self.barrel_slope * eta**2, endcap)
        central = shape * np.sqrt((self.constant * energy) ** 2 + self.stochastic**2 * energy + self.noise**2)
        forward = np.sqrt((self.forward_constant * energy) ** 2 + self.forward_stochastic**2 * energy)
        return np.where(abs_eta <= self.forward_from, central, forward)

    def share(self, particle: NDArray[np.int32]) -> F8:
        """Give the share of its energy that each particle (PDG id) leaves here."""
        kind = np.abs(particle)
        share = np.where((kind == _K0S) | (kind == _LAMBDA), self.long_lived, self.hadron)
        share[(kind == 11) | (kind == 22)] = self.electromagnetic
        share[kind == 13] = 0
        return share


ECAL = Calorimeter(
    rings=(
        Ring(eta_max=2.958, eta_cells=170, phi_cells=360),
        Ring(eta_max=3.125, phi_cells=36),
        Ring(eta_max=4.7, eta_cells=9, phi_cells=36),
        Ring(eta_max=5.0, phi_cells=36),
    ),
    electromagnetic=1,
    long_lived=0.3,
    hadron=0,
    constant=0.008,
    stochastic=0.11,
    noise=0.40,
    barrel_slope=0.64,
    endcap_scale=2.16,
    endcap_slope=5.6,
    forward_from=2.5,
    forward_constant=0.107,
    forward_stochastic=2.08,
    energy_min=0.5,
    significance_min=2,
)

_HCAL_ENDCAP_EDGES = (1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, 3.125)

HCAL = Calorimeter(
    rings=(
        Ring(eta_max=1.653, eta_cells=19, phi_cells=72),
        *(Ring(eta_max=edge, phi_cells=36) for edge in _HCAL_ENDCAP_EDGES),
        Ring(eta_max=4.525, eta_cells=8, phi_cells=36),
        Ring(eta_max=4.7, phi_cells=18),
        Ring(eta_max=5.0, phi_cells=18),
    ),
    electromagnetic=0,
    long_lived=0.7,
    hadron=1,
    constant=0.05,
    stochastic=1.5,
    forward_from=3.0,
    forward_constant=0.13,
    forward_stochastic=2.7,
    energy_min=1,
    significance_min=1,
)


class DetectorSettings(_Settings):
    """The whole detector; the defaults are the CMS card of Delphes."""

    magnetic_field: float = Field(3.8, ge=0, description="solenoid field along z, T")
    radius: float = Field(1290.0, gt=0, description="radius of the tracking volume, where the calorimeters begin, mm")
    half_length: float = Field(3000.0, gt=0, description="half-length of the tracking volume, mm")
    tracking: Tracking = Field(Tracking(), description="efficiency and resolution of tracks")
    ecal: Calorimeter = Field(ECAL, description="electromagnetic calorimeter")
    hcal: Calorimeter = Field(HCAL, description="hadronic calorimeter")

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        """Let a block name only what it changes: {"ecal": {"stochastic": 0.1}} keeps the rest of the card's ECAL."""
        card = {name: info.default for name, info in cls.model_fields.items() if isinstance(info.default, _Settings)}
        return _overlay({name: block.model_dump() for name, block in card.items()}, values)


def _overlay(defaults: Any, values: Any) -> Any:
    """Put values over defaults, block by block."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return {**defaults, **{name: _overlay(defaults.get(name), value) for name, value in values.items()}}


@dataclass(frozen=True)
class _Flat:
    """Rows of any kind for a block: `row` is the event's place in the block, never falling; the rest are columns."""

    row: I8
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def take(self, which: NDArray[Any]) -> "_Flat":
        if which.dtype == bool:
            if which.all():
                return self
            which = np.flatnonzero(which)  # indices are several times faster than a mask
        return _Flat(self.row[which], {name: column[which] for name, column in self.columns.items()})

    def counts(self, n_events: int) -> I8:
        return np.bincount(self.row, minlength=n_events)


def detect(hadrons: Hadrons, settings: DetectorSettings, stream: Stream) -> Candidates:
    """Turn stable particles into energy-flow candidates.

    Charged candidates keep their direction at the production vertex; neutral ones are massless and point to a place in
    the cell that saw them. In each event tracks come first, then photons, then neutral hadrons.

    Raises
    ------
    UserError
        If a particle's momentum, energy or vertex is not finite.
    """
    arrived = _propagate(_visible(hadrons, settings), settings)
    tracks = _track(arrived, hadrons.event, settings.tracking, stream)
    tracks, photons = _measure(arrived, tracks, hadrons.event, settings.ecal, stream.child("ecal"))
    tracks, neutrals = _measure(arrived, tracks, hadrons.event, settings.hcal, stream.child("hcal"))
    flow = [_of_tracks(tracks), _of_cells(photons, PHOTON), _of_cells(neutrals, NEUTRAL_HADRON)]
    return Candidates(hadrons, _gather(flow, len(hadrons.event)))


def _visible(hadrons: Hadrons, settings: DetectorSettings) -> _Flat:
    """Check the particles; leave out neutrinos, what does not move away from the beam, and what is made outside."""
    particles, row = hadrons.particles, row_of(hadrons.particles.offsets)
    _require_finite(hadrons, row)
    columns = {name: particles[name] for name in ("id", "charge", "px", "py", "pz", "e", "m", "x", "y", "z")}
    columns["pt"] = np.hypot(columns["px"], columns["py"])
    inside = (np.hypot(columns["x"], columns["y"]) < settings.radius) & (np.abs(columns["z"]) < settings.half_length)
    return _Flat(row, columns).take(inside & (columns["pt"] > 0) & ~np.isin(np.abs(columns["id"]), _NEUTRINOS))


def _require_finite(hadrons: Hadrons, row: I8) -> None:
    particles = hadrons.particles
    for name in ("px", "py", "pz", "e", "m", "x", "y", "z"):
        finite = np.isfinite(particles[name])
        if not finite.all():
            bad = int(np.argmin(finite))
            where = f"event {hadrons.event[row[bad]]}, particle {bad - particles.offsets[row[bad]]}"
            value = f"(id {particles['id'][bad]}): {name} is {particles[name][bad]}"
            raise UserError(f"{where} {value}, expected a finite number; drop the event")


def _propagate(particles: _Flat, settings: DetectorSettings) -> _Flat:
    """Move particles to the calorimeter face: adds `eta` and `phi` there, and `d0` and `dz` at the vertex.

    Those that circle in the tracking volume for ever do not arrive.
    """
    bends = (particles["charge"] != 0) & (settings.magnetic_field > 0)
    bent, straight = np.flatnonzero(bends), np.flatnonzero(~bends)
    paths = np.empty((6, len(bends)))
    curves, lines = _helix(particles.take(bent), settings), _line(particles.take(straight), settings)
    for column, curve, line in zip(paths, curves, lines, strict=True):
        column[bent], column[straight] = curve, line
    x, y, z, length, d0, dz = paths
    face = {"eta": np.arcsinh(z / np.maximum(np.hypot(x, y), 1e-9)), "phi": np.arctan2(y, x), "d0": d0, "dz": dz}
    return _Flat(particles.row, particles.columns | face).take(np.isfinite(length))


def _to_endcap(particles: _Flat, settings: DetectorSettings) -> F8:
    """Give the transverse path length (mm) to the nearer endcap ahead, infinite for pz = 0."""
    with np.errstate(divide="ignore"):
        along = particles["pt"] / particles["pz"]
        return np.where(
            particles["pz"] == 0, np.inf, (np.copysign(settings.half_length, particles["pz"]) - particles["z"]) * along
        )


def _line(particles: _Flat, settings: DetectorSettings) -> tuple[F8, ...]:
    """Follow straight lines: x, y, z at the face, transverse path length to it, d0, dz (mm)."""
    x, y, pt = particles["x"], particles["y"], particles["pt"]
    ux, uy = particles["px"] / pt, particles["py"] / pt
    ahead = x * ux + y * uy
    d0 = x * uy - y * ux
    length = np.minimum(np.sqrt(settings.radius**2 - d0**2) - ahead, _to_endcap(particles, settings))
    slope = particles["pz"] / pt
    return x + ux * length, y + uy * length, particles["z"] + slope * length, length, d0, particles["z"] - slope * ahead


def _helix(particles: _Flat, settings: DetectorSettings) -> tuple[F8, ...]:
    """Follow helices, with what `_line` gives; d0 = (x py - y px) / pT at the point closest to the beam line.

    The angle `beta` runs along the circle in the direction of flight, from the point closest to the beam line. The
    distance from it is sqrt(c^2 + r^2 - 2 c r cos(beta)) with c the distance of the circle's centre, r its radius.
    """
    signed = particles["pt"] / (_CURVATURE * settings.magnetic_field * particles["charge"])
    phi, r, turn = np.arctan2(particles["py"], particles["px"]), np.abs(signed), np.sign(signed)
    x_centre = particles["x"] + signed * np.sin(phi)
    y_centre = particles["y"] - signed * np.cos(phi)
    c = np.hypot(x_centre, y_centre)
    # where the track is nearest to the beam line it flies at right angles to the centre's direction
    nearest = np.arctan2(turn * x_centre, -turn * y_centre)
    beta = _wrap(turn * (nearest - phi))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(c > 0, (c**2 + r**2 - settings.radius**2) / (2 * c * r), -np.inf)
    to_side = np.where(cosine < -1, np.inf, (np.arccos(np.clip(cosine, -1, 1)) - beta) * r)
    length = np.minimum(to_side, _to_endcap(particles, settings))
    finite = np.where(np.isfinite(length), length, 0)
    end = phi - turn * finite / r
    x, y = x_centre - signed * np.sin(end), y_centre + signed * np.cos(end)
    slope = particles["pz"] / particles["pt"]
    return x, y, particles["z"] + slope * finite, length, turn * (c - r), particles["z"] - slope * beta * r


def _wrap(angle: F8) -> F8:
    """Bring angles to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _lognormal(mean: F8, sigma: F8, normal: F8) -> F8:
    """Turn standard normals into log-normal numbers of the given mean (> 0) and standard deviation."""
    width2 = np.log1p((sigma / mean) ** 2)
    return mean * np.exp(np.sqrt(width2) * normal - width2 / 2)


def _track(arrived: _Flat, events: I8, settings: Tracking, stream: Stream) -> _Flat:
    """Choose the tracks that are found, smear pT (direction kept), d0 and dz.

    Adds `arrival` (the particle's row in `arrived`), `kind` and `resolution` (relative, of pT).
    """
    charged = np.flatnonzero(arrived["charge"] != 0)
    counts = np.bincount(arrived.row[charged], minlength=len(events))
    uniform = stream.child("tracks.efficiency").uniform(events, counts, 1)[:, 0]
    normal = stream.child("tracks.resolution").normal(events, counts, 3)
    particle, pt, eta = (arrived[name][charged] for name in ("id", "pt", "eta"))
    found, resolution = _by_kind(particle, pt, eta, settings)
    keep = np.flatnonzero(uniform < found)
    arrival, normal, resolution = charged[keep], normal[keep], resolution[keep]
    tracks = arrived.take(arrival)
    ratio = _lognormal(np.ones(len(resolution)), resolution, normal[:, 0])
    px, py, pz = (ratio * tracks[name] for name in ("px", "py", "pz"))
    sigma_d0, sigma_dz = settings.impact.at(tracks["pt"], np.arcsinh(tracks["pz"] / tracks["pt"]))
    smeared = {
        "arrival": arrival,
        "charge": tracks["charge"],
        "kind": _kind(tracks["id"]),
        "resolution": resolution,
        "px": px,
        "py": py,
        "pz": pz,
        "e": np.sqrt(px**2 + py**2 + pz**2 + tracks["m"] ** 2),
        "d0": tracks["d0"] + sigma_d0 * normal[:, 1],
        "dz": tracks["dz"] + sigma_dz * normal[:, 2],
    }
    return _Flat(tracks.row, smeared)


def _kind(particle: NDArray[np.int32]) -> NDArray[np.int8]:
    """Give the kind of charged candidates by PDG id."""
    absolute = np.abs(particle)
    return np.select([absolute == 11, absolute == 13], [ELECTRON, MUON], CHARGED_HADRON).astype(np.int8)


def _by_kind(particle: NDArray[np.int32], pt: F8, eta: F8, settings: Tracking) -> tuple[F8, F8]:
    """Give efficiency and relative pT resolution of charged particles."""
    kind, abs_eta = _kind(particle), np.abs(eta)
    efficiency, resolution = np.zeros(len(pt)), np.zeros(len(pt))
    for code, found, width in (
        (CHARGED_HADRON, settings.hadron_efficiency, settings.hadron_resolution),
        (ELECTRON, settings.electron_efficiency, settings.electron_resolution),
        (MUON, settings.muon_efficiency, settings.muon_resolution),
    ):
        mine = np.flatnonzero(kind == code)
        efficiency[mine] = found.at(pt[mine], abs_eta[mine])
        resolution[mine] = width.at(pt[mine], abs_eta[mine])
    return efficiency, resolution


@dataclass(frozen=True)
class _Cells:
    """The cells of a calorimeter: strips in eta, each cut into `phi_cells` cells, numbered from `first`."""

    edges: F8
    phi_cells: I8
    first: I8

    @classmethod
    def of(cls, rings: tuple[Ring, ...]) -> "_Cells":
        edges, phi_cells = [0.0], []
        for ring in rings:
            edges += list(np.linspace(edges[-1], ring.eta_max, ring.eta_cells + 1)[1:])
            phi_cells += [ring.phi_cells] * ring.eta_cells
        both = np.array(phi_cells[::-1] + phi_cells)
        return cls(np.array([-edge for edge in edges[:0:-1]] + edges), both, offsets_of(both))

    def find(self, eta: F8, phi: F8) -> I8:
        """Give the number of the cell at a place, -1 outside."""
        strip = np.searchsorted(self.edges, eta, side="right") - 1
        inside = (strip >= 0) & (strip < len(self.phi_cells))
        strip = np.where(inside, strip, 0)
        cells = self.phi_cells[strip]
        around = np.floor((phi + np.pi) / (2 * np.pi) * cells).astype(np.int64) % cells
        return np.where(inside, self.first[strip] + around, -1)

    def strip(self, cell: I8) -> I8:
        """Give the strip of each cell."""
        return np.searchsorted(self.first, cell, side="right") - 1

    def eta(self, strip: I8, across: F8 | float) -> F8:
        """Give eta at a fraction (0..1) of the width of strips."""
        low, high = self.edges[strip], self.edges[strip + 1]
        return low + (high - low) * across

    def phi(self, strip: I8, cell: I8, around: F8) -> F8:
        """Give phi at a fraction (0..1) of the width of cells."""
        return (cell - self.first[strip] + around) * (2 * np.pi) / self.phi_cells[strip] - np.pi


def _measure(arrived: _Flat, tracks: _Flat, events: I8, settings: Calorimeter, stream: Stream) -> tuple[_Flat, _Flat]:
    """Measure the cells that were hit and subtract the tracks: gives the tracks, scaled, and the neutral excesses.

    Cells without a significant excess over their tracks do not count twice: there the tracks are scaled to the best
    combination of both measurements. Neutral rows have `eta`, `phi` and `energy`.
    """
    geometry = _Cells.of(settings.rings)
    share = settings.share(arrived["id"])
    cells, cell_of = _group(arrived, np.flatnonzero(share), geometry)
    hit = cell_of >= 0
    deposited = _sum(cell_of[hit], share[hit] * arrived["e"][hit], len(cells.row))
    energy, sigma = _read_out(cells, deposited, geometry, events, settings, stream)

    track_cell = cell_of[tracks["arrival"]]
    deposits = track_cell >= 0
    owner = track_cell[deposits]
    in_cell = share[tracks["arrival"][deposits]] * tracks["e"][deposits]
    in_tracks = _sum(owner, in_cell, len(cells.row))
    variance = _sum(owner, (tracks["resolution"][deposits] * in_cell) ** 2, len(cells.row))

    excess = np.maximum(energy - in_tracks, 0)
    neutral = (excess > settings.energy_min) & (excess > settings.significance_min * np.sqrt(variance + sigma**2))
    scale = np.ones(len(track_cell))
    scale[deposits] = np.where(neutral, 1.0, _combine(in_tracks, variance, energy, sigma**2))[owner]
    scaled = {name: tracks[name] * scale for name in ("px", "py", "pz", "e")}
    fraction = _place_in_cell(cells, events, settings.spread, stream)
    neutrals = _Flat(cells.row, cells.columns | fraction | {"energy": excess}).take(neutral)
    return _Flat(tracks.row, tracks.columns | scaled), _point(neutrals, geometry)


def _sum(group: I8, values: F8, n_groups: int) -> F8:
    """Add up values by group."""
    return np.bincount(group, weights=values, minlength=n_groups).astype(np.float64)


def _group(arrived: _Flat, depositing: I8, geometry: _Cells) -> tuple[_Flat, I8]:
    """Find the cells that were hit (`place`, `strip`), by event, and the cell of every particle, -1 for none."""
    place = geometry.find(arrived["eta"][depositing], arrived["phi"][depositing])
    depositing, place = depositing[place >= 0], place[place >= 0]
    n_places = geometry.first[-1]
    key, inverse = np.unique(arrived.row[depositing] * n_places + place, return_inverse=True)
    cell_of = np.full(len(arrived.row), -1)
    cell_of[depositing] = inverse
    row, place = np.divmod(key, n_places)
    return _Flat(row, {"place": place, "strip": geometry.strip(place)}), cell_of


def _read_out(
    cells: _Flat, deposited: F8, geometry: _Cells, events: I8, settings: Calorimeter, stream: Stream
) -> tuple[F8, F8]:
    """Smear the deposited energies and cut off noise: gives energy (0 below threshold) and its resolution, GeV."""
    centre = geometry.eta(cells["strip"], 0.5)
    normal = stream.child("energy").normal(events, cells.counts(len(events)), 1)[:, 0]
    energy = _lognormal(deposited, settings.resolution(centre, deposited), normal)
    sigma = settings.resolution(centre, energy)
    seen = (energy >= settings.energy_min) & (energy >= settings.significance_min * sigma)
    return np.where(seen, energy, 0.0), sigma


def _place_in_cell(cells: _Flat, events: I8, spread: float, stream: Stream) -> dict[str, F8]:
    """Draw a place in each cell, uniform in eta (`across`) and phi (`around`), as fractions of its width."""
    uniform = stream.child("direction").uniform(events, cells.counts(len(events)), 2)
    across, around = 0.5 + spread * (uniform.T - 0.5)
    return {"across": across, "around": around}


def _point(cells: _Flat, geometry: _Cells) -> _Flat:
    """Give `eta` and `phi` of the places drawn in cells, and their `energy`."""
    eta = geometry.eta(cells["strip"], cells["across"])
    phi = geometry.phi(cells["strip"], cells["place"], cells["around"])
    return _Flat(cells.row, {"eta": eta, "phi": phi, "energy": cells["energy"]})


def _combine(first: F8, variance: F8, second: F8, other_variance: F8) -> F8:
    """Give the weighted mean of two measurements over the first; a measurement without an error weighs nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(variance > 0, 1 / variance, 0.0)
        other = np.where(other_variance > 0, 1 / other_variance, 0.0)
        ratio = (weight * first + other * second) / (weight + other) / first
    return np.where(weight + other > 0, ratio, 1.0)


def _of_tracks(tracks: _Flat) -> _Flat:
    """Name the columns of track candidates as `Candidates` has them."""
    names = ("px", "py", "pz", "e", "charge", "kind", "d0", "dz")
    return _Flat(tracks.row, {name: tracks[name] for name in names})


def _of_cells(cells: _Flat, kind: int) -> _Flat:
    """Make massless candidates of neutral excesses."""
    pt, n = cells["energy"] / np.cosh(cells["eta"]), len(cells.row)
    columns = {
        "px": pt * np.cos(cells["phi"]),
        "py": pt * np.sin(cells["phi"]),
        "pz": pt * np.sinh(cells["eta"]),
        "e": cells["energy"],
        "charge": np.zeros(n, dtype=np.int8),
        "kind": np.full(n, kind, dtype=np.int8),
        "d0": np.zeros(n),
        "dz": np.zeros(n),
    }
    return _Flat(cells.row, columns)


def _gather(flow: list[_Flat], n_events: int) -> Ragged:
    """Put the candidates of each event together, keeping the order of the lists."""
    row = np.concatenate([part.row for part in flow])
    order = np.argsort(row, kind="stable")
    columns = {name: np.concatenate([part[name] for part in flow])[order] for name in flow[0].columns}
    return Ragged(offsets_of(np.bincount(row, minlength=n_events)), columns)
