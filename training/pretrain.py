"""Contrastive training: which views make a pair is all that the methods differ in.

`resim`    two re-simulated views of an object
`generic`  two augmentations of its nominal view
`both`     two re-simulated views, each augmented

The loss, the same for all methods, is the config's (`training.losses`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Strict
from torch import Tensor, nn

from resim.errors import UserError
from resim.store import Place, open_dataset
from training.config import Config, PretrainConfig, Task, TrainingConfig
from training.data.fetch import Source, Store, held_if_small
from training.data.loader import Batch, Loader, rows_of
from training.data.plan import Rows
from training.encoders import Encoder, make_encoder
from training.encoders.encoder import load_layers
from training.encoders.transformer import head
from training.files import is_first, load_checkpoint, save_checkpoint
from training.fit import History, Run, be_deterministic, fit
from training.keys import torch_generator
from training.lanes import Normalisation, lane_with
from training.losses import objective
from training.meter import Meter
from training.provenance import Result, made_before, origin_of, provenance, record, record_cost
from training.tasks import pair_classes
from training.watch import Watch

FORMAT, VERSION = "resim-encoder", 2
_NORMALISATION_OBJECTS = 2048  # 10^5 constituents settle means and widths to a few per mille
_VALIDATION_OBJECTS = 2048  # settle the loss to a per cent, and stay small beside any epoch of more than the demo's


@dataclass(frozen=True)
class Trained:
    """A trained encoder with all that is needed to use it on stored objects."""

    encoder: Encoder
    normalisation: Normalisation
    method: str
    seed_index: int
    cost: dict[str, float]
    history: History
    task: Task
    """The main one at that time: what the encoder was watched by. No weight depends on it but by `pretrain.alpha`."""

    def for_task(self, task: Task) -> "Trained":
        """Forget what the encoder was watched by if that was another task."""
        return self if task == self.task else replace(self, history=replace(self.history, probe={}))


class EncoderFile(Result):
    """What `pretrain` writes."""

    encoder: dict[str, Tensor]
    projection: dict[str, Tensor]
    config: Annotated[Config, Strict(False)]


def pretrained_on(folders: Mapping[str, Place], config: TrainingConfig) -> dict[str, Place]:
    """Choose the data sets that encoders are pretrained on; the others are not even opened.

    Raises
    ------
    UserError
        If one of `training.samples` is not given.
    """
    for name in config.samples or ():
        if name not in folders:
            raise UserError(f"training.samples: {name!r} is no data set; allowed: {', '.join(folders)} (--data)")
    return {name: folders[name] for name in config.samples or folders}


def open_store(folders: Mapping[str, Place], config: TrainingConfig) -> Store:
    """Open the data sets that a training reads and check that its views may be trained on.

    Raises
    ------
    UserError
        If a view does not exist or was not made for the train split, a sample has the test split alone, or the encoder
        is of another lane.
    """
    for name, folder in folders.items():
        _refuse_held_out(name, folder)
    store = Store(folders, config.encoder.constituents, config.loader.group)
    store.lane.check(config.encoder)
    allowed = [view for view in store.views if "train" in store.splits_of(view)]
    for view in {"nominal": 0, **dict.fromkeys(config.views)}:
        if view not in allowed:
            why = "was not made for the train split" if view in store.views else "is not in the data"
            raise UserError(f"training.views: {view!r} {why}; allowed: {', '.join(allowed)}")
    return store


def _refuse_held_out(name: str, folder: Place) -> None:
    """Refuse a data set of the test split alone before it is looked at together with others."""
    dataset = open_dataset(folder)
    test = [i for i, split in enumerate(dataset.parts[0].attributes["splits"]) if split == "test"]
    if dataset.n_objects and np.isin(dataset.objects()["split"], test).all():
        why = "holds the test split alone, as samples with role evaluation do; nothing is trained on it"
        raise UserError(f"--data {name}={folder}: {why}; give it with --held-out")


def pretrain(
    store: Store, config: Config, method: str, seed_index: int, folder: Path | None = None
) -> tuple[Trained, dict[str, Any]]:
    """Train an encoder on pairs of views; labels are seen with a supervised loss alone (`pretrain.alpha` above 0).

    With a folder, it goes on from the state that a killed run left there, and leaves its metrics and `run.json`.

    Returns
    -------
    Trained
        The encoder.
    dict
        The checkpoint to save.
    """
    config = config.of(method)
    settings = config.training
    check_seed_index(settings, seed_index)
    be_deterministic(settings.threads)
    watched_by = {"probe": settings.main_task.model_dump(mode="json")}  # figures of two tasks make no curve
    run = Run.begin(folder, origin_of(config, store, method, seed_index) | watched_by)
    loader = contrastive_loader(store, settings, method, seed_index, run.meter)
    record(folder, config, store, method, seed_index)
    validation = validation_loader(loader, store)
    key = (settings.seed, "pretrain", seed_index)
    encoder = make_encoder(settings.encoder, loader.normalisation, torch_generator(*key, "encoder"))
    watch = Watch.on_validation(encoder, loader.normalisation, store, settings) if is_first() else None
    outputs, draws = settings.pretrain.projection, torch_generator(*key, "projection")
    projection = head(encoder.width, outputs, draws) if outputs else nn.Identity()
    history = fit(
        nn.ModuleList([encoder, projection]),
        partial(_loss, encoder, projection, settings.pretrain),
        loader,
        settings.pretrain.epochs,
        settings,
        f"{method} seed {seed_index}",
        run,
        validation,
        watch,
    )
    cost = cost_of(run, history)
    trained = Trained(encoder, loader.normalisation, method, seed_index, cost, history, settings.main_task)
    record_cost(folder, trained.cost)
    return trained, _checkpoint(trained, projection, config, store)


def contrastive_loader(store: Store, config: TrainingConfig, method: str, seed_index: int, meter: Meter) -> Loader:
    """Make the batches of a contrastive method."""
    config = config.of(method)
    kind = config.kind(method)
    if kind.labelled:
        raise UserError(f"--method {method!r} learns from labels; train it with `resim-train supervised`")
    views = config.views_of(method)
    rows = rows_of(store.index, "train", views, config.pairs)
    for name, mine, _ in store.index.by_sample(rows):
        if not len(mine):
            raise UserError(f"sample {name!r} has no train object in {', '.join(views)}; simulate more events")
    return Loader(
        source=source_of(store, views, rows, config, meter),
        index=store.index,
        labels=pair_classes(store, config.main_task),
        rows=rows,
        views=views,
        normalisation=normalisation_of(store, config),
        config=config.loader,
        batch=config.pretrain.batch,
        key=(config.seed, "pretrain", seed_index),
        meter=meter,
        augment=partial(store.lane.augment, config=config.augment) if kind.augmented else None,
        pairs=config.pairs,
    )


def labels_seen(store: Store, config: Config, method: str) -> int:
    """Count the train objects whose classes the loss is told: none, but by a supervised loss.

    Objects that the main task is not about are then of a class by their sample, which is a label, too.
    """
    training = config.training.of(method)
    if training.kind(method).labelled or not training.pretrain.alpha:
        return 0
    rows = rows_of(store.index, "train", training.views_of(method), training.pairs)
    known = [store.index.samples.index(name) for name in training.samples or store.index.samples]
    return int(np.isin(store.index.sample[rows], known).sum())


def validation_loader(loader: Loader, store: Store, member: NDArray[np.bool_] | None = None) -> Loader | None:
    """Load as a loader does, but objects of the validation split, spread evenly; None if there are not two of them.

    With `member`, (N,), only those objects.

    The meter, which tells what the training reads and augments, does not see them.
    """
    if "validation" not in store.index.splits:
        return None
    rows = rows_of(store.index, "validation", loader.views, loader.pairs)
    rows = rows if member is None else rows[member[rows]]
    rows = rows[:: max(1, -(-len(rows) // _VALIDATION_OBJECTS))]
    config = loader.config.model_copy(update={"workers": 0})  # to start them takes longer than to read so little
    key = (*loader.key, "validation")
    apart = replace(loader, source=store, rows=rows, config=config, key=key, meter=Meter(), beside=None)
    return apart if len(rows) > 1 else None


def check_seed_index(config: TrainingConfig, seed_index: int) -> None:
    """Refuse a training seed that the config does not ask for."""
    if not 0 <= seed_index < config.seeds:
        raise UserError(f"--seed-index {seed_index} is outside 0..{config.seeds - 1} (training.seeds in the config)")


def source_of(store: Store, views: tuple[str, ...], rows: Rows, config: TrainingConfig, meter: Meter) -> Source:
    """Read from memory what fits there, the rest from the parts."""
    with meter("read", 0):
        return held_if_small(store, views, rows, config.encoder.constituents, config.loader.memory_mb)


def normalisation_of(store: Store, config: TrainingConfig) -> Normalisation:
    """Measure the normalisation on nominal train jets spread evenly over the samples that are pretrained on."""
    index = store.index
    rows = index.rows("train", ["nominal"])
    if config.samples:
        rows = rows[np.isin(index.sample[rows], [index.samples.index(name) for name in config.samples])]
    if not len(rows):
        raise UserError("the data sets hold no object of the train split in view 'nominal'; simulate more events")
    step = max(1, len(rows) // _NORMALISATION_OBJECTS)
    measured = Normalisation.measured(store.lane, store.read("nominal", rows[::step]))
    if config.encoder.needs_edge and np.isnan(measured.edge):
        why = "the voxels of the data stand on no common grid, so"
        raise UserError(f"training.encoder.grid: {why} null will not do; give the edge of a cell in cm")
    return measured


def cost_of(run: Run, history: History) -> dict[str, float]:
    """Sum up what a training took: CPU seconds in all, and of these reading, augmenting and converting.

    Of all ranks together, each of which must call this; wall seconds are the first's, MiB the largest's.
    """
    spent = run.spent()
    meter = spent.meter
    return {
        "cpu_s": spent.cpu_s,
        "wall_s": spent.wall_s,
        "peak_mb": spent.peak_mb,
        "steps": float(history.steps),
        **{f"{name}_cpu_s": meter.cpu_s.get(name, 0.0) for name in ("read", "augment", "convert")},
        "augmented_jets": float(meter.objects.get("augment", 0)),
    }


def load_trained(path: Path) -> tuple[Trained, dict[str, Any]]:
    """Load an encoder from its checkpoint, with the checkpoint itself."""
    content = load_checkpoint(path, FORMAT, VERSION, EncoderFile)
    lane = lane_with(content["inputs"])
    if lane is None:
        raise UserError(f"{path}: was trained on other inputs ({', '.join(content['inputs'])}); train it anew")
    settings = Config.model_validate(content["config"]).training
    normalisation = Normalisation(lane, content["mean"].numpy(), content["width"].numpy())
    encoder = make_encoder(settings.encoder, normalisation, torch.Generator())
    load_layers(encoder, content["encoder"], str(path))
    fields = {name: content[name] for name in ("method", "seed_index", "cost")}
    history = History(**content["history"])
    return Trained(encoder.eval(), normalisation, history=history, task=settings.main_task, **fields), content


def check_origin(
    path: Path, checkpoint: Mapping[str, Any], config: Config, store: Store, method: str, seed_index: int
) -> None:
    """Refuse a checkpoint of another method, seed, config or data than are meant."""
    if (checkpoint["method"], checkpoint["seed_index"]) != (method, seed_index):
        raise UserError(
            f"{path}: holds method {checkpoint['method']!r} seed index {checkpoint['seed_index']}, "
            f"not {method!r} {seed_index}; give the one that --method and --seed-index name"
        )
    found, expected = checkpoint["provenance"], provenance(config, store, method).model_dump()
    labelled = config.training.kind(method).labelled
    again = "supervised" if labelled else "pretrain"
    if config.training.samples and not labelled:  # the others are for tasks alone
        expected["data"] = {name: expected["data"][name] for name in sorted(config.training.samples)}
    for name, what in (("training_digest", "`training` config"), ("data", "data")):
        if found[name] != expected[name]:
            raise UserError(f"{path}: was trained with other {what}; run `resim-train {again}` again")


def is_finished(path: Path, config: Config, store: Store, method: str, seed_index: int) -> bool:
    """Tell whether a file holds this very encoder."""
    return made_before(path, FORMAT, VERSION, EncoderFile, origin_of(config, store, method, seed_index)) is not None


def save(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint."""
    save_checkpoint(path, checkpoint)


def _loss(encoder: Encoder, projection: nn.Module, config: PretrainConfig, batch: Batch) -> Tensor:
    first, second = (projection(jets.through(encoder)) for jets in batch.views)
    return objective(config, first, second, batch.labels)


def _checkpoint(trained: Trained, projection: nn.Module, config: Config, store: Store) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": trained.method,
        "seed_index": trained.seed_index,
        "inputs": list(trained.normalisation.lane.inputs),
        "mean": torch.from_numpy(trained.normalisation.mean),
        "width": torch.from_numpy(trained.normalisation.width),
        "encoder": trained.encoder.state_dict(),
        "projection": projection.state_dict(),
        "config": config.model_dump(mode="json"),
        "history": asdict(trained.history),
        "cost": trained.cost,
        "provenance": provenance(config, store, trained.method).model_dump(mode="json"),
    }
