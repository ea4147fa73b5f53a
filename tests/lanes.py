"""What tests that run over both lanes must know of each."""

from dataclasses import dataclass
from typing import Any

from tests.conftest import small_config


@dataclass(frozen=True)
class LaneCase:
    """A lane, and the names of its parts that play the same role as those of the other."""

    name: str
    samples: tuple[str, str]
    cheap: tuple[str, ...]
    """Views that take little time, nominal first."""
    rows: int
    """Fewest objects that twenty events give."""
    root: str
    """The first stage."""
    root_column: str
    """A number of its checkpoint that the objects have, too."""
    root_file: str
    """Where that lies."""
    kept: str
    """The stage whose states nominal can keep."""
    kept_change: dict[str, Any]
    """A setting that changes it."""
    after: str
    """A view that starts from it."""
    after_changed: dict[str, Any]
    """Another, for evaluation."""
    last: str
    """A view that is cut late."""
    cut: str
    """Where it is cut."""
    change: dict[str, Any]
    """What could be changed there."""
    default: Any
    """What that is by default."""
    redone: frozenset[str]
    """The stages that it runs again."""

    def config(self, **changes: Any) -> dict[str, Any]:
        """Give a small config, with the changes."""
        return small_config(self.name, **changes)

    def only(self, *names: str) -> dict[str, Any]:
        """Give the small config's views of these names."""
        return {name: view for name, view in self.config()["views"].items() if name in names}


JETS = LaneCase(
    name="jets",
    samples=("qcd", "hbb"),
    cheap=("nominal", "shower_seed", "rehadronized", "redetected"),
    rows=26,
    root="hard",
    root_column="scale",
    root_file="particles/float64/c.0.0",
    kept="shower",
    kept_change={"TimeShower:alphaSvalue": 0.12},
    after="rehadronized",
    after_changed={"from": "hadronization", "set": {"StringZ:aLund": 0.9}, "role": "evaluation"},
    last="redetected",
    cut="detector",
    change={"magnetic_field": 2.0},
    default=3.8,
    redone=frozenset({"detector", "jets"}),
)
LARTPC = LaneCase(
    name="lartpc",
    samples=("proton", "electron"),
    cheap=("nominal", "redeposited", "thrown", "noise"),
    rows=20,
    root="gun",
    root_column="kinetic_energy",
    root_file="events/float64/c.0.0",
    kept="deposits",
    kept_change={"step": 0.2},
    after="thrown",
    after_changed={"from": "charge", "set": {"field": 0.55}, "role": "evaluation"},
    last="noise",
    cut="readout",
    change={"threshold": 6000.0},
    default=7000.0,
    redone=frozenset({"readout", "voxels"}),
)
CASES = (JETS, LARTPC)
