"""Parton shower (ISR, FSR, multiple interactions) from a replayed hard process, with Pythia's hadronization behind it.

A user hook stands between parton level and hadronization: there the hadronization is seeded, and the parton level
copied if a view will hadronize it again.
"""

from functools import lru_cache
from typing import Any

import pythia8mc as pythia8

from resim.chain import Settings, Step
from resim.jets.hadronization import read_hadrons
from resim.jets.pythia import initialise, make
from resim.jets.replay import REPLAY_SETTINGS, Replay, next_batches
from resim.jets.states import Hadrons, HardEvents, PartonLevel
from resim.keys import Stream


class Between(pythia8.UserHooks):
    """Stands between parton level and hadronization: seeds the latter, keeps the former."""

    def __init__(self, pythia: Any, source: Replay) -> None:
        super().__init__()
        self._pythia, self._source = pythia, source

    def load(self, stream: Stream, keep: bool) -> None:
        """Set the stream of the hadronization, and whether to keep parton levels."""
        self._stream, self._keep = stream, keep
        self.records: dict[int, tuple[Any, int]] = {}
        self._attempts: dict[int, int] = {}

    def canVetoPartonLevel(self) -> bool:
        """Ask Pythia to call `doVetoPartonLevel` (its callback)."""
        return True

    def doVetoPartonLevel(self, event: Any) -> bool:
        """Seed and copy, never veto (its callback). Where it cannot hadronize, Pythia comes again with new partons."""
        i = self._source.position
        attempt = self._attempts.get(i, 0)
        self._attempts[i] = attempt + 1
        self._pythia.rndm.init(self._stream.pythia_seed(self._source.hard.event[i], attempt))
        if self._keep:
            self.records[i] = (pythia8.Event(self._pythia.event), attempt)
        return False


@lru_cache(maxsize=32)
def _instance(settings: Settings, energy: float) -> tuple[Any, Replay, Between]:
    pythia = make([*settings, *REPLAY_SETTINGS.items()])
    source = Replay(pythia.rndm, energy)
    between = Between(pythia, source)
    if not (pythia.setLHAupPtr(source) and pythia.setUserHooksPtr(between)):
        raise RuntimeError("Pythia did not take the replay or the hook")
    return initialise(pythia, settings), source, between


def replay(
    hard: HardEvents, settings: Settings, energy: float, streams: tuple[Stream, Stream], keep: bool
) -> tuple[list[Any], Any, Between]:
    """Shower and hadronize hard processes.

    Parameters
    ----------
    energy
        Of the collision, GeV.
    streams
        Of the shower and of the hadronization.
    keep
        Whether to keep the parton levels.

    Returns
    -------
    batches
        Pythia's awkward arrays of consecutive events, None where Pythia gave up.
    pythia, between
        The instance that made it, and the hook with the parton levels.
    """
    pythia, source, between = _instance(settings, energy)
    source.load(hard, streams[0])
    between.load(streams[1], keep)
    return next_batches(pythia, source), pythia, between


class Shower:
    """The stage, with hadronization fused behind it."""

    def __init__(self, energy: float, inherited: Settings) -> None:
        self._energy = energy
        self._inherited = inherited

    def run_fused(
        self, state: HardEvents, first: Step, second: Step, streams: tuple[Stream, Stream], keep: bool
    ) -> tuple[PartonLevel | None, Hadrons]:
        """Shower and hadronize hard processes.

        Returns
        -------
        PartonLevel or None
            Events between the two, if `keep`.
        Hadrons
            Stable particles; events that Pythia gave up on are missing from both.
        """
        upstream = (*self._inherited, *first.settings)
        batches, pythia, between = replay(state, (*upstream, *second.settings), self._energy, streams, keep)
        made, hadrons = read_hadrons(batches, state, pythia)
        if not keep:
            return None, hadrons
        records, attempts = zip(*(between.records[i] for i in made), strict=True) if len(made) else ((), ())
        return PartonLevel(hadrons.event, hadrons.hard, list(records), list(attempts), upstream, pythia), hadrons
