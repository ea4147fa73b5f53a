"""Hard processes handed back to Pythia through its Les Houches interface (`Beams:frameType = 5`).

Pythia asks `setEvent` for each event inside its batch loop, which is the moment to seed its generator for that event.
"""

from typing import Any

import numpy as np
import pythia8mc as pythia8

from resim.jets.states import HardEvents
from resim.keys import Stream

# Where it sets vertices of partons, Pythia turns the event by a random angle, away from the hard process that we know.
REPLAY_SETTINGS = {"Beams:frameType": 5, "PartonVertex:randomPlane": False}
PROTON = 2212
_UNIT_WEIGHTS = 3  # Les Houches strategy: events come unweighted; our weights stay with the hard process
_PROCESS = 9999  # Les Houches process number; Pythia needs one and only one here
_BATCH = 25  # events a call: their records fit in the cache, a hundred do not (3 % of a whole event)
_KEPT_BATCH = 100  # of what starts from kept records, which are shorter: there each call counts for more
_INCOMING = -21  # Pythia's status code


class Replay(pythia8.LHAup):
    """Hands hard processes to Pythia, one at a call, and seeds Pythia's generator for each."""

    def __init__(self, rndm: Any, energy: float) -> None:
        super().__init__()
        self._rndm = rndm
        self._beam_energy = energy / 2
        self.position = -1

    def load(self, hard: HardEvents, stream: Stream | None) -> None:
        """Set the events to replay; their shower draws from `stream`, without which there must be no shower."""
        self.hard = hard
        self._seeds = [stream.pythia_seed(event) for event in hard.event] if stream else None
        self._particles = _les_houches(hard)
        self.position = -1

    @property
    def has_shower(self) -> bool:
        """Tell whether the loaded events are to be showered."""
        return self._seeds is not None

    def setInit(self) -> bool:
        """Tell Pythia the beams (its callback)."""
        self.setBeamA(PROTON, self._beam_energy, 0, 0)
        self.setBeamB(PROTON, self._beam_energy, 0, 0)
        self.setStrategy(_UNIT_WEIGHTS)
        self.addProcess(_PROCESS, 1.0, 0.0, 1.0)
        return True

    def setEvent(self, process: int = 0) -> bool:
        """Give Pythia the next event (its callback)."""
        self.position += 1
        if self.position >= len(self.hard.event):
            return False
        i = self.position
        if self._seeds:
            self._rndm.init(self._seeds[i])
        self.setProcess(_PROCESS, 1.0, self.hard.scale[i], self.hard.alpha_qed[i], self.hard.alpha_qcd[i])
        start, stop = self.hard.partons.offsets[i : i + 2]
        for particle in self._particles[start:stop]:
            self.addParticle(*particle)
        return True


def _les_houches(hard: HardEvents) -> list[tuple[Any, ...]]:
    """Turn the rows of the hard process into arguments of `addParticle` (mothers count from 1, 0 is none)."""
    p = hard.partons
    status = np.where(p["status"] == _INCOMING, -1, np.where(p["status"] < 0, 2, 1))
    mothers = [np.maximum(p[name] + 1, 0) for name in ("mother1", "mother2")]
    columns = [
        p["id"],
        status,
        *mothers,
        p["col"],
        p["acol"],
        *(p[n] for n in ("px", "py", "pz", "e", "m", "tau", "spin")),
    ]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def next_batches(pythia: Any, source: Replay) -> list[Any]:
    """Run Pythia over the loaded events: awkward arrays of consecutive events, None where Pythia gave up.

    Raises
    ------
    RuntimeError
        If Pythia asked for more or fewer events than it gave back: rows and event ids would not match.
    """
    total = len(source.hard.event)
    size = _BATCH if source.has_shower else _KEPT_BATCH
    batches = [pythia.nextBatch(min(size, total - done), "none") for done in range(0, total, size)]
    if source.position != total - 1:
        asked = f"Pythia asked for {source.position + 1} hard processes for {total} events"
        raise RuntimeError(f"{asked}: ids would be mixed up")
    return batches
