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
from resim.jets.states import F8, I8, Candidates, Objects, Ragged
from resim.ragged import offsets_of, row_of, select_elements, select_rows

# FastJet's own switch for the banner that it would print into our standard output
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

_NEUTRINOS = (12, 14, 16)
_MARGIN = 1.5  # radii around the farthest axis of a matched jet in which particles are clustered
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


def make_objects(candidates: Candidates, settings: JetSettings) -> Objects:
    """Find the jets of the block's objects: clustering, matching, jet columns and constituent features.

    An object is there if it has a reconstructed jet; its generator jet may be missing.
    """
    hadrons = candidates.hadrons
    table, place = truth.object_table(hadrons.hard, settings), truth.object_rows(hadrons.hard, settings)
    order = np.argsort(candidates.event, kind="stable")
    row = order[np.searchsorted(candidates.event, table["event"], sorter=order)]
    partons = (row, table["parton_eta"], table["parton_phi"])
    jets, generated = _reconstructed_and_generated(candidates, partons, settings)
    (jet, distance), (twin, _) = (
        truth.match(*partons, j.row, j.eta, j.phi, settings.match_distance) for j in (jets, generated)
    )
    found = np.flatnonzero(jet >= 0)
    found = found[np.argsort(table["object"][found], kind="stable")]
    matched = features.Matched(
        object=table["object"][found],
        parton=place[found],
        distance=distance[found],
        jets=jets.take(jet[found]),
        with_twin=np.flatnonzero(twin[found] >= 0),
        twins=generated.take(twin[found][twin[found] >= 0]),
    )
    return features.objects(matched, candidates, settings)


def _reconstructed_and_generated(
    candidates: Candidates, partons: tuple[I8, F8, F8], settings: JetSettings
) -> tuple[Jets, Jets]:
    """Cluster candidates and stable visible particles, by one call of FastJet: the latter as further events.

    `partons` are event, eta and phi of the objects; jets are right near them only.
    """
    particles, heavy = candidates.hadrons.particles, candidates.hadrons.heavy
    kind = np.abs(particles["id"])
    wanted = ~np.logical_or.reduce([kind == neutrino for neutrino in _NEUTRINOS]) & settings.generator_jets
    reach = settings.match_distance + _MARGIN * settings.radius
    (real, place), (stable, twin_place) = (
        _within(candidates.candidates, partons, reach),
        _within(particles, partons, reach, wanted),
    )
    jets = cluster(Ragged.join([real, stable]), Ragged.join([heavy, heavy]), settings)
    first = np.searchsorted(jets.row, len(real))
    reconstructed, generated = jets.take(np.arange(first)), jets.take(np.arange(first, len(jets.row)))
    twins = twin_place[generated.members - real.offsets[-1]]
    return (
        replace(reconstructed, members=place[reconstructed.members]),
        replace(generated, row=generated.row - len(real), members=twins),
    )


def _within(
    table: Ragged, partons: tuple[I8, F8, F8], reach: float, wanted: NDArray[np.bool_] | None = None
) -> tuple[Ragged, I8]:
    """Select the momenta of what lies near the partons of its event, and give its places in the table."""
    row, eta, phi = partons
    px, py, pz = (table[n] for n in _NAMES[:3])
    chosen = _near(table.offsets, px, py, pz, row, eta, phi, reach)
    if wanted is not None:
        chosen &= wanted
    place = np.flatnonzero(chosen)
    return Ragged(select_elements(table.offsets, chosen), {n: table[n][place] for n in _NAMES}), place


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
