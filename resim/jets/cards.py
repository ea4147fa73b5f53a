"""Detector cards: every number of the detector, in YAML files, and their check. GeV, mm, rad, tesla.

The models below have no defaults: `cards/*.yaml` are the only place where the numbers stand, with their sources.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from resim.errors import UserError
from resim.jets.states import F8
from resim.typed import parse, read_yaml

DEFAULT_CARD = "cms"
_CARDS = Path(__file__).with_name("cards")

Region = tuple[float, float, float, float]
"""eta_min, eta_max, phi_min, phi_max; phi runs upwards from phi_min, through pi where phi_max is smaller."""


def _require_rising(name: str, edges: tuple[float, ...]) -> None:
    if not edges or any(high <= low for low, high in pairwise(edges)):
        raise ValueError(f"{name} must rise, got {edges}")


def _require_regions(regions: tuple[Region, ...]) -> None:
    for region in regions:
        if region[0] >= region[1] or region[2] == region[3]:
            raise ValueError(f"dead: {region} must be [eta_min, eta_max, phi_min, phi_max] with eta_min < eta_max")


class _Settings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    pass


class Efficiency(_Settings):
    """A probability, constant in bins of pT and |eta|; zero below the first pT edge and beyond the last |eta|."""

    pt_edges: tuple[float, ...] = Field(description="lower edges of the pT bins, GeV")
    eta_edges: tuple[float, ...] = Field(description="upper edges of the |eta| bins; eta at the calorimeter face")
    values: tuple[tuple[float, ...], ...] = Field(description="probability in 0..1, one row an |eta| bin")
    decline: float = Field(ge=0, description="exponential loss above the last pT edge, 1/GeV")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_rising("pt_edges", self.pt_edges)
        _require_rising("eta_edges", self.eta_edges)
        if [len(row) for row in self.values] != [len(self.pt_edges)] * len(self.eta_edges):
            raise ValueError(f"values must be {len(self.eta_edges)} rows (|eta|) of {len(self.pt_edges)} numbers (pT)")
        if not all(0 <= value <= 1 for row in self.values for value in row):
            raise ValueError("values must lie in 0..1")
        return self


class PtResolution(_Settings):
    """Track resolution sigma(pT)/pT = sqrt(a^2 + (b pT)^2), at most 1, in bins of |eta|; the last bin goes on."""

    eta_edges: tuple[float, ...] = Field(description="upper edges of the |eta| bins; eta at the calorimeter face")
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


class ImpactResolution(_Settings):
    """Gaussian resolution of the impact parameters: a detector term and a multiple-scattering term.

    sigma(d0)^2 = d0_a^2 + (d0_b / (pT sin^(1/2) theta))^2, sigma(dz)^2 = dz_a^2 + (dz_b / (pT sin^(3/2) theta))^2.
    """

    d0_a: float = Field(ge=0, description="transverse, high pT, mm")
    d0_b: float = Field(ge=0, description="transverse, multiple scattering, mm GeV")
    dz_a: float = Field(ge=0, description="longitudinal, high pT, mm")
    dz_b: float = Field(ge=0, description="longitudinal, multiple scattering, mm GeV")
    resolution_factor: float = Field(ge=0, description="multiplies both resolutions")


class Tracking(_Settings):
    """Which charged particles become tracks, and how well they are measured."""

    hadron_efficiency: Efficiency = Field(description="efficiency of charged hadrons")
    electron_efficiency: Efficiency = Field(description="efficiency of electrons")
    muon_efficiency: Efficiency = Field(description="efficiency of muons")
    efficiency_factor: float = Field(ge=0, description="multiplies all efficiencies; more than 1 counts as 1")
    hadron_resolution: PtResolution = Field(description="pT resolution of charged hadrons")
    electron_resolution: PtResolution = Field(description="pT resolution of electrons")
    muon_resolution: PtResolution = Field(description="pT resolution of muons")
    resolution_factor: float = Field(ge=0, description="multiplies all pT resolutions; 0: no smearing")
    scale: float = Field(gt=0, description="multiplies the measured momenta")
    impact: ImpactResolution = Field(description="impact parameter resolution")
    dead: tuple[Region, ...] = Field(description="regions of the calorimeter face to which no track leads")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_regions(self.dead)
        return self


class Identification(_Settings):
    """Probability that the track of a lepton is identified as one."""

    electron: Efficiency = Field(description="of electrons")
    muon: Efficiency = Field(description="of muons")


class Ring(_Settings):
    """Equal cells on both sides, from where the ring before ends (or 0) to `eta_max`."""

    eta_max: float = Field(gt=0, description="upper |eta| of the ring")
    eta_cells: int = Field(ge=1, description="cells between the lower and upper |eta|, on each side")
    phi_cells: int = Field(ge=1, description="cells around")


_MOST_CELLS = 5_000_000


class Calorimeter(_Settings):
    """Cells, response and thresholds of one calorimeter.

    sigma(E) = shape(|eta|) sqrt((constant E)^2 + stochastic^2 E + noise^2); the shape is 1 + barrel_slope eta^2 up to
    `endcap_from`, endcap_scale + endcap_slope (|eta| - 2)^2 up to `forward_from`, and 1 beyond, with the forward terms.
    """

    rings: tuple[Ring, ...] = Field(min_length=1, description="cells, from the centre outwards")
    coarsen: int = Field(
        ge=1, description="merges so many cells in eta and in phi; of what is left over at an edge fewer"
    )
    spread: float = Field(ge=0, le=1, description="share of the cell over which directions are drawn; 0: centre")
    electromagnetic: float = Field(ge=0, le=1, description="share of their energy that electrons and photons leave")
    long_lived: float = Field(ge=0, le=1, description="share that K0S and Lambda leave")
    hadron: float = Field(ge=0, le=1, description="share that other hadrons leave")
    scale: float = Field(gt=0, description="multiplies the energy of all cells before it is smeared")
    constant: float = Field(ge=0, description="constant term of the resolution")
    stochastic: float = Field(ge=0, description="stochastic term, sqrt(GeV)")
    noise: float = Field(ge=0, description="noise term, GeV")
    barrel_slope: float = Field(ge=0, description="rise of the resolution with eta^2 in the barrel")
    endcap_from: float = Field(ge=0, description="|eta| where the end cap begins")
    endcap_scale: float = Field(ge=0, description="the end cap's shape at |eta| = 2")
    endcap_slope: float = Field(ge=0, description="its rise with (|eta| - 2)^2")
    endcap_constant: float | None = Field(ge=0, description="its constant term; null: the barrel's")
    endcap_stochastic: float | None = Field(ge=0, description="its stochastic term, sqrt(GeV); null: the barrel's")
    endcap_noise: float | None = Field(ge=0, description="its noise term, GeV; null: the barrel's")
    forward_from: float = Field(ge=0, description="|eta| where the forward calorimeter begins")
    forward_constant: float = Field(ge=0, description="its constant term")
    forward_stochastic: float = Field(ge=0, description="its stochastic term, sqrt(GeV)")
    resolution_factor: float = Field(ge=0, description="multiplies sigma(E); 0: no smearing")
    energy_min: float = Field(ge=0, description="least energy of a cell, and of a neutral excess, GeV")
    significance_min: float = Field(ge=0, description="least energy over its resolution, likewise")
    dead: tuple[Region, ...] = Field(description="regions of dead cells, by the cells' centres")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_rising("rings.eta_max", tuple(ring.eta_max for ring in self.rings))
        cells = 2 * sum(ring.eta_cells * ring.phi_cells for ring in self.rings)
        if cells > _MOST_CELLS:
            raise ValueError(f"rings make {cells} cells, at most {_MOST_CELLS} are allowed; make them wider")
        _require_regions(self.dead)
        return self

    def terms(self, eta: F8) -> tuple[F8, F8, F8]:
        """Give c, s, n at some eta: sigma(E)^2 = (c E)^2 + s^2 E + n^2, with E and n in GeV, s in sqrt(GeV)."""
        abs_eta = np.abs(eta)
        zones = [abs_eta <= np.minimum(self.endcap_from, self.forward_from), abs_eta <= self.forward_from]
        shapes = [1 + self.barrel_slope * eta**2, self.endcap_scale + self.endcap_slope * (abs_eta - 2) ** 2]
        shape = self.resolution_factor * np.select(zones, shapes, 1.0)

        def term(barrel: float, endcap: float | None, forward: float) -> F8:
            return shape * np.select(zones, [barrel, barrel if endcap is None else endcap], forward)

        return (
            term(self.constant, self.endcap_constant, self.forward_constant),
            term(self.stochastic, self.endcap_stochastic, self.forward_stochastic),
            term(self.noise, self.endcap_noise, 0.0),
        )


class DetectorSettings(_Settings):
    """The whole detector."""

    magnetic_field: float = Field(ge=0, description="solenoid field along z, T")
    radius: float = Field(gt=0, description="radius of the tracking volume, where the calorimeters begin, mm")
    half_length: float = Field(gt=0, description="half-length of the tracking volume, mm")
    tracking: Tracking = Field(description="efficiency and resolution of tracks")
    identification: Identification = Field(description="identification of leptons")
    ecal: Calorimeter = Field(description="electromagnetic calorimeter")
    hcal: Calorimeter = Field(description="hadronic calorimeter")

    @model_validator(mode="after")
    def _energy_is_left_once(self) -> Self:
        for name in ("electromagnetic", "long_lived", "hadron"):
            total = getattr(self.ecal, name) + getattr(self.hcal, name)
            if total > 1 + 1e-9:
                raise ValueError(f"ecal.{name} + hcal.{name} = {total:.3g}: shares of one energy, at most 1 together")
        return self


def load_card(name: str) -> dict[str, Any]:
    """Read a detector card: one that ships with the package, by its name, or a YAML file of one's own, by its path.

    Raises
    ------
    UserError
        If there is no such card, or it is not complete and valid.
    """
    shipped = {path.stem: path for path in sorted(_CARDS.glob("*.yaml"))}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise UserError(f"there is no detector card {name!r}; shipped are {', '.join(shipped)}; or give a YAML file")
    card = read_yaml(path)
    parse(DetectorSettings, card, f"detector card {name}")
    return card


def detector_settings(values: Mapping[str, Any], where: str) -> DetectorSettings:
    """Lay values over a detector card: {"card": "atlas", "ecal": {"stochastic": 0.15}} keeps the rest of that card.

    Parameters
    ----------
    values
        Nested as the card; `card` names it (see `load_card`), without it the CMS card is meant. Lists are replaced.
    where
        Where the values come from, for messages.

    Raises
    ------
    UserError
        Naming the place, the key and what is allowed.
    """
    changes = dict(values)
    name = changes.pop("card", DEFAULT_CARD)
    if not isinstance(name, str):
        raise UserError(f"{where}: card: must be a card's name or the path of a YAML file, not {name!r}")
    try:
        card = load_card(name)
    except UserError as error:
        raise UserError(f"{where}: card: {error}") from error
    return parse(DetectorSettings, _overlay(card, changes), where)


def _overlay(card: Any, changes: Any) -> Any:
    """Put changes over a card, block by block."""
    if not (isinstance(card, dict) and isinstance(changes, dict)):
        return changes
    return {**card, **{name: _overlay(card.get(name), value) for name, value in changes.items()}}
