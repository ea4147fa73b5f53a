"""The command line `resim-train`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resim.ending import run_command
from resim.errors import UserError
from training.config import Config, load

if TYPE_CHECKING:
    from resim.store import Place

app = typer.Typer(
    help="Train on re-simulated views, judge robustness, and put the price beside the benefit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Option("--config", help="YAML with the sections `training` and `evaluation`")]
Data = Annotated[
    list[str], typer.Option("--data", help="SAMPLE=DIR of a data set, DIR a folder or a URL; repeat for each sample")
]
HeldOutData = Annotated[
    list[str] | None, typer.Option("--held-out", help="SAMPLE=DIR of each sample that evaluation.test_sets names")
]
SeedIndex = Annotated[int, typer.Option("--seed-index", help="which of the `training.seeds` trainings, from 0")]
Out = Annotated[Path, typer.Option("--out", help="file to write; replaced only when the new one is whole")]
MethodName = Annotated[str, typer.Option("--method", help="one of `training.methods`")]


@app.command()
def pretrain(config: ConfigPath, method: MethodName, seed_index: SeedIndex, data: Data, out: Out) -> None:
    """Train an encoder on pairs of views and write it as a checkpoint; one that was killed goes on where it was.

    In several processes: torchrun --standalone --nproc-per-node N -m training.cli pretrain ...
    """
    # torch takes seconds to import; --help needs it not
    from training.pretrain import is_finished, open_store, pretrained_on, save
    from training.pretrain import pretrain as run

    settings = load(config).of(method)
    store = open_store(pretrained_on(data_folders(data), settings.training), settings.training)
    if is_finished(out, settings, store, method, seed_index):
        typer.echo(f"{out}: trained before, with the same config, data and software; nothing to do")
        return
    _, checkpoint = run(store, settings, method, seed_index, run_folder(out))
    _finish(out, lambda: save(out, checkpoint))


@app.command()
def supervised(config: ConfigPath, method: MethodName, seed_index: SeedIndex, data: Data, out: Out) -> None:
    """Train from scratch with labels, at every label fraction, and write the classifiers as a checkpoint.

    As `pretrain`, it goes on where it was killed, and runs in several processes by torchrun.
    """
    from training.pretrain import open_store
    from training.supervised import is_finished, save, train_supervised

    settings = load(config).of(method)
    store = open_store(data_folders(data), settings.training)
    if is_finished(out, settings, store, method, seed_index):
        typer.echo(f"{out}: trained before, with the same config, data and software; nothing to do")
        return
    trained = train_supervised(store, settings, method, seed_index, run_folder(out))
    _finish(out, lambda: save(out, trained, settings, store))


@app.command()
def evaluate(
    config: ConfigPath,
    method: MethodName,
    seed_index: SeedIndex,
    encoder: Annotated[Path, typer.Option("--encoder", help="checkpoint written by `pretrain` or `supervised`")],
    data: Data,
    out: Out,
    held_out: HeldOutData = None,
) -> None:
    """Judge what was trained on every view and test set; on an encoder heads are fitted first.

    A fine-tuning that was killed goes on where it was.
    """
    from training import heads
    from training import supervised as scratch
    from training.files import write_model
    from training.heldout import open_held_out
    from training.pretrain import open_store

    settings = load(config).of(method)
    store = open_store(data_folders(data), settings.training)
    sets = open_held_out(sample_folders("--held-out", held_out or []), store, settings)
    if settings.training.kind(method).labelled:
        classifiers = scratch.load_for(encoder, settings, store, method, seed_index)
        result = scratch.evaluate_supervised(store, settings, classifiers, sets)
    else:
        trained = heads.load_for(encoder, settings, store, method, seed_index)
        result = heads.evaluate_encoder(store, settings, trained, sets, run_folder(out))
    _finish(out, lambda: write_model(out, result))


@app.command()
def embed(
    config: ConfigPath,
    method: MethodName,
    seed_index: SeedIndex,
    encoder: Annotated[Path, typer.Option("--encoder", help="checkpoint written by `pretrain`")],
    data: Data,
    out: Out,
    umap: Annotated[bool, typer.Option("--umap", help="UMAP in place of PCA; needs umap-learn")] = False,
) -> None:
    """Draw test objects as an encoder sees them, in two dimensions, and how far views move a few of them."""
    from training.embedding import draw, embedded
    from training.files import write_atomically
    from training.fit import place
    from training.heads import load_for
    from training.plots import png
    from training.pretrain import open_store

    settings = load(config).of(method)
    store = open_store(data_folders(data), settings.training)
    trained = load_for(encoder, settings, store, method, seed_index)
    place(trained.encoder, settings.training.trainer)
    found = embedded(trained, store, settings.training.seed, umap=umap)
    write_atomically(out, png(lambda: draw(found, f"{method}, seed {seed_index}")))


@app.command()
def compare(
    config: ConfigPath,
    evaluation: Annotated[list[Path], typer.Option("--evaluation", help="result of `evaluate`; repeat")],
    data: Data,
    out: Out,
    held_out: HeldOutData = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="folder for the pictures and table.csv")] = None,
) -> None:
    """Join all evaluations with the price of the views; write the comparison, its pictures and a table."""
    from training.compare import compare as run
    from training.files import read_model, write_atomically, write_model
    from training.heldout import open_held_out
    from training.pretrain import open_store
    from training.results import EvaluationResult

    settings = load(config)
    evaluations = [read_model(path, EvaluationResult) for path in evaluation]
    store = open_store(data_folders(data), settings.training)
    sets = open_held_out(sample_folders("--held-out", held_out or []), store, settings)
    comparison = run(evaluations, store, settings, sets)
    if plots:
        from training.plots import draw_all
        from training.table import table

        for name, content in (draw_all(comparison, evaluations) | {"table.csv": table(comparison)}).items():
            write_atomically(plots / name, content)
    write_model(out, comparison)
    for line in comparison.flags:
        typer.echo(f"warning: {line}", err=True)


@app.command()
def schema() -> None:
    """Print the JSON schema of the sections `training` and `evaluation`."""
    typer.echo(json.dumps(Config.model_json_schema(), indent=1))


def run_folder(out: Path) -> Path:
    """Give the folder beside an output for what its training leaves: metrics, `run.json`, its state."""
    return out.with_suffix(".run")


def _finish(out: Path, save: Callable[[], None]) -> None:
    """Write a result in one process, and remove the states that led to it."""
    from training.files import is_first
    from training.fit import STATE

    if is_first():
        save()
        for state in run_folder(out).rglob(STATE):
            state.unlink()


def data_folders(data: list[str]) -> "dict[str, Place]":
    """Read the SAMPLE=DIR pairs of --data; see `sample_folders`. There must be two at least."""
    folders = sample_folders("--data", data)
    if len(folders) < 2:
        raise UserError(f"--data names only {', '.join(folders)}; give two at least")
    return folders


def sample_folders(option: str, pairs: list[str]) -> "dict[str, Place]":
    """Read the SAMPLE=DIR pairs of an option; DIR is a folder, or a URL that fsspec reads.

    Raises
    ------
    UserError
        If one is not of that form, or a sample comes twice.
    """
    from resim.store import place_of  # --help needs none of it

    folders: dict[str, Place] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise UserError(f"{option} {pair!r} is not SAMPLE=DIR, such as qcd=results/data/qcd")
        if name in folders:
            raise UserError(f"{option} names the sample {name!r} twice; give each sample once")
        folders[name] = place_of(folder)
    return folders


def main() -> None:
    """Run the command; what ends it early is told in one line, see `resim.ending`."""
    run_command(
        app,
        "resim-train",
        less="smaller batches (training.pretrain.batch, training.supervised.batch)",
        kept="nothing half-written was kept; the same command goes on, a training from its last state",
    )


if __name__ == "__main__":  # torchrun -m training.cli
    main()
