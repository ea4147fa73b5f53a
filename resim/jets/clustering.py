"""Jets of a block of events: anti-kT by FastJet, heavy hadrons as ghosts, matching to the hard partons.

Reconstructed jets are made of the detector's candidates; generator jets of the stable particles, muons among them but
no neutrinos. FastJet's time goes with the number of particles: it is given only what is near an object's parton.
docs/physics.md says what that changes.
"""

import math
from dataclasses import dataclass, replace

import awkward as ak
import fastjet
import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from resim.jets import features, truth
from resim.jets.states import F8, I8, NEUTRINOS, Candidates, Hadrons
from resim.lane import Objects
from resim.ragged import Ragged, offsets_of, row_of, select_elements, select_rows

# FastJet's own switch for the banner that it would print into our standard output
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

_MARGIN = 1.5  # radii around the farthest axis of a matched jet in which particles are clustered
_OF_CANDIDATES = ("vertex_dz_max", "n2_beta", "max_constituents")  # settings that do nothing to generator jets
_GHOST_SCALE = 1e-18  # far below the rounding of a jet's momentum, far above the smallest double


class JetSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How jets are found, groomed and matched."""

    radius: float = Field(0.8, gt=0, le=2, description="radius parameter R of the anti-kT algorithm")
    pt_min: float = Field(200.0, gt=0, description="least pT of a jet, GeV")
    eta_max: float = Field(2.4, gt=0, description="largest |eta| of a jet")
    softdrop_z_cut: float = Field(0.1, ge=0, lt=0.5, description="soft drop: least share of the softer branch")
    softdrop_beta: float = Field(0.0, description="soft drop: exponent of the angle")
    n2_beta: float = Field(1.0, gt=0, description="exponent of the angles in N2")
    match_distance: float = Field(0.8, gt=0, description="largest dR between a jet and its hard parton")
    object_pt_min: float = Field(350.0, ge=0, description="least pT of a hard parton to be an object, GeV")
    object_eta_max: float = Field(2.0, gt=0, description="largest |eta| of a hard parton to be an object")
    generator_jets: bool = Field(True, description="find the jets of stable particles, too; half of the stage's time")
    vertex_dz_max: float | None = Field(
        None,
        gt=0,
        description="leave out tracks with a larger |dz|, mm, as those of pile-up; by default none",
    )
    max_constituents: int = Field(100, ge=1, description="constituents kept of a jet, hardest first")


@dataclass(frozen=True)
class Jets:
    """Jets of a block, event by event; GeV."""

    row: I8
    """The event's place in the block, never falling."""
    px: F8
    py: F8
    pz: F8
    e: F8
    n_b_hadrons: I8
    n_c_hadrons: I8
    offsets: I8
    """Constituents of jet i are `members[offsets[i]:offsets[i + 1]]`."""
    members: I8
    """Places of the constituents in the columns of what was clustered."""

    @property
    def pt(self) -> F8:
        """Transverse momentum, GeV."""
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> F8:
        """Pseudorapidity."""
        return np.arcsinh(self.pz / self.pt)

    @property
    def phi(self) -> F8:
        """Azimuth, -pi to pi."""
        return np.arctan2(self.py, self.px)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Jets":
        """Select jets by index or mask."""
        offsets, elements = select_rows(self.offsets, rows)
        names = ("row", "px", "py", "pz", "e", "n_b_hadrons", "n_c_hadrons")
        return Jets(**{n: getattr(self, n)[rows] for n in names}, offsets=offsets, members=self.members[elements])


@dataclass(frozen=True)
class Partons:
    """The outgoing partons of a block that are objects, (n,) each: object, place in `hard.partons`, row, direction."""

    object: I8
    place: I8
    row: I8
    eta: F8
    phi: F8

    @classmethod
    def of(cls, hadrons: Hadrons, settings: JetSettings) -> "Partons":
        """Find them."""
        table = truth.object_table(hadrons.hard, settings)
        order = np.argsort(hadrons.event, kind="stable")
        row = order[np.searchsorted(hadrons.event, table["event"], sorter=order)]
        place = truth.object_rows(hadrons.hard, settings)
        return cls(table["object"], place, row, table["parton_eta"], table["parton_phi"])

    def match(self, jets: Jets, settings: JetSettings) -> tuple[I8, F8]:
        """Give the jet of each (-1: none) and its distance."""
        return truth.match(self.row, self.eta, self.phi, jets.row, jets.eta, jets.phi, settings.match_distance)


def make_objects(candidates: Candidates, settings: JetSettings) -> Objects:
    """Find the jets of the block's objects: clustering, matching, jet columns and constituent features.

    An object is there if it has a reconstructed jet; its generator jet may be missing.
    """
    hadrons = candidates.hadrons
    partons = Partons.of(hadrons, settings)
    jets = _cluster_near(candidates.candidates, hadrons, partons, settings)
    jet, distance = partons.match(jets, settings)
    found = np.flatnonzero(jet >= 0)
    found = found[np.argsort(partons.object[found], kind="stable")]
    generated = _generator_jets(hadrons, partons, settings)
    matched = features.Matched(
        object=partons.object[found],
        parton=partons.place[found],
        distance=distance[found],
        jets=jets.take(jet[found]),
        generated={name: values[found] for name, values in generated.items()},
    )
    return features.objects(matched, candidates, settings)


def _generator_jets(hadrons: Hadrons, partons: Partons, settings: JetSettings) -> dict[str, F8]:
    """Describe the jets of the stable visible particles, (n,) a column; once for all views of the same hadrons."""
    key = "generator jets", settings.model_copy(update=dict.fromkeys(_OF_CANDIDATES))
    if key not in hadrons.derived:
        kind = np.abs(hadrons.particles["id"])
        visible = ~np.logical_or.reduce([kind == neutrino for neutrino in NEUTRINOS]) & settings.generator_jets
        jets = _cluster_near(hadrons.particles, hadrons, partons, settings, visible)
        jet, _ = partons.match(jets, settings)
        there = jet >= 0
        hadrons.derived[key] = features.generated(jets.take(jet[there]), there, hadrons.particles, settings)
    found: dict[str, F8] = hadrons.derived[key]
    return found


def _cluster_near(
    table: Ragged, hadrons: Hadrons, partons: Partons, settings: JetSettings, wanted: NDArray[np.bool_] | None = None
) -> Jets:
    """Cluster what lies near the objects' partons, where alone the jets are right; members are places in the table."""
    reach = settings.match_distance + _MARGIN * settings.radius
    px, py, pz = (table[n] for n in _NAMES[:3])
    chosen = _near(table.offsets, px, py, pz, partons.row, partons.eta, partons.phi, reach)
    if wanted is not None:
        chosen &= wanted
    place = np.flatnonzero(chosen)
    near = Ragged(select_elements(table.offsets, chosen), {n: table[n][place] for n in _NAMES})
    jets = cluster(near, hadrons.heavy, settings)
    return replace(jets, members=place[jets.members])


@njit(cache=True)
def _near(offsets: I8, px: F8, py: F8, pz: F8, row: I8, eta: F8, phi: F8, distance: float) -> NDArray[np.bool_]:
    """Mark the particles within a distance, in eta and phi, of one of the axes (row, eta, phi) in their event."""
    near = np.zeros(len(px), dtype=np.bool_)
    for axis in range(len(row)):
        low, high = math.sinh(eta[axis] - distance), math.sinh(eta[axis] + distance)
        for i in range(offsets[row[axis]], offsets[row[axis] + 1]):
            pt = math.sqrt(px[i] * px[i] + py[i] * py[i])
            if low * pt < pz[i] < high * pt:
                across, turn = math.asinh(pz[i] / pt) - eta[axis], abs(math.atan2(py[i], px[i]) - phi[axis])
                turn = min(turn, 2 * math.pi - turn)
                near[i] |= across * across + turn * turn < distance * distance
    return near


def from_hard_vertex(candidates: Candidates, settings: JetSettings) -> Candidates:
    """Leave out tracks that come from elsewhere along the beam (charged-hadron subtraction, CMS PAS JME-14-001)."""
    if settings.vertex_dz_max is None:
        return candidates
    table = candidates.candidates
    keep = (table["charge"] == 0) | (np.abs(table["dz"]) <= settings.vertex_dz_max)
    kept = Ragged(select_elements(table.offsets, keep), {name: column[keep] for name, column in table.columns.items()})
    return Candidates(candidates.hadrons, kept)


def cluster(particles: Ragged, heavy: Ragged, settings: JetSettings) -> Jets:
    """Cluster the particles of each event; heavy hadrons take part as ghosts and are counted where they end up.

    Within an event jets come in FastJet's order. Jets pass `pt_min` and `eta_max`.
    """
    merged = _with_ghosts(particles, heavy)
    sequence = fastjet.ClusterSequence(merged, fastjet.JetDefinition(fastjet.antikt_algorithm, settings.radius))
    found = sequence.inclusive_jets(min_pt=settings.pt_min)
    row = row_of(np.asarray(found.layout.offsets))
    offsets, member = _members(sequence, settings.pt_min)
    owner = row_of(offsets)
    n_particles = np.diff(particles.offsets)[row][owner]
    ghost = member >= n_particles
    hadron = heavy.offsets[row[owner[ghost]]] + (member - n_particles)[ghost]
    flavour = heavy["flavour"][hadron]
    counts = {q: np.bincount(owner[ghost][flavour == q], minlength=len(row)) for q in (5, 4)}
    jets = Jets(
        row=row,
        **{name: ak.to_numpy(ak.flatten(found[key])) for name, key in zip(_NAMES, _FASTJET, strict=True)},
        n_b_hadrons=counts[5],
        n_c_hadrons=counts[4],
        offsets=offsets_of(np.bincount(owner[~ghost], minlength=len(row))),
        members=(particles.offsets[row[owner]] + member)[~ghost],
    )
    return jets.take(np.abs(jets.eta) < settings.eta_max)


_NAMES, _FASTJET = ("px", "py", "pz", "e"), ("px", "py", "pz", "E")


def _with_ghosts(real: Ragged, heavy: Ragged) -> ak.Array:
    """Put the heavy hadrons, at a vanishing momentum, behind the particles of their event, as FastJet wants them."""
    offsets = real.offsets + heavy.offsets
    at_real = np.arange(real.offsets[-1]) + heavy.offsets[row_of(real.offsets)]
    at_heavy = np.arange(heavy.offsets[-1]) + real.offsets[row_of(heavy.offsets) + 1]
    columns = []
    for name in _NAMES:
        column = np.empty(offsets[-1])
        column[at_real], column[at_heavy] = real[name], heavy[name] * _GHOST_SCALE
        columns.append(ak.contents.NumpyArray(column))
    records = ak.contents.RecordArray(columns, list(_FASTJET))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), records))


def _members(sequence: fastjet.ClusterSequence, pt_min: float) -> tuple[I8, I8]:
    """Give offsets by jet and the constituents' places within their event."""
    inner = sequence.constituent_index(min_pt=pt_min).layout.content
    offsets = np.asarray(inner.offsets).astype(np.int64)
    return offsets, np.asarray(inner.content.data)[: offsets[-1]].astype(np.int64)
