"""What of a training is a lane's own: what its objects are made of, and which networks and augmentations know that."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resim.errors import UserError
from resim.grid import edge
from training.augment import jetclr, voxels
from training.config import AugmentConfig, EncoderConfig
from training.data import jets as of_jets
from training.data import voxels as of_voxels
from training.keys import Draws

FloatArray = NDArray[np.float32]


class Augment(Protocol):
    """An augmentation of a lane."""

    def __call__(self, x_BPF: FloatArray, draws: Draws, config: AugmentConfig) -> FloatArray:
        """Give constituents (B, P, F), augmented by the draws of each object."""


@dataclass(frozen=True)
class Lane:
    """What differs from lane to lane. Axes: B objects, P constituents, F features, I inputs."""

    name: str
    objects: str
    """What they are called."""
    features: tuple[str, ...]
    """Stored columns of constituents that are read, in the order of F."""
    present: int
    """The feature that is positive where there is a constituent; those come first."""
    strongest: int | None
    """The feature by which constituents are chosen where there are too many; None: they are stored by falling
    strength."""
    inputs: tuple[str, ...]
    """What networks are given of a constituent."""
    scaled: int
    """So many of the first inputs are standardised."""
    derive: Callable[[FloatArray], FloatArray]
    """(B, P, F) -> (B, P, I), not yet standardised."""
    augment: "Augment"
    """(B, P, F) -> the same shape."""
    encoders: tuple[str, ...]
    """Kinds of encoders that know such constituents."""
    place: tuple[int, ...]
    """Features that say where a constituent is, on a grid; none where there is no grid."""
    matched: str | None
    """Column of nominal whose spectra should not tell classes apart."""
    foreign: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Section of `training` -> its fields that are read in other lanes alone."""

    def check(self, config: EncoderConfig) -> None:
        """Refuse an encoder of another lane."""
        if config.kind not in self.encoders:
            why = f"{config.kind!r} does not know the {self.objects} of the lane {self.name}"
            raise UserError(f"training.encoder.kind: {why}; allowed: {', '.join(self.encoders)}")

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out of the `training` section, as plain values, what is read in other lanes alone."""
        left_out = {section: fields for section, fields in self.foreign.items() if section in settings}
        return dict(settings) | {
            section: {name: value for name, value in settings[section].items() if name not in fields}
            for section, fields in left_out.items()
        }


JETS = Lane(
    name="jets",
    objects="jets",
    features=of_jets.FEATURES,
    present=of_jets.PT,
    strongest=None,
    inputs=of_jets.INPUTS,
    scaled=of_jets.SCALED,
    derive=of_jets.inputs,
    augment=jetclr.augment,
    encoders=("plain", "part", "rs3l"),
    place=(),
    matched="pt",
    foreign={"augment": ("voxels",), "encoder": ("grid", "kernel", "patch")},
)
LARTPC = Lane(
    name="lartpc",
    objects="images",
    features=of_voxels.FEATURES,
    present=of_voxels.ADC,
    strongest=of_voxels.CHARGE,
    inputs=of_voxels.INPUTS,
    scaled=of_voxels.SCALED,
    derive=of_voxels.inputs,
    augment=voxels.augment,
    encoders=("convnext", "patches", "plain"),
    place=tuple(of_voxels.FEATURES.index(axis) for axis in "xyz"),
    matched=None,
    foreign={"augment": ("rotate", "translate", "smear", "splits"), "encoder": ("outputs",)},
)
LANES = {lane.name: lane for lane in (JETS, LARTPC)}


def common_lane(named: Mapping[str, str | None]) -> Lane:
    """Give the lane of data sets, each with the name of its own.

    Raises
    ------
    UserError
        If they are of several, or of one that nothing here knows.
    """
    first, expected = next(iter(named.items()))
    for sample, name in named.items():
        if name not in LANES:
            raise UserError(f"sample {sample!r} is of the lane {name!r}; allowed: {', '.join(LANES)}")
        if name != expected:
            why = f"samples {first!r} and {sample!r} are of the lanes {expected} and {name}"
            raise UserError(f"{why}; train on those of one lane")
    return LANES[str(expected)]


def lane_with(inputs: list[str]) -> Lane | None:
    """Find the lane whose networks take these inputs."""
    return next((lane for lane in LANES.values() if list(lane.inputs) == inputs), None)


@dataclass(frozen=True)
class Normalisation:
    """Mean and width of each input over the constituents of nominal train objects; 0 and 1 where not scaled."""

    lane: Lane
    mean: FloatArray
    width: FloatArray
    edge: float = math.nan
    """Of a voxel, cm; NaN where they stand on no common grid. Not in checkpoints: networks that need it keep it."""

    @classmethod
    def measured(cls, lane: Lane, x_BPF: FloatArray) -> "Normalisation":
        """Measure from stored features."""
        mean, width = np.zeros(len(lane.inputs)), np.ones(len(lane.inputs))
        present = x_BPF[:, :, lane.present] > 0
        rows = lane.derive(x_BPF)[present][:, : lane.scaled].astype(np.float64)
        if len(rows):
            mean[: lane.scaled], deviation = rows.mean(axis=0), rows.std(axis=0)
            width[: lane.scaled] = np.where(deviation > 0, deviation, 1)
        cell = edge(x_BPF[present][:, lane.place]) if lane.place else math.nan
        return cls(lane, mean.astype(np.float32), width.astype(np.float32), cell)

    def __call__(self, x_BPF: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Turn stored features into standardised inputs and the mask of present constituents.

        Columns that are padding in the whole batch are cut off: they would cost time and change nothing.
        """
        present = x_BPF[:, :, self.lane.present] > 0
        longest = max(1, int(present.sum(axis=1).max(initial=0)))
        x_BPF, present = x_BPF[:, :longest], present[:, :longest]
        values = (self.lane.derive(x_BPF) - self.mean) / self.width
        values[~present] = 0
        return values, np.ascontiguousarray(present)
