"""What a result was made from."""

import json
from collections.abc import Sequence
from importlib.metadata import version

from training.config import Config
from training.data.fetch import Store
from training.files import digest
from training.heldout import HeldOutSet, digests
from training.results import Provenance

_SOFTWARE = ("numpy", "scikit-learn", "scipy", "torch", "zarr")
_NOT_IN_NUMBERS = {"seeds", "methods"}  # how many trainings there are changes none of them


def provenance(config: Config, store: Store, method: str = "", held_out: Sequence[HeldOutSet] = ()) -> Provenance:
    """Collect digests of config and data, and versions; with a method, its digest leaves out what others are told."""
    others = {"": set(), "supervised": {"pretrain", "augment", "pairs"}}.get(method, {"supervised"})
    return Provenance(
        training_digest=_digest(config.training.model_dump(mode="json", exclude=_NOT_IN_NUMBERS | others)),
        evaluation_digest=_digest(config.evaluation.model_dump(mode="json")),
        seed=config.training.seed,
        data=store.digests(),
        held_out=digests(held_out),
        software={name: version(name) for name in _SOFTWARE},
    )


def _digest(section: dict[str, object]) -> str:
    return digest(json.dumps(section, sort_keys=True).encode())
