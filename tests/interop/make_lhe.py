"""Makes tests/interop/data/*.lhe.gz with Pythia's own writer: `python -m tests.interop.make_lhe`."""

import gzip
from pathlib import Path

from resim.jets.pythia import make
from resim.jets.replay import Replay
from tests.jets.events import ENERGY, hard_block

DATA = Path(__file__).parent / "data"


def write_with_pythia(sample: str, path: Path, size: int = 20) -> None:
    """Write hard processes through `LHAup::eventLHEF`."""
    writer = Replay(make([]).rndm, ENERGY)
    writer.load(hard_block(sample, size=size), None)
    writer.openLHEF(str(path))
    writer.setInit()
    writer.initLHEF()
    for _ in range(size):
        writer.setEvent()
        writer.eventLHEF()
    writer.closeLHEF()


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for name in ("qcd", "hbb"):
        plain = DATA / f"{name}.lhe"
        write_with_pythia(name, plain)
        (DATA / f"{name}.lhe.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
