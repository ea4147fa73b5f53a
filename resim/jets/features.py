"""What is stored of a jet: object-level columns, and fifteen features of each constituent in the published order."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resim.jets import substructure, truth
from resim.jets.detector import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON
from resim.jets.geometry import wrapped
from resim.jets.states import F8, I8, Candidates
from resim.lane import Objects
from resim.ragged import Ragged, row_of, select_elements, select_rows

if TYPE_CHECKING:
    from resim.jets.clustering import Jets, JetSettings

FEATURES: tuple[tuple[str, str, str], ...] = (
    ("pt", "GeV", "transverse momentum"),
    ("relpt", "", "transverse momentum over the jet's"),
    ("eta", "", "pseudorapidity"),
    ("phi", "rad", "azimuth, -pi to pi"),
    ("e", "GeV", "energy"),
    ("rele", "", "energy over the jet's"),
    ("charge", "e", "electric charge"),
    ("d0", "mm", "transverse impact parameter of a track, signed: (x py - y px) / pT; 0 for neutrals"),
    ("dz", "mm", "z of a track where it is nearest to the beam line; 0 for neutrals"),
    ("dr", "", "distance to the jet axis in eta and phi"),
    ("is_photon", "", "1 for a photon"),
    ("is_muon", "", "1 for a muon"),
    ("is_electron", "", "1 for an electron"),
    ("is_charged_hadron", "", "1 for a charged hadron"),
    ("is_neutral_hadron", "", "1 for a neutral hadron"),
)

JET_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("pt", "GeV", "transverse momentum"),
    ("eta", "", "pseudorapidity"),
    ("phi", "rad", "azimuth, -pi to pi"),
    ("e", "GeV", "energy"),
    ("mass", "GeV", "mass"),
    ("softdrop_mass", "GeV", "mass after soft drop"),
    ("n2", "", "energy correlation ratio N2; NaN for a single constituent"),
    ("n_constituents", "", "constituents, before any are left out"),
    ("dr_parton", "", "distance to the hard parton in eta and phi"),
    ("n_b_hadrons", "", "weakly decaying b hadrons, ghost-matched"),
    ("n_c_hadrons", "", "weakly decaying c hadrons, ghost-matched; those of b hadrons' decays among them"),
    ("splitting", "", "of a gluon: 5 light quarks, 6 cc, 7 bb, 8 gg; 0 for all else, and where it is not known"),
    ("softdrop_pt", "GeV", "transverse momentum after soft drop"),
    ("zg", "", "share of the softer branch where soft drop ends; NaN for a single constituent, as all of the branches"),
    ("rg", "", "distance of the two branches in rapidity and phi"),
    ("subjet1_pt", "GeV", "harder branch: transverse momentum"),
    ("subjet1_eta", "", "harder branch: pseudorapidity"),
    ("subjet1_phi", "rad", "harder branch: azimuth, -pi to pi"),
    ("subjet1_mass", "GeV", "harder branch: mass"),
    ("subjet2_pt", "GeV", "softer branch: transverse momentum"),
    ("subjet2_eta", "", "softer branch: pseudorapidity"),
    ("subjet2_phi", "rad", "softer branch: azimuth, -pi to pi"),
    ("subjet2_mass", "GeV", "softer branch: mass"),
    ("tau21", "", "N-subjettiness tau2 / tau1, beta 1, winner-take-all kT axes; NaN for a single constituent"),
    ("tau32", "", "N-subjettiness tau3 / tau2; NaN for fewer than three constituents"),
    ("sip2d_1", "", "largest d0 significance of its tracks, positive if displaced along the jet axis; NaN without"),
    ("sip2d_2", "", "second-largest d0 significance of its tracks"),
    ("gen_pt", "GeV", "generator jet: transverse momentum; NaN for all of it where none is matched"),
    ("gen_eta", "", "generator jet: pseudorapidity"),
    ("gen_phi", "rad", "generator jet: azimuth, -pi to pi"),
    ("gen_mass", "GeV", "generator jet: mass"),
    ("gen_softdrop_mass", "GeV", "generator jet: mass after soft drop"),
    ("met", "GeV", "of the event: missing transverse momentum, minus the vector sum of all candidates"),
    ("met_phi", "rad", "of the event: its azimuth, -pi to pi"),
    ("ht", "GeV", "of the event: summed transverse momentum of all candidates"),
    ("n_electrons", "", "of the event: identified electrons"),
    ("n_muons", "", "of the event: identified muons"),
    ("lepton_pt", "GeV", "of the event: hardest identified lepton: transverse momentum; NaN without, as all of it"),
    ("lepton_eta", "", "of the event: its pseudorapidity"),
    ("lepton_phi", "rad", "of the event: its azimuth, -pi to pi"),
    ("lepton_id", "", "of the event: its PDG id, 11 e-, -11 e+, 13 mu-, -13 mu+"),
    ("lepton_isolation", "", "of the event: summed pT of other candidates over 0.5 GeV within dR 0.5, over its own"),
)

_LEPTON_IDS = {ELECTRON: 11, MUON: 13}
_ISOLATION_DR, _ISOLATION_PT_MIN = 0.5, 0.5  # GeV; as Delphes's Isolation in the CMS card
_TRACK_PT_MIN, _TRACK_D0_MAX = 1.0, 2.0  # GeV, mm; CMS's tracks for b tagging (arXiv:1211.4709): beyond lie K0S, Lambda


@dataclass(frozen=True)
class Matched:
    """The n objects of a block that have a jet, sorted by id."""

    object: I8
    parton: I8
    """Place in the columns of the hard processes' partons."""
    distance: F8
    """dR between jet and parton."""
    jets: "Jets"
    """Reconstructed; their members are places in the candidates."""
    generated: dict[str, F8]
    """Columns of their generator jets, NaN for those without one."""


def objects(matched: Matched, candidates: Candidates, settings: "JetSettings") -> Objects:
    """Describe matched jets, one row each."""
    hadrons, jets = candidates.hadrons, matched.jets
    values = {
        **_momentum(jets),
        "e": jets.e,
        "n_constituents": np.diff(jets.offsets),
        "dr_parton": matched.distance,
        "n_b_hadrons": jets.n_b_hadrons,
        "n_c_hadrons": jets.n_c_hadrons,
        "splitting": truth.splitting_class(
            hadrons.hard.partons["id"][matched.parton],
            hadrons.splitting[matched.parton],
            jets.n_b_hadrons,
            jets.n_c_hadrons,
        ),
        **_shape(jets, candidates.candidates, settings),
        **_displacement(jets, candidates.candidates),
        **matched.generated,
        **{name: column[jets.row] for name, column in event_columns(candidates.candidates).items()},
    }
    columns = np.empty((len(matched.object), len(JET_COLUMNS)), dtype=np.float32)
    for i, (name, _, _) in enumerate(JET_COLUMNS):
        columns[:, i] = values[name]
    return Objects(matched.object, columns, constituents(jets, candidates.candidates, settings.max_constituents))


def _momentum(jets: "Jets") -> dict[str, F8]:
    mass = substructure.mass((jets.px, jets.py, jets.pz, jets.e))
    return {"pt": jets.pt, "eta": jets.eta, "phi": jets.phi, "mass": mass}


def _kinematics(jets: "Jets", particles: Ragged) -> F8:
    """Give the rows that `substructure` works on."""
    px, py, pz, e = (particles[name][jets.members] for name in ("px", "py", "pz", "e"))
    return substructure.kinematics((px, py, pz, e))


def _shape(jets: "Jets", candidates: Ragged, settings: "JetSettings") -> dict[str, F8]:
    rows = _kinematics(jets, candidates)
    tau = substructure.n_subjettiness(rows, jets.offsets).T
    return {
        **substructure.softdrop(rows, jets.offsets, *_grooming(settings)),
        "tau21": _ratio(tau[1], tau[0]),
        "tau32": _ratio(tau[2], tau[1]),
        "n2": substructure.n2(rows, jets.offsets, settings.n2_beta),
    }


def _grooming(settings: "JetSettings") -> tuple[float, float, float]:
    return settings.softdrop_z_cut, settings.softdrop_beta, settings.radius


def _ratio(above: F8, below: F8) -> F8:
    """Divide; NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def generated(jets: "Jets", there: NDArray[np.bool_], particles: Ragged, settings: "JetSettings") -> dict[str, F8]:
    """Describe generator jets, one row for each of `there`: those marked have a jet, the others get NaN."""
    groomed = substructure.softdrop(_kinematics(jets, particles), jets.offsets, *_grooming(settings))
    columns = {}
    for name, values in {**_momentum(jets), "softdrop_mass": groomed["softdrop_mass"]}.items():
        columns[f"gen_{name}"] = np.full(len(there), np.nan)
        columns[f"gen_{name}"][there] = values
    return columns


def _displacement(jets: "Jets", candidates: Ragged) -> dict[str, F8]:
    """Give the two largest signed significances of d0 in each jet, as in b tagging by counting tracks.

    Tracks with pT > 1 GeV and |d0| < 2 mm. The sign is positive if the point nearest to the beam line lies on the jet's
    side of it, as it does for the tracks of a decay in flight.
    """
    member = {name: candidates[name][jets.members] for name in ("px", "py", "charge", "d0", "d0_error")}
    pt, owner = np.hypot(member["px"], member["py"]), row_of(jets.offsets)
    track = (member["charge"] != 0) & (pt > _TRACK_PT_MIN) & (np.abs(member["d0"]) < _TRACK_D0_MAX)
    track &= member["d0_error"] > 0
    px, py, d0, error = (member[name][track] for name in ("px", "py", "d0", "d0_error"))
    owner = owner[track]
    # d0 = (x py - y px) / pT: the nearest point is d0 (py, -px) / pT
    side = d0 * (py * jets.px[owner] - px * jets.py[owner])
    significance = np.copysign(d0 / error, side)
    order = np.lexsort((-significance, owner))
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    columns = {}
    for i in (0, 1):
        columns[f"sip2d_{i + 1}"] = np.full(len(jets.row), np.nan)
        columns[f"sip2d_{i + 1}"][owner[rank == i]] = significance[order][rank == i]
    return columns


def event_columns(candidates: Ragged) -> dict[str, F8]:
    """Describe each event, (n_events,) a column: missing momentum, summed pT, identified leptons."""
    n, row = len(candidates), row_of(candidates.offsets)
    pt = np.hypot(candidates["px"], candidates["py"])
    x, y = (-np.bincount(row, weights=candidates[name], minlength=n) for name in ("px", "py"))
    columns = {
        "met": np.hypot(x, y),
        "met_phi": np.arctan2(y, x),
        "ht": np.bincount(row, weights=pt, minlength=n).astype(np.float64),
    }
    for name, kind in (("n_electrons", ELECTRON), ("n_muons", MUON)):
        of_kind = candidates["identified"] & (candidates["kind"] == kind)
        columns[name] = np.bincount(row[of_kind], minlength=n).astype(np.float64)
    return columns | _lepton(candidates, pt)


def _lepton(candidates: Ragged, pt: F8) -> dict[str, F8]:
    """Describe the hardest identified lepton of each event, NaN without one."""
    n, kind, row = len(candidates), candidates["kind"], row_of(candidates.offsets)
    leptons = np.flatnonzero(candidates["identified"] & ((kind == ELECTRON) | (kind == MUON)))
    leptons = leptons[np.lexsort((-pt[leptons], row[leptons]))]
    event, first = np.unique(row[leptons], return_index=True)
    place = leptons[first]
    eta, phi = _direction(candidates, place)
    size = np.where(kind[place] == ELECTRON, _LEPTON_IDS[ELECTRON], _LEPTON_IDS[MUON])
    values = {
        "pt": pt[place],
        "eta": eta,
        "phi": phi,
        "id": -size * candidates["charge"][place],
        "isolation": _isolation(candidates, pt, event, place),
    }
    columns = {}
    for name, value in values.items():
        columns[f"lepton_{name}"] = np.full(n, np.nan)
        columns[f"lepton_{name}"][event] = value
    return columns


def _isolation(candidates: Ragged, pt: F8, event: I8, place: I8) -> F8:
    """Sum the pT around leptons, over their own; `place` (n,) is that of a lepton in each of the rows `event`."""
    offsets, others = select_rows(candidates.offsets, event)
    lepton = row_of(offsets)
    hard = (others != place[lepton]) & (pt[others] > _ISOLATION_PT_MIN)
    others, lepton = others[hard], lepton[hard]
    (eta, phi), (axis_eta, axis_phi) = _direction(candidates, others), _direction(candidates, place)
    near = np.hypot(eta - axis_eta[lepton], wrapped(phi - axis_phi[lepton])) < _ISOLATION_DR
    return np.bincount(lepton[near], weights=pt[others][near], minlength=len(place)) / pt[place]


def _direction(candidates: Ragged, place: I8) -> tuple[F8, F8]:
    """Give eta and phi of some candidates."""
    px, py, pz = (candidates[name][place] for name in ("px", "py", "pz"))
    return np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px)


def constituents(jets: "Jets", candidates: Ragged, most: int) -> Ragged:
    """Give the `FEATURES` of the `most` hardest constituents of each jet, in falling pT, (m, 15) float32."""
    pt = np.hypot(candidates["px"], candidates["py"])[jets.members]
    owner = row_of(jets.offsets)
    order = np.lexsort((-pt, owner))
    keep = np.arange(len(order)) - jets.offsets[owner] < most  # sorting leaves every jet its own range
    place, owner, pt = jets.members[order][keep], owner[keep], pt[order][keep]
    chosen = {name: column[place] for name, column in candidates.columns.items()}
    table = np.empty((len(place), len(FEATURES)), dtype=np.float32)
    values = _relative(chosen, pt, jets, owner) | _flags(chosen["kind"])
    for i, (name, _, _) in enumerate(FEATURES):
        table[:, i] = values[name]
    return Ragged(select_elements(jets.offsets, keep), {"features": table})


def _relative(chosen: dict[str, NDArray[Any]], pt: F8, jets: "Jets", owner: I8) -> dict[str, NDArray[Any]]:
    eta, phi = np.arcsinh(chosen["pz"] / pt), np.arctan2(chosen["py"], chosen["px"])
    dphi = wrapped(phi - jets.phi[owner])
    return {
        "pt": pt,
        "relpt": pt / jets.pt[owner],
        "eta": eta,
        "phi": phi,
        "e": chosen["e"],
        "rele": chosen["e"] / jets.e[owner],
        "charge": chosen["charge"],
        "d0": chosen["d0"],
        "dz": chosen["dz"],
        "dr": np.hypot(eta - jets.eta[owner], dphi),
    }


def _flags(kind: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    codes = {
        "is_photon": PHOTON,
        "is_muon": MUON,
        "is_electron": ELECTRON,
        "is_charged_hadron": CHARGED_HADRON,
        "is_neutral_hadron": NEUTRAL_HADRON,
    }
    return {name: kind == code for name, code in codes.items()}
