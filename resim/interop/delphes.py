"""Output of Delphes (ROOT), as the jets lane has what a detector saw."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from resim.errors import UserError
from resim.jets.detector import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON
from resim.jets.states import F8, Candidates, Hadrons
from resim.ragged import Ragged, offsets_of, row_of

_TREE, _EVENT = "Delphes", "Event.Number"
_TRACK = ("PT", "Eta", "Phi", "Mass", "Charge", "PID", "D0", "DZ", "ErrorD0", "ErrorDZ")
_TOWER = ("ET", "Eta", "Phi")
_IMPACT = ("d0", "dz", "d0_error", "dz_error")
_BRANCHES = {"EFlowTrack": _TRACK, "EFlowPhoton": _TOWER, "EFlowNeutralHadron": _TOWER}


def read_delphes(path: Path, hadrons: Iterable[Hadrons] | None = None, batch: int = 1000) -> Iterator[Candidates]:
    """Read the energy-flow candidates of a file in batches; in each event tracks, photons, neutral hadrons.

    Energy flow does not say which leptons are identified: all of them count as such. A card that does not smear impact
    parameters (CMS) leaves their errors 0.

    Parameters
    ----------
    hadrons
        What went into the detector, in batches (`read_hepmc`): the same events. Without it, the candidates come with
        events that have nothing in them, in batches of `batch`.

    Raises
    ------
    UserError
        If the file is not Delphes's, is damaged, lacks a branch, or its events are not those of `hadrons`.
    """
    with _opened(path) as file:
        with _damage_told(path, "its head"):
            tree = _tree(file, path)
        start = 0
        for block in hadrons or _empty(tree, batch, path):
            stop = start + len(block.event)
            with _damage_told(path, f"events {start} to {stop}"):
                candidates = _read(tree, start, stop, block, path)
            yield candidates
            start = stop
        if start != tree.num_entries:
            raise UserError(f"{path}: has {tree.num_entries} events, the generator's file {start}; give matching files")


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a ROOT file that Delphes wrote")
    with _damage_told(path, "not even as a ROOT file"):
        return uproot.open(path)


@contextmanager
def _damage_told(path: Path, what: str) -> Iterator[None]:
    """Say in one line what cannot be read; of a damaged file the library raises what its parts do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"{path}: cannot be read, {what} ({reason}); copy it again, or give a file that Delphes wrote"
        raise UserError(message) from error


def _tree(file: Any, path: Path) -> Any:
    if _TREE not in file:
        raise UserError(f"{path}: has no tree {_TREE!r}, only {sorted(file.keys())}; give a file that Delphes wrote")
    tree = file[_TREE]
    known = set(tree.keys(full_paths=False))
    lacking = [name for name in (_EVENT, *_names()) if name not in known]
    if lacking:
        raise UserError(f"{path}: lacks {lacking[0]!r}; keep the energy-flow branches in the card's TreeWriter")
    return tree


def _names() -> list[str]:
    return [f"{branch}.{leaf}" for branch, leaves in _BRANCHES.items() for leaf in leaves]


def _empty(tree: Any, batch: int, path: Path) -> Iterator[Hadrons]:
    """Yield events without particles, with the ids of the file."""
    for start in range(0, tree.num_entries, batch):
        stop = min(start + batch, tree.num_entries)
        with _damage_told(path, f"events {start} to {stop}"):
            ids = _ids(tree, start, stop)
        yield Hadrons.unknown(ids)


def _ids(tree: Any, start: int, stop: int) -> NDArray[np.int64]:
    return np.asarray(tree[_EVENT].array(entry_start=start, entry_stop=stop)[:, 0], dtype=np.int64)


def no_candidates() -> Candidates:
    """Give no events."""
    rows = Ragged(np.zeros(1, dtype=np.int64), dict.fromkeys(_TOWER, np.empty(0)))
    return Candidates(Hadrons.unknown(np.empty(0, dtype=np.int64)), _towers(rows, PHOTON))


def _read(tree: Any, start: int, stop: int, hadrons: Hadrons, path: Path) -> Candidates:
    """Read the events [start, stop) of the tree."""
    if not np.array_equal(_ids(tree, start, min(stop, tree.num_entries)), hadrons.event):
        raise UserError(f"{path}: events {start} to {stop} have other ids than the generator's; give matching files")
    arrays = tree.arrays(_names(), entry_start=start, entry_stop=stop, library="ak")
    flow = [
        _tracks(_flat(arrays, "EFlowTrack")),
        _towers(_flat(arrays, "EFlowPhoton"), PHOTON),
        _towers(_flat(arrays, "EFlowNeutralHadron"), NEUTRAL_HADRON),
    ]
    return Candidates(hadrons, _gather(flow))


def _flat(arrays: Any, branch: str) -> Ragged:
    """Give the columns of a branch: single precision in the file, double from here on."""
    leaves = {leaf: arrays[f"{branch}.{leaf}"] for leaf in _BRANCHES[branch]}
    offsets = offsets_of(ak.to_numpy(ak.num(leaves["Eta"])))
    flat = {leaf: ak.to_numpy(ak.flatten(rows)) for leaf, rows in leaves.items()}
    return Ragged(offsets, {leaf: c.astype(np.float64) if c.dtype.kind == "f" else c for leaf, c in flat.items()})


def _tracks(rows: Ragged) -> Ragged:
    absolute = np.abs(rows["PID"])
    columns = _momentum(rows["PT"], rows["Eta"], rows["Phi"], rows["Mass"])
    columns |= {name: rows[leaf] for name, leaf in zip(_IMPACT, ("D0", "DZ", "ErrorD0", "ErrorDZ"), strict=True)}
    columns["charge"] = rows["Charge"].astype(np.int8)
    columns["kind"] = np.select([absolute == 11, absolute == 13], [ELECTRON, MUON], CHARGED_HADRON).astype(np.int8)
    columns["identified"] = columns["kind"] != CHARGED_HADRON
    return Ragged(rows.offsets, columns)


def _towers(rows: Ragged, kind: int) -> Ragged:
    zero = np.zeros(len(rows["ET"]))
    columns = _momentum(rows["ET"], rows["Eta"], rows["Phi"], zero) | dict.fromkeys(_IMPACT, zero)
    columns |= {"charge": zero.astype(np.int8), "kind": np.full(len(zero), kind, dtype=np.int8)}
    columns["identified"] = np.zeros(len(zero), dtype=bool)
    return Ragged(rows.offsets, columns)


def _momentum(pt: F8, eta: F8, phi: F8, mass: F8) -> dict[str, NDArray[Any]]:
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return {"px": px, "py": py, "pz": pz, "e": np.sqrt(px**2 + py**2 + pz**2 + mass**2)}


def _gather(flow: list[Ragged]) -> Ragged:
    """Put the candidates of each event together, keeping the order of the lists."""
    row = np.concatenate([row_of(part.offsets) for part in flow])
    order = np.argsort(row, kind="stable")
    columns = {name: np.concatenate([part[name] for part in flow])[order] for name in flow[0].columns}
    return Ragged(offsets_of(np.bincount(row, minlength=len(flow[0]))), columns)
