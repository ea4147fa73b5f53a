"""What a config, a file or a folder's name may not do: run code, reach a shell, leave what others may write."""

import ast
import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from resim.config import load_config
from resim.errors import UserError
from resim.simulate import Simulation, simulate_part
from resim.store import validate
from tests.conftest import ROOT, resim
from tests.e2e.runs import snakemake
from tests.lanes import LARTPC

SOURCES = sorted(
    path for folder in ("resim", "training", "benchmarks", "workflow") for path in (ROOT / folder).rglob("*.py")
)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]

# What runs the code that it is given, or may; and where it stands all the same, with the reason.
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp", "yaml.full_load",
    "yaml.load_all", "yaml.unsafe_load", "joblib.load", "marshal.loads", "marshal.load", "shelve.open",
    "pd.read_pickle", "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.loads", "cloudpickle.loads",
    "random.seed", "subprocess.getoutput", "subprocess.getstatusoutput", "os.umask",
}  # fmt: skip
ALLOWED = {
    ("training/data/packed.py", "pickle.loads"): "what a process of ours put into shared memory for another",
    ("workflow/engines/sherpa/generate.py", "pickle.loads"): "what our own fork wrote into our pipe",
}
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


@cache
def _calls(path: Path) -> list[tuple[str, ast.Call]]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [(ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]


def _named(call: ast.Call) -> dict[str | None, Any]:
    return {word.arg: getattr(word.value, "value", ast.unparse(word.value)) for word in call.keywords}


def _faults(path: Path) -> Iterator[str]:
    """Tell what in a file may run the code of others."""
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for name, call in _calls(path):
        words = _named(call)
        if name in FORBIDDEN and (place, name) not in ALLOWED:
            yield f"{place}:{call.lineno}: {name}"
        if "shell" in words and words["shell"] is not False:
            yield f"{place}:{call.lineno}: shell={words['shell']}"
        if name in NEEDED and words.get(NEEDED[name][0]) is not NEEDED[name][1]:
            yield f"{place}:{call.lineno}: {name} without {'='.join(map(str, NEEDED[name]))}"
        if name == "yaml.load" and ast.unparse(call.args[-1]) != "_Loader":
            yield f"{place}:{call.lineno}: yaml.load"
        if name.endswith((".chmod", ".mkdir", "os.open")) and _writable_by_all(call):
            yield f"{place}:{call.lineno}: {ast.unparse(call)}"


def _writable_by_all(call: ast.Call) -> bool:
    values = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    return any(isinstance(v, ast.Constant) and type(v.value) is int and v.value & stat.S_IWOTH for v in values)


def test_the_source_has_nothing_that_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    assert [fault for path in SOURCES for fault in _faults(path)] == []


def test_what_is_allowed_is_there() -> None:
    """An exception outlives what it was made for unless it is looked at."""
    assert {(p.relative_to(ROOT).as_posix(), name) for p in SOURCES for name, _ in _calls(p)} >= ALLOWED.keys()


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "yaml.load(x, yaml.Loader)",
        "subprocess.run('ls', shell=True)",
        "tempfile.mktemp()",
        "pickle.loads(x)",
        "folder.mkdir(0o777)",
    ],
)
def test_the_scan_finds(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(line)
    assert list(_faults(tmp_path / "bad.py"))


def test_configs_are_read_by_a_loader_that_makes_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: !!python/object/apply:os.system ['touch {tmp_path}/caught']\n")
    told = resim("check", "--config", path)
    assert (told.returncode, len(told.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "caught").exists()


def test_rules_import_nothing_that_runs_words() -> None:
    text = "\n".join(path.read_text() for path in RULES)
    assert not re.search(r"\b(eval|exec|pickle|os\.system|subprocess)\b", text)
    # A rule with `run:` or `script:` would run in a process that no test of commands sees.
    assert not re.search(r"^ +(run|script):", text, re.MULTILINE)


# A newline at the end is what `$` lets pass in Python's regular expressions.
NASTY = [
    "a;touch caught",
    "$(touch caught)",
    "`touch caught`",
    "../up",
    "a b",
    "a'b",
    'a"b',
    "a\n",
    "-rf",
    "a|b",
    "a&b",
    "{x}",
    "",
]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("section", ["samples", "views", "engines", "checkpoint", "base"])
def test_a_name_that_a_shell_could_read_otherwise_is_refused_in_a_line(
    section: str, name: str, write_config: Callable[[Any], Path]
) -> None:
    values = LARTPC.config()
    if section == "samples":
        values["samples"][name] = values["samples"]["proton"]
    elif section == "views":
        values["views"][name] = {"from": "readout"}
    elif section == "engines":
        values["engines"] = {name: {"command": "x {input} {output}", "input": "lhe", "output": "hepmc3"}}
    elif section == "checkpoint":
        values["checkpoint"] = name
    else:
        values["views"]["late"] = {"from": "readout", "base": name}
    told = resim("check", "--config", write_config(values))
    assert (told.returncode, len(told.stderr.splitlines())) == (2, 1)
    assert "pattern" in told.stderr


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("section", ["methods", "tasks"])
def test_names_of_the_training_are_refused_too(section: str, name: str) -> None:
    pytest.importorskip("torch")
    from training.config import parse_sections

    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    some = values["training"][section]
    some[name] = next(iter(some.values()))
    with pytest.raises(UserError, match="pattern"):
        parse_sections(values, "config")


@pytest.mark.timeout(900)  # the first job of a checkout compiles
def test_a_folder_of_any_name_is_no_command(tmp_path: Path) -> None:
    """Run in it, and with a data set from it, by the workflow."""
    folder = tmp_path / 'it\'s "a" $(touch caught) `touch caught`; run'
    stored = folder / "data of 'others'"
    folder.mkdir()
    values = LARTPC.config(views={"nominal": {}}, block_size=10, events_per_part=10)
    values["samples"] = {name: {**values["samples"][name], "events": 10} for name in ("proton", "electron")}
    del values["training"], values["evaluation"]
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    done = resim("simulate", "--config", folder / "config.yaml", "--sample", "electron", "--out", stored)
    assert done.returncode == 0, done.stderr
    values["samples"]["electron"] = {"source": {"store": str(stored)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    made = snakemake(folder, "views", "--cores", "1")
    assert made.returncode == 0, made.stderr[-3000:]
    assert [validate(folder / "results/data" / name) for name in ("proton", "electron")] == [[], []]
    assert [*tmp_path.rglob("caught*"), *ROOT.glob("caught*")] == []


def test_nothing_is_left_that_others_may_write(tmp_path: Path) -> None:
    """With the usual mask; one of 0 is a user's wish."""
    config = LARTPC.config(views={"nominal": {}})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    simulation = Simulation(load_config(tmp_path / "config.yaml"), "proton")
    before = os.umask(0o022)
    try:
        simulate_part(simulation, 0, 10, tmp_path / "data", simulation.all_views)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode for path in (tmp_path / "data").rglob("*")}
    assert modes
    assert [path for path, mode in modes.items() if mode & (stat.S_IWOTH | stat.S_IWGRP)] == []


def _pins(file: str) -> dict[str, str]:
    found = re.findall(r"^([a-zA-Z0-9_.-]+)==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
    return dict(found)


def test_the_lock_has_the_files_of_every_pin_but_torchs_and_sherpas() -> None:
    left_out = re.compile(r"torch|triton|cuda-.*|nvidia-.*|sherpa-mc")
    pins = {name: version for name, version in _pins("constraints.txt").items() if not left_out.fullmatch(name)}
    assert _pins("requirements.lock") == pins
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    for line in lines:
        _, *hashes = line.split()
        assert hashes, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes), line
