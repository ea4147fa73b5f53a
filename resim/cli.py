"""The command `resim`: simulate, and look at what was made. Every rule of the workflow is one of these calls."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

from resim.ending import run_command
from resim.errors import UserError

app = typer.Typer(
    help="Generate events, cut the simulation mid-way, re-run what is downstream, and store the views.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigPath = Annotated[Path, typer.Option("--config", help="The config file (YAML or JSON).")]
SampleName = Annotated[str, typer.Option(help="Which sample of the config.")]
ViewName = Annotated[str, typer.Option(help="Which view; `nominal` where an engine makes the sample.")]
PartRange = Annotated[str, typer.Option(help="The part's events FIRST:STOP, whole blocks.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a data set (with manifest.json).")]
NewFolder = Annotated[Path, typer.Argument(help="Folder of the new data set; new, or empty.")]
Dask = Annotated[
    str | None, typer.Option(metavar="local|slurm|htcondor|ADDRESS", help="Spread the parts over Dask's workers.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Dask: workers to start. [default: one a core]")]


@app.command()
def simulate(
    config: ConfigPath,
    sample: SampleName,
    out: Annotated[Path, typer.Option(help="Folder of the data set; parts are written into it.")],
    events: Annotated[
        str | None, typer.Option(help="Event range FIRST:STOP, whole blocks. [default: all of the sample]")
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Events a part, whole blocks. [default: events_per_part]")
    ] = None,
    views: Annotated[str | None, typer.Option(help="Views to make, by commas. [default: all of the config]")] = None,
    pool: Annotated[Path | None, typer.Option(help="Pool of pile-up, where a view has some (`resim pool`).")] = None,
    incoming: Annotated[
        list[str] | None, typer.Option(metavar="VIEW=FILE", help="What an engine gave for a view. May be repeated.")
    ] = None,
    manifest: Annotated[bool, typer.Option(help="Write the manifest at the end.")] = True,
    dask: Dask = None,
    workers: Workers = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            envvar="RESIM_SCRATCH",
            help="Folder of this machine's own disk to write a part in, before it goes to OUT in one go; may name "
            "variables, as '$TMPDIR'.",
        ),
    ] = None,
) -> None:
    """Make the views of a range of events. What is there already in the same recipe is kept."""
    from resim.plan import choose_views
    from resim.simulate import empty_views, part_attributes, part_ranges, simulate_part
    from resim.store import check_extension, extend_manifest

    simulation = _simulation(config, sample, pool, incoming)
    settings = simulation.config
    chosen = choose_views(simulation.all_views, _words(views) or None)
    available = settings.samples[sample].events
    if available is None:
        raise UserError(f"--sample {sample}: has a source in {config}, so there is nothing to simulate")
    first, stop = _event_range(events, available)
    ranges = part_ranges(first, stop, shard_size or settings.events_per_part, settings.block_size)
    if incoming and len(ranges) > 1:
        raise UserError(f"--incoming: is of one part, and {first}:{stop} are {len(ranges)}; give --events of one part")
    _check_workers(dask, workers)
    if dask:
        _check_spread(incoming, scratch)
    near = _scratch(scratch)
    if dask:
        from resim.distributed import simulate_parts

    if manifest:
        expected = part_attributes(simulation, first, stop, simulation.recipes)
        check_extension(out, ranges, expected, [view.name for view in chosen])
    _make_folder(out)
    with _bar(stop - first, f"{sample}", "event") as advance:
        if dask:
            parts = simulate_parts(dask, simulation, ranges, out, chosen, workers, advance)
        else:
            parts = [simulate_part(simulation, *r, out, chosen, advance, near) for r in ranges]
    if manifest:
        extend_manifest(out, [part.path for part in parts])
    for part in parts:
        if empty := empty_views(simulation, part):
            what = f"none of its {part.stop - part.first} events gives an object in {', '.join(empty)}"
            print(f"resim: warning: {part.path}: {what}; see where they start, and the thresholds", file=sys.stderr)


@app.command()
def outgoing(
    config: ConfigPath,
    sample: SampleName,
    view: ViewName,
    out: Annotated[Path, typer.Option(help="File to write: .lhe, .lhe.gz, or .hepmc3, .hepmc3.gz, .hepmc3.zst.")],
    events: PartRange,
    pool: Annotated[Path | None, typer.Option(help="Pool of pile-up, where the view has some.")] = None,
    incoming: Annotated[
        list[str] | None, typer.Option(metavar="VIEW=FILE", help="What another engine gave, upstream.")
    ] = None,
) -> None:
    """Write what goes out to a view's engine, for a part."""
    from resim.simulate import outgoing as made

    simulation = _simulation(config, sample, pool, incoming)
    first, stop = _part(simulation, view, events)
    simulation.lane.send(made(simulation, view, first, stop), out)


@app.command()
def engine(
    config: ConfigPath,
    sample: SampleName,
    view: ViewName,
    out: Annotated[Path, typer.Option(help="Where to put what the engine gives.")],
    events: PartRange,
    given: Annotated[Path | None, typer.Option("--input", help="What `resim outgoing` wrote, if it takes any.")] = None,
    scratch: Annotated[Path | None, typer.Option(help="What `resim prepare` filled, if it needs any.")] = None,
    log: Annotated[Path | None, typer.Option(help="Where its words go. [default: OUT.log]")] = None,
) -> None:
    """Run a view's engine for a part, in the environment that is active."""
    from resim.engines import run_job
    from resim.jets.external import read_incoming

    simulation = _simulation(config, sample)
    first, stop = _part(simulation, view, events)
    job, sent = simulation.job(view, first, stop), simulation.sent(view, first, stop)
    if (given is None) != (job.engine.input == "none"):
        raise UserError(f"--input: engine {job.name!r} takes {job.engine.input}; `resim outgoing` writes it")
    if (scratch is None) != (job.engine.prepare is None):
        raise UserError(f"--scratch: engine {job.name!r} has {'no' if scratch else 'a'} `prepare`; see `resim prepare`")
    log = log or out.with_name(f"{out.name}.log")
    run_job(job, given, out, log, scratch, partial(read_incoming, engine=job.engine, expected=sent))


@app.command()
def prepare(
    config: ConfigPath,
    engine: Annotated[str, typer.Option(help="Which engine of the config.")],
    out: Annotated[Path, typer.Option(help="Folder to fill.")],
    log: Annotated[Path | None, typer.Option(help="Where its words go. [default: OUT.log]")] = None,
) -> None:
    """Make what an engine needs once for all its parts, in the environment that is active."""
    from resim.config import load_config
    from resim.engines import prepare_engine

    settings = load_config(config)
    if engine not in settings.engines:
        raise UserError(f"--engine {engine}: not in {config}; it has {', '.join(settings.engines) or 'none'}")
    prepare_engine(engine, settings.engines[engine], settings.seed, out, log or out.with_name(f"{out.name}.log"))


@app.command()
def pool(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the pool.")],
) -> None:
    """Make the pool of pile-up that a config describes; one that is there already is kept."""
    from resim.config import load_config
    from resim.jets.lane import pool_settings
    from resim.jets.pileup import make_pool
    from resim.plan import check_config

    settings = load_config(config)
    check_config(settings, str(config))
    if settings.lane != "jets":
        raise UserError(f"{config}: the lane {settings.lane!r} has no pile-up, and needs no pool")
    make_pool(out, pool_settings(settings), settings.pileup.events, settings.seed)


@app.command()
def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(help="Its parts, or data sets whose parts it lists. [default: every part in the folder]"),
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="The folder's parts of events FIRST:STOP, as `resim simulate` cuts them.")
    ] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="Events of each of them.")] = None,
) -> None:
    """List the parts of a data set, with counts and digests, once each is found whole."""
    from resim.simulate import part_ranges
    from resim.store import part_name, write_manifest

    if (events is None) != (shard_size is None) or (events and parts):
        raise UserError("--events, --shard-size: say together which parts are listed; give both and name no part")
    listed = [part for path in parts or () for part in _parts_in(path)]
    if events and shard_size:
        # Ten thousand parts would be too long for a command line.
        ranges = part_ranges(*_event_range(events, 0), shard_size, block_size=1)
        listed = [folder / part_name(*span) for span in ranges]
    write_manifest(folder, listed or sorted(folder.glob("part-*")))


@app.command()
def merge(
    out: NewFolder,
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Data sets of the same recipes.")],
    dask: Dask = None,
    workers: Workers = None,
) -> None:
    """Make one data set of several: parts are linked, or copied, as they are, once each is found whole."""
    from resim.graphs import merge as merged

    _check_workers(dask, workers)
    with _bar(None, "merging", "event") as advance:
        merged(folders, out, advance, dask, workers)


@app.command()
def rechunk(
    folder: Folder,
    out: NewFolder,
    shard_size: Annotated[int, typer.Option(min=1, help="Events a part, whole blocks.")],
    dask: Dask = None,
    workers: Workers = None,
) -> None:
    """Write a data set again in parts of another size; its digest stays."""
    from resim.graphs import rechunk as rechunked

    _check_workers(dask, workers)
    with _bar(None, "writing", "event") as advance:
        rechunked(folder, out, shard_size, advance, dask, workers)


@app.command()
def stats(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a row a column.")] = False,
    dask: Dask = None,
    workers: Workers = None,
) -> None:
    """Give mean, spread and range of every column of every view; how the data set is cut does not matter."""
    from resim.graphs import stats as measured
    from resim.store.statistics import format_table

    _check_workers(dask, workers)
    with _bar(None, "reading", "event") as advance:
        found = measured(folder, advance, dask, workers)
    print(json.dumps(found, indent=2) if as_json else format_table(found))


@app.command()
def inspect(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is in a data set: views, counts, bytes, cost, versions."""
    from resim.store import format_summary, open_dataset, summary

    found = summary(open_dataset(folder))
    print(json.dumps(found, indent=2) if as_json else format_summary(found))


@app.command()
def validate(folder: Folder) -> None:
    """Read every chunk and check every invariant; name the part and array at fault."""
    from resim.store import validate as check

    found = check(folder, partial(tqdm, desc="validating", unit="part", disable=None))
    for problem in found:
        print(problem, file=sys.stderr)
    damaged = [problem for problem in found if not problem.warning]
    if damaged:
        remedy = "delete the parts named above and run the command that made them again"
        raise UserError(f"{folder}: {len(damaged)} problem(s); {remedy}")
    print(f"{folder}: whole")


@app.command()
def digest(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print every view's digest as JSON.")] = False
) -> None:
    """Print the digest of the content, computed from the data; how it is split into parts does not matter."""
    from resim.store import dataset_digest, open_dataset

    bar = partial(tqdm, desc="reading", unit="part", disable=None)
    found = dataset_digest(open_dataset(folder).parts, recompute=True, progress=bar)
    print(json.dumps(found, indent=2) if as_json else found["digest"])


@app.command()
def show(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")],
    identity: Annotated[
        int | None, typer.Option("--object", help="Id of the object (column `object`). [default: one with most views]")
    ] = None,
) -> None:
    """Draw one object in all its views."""
    from resim.display import draw_object
    from resim.store import open_dataset

    draw_object(open_dataset(folder), identity, out)


@app.command()
def export(
    folder: Folder,
    to: Annotated[
        Literal["rs3l", "parquet", "root", "hepmc3"], typer.Option(help="Format; docs/exchange.md describes them.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    views: Annotated[
        str | None,
        typer.Option(help="Views by commas; root and hepmc3 take one. [default: all that the format can hold]"),
    ] = None,
    constituents: Annotated[int, typer.Option(min=1, help="rs3l: room for so many constituents.")] = 100,
    vartype: Annotated[
        list[str] | None, typer.Option(metavar="NAME=CODE", help="rs3l: the code of a view. May be repeated.")
    ] = None,
    higgs: Annotated[str | None, typer.Option(help="root: JetClass's label of H, such as Hbb.")] = None,
    pool: Annotated[Path | None, typer.Option(help="hepmc3: pool of pile-up, where the view has some.")] = None,
) -> None:
    """Write a data set in a format of others."""
    from resim.interop.columnar import export_parquet, export_root
    from resim.interop.events import export_hepmc
    from resim.interop.rs3l import export_rs3l
    from resim.store import open_dataset

    dataset, names = open_dataset(folder), views.split(",") if views else None
    bar = partial(tqdm, desc="writing", unit="part", disable=None)
    if to == "rs3l":
        codes = {name: _number("--vartype", code) for name, code in _assigned("--vartype", vartype or [])}
        pairs = export_rs3l(dataset, out, names, constituents=constituents, codes=codes, progress=bar)
        print(f"{out}: pairs of nominal and " + ", ".join(f"{name} {n}" for name, n in pairs.items()))
        left_out = [name for name in dataset.views if name not in ("nominal", *pairs)]
        print(f"left out: {', '.join(left_out) or 'no view'}")
    elif to == "parquet":
        export_parquet(dataset, out, names, bar)
    elif to == "hepmc3":
        print(f"{out}: {export_hepmc(dataset, out, names, pool, bar)} events")
    else:
        export_root(dataset, out, names, higgs, bar)


@app.command("import")
def import_(
    format_: Annotated[
        Literal["rs3l", "images", "cubes", "parquet", "root"],
        typer.Argument(metavar="FORMAT", help="rs3l, images, cubes, parquet, root; docs/exchange.md describes them."),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files: of rs3l any number, of root one a view, of parquet one; images, cubes: or folders."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the data set; new, or empty.")],
    sample: Annotated[str | None, typer.Option(help="Published files: name of the sample.")] = None,
    swap_leptons: Annotated[bool, typer.Option(help="rs3l: exchange columns 11 and 12.")] = False,
    vartypes: Annotated[
        str | None, typer.Option(metavar="CODE=NAME,...", help="rs3l: views of the codes, where others are meant.")
    ] = None,
    truth_label: Annotated[int | None, typer.Option(help="rs3l: take the pairs with this label only.")] = None,
    particle: Annotated[str | None, typer.Option(help="images, cubes: take this class only, as electron.")] = None,
    views: Annotated[
        str | None, typer.Option(metavar="NAME=NAME,...", help="images: views by other names: throw_15=nominal.")
    ] = None,
    crosstalk: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME=]SHARE,...",
            help="cubes: views with this share of the crosstalk hits; 0.05 is crosstalk_5. [default: nominal=1]",
        ),
    ] = None,
    block_size: Annotated[int, typer.Option(min=1, help="Published files: events a block.")] = 100,
    events_per_part: Annotated[int, typer.Option(min=1, help="Likewise: events a part, whole blocks.")] = 5000,
    seed: Annotated[int, typer.Option(help="Likewise: root of the numbers that tell an event's split.")] = 20260101,
    splits: Annotated[str, typer.Option(help="Likewise: shares of train, validation, test.")] = "0.5,0.1,0.4",
) -> None:
    """Make a data set of files in a format of others."""
    from resim.interop.columnar import import_parquet, import_root

    bar = partial(tqdm, desc="reading", unit="part", disable=None)
    if format_ == "parquet":
        if len(files) > 1:
            raise UserError(f"{files[1]}: a second file; a Parquet file holds a whole data set")
        return import_parquet(files[0], out, bar)
    if format_ == "root":
        return import_root(files, out, bar)
    if sample is None:
        raise UserError("--sample is missing: the layout has no name for the sample; give one")
    numbering = {"block_size": block_size, "events_per_part": events_per_part, "seed": seed, "splits": _shares(splits)}
    if format_ == "rs3l":
        return _import_rs3l(
            files, out, sample, vartypes, bar, **numbering, swap_leptons=swap_leptons, truth_label=truth_label
        )
    from resim.interop.exchange import Numbering
    from resim.interop.sparse import import_sparse, open_layout

    names, shares = dict(_assigned("--views", _words(views))), _crosstalk(crosstalk)
    return import_sparse(open_layout(format_, files, particle, names, shares), out, Numbering(sample, **numbering), bar)


def _import_rs3l(
    files: list[Path], out: Path, sample: str, vartypes: str | None, bar: Callable[..., Any], **options: Any
) -> None:
    """Say what the files seem to hold, and import them."""
    from resim.interop.rs3l import ImportSettings, examine, import_rs3l

    names = {_number("--vartypes", code): name for code, name in _assigned("--vartypes", _words(vartypes))}
    for line in examine(files):
        print(line)
    import_rs3l(files, out, ImportSettings(sample, vartypes=names, **options), bar)


@app.command()
def check(config: ConfigPath) -> None:
    """Check a config, every setting of every stage included, without running anything."""
    from resim.config import load_config
    from resim.plan import check_config

    check_config(load_config(config), str(config))
    print(f"{config}: good")


@app.command()
def chain(
    config: ConfigPath,
    sample: Annotated[str | None, typer.Option(help="Which sample. [default: the first]")] = None,
) -> None:
    """Print the chain of a sample, where its views cut it, and what each runs again and shares."""
    from resim.config import load_config
    from resim.describe import describe
    from resim.plan import check_config
    from resim.simulate import Simulation

    settings = load_config(config)
    check_config(settings, str(config))
    if sample is not None and sample not in settings.samples:
        raise UserError(f"--sample {sample}: not in {config}; it has {', '.join(settings.samples)}")
    name = sample or next(iter(settings.samples))
    if settings.samples[name].source is not None:
        raise UserError(f"--sample {name}: has a source in {config}, so no chain runs; `resim inspect` tells its views")
    print(describe(Simulation(settings, name)))


@app.command()
def processes(lane: Annotated[Literal["jets", "lartpc"], typer.Option(help="Of which lane.")] = "jets") -> None:
    """List the processes that a sample can name: hard ones, or what the gun shoots."""
    from resim.plan import lane_of

    for name, settings in lane_of(lane).library().items():
        print(f"{name:12s} {', '.join(f'{key}={value}' for key, value in settings.items())}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the simulation side of config.yaml."""
    from resim.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


def _simulation(config: Path, sample: str, pool: Path | None = None, incoming: list[str] | None = None) -> Any:
    """Make a sample of a config ready, all of it checked."""
    from resim.config import load_config
    from resim.engines import named_files
    from resim.plan import check_config
    from resim.simulate import Simulation

    settings = load_config(config)
    check_config(settings, str(config))
    if sample not in settings.samples:
        raise UserError(f"--sample {sample}: not in {config}; it has {', '.join(settings.samples)}")
    simulation = Simulation(settings, sample, pool)
    files = named_files("--incoming", dict(_assigned("--incoming", incoming or [])), simulation.engine_steps)
    return replace(simulation, incoming=files)


def _part(simulation: Any, view: str, events: str) -> tuple[int, int]:
    """Read the range of a part, for a view that an engine makes."""
    from resim.engines import named_files
    from resim.simulate import part_ranges

    named_files("--view", {view: ""}, simulation.engine_steps)
    first, stop = _event_range(events, 0)
    part_ranges(first, stop, stop - first or 1, simulation.config.block_size)
    available = simulation.config.samples[simulation.sample].events
    if stop > available:
        raise UserError(f"--events {events}: {simulation.sample} has {available} events; give a range of these")
    return first, stop


def _parts_in(path: Path) -> list[Path]:
    """Give a part itself, or the parts that a data set lists."""
    from resim.store import read_manifest

    if not (path / "manifest.json").is_file():
        return [path]
    return [path / entry.name for entry in read_manifest(path).parts]


def _check_spread(incoming: list[str] | None, scratch: str | None) -> None:
    if incoming:
        raise UserError("--incoming: is of one part, which Dask would not spread; leave --dask out")
    if scratch:
        raise UserError("--scratch (RESIM_SCRATCH): is of this machine, and --dask may use others; leave one out")


def _check_workers(dask: str | None, workers: int | None) -> None:
    if workers and not dask:
        raise UserError("--workers: are Dask's; give --dask with it")


def _assigned(option: str, words: list[str]) -> list[tuple[str, str]]:
    """Split words such as A=B."""
    pairs = [word.partition("=") for word in words]
    for word, (first, _, second) in zip(words, pairs, strict=True):
        if not first or not second:
            raise UserError(f"{option} {word!r}: is not two words with = between them")
        if sum(first == other for other, _, _ in pairs) > 1:
            raise UserError(f"{option}: {first!r} is given more than once; give it once")
    return [(first, second) for first, _, second in pairs]


def _words(text: str | None) -> list[str]:
    return text.split(",") if text else []


def _crosstalk(text: str | None) -> dict[str, float]:
    """Read shares of crosstalk; one without a name is called by its percentage."""
    named = [word if "=" in word else f"{_percentage(word)}={word}" for word in _words(text)]
    return {name: _share(word) for name, word in _assigned("--crosstalk", named)}


def _percentage(word: str) -> str:
    return f"crosstalk_{100 * _share(word):g}".replace(".", "_")


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"--crosstalk: {word!r} is not a share, and one is from 0 to 1")
    return share


def _number(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise UserError(f"{option}: {word!r} is not a whole number, and a code is one") from error


def _shares(text: str) -> Any:
    from resim.config import SPLITS, Splits
    from resim.typed import parse

    words = text.split(",")
    if len(words) != len(SPLITS):
        raise UserError(f"--splits {text}: has {len(words)} shares, not one each of {', '.join(SPLITS)}")
    return parse(Splits, dict(zip(SPLITS, words, strict=True)), "--splits")


def _event_range(text: str | None, available: int) -> tuple[int, int]:
    if text is None:
        return 0, available
    words = text.split(":")
    if len(words) != 2 or not all(word.isascii() and word.isdecimal() for word in words):
        raise UserError(f"--events {text!r}: not a range; give FIRST:STOP, for example 0:500")
    return int(words[0]), int(words[1])


def _scratch(text: str | None) -> Path | None:
    """Give the folder in which parts are written first, with what this machine says for its variables."""
    if not text:
        return None
    folder = Path(os.path.expandvars(text))
    if not folder.is_dir():
        raise UserError(
            f"--scratch {text}: {folder} is no folder; give one of this machine's own disk, or leave it out"
        )
    return folder


def _make_folder(folder: Path) -> None:
    from resim.store import refuse_in_part

    refuse_in_part(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {folder}: cannot be made ({error.strerror}); choose a folder that you may write to"
        ) from error


class _bar:
    """A progress bar that is silent when not on a terminal."""

    def __init__(self, total: int | None, name: str, unit: str) -> None:
        self._bar = tqdm(total=total, desc=name, unit=unit, disable=None, file=sys.stderr)

    def __enter__(self) -> Callable[[int], None]:
        return self._advance

    def _advance(self, n: int) -> None:
        self._bar.update(n)

    def __exit__(self, *_: Any) -> None:
        self._bar.close()


def main() -> None:
    """Run the command; what ends it early is told in one line, see `resim.ending`."""
    run_command(
        app,
        "resim",
        less="fewer events a part (--shard-size, events_per_part)",
        kept="what is whole was kept, and the same command makes the rest",
    )
