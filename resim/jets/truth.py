"""What the simulation knows about an object: the hard parton that it is, and the heavy hadrons in its jet."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resim.errors import UserError
from resim.jets.geometry import wrapped
from resim.jets.states import F8, I4, I8, HardEvents
from resim.ragged import offsets_of, row_of
from resim.store.tables import SLOTS

if TYPE_CHECKING:
    from resim.jets.clustering import JetSettings

JETTYPES = {1: 1, 2: 1, 3: 1, 4: 2, 5: 3, 25: 4, 21: 5, 6: 9, 23: 10, 24: 11}
"""|PDG id| -> code: 1 light quark, 2 c, 3 b, 4 H, 10 Z, 11 W as published (RS3L, arXiv:2403.07066); 5 is any gluon,
and 9 the top, which the published set lacks. The published 5..8 tell what a gluon splits into: that is a matter of the
shower and so of the view (`splitting_class`), while an object's label is the same in all views."""

_JETTYPE_OF = np.array([JETTYPES.get(i, 0) for i in range(max(JETTYPES) + 1)], dtype=np.int8)

OBJECT_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("object", "", "id, 8 x event + slot; the slot counts the event's objects in the order of its hard process"),
    ("event", "", "event id"),
    ("weight", "", "relative weight of the hard process"),
    ("jettype", "", "hard parton: 1 u d s, 2 c, 3 b, 4 H, 5 gluon, 9 top, 10 Z, 11 W"),
    ("parton_id", "", "PDG id of the hard parton or resonance"),
    ("parton_pt", "GeV", "its transverse momentum"),
    ("parton_eta", "", "its pseudorapidity"),
    ("parton_phi", "rad", "its azimuth"),
    ("parton_e", "GeV", "its energy"),
    ("decay", "", "largest |PDG id| among what a H, W or Z decays to: 5 b, 4 c, 1 to 3 light, 21 g; 0 for all else"),
    ("process", "", "Pythia's code of the hard process"),
    ("scale", "GeV", "factorisation scale of the hard process"),
)

_INCOMING, _RESONANCE, _OUTGOING = -21, -22, 23  # Pythia's status codes
_LEPTONS = (11, 12, 13, 14, 15, 16)
_GLUON = 21
_BOSONS = (23, 24, 25)


def object_table(hard: HardEvents, settings: "JetSettings") -> dict[str, NDArray[Any]]:
    """List the objects: hard partons and hadronically decaying resonances hard and central enough to look for.

    It depends on the hard process alone, so all views of an event share it. Columns as in `OBJECT_COLUMNS`, one row an
    object, events in their order. The decay products of a resonance are not objects of their own; a resonance counts
    if it ends in quarks or gluons and no leptons.

    Raises
    ------
    UserError
        If an event has more than eight objects.
    """
    chosen = object_rows(hard, settings)
    partons = {name: column[chosen] for name, column in hard.partons.columns.items()}
    event = row_of(hard.partons.offsets)[chosen]
    pt = np.hypot(partons["px"], partons["py"])
    slot = np.arange(len(chosen)) - offsets_of(np.bincount(event, minlength=len(hard.event)))[event]
    if (slot >= SLOTS).any():
        raise UserError(f"event {hard.event[event[slot >= SLOTS][0]]}: more than {SLOTS} objects; raise object_pt_min")
    return {
        "object": SLOTS * hard.event[event] + slot,
        "event": hard.event[event],
        "weight": hard.weight[event],
        "jettype": _JETTYPE_OF[np.abs(partons["id"])],
        "parton_id": partons["id"],
        "parton_pt": pt,
        "parton_eta": np.arcsinh(partons["pz"] / pt),
        "parton_phi": np.arctan2(partons["py"], partons["px"]),
        "parton_e": partons["e"],
        "decay": _decay(hard)[chosen],
        "process": hard.process[event],
        "scale": hard.scale[event],
    }


def object_rows(hard: HardEvents, settings: "JetSettings") -> I8:
    """Give the places of the objects of `object_table` in the columns of `hard.partons`."""
    partons = hard.partons
    pt = np.hypot(partons["px"], partons["py"])
    eta = np.arcsinh(partons["pz"] / np.where(pt > 0, pt, 1e-9))
    wanted = _from_collision(partons["id"], partons["status"], _mothers(hard)) & np.isin(partons["id"], _signed_ids())
    # a parton along the beam is no object even if every pT is wanted
    wanted &= (pt > 0) & (pt >= settings.object_pt_min) & (np.abs(eta) <= settings.object_eta_max)
    return np.flatnonzero(wanted)


def _decay(hard: HardEvents) -> NDArray[np.int8]:
    """Give the largest |PDG id| among the decay products of each H, W and Z; 0 for all else."""
    kind, mother = np.abs(hard.partons["id"]), _mothers(hard)
    products = np.flatnonzero((mother >= 0) & np.isin(kind[mother], _BOSONS))
    largest = np.zeros(len(kind), dtype=np.int8)
    np.maximum.at(largest, mother[products], kind[products].astype(np.int8))
    return largest


def splitting_class(particle: I4, first: NDArray[np.int8], n_b: I8, n_c: I8) -> NDArray[np.int8]:
    """Tell what a gluon's jet holds, in the published codes: 5 g -> light quarks, 6 cc, 7 bb, 8 gg.

    Two b hadrons in the jet make it 7; two c hadrons make it 6 where there is no b hadron, which would decay to them:
    whatever came first, for most heavy pairs come from later branchings, and what can be told from the jet is that they
    are in it. The others go by the gluon's first branching, 8 for two gluons and 5 for a pair of quarks (a heavy pair
    of which the jet lost a hadron is among these).

    Parameters
    ----------
    particle
        (n,) PDG id of the hard parton; 0 is given for all that are not gluons.
    first
        (n,) its first branching, as in `Hadrons.splitting`; where that is 0 and there are no heavy hadrons, 0 is given.
    n_b, n_c
        (n,) ghost-matched hadrons in the jet.
    """
    code = np.select([n_b >= 2, (n_c >= 2) & (n_b == 0), first == _GLUON, first > 0], [7, 6, 8, 5], 0)
    return np.where(particle == _GLUON, code, 0).astype(np.int8)


def _signed_ids() -> list[int]:
    return [sign * i for i in JETTYPES for sign in (-1, 1)]


def _mothers(hard: HardEvents) -> I8:
    """Give the first mother of each hard particle as a place in the flat columns, -1 without one."""
    first = hard.partons["mother1"].astype(np.int64)
    return np.where(first >= 0, first + hard.partons.offsets[row_of(hard.partons.offsets)], -1)


def _from_collision(particle: I4, status: I4, mother: I8) -> NDArray[np.bool_]:
    """Mark what the collision itself makes: partons with no resonance above, resonances that decay to hadrons."""
    root = np.arange(len(particle))
    while True:
        above = mother[root]
        up = (above >= 0) & (status[above] == _RESONANCE)
        if not up.any():
            break
        root = np.where(up, above, root)
    final = status == _OUTGOING
    kind = np.abs(particle)
    quarks = np.bincount(root[final & ((kind <= 6) | (kind == _GLUON))], minlength=len(root))
    leptons = np.bincount(root[final & np.isin(kind, _LEPTONS)], minlength=len(root))
    return (root == np.arange(len(root))) & (final | (status == _RESONANCE)) & (quarks > 0) & (leptons == 0)


def match(row: I8, eta: F8, phi: F8, jet_row: I8, jet_eta: F8, jet_phi: F8, max_distance: float) -> tuple[I8, F8]:
    """Match partons to jets of the same event, the nearest pair first; a jet serves one parton only.

    Parameters
    ----------
    row, jet_row
        The event each belongs to, as any integer; `jet_row` never falls.
    max_distance
        A pair must be nearer than this in dR = sqrt(deta^2 + dphi^2).

    Returns
    -------
    jet, distance
        Index of the jet of each parton (-1: none) and its dR (NaN: none).
    """
    low, high = np.searchsorted(jet_row, row, side="left"), np.searchsorted(jet_row, row, side="right")
    offsets = offsets_of(high - low)
    parton = row_of(offsets)
    jet = np.arange(offsets[-1]) - offsets[parton] + low[parton]
    dphi = wrapped(phi[parton] - jet_phi[jet])
    distance = np.hypot(eta[parton] - jet_eta[jet], dphi)
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] < max_distance]
    matched, nearest = np.full(len(row), -1), np.full(len(row), np.nan)
    while len(order):
        # pairs come nearest first: one that is the first of its parton and of its jet is final
        _, of_parton = np.unique(parton[order], return_index=True)
        _, of_jet = np.unique(jet[order], return_index=True)
        final = order[np.intersect1d(of_parton, of_jet)]
        matched[parton[final]], nearest[parton[final]] = jet[final], distance[final]
        order = order[~np.isin(parton[order], parton[final]) & ~np.isin(jet[order], jet[final])]
    return matched, nearest
