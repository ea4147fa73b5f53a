"""The contract with engines, end to end with real programs: what goes out, their run, what comes back."""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resim.interop.hepmc import read_hepmc
from resim.store import Part, open_dataset, open_part, validate
from tests.conftest import ROOT, Done, resim, small_config
from tests.engines.runs import ENGINES, snakemake
from tests.interop.reference import reference

STABLE = "--setting ParticleDecays:limitTau0=on --setting ParticleDecays:tau0Max=10"
N = 60


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an environment for the stand-alone Pythia job, without any of ours."""
    folder = tmp_path_factory.mktemp("engine") / "venv"
    packages = ["pythia8mc", "pyhepmc", "awkward", "numpy"]
    pip = [folder / "bin/pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *packages]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=100)
    done = subprocess.run(pip, capture_output=True, text=True, timeout=280, check=False, env=_plain())
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(packages)} into an environment of their own: {done.stderr[-300:]}")
    found = subprocess.run(
        [folder / "bin/python", "-I", "-c", "import resim"], capture_output=True, check=False, env=_plain()
    )
    assert found.returncode, "the engine's environment is not its own"
    return str(folder / "bin/python")


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def alone(python: str) -> dict[str, Any]:
    """Describe the stand-alone Pythia job."""
    program = ENGINES / "pythia" / "generate.py"
    command = f"env -u PYTHONPATH {python} {program} --input {{input}} --output {{output}} --seed {{seed}} {STABLE}"
    return {"command": command, "input": "lhe", "output": "hepmc3", "minutes": 5}


def config(engine: dict[str, Any], **more: Any) -> dict[str, Any]:
    values = small_config(engines={"other": engine}, block_size=30, events_per_part=N)
    values["samples"] = {name: {"events": N, "process": "qcd"} for name in ("qcd", "again")}
    values["views"] = {"nominal": {}, "shower_seed": {"from": "shower"}, "alone": {"from": "shower", "engine": "other"}}
    return {**{k: v for k, v in values.items() if k not in ("training", "evaluation")}, **more}


def written(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def good(*words: object) -> Done:
    done = resim(*words)
    assert done.returncode == 0, done.stderr
    return done


def told(done: Done) -> str:
    """Give the one line that tells a mistake."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("resim: ")
    return line


def part_of(path: Path, view: str = "alone", sample: str = "qcd") -> list[object]:
    return ["--config", path, "--sample", sample, "--view", view, "--events", f"0:{N}"]


@pytest.fixture(scope="module")
def run(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go the whole way by hand: folder with sent.lhe.gz, back.hepmc3.gz and data."""
    folder = tmp_path_factory.mktemp("run")
    path = written(folder, config(alone(python)))
    good("outgoing", *part_of(path), "--out", folder / "sent.lhe.gz")
    good("engine", *part_of(path), "--input", folder / "sent.lhe.gz", "--out", folder / "back.hepmc3.gz")
    incoming = f"alone={folder / 'back.hepmc3.gz'}"
    good("simulate", "--config", path, "--sample", "qcd", "--out", folder / "data", "--incoming", incoming)
    return folder


@pytest.fixture(scope="module")
def part(run: Path) -> Part:
    (found,) = open_dataset(run / "data").parts
    return found


# --- a program that keeps to it -----------------------------------------------------------------------------------


def test_events_go_out_and_come_back_under_their_numbers(run: Path) -> None:
    with gzip.open(run / "sent.lhe.gz", "rt") as file:
        numbers = [int(word) for word in re.findall(r"^#event (\d+)$", file.read(), flags=re.M)]
    back = np.concatenate([hadrons.event for hadrons in read_hepmc(run / "back.hepmc3.gz")])
    assert numbers == back.tolist() == list(range(N))


def test_the_view_shares_the_hard_process_and_looks_like_another_shower_of_it(run: Path, part: Part) -> None:
    """Coarse, for there are a hundred jets: means within four standard errors, and jets along the same partons."""
    assert validate(run / "data") == []
    alone, other = part.view("alone"), part.view("shower_seed")
    both = alone.present & other.present
    assert both.sum() > 90
    for name in ("pt", "mass", "n_constituents", "dr_parton"):
        a, b = (view.column(name)[both].astype(float) for view in (alone, other))
        error = np.hypot(a.std(), b.std()) / np.sqrt(both.sum())
        assert abs(a.mean() - b.mean()) < 4 * error, name
        assert not np.array_equal(a, b)
    pt = [view.column("pt")[both] for view in (alone, other)]
    assert np.corrcoef(*pt)[0, 1] > 0.8
    assert (alone.column("dr_parton")[alone.present] < 0.4).mean() > 0.85


def test_what_the_engine_took_is_in_the_price_of_its_view(run: Path, part: Part) -> None:
    taken = json.loads((run / "back.hepmc3.gz.json").read_text())["cost"][0]
    assert taken["cpu_s"] > 0.5
    assert taken["events"] == N
    entered = [r for r in part.attributes["cost"] if (r["stage"], r["view"]) == ("engine", "alone")]
    assert len(entered) == 1
    assert entered[0]["cpu_s"] > taken["cpu_s"]
    assert entered[0]["events"] == N
    assert not [r for r in part.attributes["cost"] if r["view"] == "alone" and r["stage"].startswith("shower")]


def test_a_view_names_its_engine(part: Part) -> None:
    assert part.view("alone").attributes["engine"] == "other"
    assert "engine" not in part.view("shower_seed").attributes


def test_nothing_is_asked_of_an_engine_whose_view_is_there(run: Path, part: Part) -> None:
    before = part.digest["self"]
    good("simulate", "--config", run / "config.yaml", "--sample", "qcd", "--out", run / "data")
    assert open_part(part.path).digest["self"] == before


def test_what_is_missing_or_of_another_config_is_told(run: Path, python: str, tmp_path: Path) -> None:
    simulate = ["simulate", "--config", run / "config.yaml", "--sample", "qcd", "--out", tmp_path / "data"]
    line = told(resim(*simulate))
    assert "view 'alone': is made by the engine 'other'; give what it made with --incoming alone=FILE" in line
    assert "--incoming shower_seed=...: no engine makes the view" in told(
        resim(*simulate, "--incoming", "shower_seed=x")
    )
    assert "x.hepmc3: no such file" in told(resim(*simulate, "--incoming", "alone=x.hepmc3"))
    back = f"alone={run / 'back.hepmc3.gz'}"
    assert "is of one part, and 0:60 are 2" in told(resim(*simulate, "--shard-size", 30, "--incoming", back))
    changed = written(tmp_path, config(alone(python), seed=5))
    simulate[2] = changed
    assert "was made for another config than view 'alone' has now; run the engine" in told(
        resim(*simulate, "--incoming", back)
    )
    assert not list(tmp_path.glob("data/part-*"))


def test_a_sample_of_whole_events(run: Path, tmp_path: Path) -> None:
    """The stand-alone job's events stand for a generator's own, hard process and all; views behind it work."""
    whole = {"command": f"cp {run / 'back.hepmc3.gz'} {{output}}", "input": "none", "output": "hepmc3"}
    values = config(whole)
    values["views"] = {"nominal": {}, "shower_seed": {"from": "shower"}, "redetected": {"from": "detector"}}
    values["samples"]["theirs"] = {"events": N, "engine": "other", "role": "evaluation"}
    path, back = written(tmp_path, values), tmp_path / "back.hepmc3.gz"
    good("engine", *part_of(path, "nominal", "theirs"), "--out", back)
    command = ["simulate", "--config", path, "--sample", "theirs", "--out", tmp_path / "data"]
    good(*command, "--incoming", f"nominal={back}")
    assert validate(tmp_path / "data") == []
    (part,) = open_dataset(tmp_path / "data").parts
    assert part.views == ("nominal", "redetected")
    assert part.objects()["event"].max() == N - 1
    assert set(part.objects()["split"]) == {2}
    assert (part.view("nominal").present & part.view("redetected").present).mean() > 0.9


# --- programs that do not -----------------------------------------------------------------------------------------


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "exits_1": ("echo why >&2; exit 1", {}, r"exited with 1; its words are in \S*\.log"),
    "fails_in_a_pipe": ("false | cat > {output}", {}, r"exited with 1"),
    "is_killed": ("kill -9 $$", {}, r"was ended by signal 9"),
    "hangs": ("sleep 1000", {"minutes": 0.03}, r"was ended after 0\.03 minutes; raise `minutes` of the engine"),
    "writes_nothing": ("true {output}", {}, r"wrote no \{output\}, though it ended well"),
    "half_a_file": (
        "head -c 300000 BACK > {output}",
        {},
        r"ends early, in event \d+ of the file|it was cut|is cut or damaged",
    ),
    "half_and_exits_1": ("head -c 300000 BACK > {output}; exit 1", {}, r"exited with 1"),
    "no_hepmc": ("echo hello > {output}", {}, r"Not a gzipped file|is not HepMC3"),
    "drops_3": (
        "CHANGE(n==7||n==20||n==59)",
        {},
        r"events 7, 20, 59 went out and did not come back; see the engine's log",
    ),
    "drops_many": ("CHANGE(n%2==1)", {}, r"events 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 20 more went out and did not"),
    "adds_one": (
        "SED s/^HepMC::Asciiv3-END/E 70 1 2\\nU GEV MM\\n"
        "P 1 0 211 0 0 1 1.01 0.14 4\\nV -1 0 [1]\\nP 2 -1 211 0 0 1 1.01 0.14 1\\n&/",
        {},
        r"event 70 came back and never went out \(events 0 to 59 did\)",
    ),
    "wrong_ids": ("SED s/^E 59 /E 1059 /", {}, r"event 1059 came back and never went out"),
    "ids_fall": ("SED s/^E 5 /E 3 /", {}, r"event 3 comes after event 4; ids must rise"),
    "nan": (
        "SED /^E 12 /,/^E 13 /s/^\\(P [0-9]* -\\?[0-9]* 211\\) [^ ]*/\\1 nan/",
        {},
        r"event 12 holds a number that is not finite",
    ),
    "nan_in_the_hard_process": (
        "SED /^E 12 /,/^E 13 /s/^\\(P [0-9]* [-0-9]* [-0-9]*\\) [^ ]* \\(.* 2[123]\\)$/\\1 1e999 \\2/",
        {},
        r"event 12 holds a number that is not finite",
    ),
    "no_number": (
        "SED /^E 12 /,/^E 13 /s/^\\(P [0-9]* -\\?[0-9]* 211\\) [^ ]*/\\1 abc/",
        {},
        r"event 12 holds a number",
    ),
    "nan_weight": ("SED /^E 12 /,/^E 13 /s/^W .*/W nan/", {}, r"event 12 holds a number that is not finite"),
    "other_number_in_order": ("CHANGE(n==7)", {"numbers": "order"}, r"has 59 events, and 60 went out; the engine numb"),
    "loses_too_many": ("CHANGE(n%2==1)", {"may_lose": 0.1}, r"events 1, 3, .* went out and did not come back"),
}


def written_out(words: str, back: Path) -> str:
    """Write out what is short for a change of a good file."""
    if words.startswith("CHANGE"):
        condition = words.removeprefix("CHANGE").replace("||", "|| ")
        program = f"BEGIN{{n=-1}} /^E /{{n=$2}} /^HepMC::Asciiv3-END/{{n=-1}} !(n>=0 && {condition})"
        words = f"gunzip -c {back} | awk {shlex.quote(program)} | gzip -c > {{output}}"
    elif words.startswith("SED "):
        words = f"gunzip -c {back} | sed {shlex.quote(words.removeprefix('SED '))} | gzip -c > {{output}}"
    return words.replace("BACK", str(back))


def command_of(words: str, back: Path) -> str:
    """Make a command that keeps to the form."""
    return f": {{input}}; {written_out(words, back)} # {{output}}"


def bad(words: str, run: Path, **more: Any) -> dict[str, Any]:
    return {"command": command_of(words, run / "back.hepmc3.gz"), "input": "lhe", "output": "hepmc3", **more}


@pytest.mark.parametrize("case", BAD)
def test_an_engine_that_fails_is_told_and_nothing_is_left(case: str, run: Path, tmp_path: Path) -> None:
    words, more, message = BAD[case]
    path, out = written(tmp_path, config(bad(words, run, **more))), tmp_path / "made" / "back.hepmc3.gz"
    line = told(resim("engine", *part_of(path), "--input", run / "sent.lhe.gz", "--out", out))
    assert re.search(message, line), line
    assert f"engine 'other', qcd, view alone, events 0:{N}: " in line
    assert sorted(file.name for file in out.parent.iterdir()) == ["back.hepmc3.gz.log"]


def test_what_it_said_is_in_its_log(run: Path, tmp_path: Path) -> None:
    path = written(tmp_path, config(bad("echo why >&2; exit 1", run)))
    resim(
        "engine",
        *part_of(path),
        "--input",
        run / "sent.lhe.gz",
        "--out",
        tmp_path / "b.hepmc3.gz",
        "--log",
        tmp_path / "l",
    )
    assert (tmp_path / "l").read_text() == "why\n"


@pytest.mark.parametrize("case", ["half_a_file", "drops_3", "adds_one", "nan", "wrong_ids"])
def test_a_bad_file_by_hand_is_refused_and_nothing_is_published(case: str, run: Path, tmp_path: Path) -> None:
    words, _, message = BAD[case]
    made = tmp_path / "bad.hepmc3.gz"
    command = command_of(words, run / "back.hepmc3.gz").replace("{output}", str(made)).replace("{input}", "")
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    command_line = ["simulate", "--config", run / "config.yaml", "--sample", "qcd", "--out", tmp_path / "data"]
    line = told(resim(*command_line, "--incoming", f"alone={made}"))
    assert re.search(message, line), line
    assert str(made) in line
    assert not list((tmp_path / "data").glob("*part*"))


def test_events_that_an_engine_may_lose_are_listed_as_failed(run: Path, tmp_path: Path) -> None:
    path = written(tmp_path, config(bad("CHANGE(n==7)", run, may_lose=0.05)))
    back = tmp_path / "back.hepmc3.gz"
    good("engine", *part_of(path), "--input", run / "sent.lhe.gz", "--out", back)
    good("simulate", "--config", path, "--sample", "qcd", "--out", tmp_path / "data", "--incoming", f"alone={back}")
    (part,) = open_dataset(tmp_path / "data").parts
    assert part.attributes["failed"] == {"nominal": [], "shower_seed": [], "alone": [[7, "engine"]]}
    assert not part.view("alone").present[part.objects()["event"] == 7].any()


def test_an_engine_that_numbers_events_itself_is_matched_by_order(run: Path, part: Part, tmp_path: Path) -> None:
    """As Herwig does: from 1."""
    program = "/^E /{ $2 = $2 + 1 } { print }"
    words = f"gunzip -c BACK | awk {shlex.quote(program)} | gzip -c > {{output}}"
    path, back = written(tmp_path, config(bad(words, run, numbers="order"))), tmp_path / "back.hepmc3.gz"
    good("engine", *part_of(path), "--input", run / "sent.lhe.gz", "--out", back)
    good("simulate", "--config", path, "--sample", "qcd", "--out", tmp_path / "data", "--incoming", f"alone={back}")
    (found,) = open_dataset(tmp_path / "data").parts
    assert np.array_equal(found.view("alone").columns, part.view("alone").columns, equal_nan=True)


def _alive(mark: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                yield int(entry.name)
        except OSError:
            continue


@pytest.mark.parametrize("ending", ["wait", "sleep 1; exit 0", "exit 1"], ids=["hangs", "ends", "fails"])
def test_no_child_outlives_an_engine(ending: str, run: Path, tmp_path: Path) -> None:
    """One child in the engine's group, one that went into a session of its own."""
    mark = f"9{os.getpid()}{abs(hash(ending)) % 1000}.5"
    words = f"sleep {mark} & setsid sleep {mark} & {ending}"
    path = written(tmp_path, config(bad(words, run, minutes=0.05)))
    start = time.monotonic()
    done = resim("engine", *part_of(path), "--input", run / "sent.lhe.gz", "--out", tmp_path / "back.hepmc3.gz")
    told(done)
    assert time.monotonic() - start < 60
    assert list(_alive(mark)) == []


# --- in the workflow ----------------------------------------------------------------------------------------------


def test_the_workflow_goes_the_same_way(part: Part, python: str, tmp_path: Path) -> None:
    written(tmp_path, config(alone(python)))
    done = snakemake(tmp_path, "results/data/qcd/manifest.json", "--cores", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (found,) = open_dataset(tmp_path / "results/data/qcd").parts
    assert found.digest["views"] == part.digest["views"]
    assert not (tmp_path / "results/outgoing/qcd/alone/part-00000000-00000060.lhe.gz").exists()
    dry = snakemake(tmp_path, "results/data/qcd/manifest.json", "--dry-run")
    assert "Nothing to be done" in dry.stdout + dry.stderr
    values = config(alone(python))
    values["engines"]["other"]["command"] += " --setting TimeShower:renormMultFac=2.0"
    written(tmp_path, values)
    dry = snakemake(tmp_path, "results/data/qcd/manifest.json", "--dry-run").stdout
    assert [word for word in ("outgoing", "run_other", "simulate", "manifest") if f"\n{word} " not in dry] == []


WRONG = ("exits_1", "hangs", "drops_3")  # of each kind one: how it ends, when, and what it wrote


def test_the_rest_goes_on_where_an_engine_or_a_file_fails(run: Path, tmp_path: Path) -> None:
    """Each sample's part breaks in its own way but one, which is made whole. What was prepared once serves all."""
    back = run / "back.hepmc3.gz"
    cases = "".join(f"*/{name}/*) {written_out(BAD[name][0], back)};; " for name in WRONG)
    command = f"test -f {{scratch}}/here && case {{input}} in {cases} *) cp {back} {{output}};; esac"
    engine = {"command": command, "input": "lhe", "output": "hepmc3", "minutes": 0.1}
    values = config(engine | {"prepare": "echo once >> {scratch}/here"})
    values["samples"] = {name: {"events": N, "process": "qcd"} for name in ("qcd", *WRONG)}
    text = gzip.decompress((run / "sent.lhe.gz").read_bytes())
    (tmp_path / "cut.lhe").write_bytes(text[: text.index(b"#event 41") - 100])
    values["samples"]["cut"] = {"events": N, "lhe": str(tmp_path / "cut.lhe")}
    written(tmp_path, values)
    done = snakemake(tmp_path, "views", "--cores", "2", "--keep-going")
    assert done.returncode == 1
    for name in WRONG:
        line = next(line for line in done.stderr.splitlines() if f"resim: engine 'other', {name}, view alone" in line)
        assert re.search(BAD[name][2].replace("0\\.03", r"0\.1"), line), line
        assert not list((tmp_path / "results/incoming" / name).rglob("*.hepmc3.gz"))
    logs = "".join(path.read_text() for path in (tmp_path / "results/logs").rglob("*cut*"))
    assert "cut.lhe, event 41: cannot be read" in logs
    assert validate(tmp_path / "results/data/qcd") == []
    assert [path.parent.name for path in (tmp_path / "results/data").glob("*/part-*")] == ["qcd"]
    assert (tmp_path / "results/engines/other/here").read_text() == "once\n"


# --- a detector ---------------------------------------------------------------------------------------------------


def test_delphes_takes_the_place_of_the_detector(tmp_path: Path) -> None:
    """Real files: what Pythia wrote and what Delphes made of it stand for the two programs."""
    folder = reference()
    n = 100
    copy = {name: f"cp {folder / name} {{output}}" for name in ("qcd.hepmc3.gz", "qcd_delphes.root")}
    values = config({"command": copy["qcd.hepmc3.gz"], "input": "none", "output": "hepmc3"}, block_size=20)
    detector = {"command": f": {{input}}; {copy['qcd_delphes.root']}", "input": "hepmc3", "output": "delphes_root"}
    values["engines"]["delphes"] = detector
    values["events_per_part"] = n
    values["views"] = {"nominal": {}, "delphes": {"from": "detector", "engine": "delphes"}}
    values["samples"]["theirs"] = {"events": n, "engine": "other"}
    path, whole = written(tmp_path, values), tmp_path / "whole.hepmc3.gz"
    sent, seen = tmp_path / "sent.hepmc3.gz", tmp_path / "seen.root"
    common = ["--config", path, "--sample", "theirs", "--events", f"0:{n}"]
    good("engine", *common, "--view", "nominal", "--out", whole)
    good("outgoing", *common, "--view", "delphes", "--incoming", f"nominal={whole}", "--out", sent)
    good("engine", *common, "--view", "delphes", "--input", sent, "--out", seen)
    (before,), (after,) = (list(read_hepmc(file)) for file in (whole, sent))
    assert np.array_equal(np.sort(before.particles["px"]), np.sort(after.particles["px"]))
    files = ["--incoming", f"nominal={whole}", "--incoming", f"delphes={seen}"]
    good("simulate", "--config", path, "--sample", "theirs", "--out", tmp_path / "data", *files)
    assert validate(tmp_path / "data") == []
    (part,) = open_dataset(tmp_path / "data").parts
    ours, theirs = part.view("nominal"), part.view("delphes")
    both = ours.present & theirs.present
    assert both.sum() > 0.95 * ours.present.sum() > 90
    ratio = theirs.column("pt")[both] / ours.column("pt")[both]
    assert 0.95 < np.median(ratio) < 1.05
