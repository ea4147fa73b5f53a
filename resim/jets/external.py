"""Engines that run by themselves as a stage of the jets lane: what goes out to them, and what came back.

What comes back is matched by event to what went out; the hard processes stay our own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.chain import Settings
from resim.config import Engine
from resim.errors import UserError
from resim.interop.delphes import no_candidates, read_delphes
from resim.interop.exchange import whole_file
from resim.interop.hepmc import read_hepmc, write_hepmc
from resim.jets.states import I8, Candidates, Hadrons, HardEvents
from resim.keys import Stream
from resim.ragged import row_of

REPLACED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("lhe", "hepmc3"): ("shower", "hadronization", "decays"),
    ("none", "hepmc3"): ("shower", "hadronization", "decays"),
    ("hepmc3", "delphes_root"): ("detector",),
}
"""What an engine takes and gives -> the stages that it stands in for."""
_NAMED = 10  # events named in a message
_LHE, _HEPMC = (".lhe", ".lhe.gz"), (".hepmc3", ".hepmc3.gz", ".hepmc3.zst")


@dataclass(frozen=True)
class Incoming:
    """What an engine gave for the events of a part."""

    path: Path
    state: Hadrons | Candidates
    missing: I8
    """Events that went out, if all came so far, and did not come back: more than the engine may lose."""

    def take(self, events: I8) -> Hadrons | Candidates:
        """Give events; those that the engine may lose are left out.

        Raises
        ------
        UserError
            If one of them is missing that should not be.
        """
        gone = np.intersect1d(events, self.missing)
        if len(gone):
            raise UserError(f"{self.path}: {_listed(gone)} went out and did not come back; see the engine's log")
        return self.state.take(np.isin(self.state.event, events))


class External:
    """The stage that an engine stands in for: hands on what it gave."""

    def __init__(self) -> None:
        self._received: dict[Stream, Incoming] = {}

    def receive(self, stream: Stream, path: Path, engine: Engine, expected: I8) -> None:
        """Read what an engine gave for a part; see `read_incoming`."""
        self._received[stream] = read_incoming(path, engine, expected)

    def run(self, state: HardEvents | Hadrons, settings: Settings, stream: Stream) -> Hadrons | Candidates:
        """Give what became of a block of events."""
        found = self._received[stream].take(state.event)
        ours = state.take(np.isin(state.event, found.event))
        if isinstance(found, Candidates):
            assert isinstance(ours, Hadrons)  # by what the engine takes
            return replace(found, hadrons=ours)
        assert isinstance(ours, HardEvents)
        # what a gluon first splits into is not told by a file
        return replace(found, hard=ours, splitting=np.zeros(int(ours.partons.offsets[-1]), dtype=np.int8))

    def hard(self, stream: Stream, events: I8) -> HardEvents:
        """Give the hard processes of whole events that an engine made."""
        found = self._received[stream].take(events)
        assert isinstance(found, Hadrons)
        return found.hard


def write_outgoing(state: HardEvents | Hadrons, path: Path, energy: float) -> None:
    """Write what goes out to an engine: Les Houches events, or stable particles as HepMC3; event numbers kept.

    Raises
    ------
    UserError
        If the file's name is not of its format, or it cannot be written.
    """
    kind, suffixes = ("Les Houches", _LHE) if isinstance(state, HardEvents) else ("HepMC3", _HEPMC)
    if not path.name.endswith(suffixes):
        raise UserError(f"--out {path}: would be {kind}; give a name that ends in {', '.join(suffixes)}")
    with whole_file(path) as temporary:
        if isinstance(state, HardEvents):
            from resim.interop.lhe import write_lhe  # its library takes half a second to import

            write_lhe(state, temporary, energy)
        else:
            write_hepmc(state, temporary, energy)


def read_incoming(path: Path, engine: Engine, expected: I8) -> Incoming:
    """Read what an engine gave for a part.

    Parameters
    ----------
    expected
        The events that went out, rising; of an engine behind other stages those that went in there.

    Raises
    ------
    UserError
        If the file is not whole, holds numbers that are not finite or events that did not go out, or lacks some.
    """
    if not len(expected):  # nothing went out, and what an engine makes of nothing is its own affair
        return Incoming(path, _nothing(engine.output), expected)
    state = _read(path, engine.output)
    if engine.numbers == "order":
        state = _numbered(state, expected, path)
    extra = np.setdiff1d(state.event, expected)
    if len(extra):
        raise UserError(f"{path}: {_listed(extra)} came back and never went out (events {_range(expected)} did)")
    lacking = np.setdiff1d(expected, state.event)
    missing = lacking if len(lacking) > engine.may_lose * len(expected) else lacking[:0]
    found = Incoming(path, state, missing)
    if engine.input != "hepmc3":  # else some may have been lost before they went out
        found.take(expected)
    return found


def _nothing(output: str) -> Hadrons | Candidates:
    none = no_candidates()
    return none.hadrons if output == "hepmc3" else none


def _read(path: Path, output: str) -> Hadrons | Candidates:
    pieces: list[Any] = list(read_hepmc(path) if output == "hepmc3" else read_delphes(path))
    if not pieces:
        raise UserError(f"{path}: holds no event; see the engine's log")
    state: Hadrons | Candidates = type(pieces[0]).join(pieces)
    bad = _not_finite(state)
    if bad.any():
        what = _listed(state.event[bad])
        raise UserError(f"{path}: {what} holds a number that is not finite; mend the engine or leave the event out")
    return state


def _not_finite(state: Hadrons | Candidates) -> NDArray[np.bool_]:
    """Tell which events hold a number that is not finite; scales and couplings may be unknown."""
    if isinstance(state, Candidates):
        tables, bad = [state.candidates], np.zeros(len(state.event), dtype=bool)
    else:
        tables, bad = [state.particles, state.heavy, state.hard.partons], ~np.isfinite(state.hard.weight)
    for rows in tables:
        good = np.all([np.isfinite(column) for column in rows.columns.values()], axis=0)
        bad[row_of(rows.offsets)[~good]] = True
    return bad


def _numbered(state: Hadrons | Candidates, expected: I8, path: Path) -> Hadrons | Candidates:
    """Give events that an engine numbered itself the numbers that they went out with."""
    if len(state.event) != len(expected):
        found = f"has {len(state.event)} events, and {len(expected)} went out"
        raise UserError(f"{path}: {found}; the engine numbers them itself (numbers: order), so none may be missing")
    if isinstance(state, Candidates):
        return replace(state, hadrons=replace(state.hadrons, event=expected))
    return replace(state, event=expected, hard=replace(state.hard, event=expected))


def _listed(events: NDArray[np.int64]) -> str:
    """Name events, the first ten of them."""
    more = f" and {len(events) - _NAMED} more" if len(events) > _NAMED else ""
    return f"event{'s' if len(events) > 1 else ''} {', '.join(map(str, events[:_NAMED].tolist()))}{more}"


def _range(events: I8) -> str:
    return f"{events[0]} to {events[-1]}" if len(events) else "none"
