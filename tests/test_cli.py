"""The command line as a user meets it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from resim.store import open_dataset
from tests.conftest import Done, resim, small_config
from tests.lanes import CASES, LARTPC, LaneCase

RESIM = Path(sys.executable).parent / "resim"


def _simulation(config: Path, out: Path, *more: object, sample: str = "qcd", events: str = "0:20") -> list[object]:
    return ["simulate", "--config", config, "--sample", sample, "--events", events, "--out", out, *more]


def _simulate(*arguments: Any, **options: str) -> Done:
    return resim(*_simulation(*arguments, **options))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> LaneCase:
    return request.param


def _views(case: LaneCase) -> tuple[str, str]:
    return "--views", ",".join(("nominal", case.after, case.last))


def _write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def dataset(case: LaneCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data set as the README says."""
    folder = tmp_path_factory.mktemp("cli")
    config, sample = _write(folder / "config.yaml", case.config()), case.samples[0]
    made = _simulate(config, folder / sample, "--shard-size", 10, *_views(case), sample=sample)
    assert made.returncode == 0, made.stderr
    return folder / sample


def _mistake(done: Done, *words: str) -> None:
    """Check that a mistake is told in one line, with exit code 2."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith("resim: ")
    for word in words:
        assert word in lines[-1]


def test_simulate_is_silent_when_not_on_a_terminal(case: LaneCase, dataset: Path, write_config: Any) -> None:
    arguments = _simulation(
        write_config(case.config()), dataset, "--shard-size", 10, *_views(case), sample=case.samples[0]
    )
    command = [RESIM, *map(str, arguments)]
    again = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_inspect_as_table_and_as_json(case: LaneCase, dataset: Path) -> None:
    table = resim("inspect", dataset)
    assert table.returncode == 0
    for word in (
        f"lane {case.name}",
        case.after,
        "ms/event",
        *case.redone,
        {"jets": "pythia8mc"}.get(case.name, "numba"),
    ):
        assert word in table.stdout
    found = json.loads(resim("inspect", "--json", dataset).stdout)
    assert set(found["views"]) == {"nominal", case.after, case.last}


def test_validate_and_digest(dataset: Path) -> None:
    assert "whole" in resim("validate", dataset).stdout
    plain = resim("digest", dataset).stdout.strip()
    assert len(plain) == 64
    assert json.loads(resim("digest", "--json", dataset).stdout)["digest"] == plain


def test_show_draws_a_picture(dataset: Path, tmp_path: Path) -> None:
    from resim.store import open_dataset

    identity = int(open_dataset(dataset).objects()["object"][0])
    done = resim("show", dataset, "--object", identity, "--out", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "command", ["", "simulate", "manifest", "inspect", "validate", "digest", "show", "check", "schema"]
)
def test_help(command: str) -> None:
    done = resim(*filter(None, [command]), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_mistakes_in_arguments(write_config: Any, tmp_path: Path) -> None:
    config, out = write_config(small_config()), tmp_path / "out"
    _mistake(_simulate(config, out, "--views", "nominal,foo"), "no view 'foo'", "shower_seed")
    _mistake(_simulate(config, out, events="0-20"), "--events '0-20'", "FIRST:STOP")
    _mistake(_simulate(config, out, "--shard-size", 15), "--shard-size = 15", "use 10 or 20")
    _mistake(_simulate(tmp_path / "none.yaml", out), "none.yaml", "cannot be read")
    assert not out.exists()


def test_no_such_sample(write_config: Any, tmp_path: Path) -> None:
    _mistake(_simulate(write_config(small_config()), tmp_path, sample="ttbar"), "--sample ttbar", "qcd, hbb")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("samples/proton/set", {"particle": "kaon"}, ("samples.proton.set: particle", "not 'kaon'")),
        ("samples/proton/set", {"kinetic_energy": [50, 20000]}, ("kinetic_energy must be [low, high]", "20000.0]")),
        ("chain/charge/geometry", "ndlr", ("chain.charge: geometry", "no geometry 'ndlr'", "ndlar, module0")),
        ("views/x", {"from": "charge", "set": {"lifetime": {"uniform": [-10, 5000]}}}, ("lifetime", "not -10")),
        ("views/x", {"from": "charge", "set": {"treshold": 1}}, ("'treshold'", "did you mean threshold?")),
        (
            "views/x",
            {"from": "readout", "set": {"hold": {"choose": [1, 2]}}},
            ("'hold' cannot be drawn event by event",),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_mistakes_in_the_second_lane_write_nothing(
    path: str, value: Any, words: tuple[str, ...], write_config: Any, tmp_path: Path
) -> None:
    values = LARTPC.config()
    *parents, last = path.split("/")
    place = values
    for word in parents:
        place = place[word]
    place[last] = value
    config = write_config(values)
    _mistake(_simulate(config, tmp_path / "out", sample="proton"), str(config), *words)
    _mistake(resim("check", "--config", config), str(config), *words)
    assert not (tmp_path / "out").exists()


def test_what_is_for_jets_alone_is_refused_for_images(tmp_path: Path, write_config: Any) -> None:
    config, folder, out = write_config(LARTPC.config()), tmp_path / "proton", tmp_path / "out"
    made = _simulate(config, folder, "--views", "nominal,noise", sample="proton", events="0:10")
    assert made.returncode == 0, made.stderr
    for to, more in (("rs3l", ["--vartype", "noise=0"]), ("hepmc3", [])):
        done = resim("export", folder, "--to", to, "--out", out, *more)
        _mistake(done, f"--to {to}: is for the lane jets, and this is lartpc; export parquet")
    _mistake(resim("pool", "--config", config, "--out", out), "the lane 'lartpc' has no pile-up, and needs no pool")
    where = ("--config", config, "--sample", "proton", "--view", "nominal", "--events", "0:10", "--out", out)
    for command in ("outgoing", "engine"):
        _mistake(resim(command, *where), "no engine makes the view 'nominal'")
    assert not out.exists()


def test_parquet_brings_back_all_views(dataset: Path, tmp_path: Path) -> None:
    """What events drew was left out without a word."""
    file, back = tmp_path / "all.parquet", tmp_path / "back"
    assert resim("export", dataset, "--to", "parquet", "--out", file).returncode == 0
    assert resim("import", "parquet", file, "--out", back).returncode == 0
    digests = [json.loads(resim("digest", "--json", folder).stdout) for folder in (dataset, back)]
    assert digests[0]["views"] == digests[1]["views"]
    assert digests[0]["objects"] == digests[1]["objects"]


def test_misspelt_pythia_setting_writes_nothing(write_config: Any, tmp_path: Path) -> None:
    values = small_config()
    values["views"]["x"] = {"from": "shower", "set": {"TimeShower:renormMultFak": 2}}
    done = _simulate(write_config(values), tmp_path / "out")
    _mistake(done, "views.x.set", "TimeShower:renormMultFak = 2", "did you mean TimeShower:renormMultFac")
    assert not (tmp_path / "out").exists()


def test_settings_that_pythia_cannot_start_with_write_nothing(write_config: Any, tmp_path: Path) -> None:
    """Every line is good by itself, but no phase space is left."""
    values = small_config()
    values["chain"]["hard"] |= {"PhaseSpace:pTHatMin": 6900.0, "PhaseSpace:pTHatMax": 0.0, "PhaseSpace:mHatMax": 1000.0}
    done = _simulate(write_config(values), tmp_path / "out")
    _mistake(done, "init() failed", "PhaseSpace:pTHatMin = 6900.0")
    assert not list((tmp_path / "out").glob("*"))


def _flip(file: Path, position: float = 0.5) -> None:
    raw = bytearray(file.read_bytes())
    raw[int(len(raw) * position)] ^= 4
    file.write_bytes(raw)


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def _shard(folder: Path, view: str = "nominal") -> Path:
    return next((folder / "part-00000000-00000010/data.zarr/views" / view / "constituents").glob("c.*"))


def test_flipped_bit_is_named(copy: Path) -> None:
    _flip(_shard(copy))
    done = resim("validate", copy)
    _mistake(done, "problem(s)", "run the command")
    assert "part-00000000-00000010" in done.stderr
    assert "views/nominal/constituents" in done.stderr


def test_truncated_part_is_named(case: LaneCase, copy: Path) -> None:
    shard = _shard(copy, case.last)
    os.truncate(shard, shard.stat().st_size // 2)
    done = resim("validate", copy)
    _mistake(done)
    assert f"views/{case.last}/constituents" in done.stderr
    _mistake(resim("digest", copy), f"views/{case.last}/constituents")


def test_another_format_version(copy: Path) -> None:
    file = copy / "part-00000000-00000010/digest.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 99').replace('"version":1', '"version":99'))
    _mistake(resim("digest", copy), "99")


def test_no_data_set(tmp_path: Path) -> None:
    for command in ("inspect", "validate", "digest"):
        _mistake(resim(command, tmp_path), str(tmp_path))


def test_other_sample_or_version_in_the_folder_is_not_replaced(case: LaneCase, copy: Path, write_config: Any) -> None:
    before, (first, second) = resim("digest", copy).stdout, case.samples
    config = write_config(case.config())
    _mistake(_simulate(config, copy, "--shard-size", 10, sample=second), f"holds the sample {first!r}")
    assert resim("digest", copy).stdout == before
    file = copy / "part-00000000-00000010/digest.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 99').replace('"version":1', '"version":99'))
    _mistake(_simulate(config, copy, "--shard-size", 10, sample=first), "99")
    assert "99" in file.read_text()


def test_more_events_join_those_that_are_there(case: LaneCase, dataset: Path, copy: Path, write_config: Any) -> None:
    config, sample = write_config(case.config()), case.samples[0]
    done = _simulate(config, copy, "--shard-size", 10, *_views(case), events="20:30", sample=sample)
    assert done.returncode == 0, done.stderr
    assert json.loads(resim("inspect", "--json", copy).stdout)["events"] == 30
    for part in dataset.glob("part-*"):
        assert (copy / part.name / "digest.json").read_bytes() == (part / "digest.json").read_bytes()


def test_a_picture_that_cannot_be_written(dataset: Path, tmp_path: Path) -> None:
    _mistake(resim("show", dataset, "--out", tmp_path / "none" / "x.png"), "cannot be written", "choose another place")


def test_no_such_object(dataset: Path, tmp_path: Path) -> None:
    _mistake(resim("show", dataset, "--object", 10**9, "--out", tmp_path / "x.png"), "--object 1000000000", "8 x event")
    _mistake(resim("show", dataset, "--object", 0, "--out", tmp_path / "x.bmp"), "must end in .png")


def test_kill_at_any_moment_then_the_same_command(
    case: LaneCase, dataset: Path, write_config: Any, tmp_path: Path
) -> None:
    """Killed with SIGKILL after several times; what is left is whole parts only, and the digest comes out the same."""
    config, out = write_config(case.config()), tmp_path / "data"
    arguments = _simulation(config, out, "--shard-size", 10, *_views(case), sample=case.samples[0])
    for delay in (1.5, 2.5, 3.5):
        process = subprocess.Popen([str(RESIM), *map(str, arguments)])
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in out.glob("part-*"):
            assert resim("validate", part).returncode == 0
    assert resim(*arguments).returncode == 0
    assert resim("digest", out).stdout == resim("digest", dataset).stdout
    assert not list(out.glob(".part-*"))


def test_another_process_makes_the_same_bits(case: LaneCase, dataset: Path, write_config: Any, tmp_path: Path) -> None:
    config, out = write_config(case.config()), tmp_path / "data"
    arguments = _simulation(config, out, "--shard-size", 20, *_views(case), sample=case.samples[0])
    subprocess.run([str(RESIM), *map(str, arguments)], check=True, timeout=250)
    assert resim("digest", out).stdout == resim("digest", dataset).stdout


def _mount(folder: Path, size: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_full_disk(case: LaneCase, write_config: Any, tmp_path: Path) -> None:
    config, small = write_config(case.config()), tmp_path / "small"
    small.mkdir()
    if not _mount(small, "64k"):
        pytest.skip("a small file system can only be mounted by root")
    try:
        done = _simulate(config, small / "qcd", "--views", f"nominal,{case.last}", sample=case.samples[0])
        _mistake(done, str(small / "qcd"), "no space left", "Free space or choose another folder")
        assert not list((small / "qcd").glob("*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_chain_is_told(write_config: Any) -> None:
    values = small_config()
    drawn = {"ecal.scale": {"uniform": [0.8, 1.2], "values": 4}}
    values["views"]["drawn"] = {"base": "fsr_mur_2", "from": "detector", "set": drawn}
    done = resim("chain", "--config", write_config(values), "--sample", "hbb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hbb: hard > shower > hadronization > decays > pileup > detector > jets\n")
    assert "├─ shower > hadronization > decays > pileup [fsr_mur_2]\n" in done.stdout
    assert "└─ detector > jets [drawn]: drawn\n" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("drawn "))
    assert "fsr_mur_2 up to pileup" in line
    assert "ecal.scale = uniform of 4 values, 0.8 to 1.2" in line


def test_chain_of_the_second_lane_is_told(write_config: Any) -> None:
    done = resim("chain", "--config", write_config(LARTPC.config()), "--sample", "proton")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("proton: gun > deposits > charge > pixels > readout > voxels\n")
    assert "├─ deposits [nominal]\n" in done.stdout
    assert "└─ deposits > charge > pixels > readout > voxels [redeposited]: redeposited\n" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("thrown "))
    assert "nominal up to deposits" in line
    assert "field = uniform of values, 0.45 to 0.55" in line


def test_processes_of_a_lane_are_listed() -> None:
    assert "kinetic_energy=[50, 400]" in resim("processes", "--lane", "lartpc").stdout
    assert "kinetic_energy" not in resim("processes").stdout


def test_a_pool_of_pile_up_is_made_once_and_wanted_where_there_is_some(write_config: Any, tmp_path: Path) -> None:
    values = small_config(pileup={"events": 500})
    values["views"] = {"nominal": {}, "busy": {"from": "pileup", "set": {"mu": 5}}}
    config, pool = write_config(values), tmp_path / "pool"
    refused = _simulate(config, tmp_path / "out")
    assert refused.returncode == 2
    assert "pile-up is asked for (mu > 0) and no pool is given; add --pool, made with `resim pool`" in refused.stderr
    assert resim("pool", "--config", config, "--out", pool).returncode == 0
    written = {path: path.stat().st_mtime_ns for path in pool.rglob("*")}
    assert resim("pool", "--config", config, "--out", pool).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in pool.rglob("*")} == written
    assert _simulate(config, tmp_path / "out", "--pool", pool).returncode == 0
    other = _simulate(write_config(values | {"seed": 1}), tmp_path / "other", "--pool", pool)
    assert other.returncode == 2
    assert "is not the pool that the config describes; make it again with `resim pool`" in other.stderr


def test_what_would_take_events_out_of_a_data_set_is_refused(write_config: Any, tmp_path: Path) -> None:
    config, out, sample = write_config(LARTPC.config()), tmp_path / "data", LARTPC.samples[0]
    words = ["--shard-size", 20, "--views", "nominal"]
    assert _simulate(config, out, *words, "--events", "0:40", sample=sample).returncode == 0
    whole, parts = resim("digest", out).stdout, sorted(out.iterdir())
    smaller = ["--events", "0:10", "--shard-size", 10, "--views", "nominal"]
    _mistake(_simulate(config, out, *smaller, sample=sample), "has the events 0:20, of which only 10", "or none")
    other = ["--shard-size", 40, "--views", "nominal"]
    _mistake(_simulate(config, out, *other, sample=LARTPC.samples[1]), f"{out}: holds the sample {sample!r}")
    assert sorted(out.iterdir()) == parts
    shutil.rmtree(out / "part-00000020-00000040")
    again = ["--events", "0:20", *words]
    _mistake(_simulate(config, out, *again, sample=sample), "is listed in manifest.json and missing", "--events 20:40")
    assert _simulate(config, out, *words, "--events", "0:40", sample=sample).returncode == 0
    assert resim("digest", out).stdout == whole


def test_parts_that_would_not_fit_those_that_stay_are_refused_before_they_are_made(
    write_config: Any, tmp_path: Path
) -> None:
    values, out, sample = LARTPC.config(), tmp_path / "data", LARTPC.samples[0]
    config, names = write_config(values), LARTPC.cheap[1:]
    both = ["--shard-size", 20, "--views", f"nominal,{names[0]}"]
    assert _simulate(config, out, *both, "--events", "0:40", sample=sample).returncode == 0
    whole, parts = resim("digest", out).stdout, {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    stays, remedy = f"{out / 'part-00000020-00000040'}: stays as it is", "make all events of the data set in one"
    first, more = ["--shard-size", 20, "--events", "0:20"], ["--shard-size", 20, "--events", "40:60"]
    _mistake(_simulate(config, out, *first, "--views", names[1], sample=sample), f"without view {names[1]!r}", remedy)
    _mistake(_simulate(config, out, *more, "--views", "nominal", sample=sample), "--views all that", names[0])
    for change, what in (({"seed": 5}, "seed"), ({"checkpoint": None}, "checkpoint_recipes")):
        other = _simulate(write_config(values | change), out, *first, *both[2:], sample=sample)
        _mistake(other, stays, f"another config ({what})", "or choose another --out")
    views = values["views"] | {names[0]: {"from": "charge", "set": {"field": 0.55}}}
    other = _simulate(write_config(values | {"views": views}), out, *first, "--views", "nominal", sample=sample)
    _mistake(other, f"another config (view {names[0]!r})")
    write_config(values)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == parts
    # of parts that are there, views may be named alone: the others stay
    assert _simulate(config, out, *first, "--views", "nominal", sample=sample).returncode == 0
    assert resim("digest", out).stdout == whole
    # of all events, one more view
    more_views = ["--shard-size", 20, "--views", names[1], "--events", "0:40"]
    assert _simulate(config, out, *more_views, sample=sample).returncode == 0
    assert open_dataset(out).views == ("nominal", names[0], names[1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", ""], "--out: an empty word follows; give it a value"),
        (["--out", "data", "--views="], "--views: an empty word follows"),
        (["--out", "data", "--events", "0:1000000000000"], "a sample has 1000000000 events at most; give a range"),
        (["--out", "data/part-00000000-00000010/within"], "lies in the part"),
    ],
    ids=["out", "views", "events", "part"],
)
def test_words_that_would_do_harm_make_nothing(words: list[str], told: str, write_config: Any, tmp_path: Path) -> None:
    config, sample = write_config(LARTPC.config()), LARTPC.samples[0]
    out, first = tmp_path / "data", ["--events", "0:10", "--views", "nominal"]
    assert _simulate(config, out, *first, sample=sample).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    command = [RESIM, "simulate", "--config", config, "--sample", sample, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    _mistake(done, told)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_whose_name_is_not_utf_8_is_one_line(write_config: Any, tmp_path: Path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    done = _simulate(write_config(LARTPC.config()), out, "--events", "0:10", "--views", "nominal", sample="proton")
    _mistake(done, "d\\udcff", "a name that is not UTF-8", "rename the folder")
    assert not [*out.rglob("*")]
