"""What is stored of a jet: object-level columns, and fifteen features of each constituent in the published order."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resim.jets import substructure
from resim.jets.detector import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON
from resim.jets.states import F8, I8, Candidates, Objects, Ragged
from resim.ragged import row_of, select_elements

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
    ("n_c_hadrons", "", "weakly decaying c hadrons, ghost-matched"),
)


def objects(object_id: I8, distance: F8, jets: "Jets", candidates: Candidates, settings: "JetSettings") -> Objects:
    """Describe matched jets, one row each in the order given.

    Parameters
    ----------
    object_id
        (n,) ids of the objects, rising.
    distance
        (n,) dR to the hard parton.
    jets
        The n jets; their members are places in `candidates`.
    """
    columns = np.empty((len(object_id), len(JET_COLUMNS)), dtype=np.float32)
    values = _shape(jets, candidates.candidates, settings) | {
        "pt": jets.pt,
        "eta": jets.eta,
        "phi": jets.phi,
        "e": jets.e,
        "mass": np.sqrt(np.maximum((jets.e - jets.pz) * (jets.e + jets.pz) - jets.pt**2, 0)),
        "n_constituents": np.diff(jets.offsets),
        "dr_parton": distance,
        "n_b_hadrons": jets.n_b_hadrons,
        "n_c_hadrons": jets.n_c_hadrons,
    }
    for i, (name, _, _) in enumerate(JET_COLUMNS):
        columns[:, i] = values[name]
    return Objects(object_id, columns, constituents(jets, candidates.candidates, settings.max_constituents))


def _shape(jets: "Jets", candidates: Ragged, settings: "JetSettings") -> dict[str, NDArray[Any]]:
    px, py, pz, e = (candidates[name][jets.members] for name in ("px", "py", "pz", "e"))
    momenta = (px, py, pz, e)
    z_cut, beta = settings.softdrop_z_cut, settings.softdrop_beta
    return {
        "softdrop_mass": substructure.softdrop_mass(momenta, jets.offsets, z_cut, beta, settings.radius),
        "n2": substructure.n2(momenta, jets.offsets, settings.n2_beta),
    }


def constituents(jets: "Jets", candidates: Ragged, most: int) -> Ragged:
    """Give the `FEATURES` of the `most` hardest constituents of each jet, in falling pT, (m, 15) float32."""
    pt = np.hypot(candidates["px"], candidates["py"])[jets.members]
    owner = row_of(jets.offsets)
    order = np.lexsort((-pt, owner))
    keep = np.arange(len(order)) - jets.offsets[owner] < most  # sorting leaves every jet its own range
    place, owner, pt = jets.members[order][keep], owner[keep], pt[order][keep]
    chosen = {name: column[place] for name, column in candidates.columns.items()}
    table = np.empty((len(place), len(FEATURES)), dtype=np.float32)
    values = _kinematics(chosen, pt, jets, owner) | _flags(chosen["kind"])
    for i, (name, _, _) in enumerate(FEATURES):
        table[:, i] = values[name]
    return Ragged(select_elements(jets.offsets, keep), {"features": table})


def _kinematics(chosen: dict[str, NDArray[Any]], pt: F8, jets: "Jets", owner: I8) -> dict[str, NDArray[Any]]:
    eta, phi = np.arcsinh(chosen["pz"] / pt), np.arctan2(chosen["py"], chosen["px"])
    dphi = (phi - jets.phi[owner] + np.pi) % (2 * np.pi) - np.pi
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
