"""Pythia from a replayed hard process to stable particles, entered at any of its cuts.

Shower (ISR, FSR, multiple interactions), hadronization and decays run in one call. A user hook stands at the two
boundaries between them: it seeds what follows, keeps a copy of the event record if some view will go on from there, or
puts a kept record in place. To enter behind the shower, an instance without any emission runs over the same hard
processes, so that the work is done in Pythia's batch loop. With the key of the first run, a later one gives the same
event to the bit.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc as pythia8

from resim.chain import Settings, Step, joined
from resim.jets.pythia import initialise, make
from resim.jets.records import read_hadrons
from resim.jets.replay import REPLAY_SETTINGS, Replay, next_batches
from resim.jets.states import F8, Hadrons, HardEvents, Origin, Records
from resim.keys import Stream

STAGES = ("shower", "hadronization", "decays")
NO_SHOWER = {
    **{f"PartonLevel:{part}": False for part in ("MPI", "ISR", "FSR", "Remnants")},
    "Check:event": False,
    "UncertaintyBands:doVariations": False,
}
_FIRST_COLOUR_TAG = 100  # Pythia's own start


class Cuts(pythia8.UserHooks):
    """Stands between the stages that Pythia runs in one call.

    An attempt counts how often Pythia came past for the same event: where it cannot hadronize or decay, it comes again
    with new partons.
    """

    def __init__(self, pythia: Any, source: Replay) -> None:
        super().__init__()
        self._pythia, self._source = pythia, source

    def load(self, entry: int, kept: Records | None, streams: Sequence[Stream], keep: Sequence[bool]) -> None:
        """Set where the events enter (a place in `STAGES`), with what, the streams from there on, and what to keep."""
        self._entry, self._kept = entry, kept
        self._streams = dict(zip(range(entry, len(STAGES)), streams, strict=False))  # none where nothing is drawn
        self._keep = dict(zip(range(entry, len(STAGES)), keep, strict=False))
        self._attempts = dict(enumerate(kept.attempts)) if kept else {}
        self.records: dict[int, dict[int, tuple[Any, int]]] = {stage: {} for stage in range(len(STAGES))}

    def canVetoPartonLevel(self) -> bool:
        """Ask Pythia to call `doVetoPartonLevel` (its callback)."""
        return True

    def doVetoPartonLevel(self, event: Any) -> bool:
        """Stand between shower and hadronization, never veto (its callback)."""
        self._pass(1)
        return False

    def canVetoAfterHadronization(self) -> bool:
        """Ask Pythia to call `doVetoAfterHadronization` (its callback)."""
        return True

    def doVetoAfterHadronization(self, event: Any) -> bool:
        """Stand between hadronization and decays, never veto (its callback)."""
        self._pass(2)
        self._attempts[self._source.position] = self._attempts.get(self._source.position, 0) + 1
        return False

    def _pass(self, following: int) -> None:
        """Stand before a stage: put a kept record in place, keep a copy, seed the stage."""
        i, pythia = self._source.position, self._pythia
        attempt = self._attempts.get(i, 0)
        # what enters before decays is put in place at both boundaries: at the first, so that nothing is hadronized; at
        # the second, because Pythia has drawn new lifetimes by then
        if self._kept and following <= self._entry:
            self._put(self._kept.records[i])
        if self._keep.get(following - 1):
            self.records[following - 1][i] = (pythia8.Event(pythia.event), attempt)
        if following in self._streams:
            pythia.rndm.init(self._streams[following].pythia_seed(self._source.hard.event[i], attempt))

    def _put(self, record: Any) -> None:
        """Make a copy of a record the instance's event.

        A copied event points to the particle data, and through it to the random generator, of the instance that made
        it: unless it is bound to this one, decays draw from the other's generator.
        """
        pythia = self._pythia
        pythia.event = record
        pythia.event.init("(kept)", pythia.particleData, _FIRST_COLOUR_TAG)
        pythia.event.initColTag(record.lastColTag())
        pythia.event.restorePtrs()


@lru_cache(maxsize=64)
def _instance(settings: Settings, energy: float) -> tuple[Any, Replay, Cuts]:
    pythia = make([*settings, *REPLAY_SETTINGS.items()])
    source = Replay(pythia.rndm, energy)
    cuts = Cuts(pythia, source)
    if not (pythia.setLHAupPtr(source) and pythia.setUserHooksPtr(cuts)):
        raise RuntimeError("Pythia did not take the replay or the hook")
    return initialise(pythia, settings), source, cuts


class Pythia:
    """The stages from shower to decays."""

    def __init__(self, energy: float, inherited: Settings) -> None:
        self._energy, self._inherited = energy, inherited

    def run(self, state: Records, settings: Settings, stream: Stream) -> Hadrons:
        """Decay kept hadrons again; events that Pythia gives up on are missing."""
        found: Hadrons = self._from_kept(state, [settings], [stream], [False])[-1]
        return found

    def run_fused(
        self, state: HardEvents | Records, steps: Sequence[Step], streams: Sequence[Stream], keep: Sequence[bool]
    ) -> list[Any]:
        """Run consecutive stages up to the decays.

        Parameters
        ----------
        state
            Hard processes, or the records that an earlier run kept.

        Returns
        -------
        list
            `Records` after every stage but the last (None unless `keep`), and the `Hadrons`. Events that Pythia gave
            up on are missing from all of them.
        """
        settings = [step.settings for step in steps]
        if isinstance(state, Records):
            return self._from_kept(state, settings, streams, keep)
        pythia, source, cuts = _instance((*self._inherited, *_flat(settings)), self._energy)
        source.load(state, streams[0])
        cuts.load(0, None, streams, keep)
        return _collect(pythia, source, cuts, self._inherited, settings, keep)

    def _from_kept(
        self, state: Records, settings: Sequence[Settings], streams: Sequence[Stream], keep: Sequence[bool]
    ) -> list[Any]:
        """Go on from records, apart for each instance that they come from: its settings may act downstream, too."""
        pieces = []
        for number, origin in enumerate(state.origins):
            kept = state.take(state.origin == number)
            own = (*origin.settings, *_flat(settings), *NO_SHOWER.items())
            pythia, source, cuts = _instance(own, self._energy)
            source.load(kept.hard, None)  # what is drawn before the hook is thrown away with the empty parton level
            cuts.load(len(STAGES) - len(streams), kept, streams, keep)
            pieces.append(_collect(pythia, source, cuts, origin.settings, settings, keep, kept))
        return [joined(states) for states in zip(*pieces, strict=True)]


def replay(hard: HardEvents, settings: Settings, energy: float, streams: Sequence[Stream]) -> list[ak.Array]:
    """Run hard processes from shower to decays (a stream each), and give Pythia's batches as they are."""
    pythia, source, cuts = _instance(settings, energy)
    source.load(hard, streams[0])
    cuts.load(0, None, streams, [False] * len(streams))
    return next_batches(pythia, source)


def _flat(settings: Sequence[Settings]) -> Settings:
    return tuple(pair for stage in settings for pair in stage)


def _variations(batches: Sequence[ak.Array], pythia: Any) -> dict[str, F8]:
    """Give the weights of the shower's variations over the event's own, by the names that the user gave them.

    `UncertaintyBands:List = {NAME fsr:muRfac=2.0, ...}` (Mrenna and Skands, arXiv:1605.08352). NaN for events that
    Pythia gave up on.
    """
    if not pythia.settings.flag("UncertaintyBands:doVariations"):
        return {}
    names = [entry.split()[0] for entry in pythia.settings.wvec("UncertaintyBands:List")]
    known = list(pythia.infoPython().weightNameVector())
    columns = {name: known.index(name) for name in names if name in known}
    values = [
        ak.to_numpy(ak.fill_none(ak.pad_none(batch["info"]["weights"], len(known), axis=1), np.nan))
        for batch in batches
    ]
    table = np.concatenate(values)
    return {name: table[:, column] / table[:, 0] for name, column in columns.items()}


def _collect(
    pythia: Any,
    source: Replay,
    cuts: Cuts,
    upstream: Settings,
    settings: Sequence[Settings],
    keep: Sequence[bool],
    entered: Records | None = None,
) -> list[Any]:
    """Run Pythia over the loaded events; give what was kept after each stage but the last, and the hadrons.

    What hard gluons split into is told by the shower, once: records that enter behind it bring it along.
    """
    batches = next_batches(pythia, source)
    hard = replace(source.hard, variations=source.hard.variations | _variations(batches, pythia))
    made, hadrons = read_hadrons(batches, hard, pythia)
    if entered is not None:
        hadrons = replace(hadrons, splitting=entered.take(made).splitting)
    states: list[Any] = []
    for i, wanted in enumerate(keep[:-1]):
        found = cuts.records[len(STAGES) - len(keep) + i]
        origin = Origin((*upstream, *_flat(settings[: i + 1])), pythia)
        states.append(_records(hadrons, [found[row] for row in made.tolist()], origin) if wanted else None)
    return [*states, hadrons]


def _records(hadrons: Hadrons, kept: Sequence[tuple[Any, int]], origin: Origin) -> Records:
    """Put records and attempts together that were kept of the events of `hadrons`."""
    records, attempts = [record for record, _ in kept], [attempt for _, attempt in kept]
    nobody = np.zeros(len(kept), dtype=np.int64)
    return Records(hadrons.event, hadrons.hard, records, attempts, (origin,), nobody, hadrons.splitting)
