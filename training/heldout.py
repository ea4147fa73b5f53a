"""Test sets of other events: the test objects of nominal, with held-out samples in place of some of the samples.

Held-out data is opened here, by itself: nothing that is trained, normalised or chosen on sees it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.errors import UserError
from resim.store import Place
from training.config import Config
from training.data.fetch import Index, Store
from training.data.plan import Rows


@dataclass(frozen=True)
class HeldOut:
    """A sample that stands in for another: its nominal objects, all of them for testing."""

    replaced: str
    """The sample that it stands in for."""
    sample: str
    store: Store
    rows: Rows


@dataclass(frozen=True)
class HeldOutSet:
    """A test set: what is kept of nominal's test objects, then those of each sample that stands in."""

    name: str
    kept: NDArray[np.int64]
    """Places in the test rows of the samples that none stands in for."""
    stand_ins: tuple[HeldOut, ...]


def open_held_out(folders: Mapping[str, Place], store: Store, config: Config) -> list[HeldOutSet]:
    """Open the test sets of the config.

    Parameters
    ----------
    folders
        Held-out sample -> folder or URL of its data set.
    store
        What is trained on.

    Raises
    ------
    UserError
        If a sample is missing, in no test set, or not made for testing alone or of another lane, or a set's name or
        samples do not fit.
    """
    sets = config.evaluation.test_sets
    _check_names(folders, store, config)
    opened = {name: _open(name, folder, store, config) for name, folder in folders.items()}
    return [_test_set(name, stand_ins, opened, store.index) for name, stand_ins in sets.items()]


def _check_names(folders: Mapping[str, Place], store: Store, config: Config) -> None:
    """Refuse test sets that do not fit what is given."""
    wanted = config.evaluation.held_out
    for name in sorted(wanted ^ folders.keys()):
        if name in wanted:
            raise UserError(f"evaluation.test_sets: the sample {name!r} is not given; add --held-out {name}=DIR")
        raise UserError(f"--held-out {name}: is in none of evaluation.test_sets; take it out, or add it there")
    for name, stand_ins in config.evaluation.test_sets.items():
        if name in store.views:
            raise UserError(f"evaluation.test_sets.{name}: a view of the data has this name; rename the set")
        for sample in stand_ins:
            if sample not in store.index.samples:
                has = ", ".join(store.index.samples)
                raise UserError(f"evaluation.test_sets.{name}: {sample!r} is no sample of --data; allowed: {has}")


def _open(name: str, folder: Place, trained_on: Store, config: Config) -> tuple[Store, Rows]:
    """Open a held-out sample by itself: it has the views that its engine allows, not those of the others."""
    settings = config.training
    store = Store({name: folder}, settings.encoder.constituents, settings.loader.group)
    if store.lane is not trained_on.lane:
        why = f"is of the lane {store.lane.name}, and --data of {trained_on.lane.name}"
        raise UserError(f"--held-out {name}={folder}: {why}; give one of the same lane")
    index = store.index
    if (index.split != index.split_code("test")).any():
        why = "holds objects of other splits than test, so it was not held out"
        raise UserError(f"--held-out {name}={folder}: {why}; make it with `role: evaluation`")
    rows = index.rows("test", ["nominal"])
    if len(rows) < 2:
        raise UserError(f"--held-out {name}={folder}: has {len(rows)} objects, at least 2 needed; simulate more")
    return store, rows


def _test_set(
    name: str, stand_ins: Mapping[str, str], opened: Mapping[str, tuple[Store, Rows]], index: Index
) -> HeldOutSet:
    codes = {sample: code for code, sample in enumerate(index.samples)}
    test = index.rows("test", ["nominal"])
    kept = np.flatnonzero(~np.isin(index.sample[test], [codes[sample] for sample in stand_ins]))
    chosen = [HeldOut(sample, stand_in, *opened[stand_in]) for sample, stand_in in stand_ins.items()]
    return HeldOutSet(name, kept, tuple(chosen))


def digests(sets: Sequence[HeldOutSet]) -> dict[str, str]:
    """Give the content digest of each held-out sample."""
    return {name: digest for each in sets for one in each.stand_ins for name, digest in one.store.digests().items()}
