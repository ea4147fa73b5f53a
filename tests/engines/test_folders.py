"""What engines may write, and what of others is never removed. Programs of the shell stand in for engines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resim.config import Engine
from resim.engines import STAGE, Job, beside, prepare_engine, read_beside, run_job
from resim.errors import UserError
from resim.jets.external import write_outgoing
from resim.keys import stream
from resim.typed import parse
from tests.jets.handmade import hard_events

PREPARED = parse(
    Engine,
    {
        "command": "cp {scratch}/grid {output}",
        "prepare": "echo 1 > {scratch}/grid",
        "input": "none",
        "output": "hepmc3",
    },
    "test",
)


def job(command: str) -> Job:
    engine = parse(Engine, {"command": command, "input": "none", "output": "hepmc3"}, "test")
    return Job("shell", engine, "recipe", stream(1, "qcd", STAGE), "qcd", "nominal", 0, 10, 10)


def test_prepare_replaces_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        prepare_engine("grid", PREPARED, 1, tmp_path / "grid", log)
        assert (tmp_path / "grid/grid").read_text() == "1\n"
    (tmp_path / "precious/sub").mkdir(parents=True)
    (tmp_path / "precious/sub/thesis.txt").write_text("years")
    (tmp_path / "file").write_text("more years")
    for name in ("precious", "file"):
        with pytest.raises(
            UserError, match=rf"{name}: holds something that `resim prepare` did not make; give another"
        ):
            prepare_engine("grid", PREPARED, 1, tmp_path / name, log)
    assert (tmp_path / "precious/sub/thesis.txt").read_text() == "years"
    assert (tmp_path / "file").read_text() == "more years"
    (tmp_path / "empty").mkdir()
    prepare_engine("grid", PREPARED, 1, tmp_path / "empty", log)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "grid", "log", "precious"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "touch {work}/x; ln -s {work}/x {output}",
            r"left a link as \{output\}, though it ended well; its words are in",
        ),
        ("touch {work}/x {output}.other", r"wrote no \{output\}, though it ended well; its words are in"),
    ],
)
def test_an_engine_leaves_a_file(tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_job(job(command), None, tmp_path / "out.hepmc3.gz", tmp_path / "log", None, lambda path: None)
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("place", [lambda p: p, lambda p: p / "file" / "log"], ids=["folder", "under a file"])
def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--log .*: cannot be written \(.*\); choose another --log"):
        run_job(job("touch {output}"), None, tmp_path / "out", place(tmp_path), None, lambda path: None)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words", ["", "{}", "[]", "3", '{"recipe": "r", "cost": [1]}', '{"recipe": "r", "cost": [{}]}']
)
def test_a_damaged_note_of_what_it_took_is_told(tmp_path: Path, words: str) -> None:
    beside(tmp_path / "out").write_text(words)
    with pytest.raises(UserError, match=r"out.json: cannot be read \(.*\); run the engine again"):
        read_beside(tmp_path / "out", "r", "view")


@pytest.mark.parametrize("name", ["o.lhe.zst", "o.hepmc3.gz", "o"])
def test_what_goes_out_has_the_name_of_its_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"would be Les Houches; give a name that ends in .lhe, .lhe.gz$"):
        write_outgoing(hard_events([[]]), tmp_path / name, 13000.0)
    assert list(tmp_path.iterdir()) == []


def test_a_command_may_hold_braces_of_the_shell() -> None:
    for command in ("find . -exec cp {} {output} \\;", "awk '{ print }' > {output}", "cp ${HOME}/x {output}"):
        assert job(command).engine.command == command
    with pytest.raises(UserError, match=r"command: there is no \{print\} here; allowed: .* \{ WORD \} are the shell's"):
        job("awk '{print}' > {output}")
