"""Les Houches files in and out: Pythia's own writer, ours, and every way to be damaged."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import Config
from resim.errors import UserError
from resim.interop.lhe import LesHouchesFile, write_lhe
from resim.jets import hard
from resim.jets.states import HardEvents
from resim.keys import stream
from resim.plan import check_config
from resim.simulate import Simulation, simulate_part
from resim.store import validate
from resim.typed import parse
from tests.conftest import small_config
from tests.interop.make_lhe import DATA
from tests.jets.events import ENERGY, hard_block

DECAYS = {"25:onMode": False, "25:onIfMatch": "5 -5", "23:onMode": False, "23:onIfAny": "12 14 16"}


def _read(path: Path, first: int = 0, stop: int = 20) -> HardEvents:
    return LesHouchesFile(path, ENERGY).read(first, stop)


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_pythias_own_file_gives_the_events_that_went_in(sample: str) -> None:
    """Pythia writes eleven digits of momenta and seven of scales."""
    original, found = hard_block(sample, size=20), _read(DATA / f"{sample}.lhe.gz")
    for name in ("id", "status", "mother1", "mother2", "col", "acol"):
        np.testing.assert_array_equal(found.partons[name], original.partons[name])
    for name in ("px", "py", "pz", "e", "m"):
        np.testing.assert_allclose(found.partons[name], original.partons[name], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(found.scale, original.scale, rtol=1e-6)
    np.testing.assert_array_equal(found.event, np.arange(20))


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_our_own_file_gives_the_events_back_to_the_bit(tmp_path: Path, name: str) -> None:
    weights = {"weight_up": np.linspace(-1, 2, 30), "scale_mups": np.linspace(300, 400, 30)}
    original = replace(hard_block("hbb"), further=weights)
    write_lhe(original, tmp_path / name, ENERGY)
    found = _read(tmp_path / name, 0, 30)
    for column, values in original.partons.columns.items():
        np.testing.assert_array_equal(found.partons[column], values)
    for column in ("process", "weight", "alpha_qcd", "alpha_qed"):
        np.testing.assert_array_equal(getattr(found, column), getattr(original, column))
    np.testing.assert_array_equal(found.scale, weights["scale_mups"])  # `mups` is where the shower starts
    np.testing.assert_allclose(found.further["weight_up"], weights["weight_up"], rtol=1e-15)
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_events_are_read_by_number_in_any_order() -> None:
    file = LesHouchesFile(DATA / "qcd.lhe.gz", ENERGY)
    whole = file.read(0, 20)
    for first, stop in ((10, 20), (0, 5), (5, 10), (3, 4)):
        part = file.read(first, stop)
        np.testing.assert_array_equal(part.event, np.arange(first, stop))
        np.testing.assert_array_equal(part.partons["px"], whole.take(np.arange(first, stop)).partons["px"])


def test_what_the_file_decayed_stays_and_what_it_did_not_is_decayed(tmp_path: Path) -> None:
    original = hard_block("hbb", size=20)
    path = tmp_path / "undecayed.lhe"
    write_lhe(_undecayed(original), path, ENERGY)
    draws = stream(1, "hbb", "hard")
    kept = hard.read(LesHouchesFile(DATA / "hbb.lhe.gz", ENERGY), DECAYS, draws, ENERGY, 1, 10)
    np.testing.assert_allclose(kept.partons["px"], original.take(np.arange(10, 20)).partons["px"], rtol=1e-9, atol=1e-8)
    file = LesHouchesFile(path, ENERGY)
    decayed = hard.read(file, DECAYS, draws, ENERGY, 0, 20)
    assert np.bincount(np.abs(decayed.partons["id"]))[5] == 40
    assert (decayed.partons["status"][np.abs(decayed.partons["id"]) == 25] == -22).all()
    again = hard.read(LesHouchesFile(path, ENERGY), DECAYS, draws, ENERGY, 1, 10)  # whatever was read before
    np.testing.assert_array_equal(again.partons["px"], decayed.take(np.arange(10, 20)).partons["px"])


def _undecayed(events: HardEvents) -> HardEvents:
    """Leave the Higgs and the Z at the end of their lines."""
    keep = np.isin(events.partons["status"], (-21, -22))
    columns = {name: values[keep].copy() for name, values in events.partons.columns.items()}
    columns["status"][columns["status"] == -22] = 23
    offsets = np.concatenate([[0], np.cumsum(keep)])[events.partons.offsets]
    return replace(events, partons=type(events.partons)(offsets, columns))


def test_a_sample_of_a_file_has_views_weights_and_scales(tmp_path: Path) -> None:
    weights = {"weight_mur_2": np.linspace(0.5, 1.5, 30), "weight_neg": -np.ones(30), "scale_muf": np.full(30, 91.0)}
    original = replace(hard_block("hbb"), further=weights, weight=np.where(np.arange(30) % 3, 1.0, -1.0))
    path = tmp_path / "events.lhe.gz"
    write_lhe(original, path, ENERGY)
    config = _config(path)
    check_config(config, "test")
    part = simulate_part(Simulation(config, "hbb"), 0, 30, tmp_path / "data", Simulation(config, "hbb").all_views)
    assert not validate(part.path)
    objects = part.objects()
    assert (objects["weight"] < 0).any()
    np.testing.assert_allclose(objects["weight_mur_2"], weights["weight_mur_2"][objects["event"]], rtol=1e-3)
    assert set(objects["scale_muf"]) == {91.0}
    assert part.view("shower_seed").present.sum() > 10
    again = simulate_part(Simulation(config, "hbb"), 10, 20, tmp_path / "other", Simulation(config, "hbb").all_views)
    assert again.digest["views"]["shower_seed"]["1"] == part.digest["views"]["shower_seed"]["1"]


def test_another_file_is_another_recipe(tmp_path: Path) -> None:
    path = tmp_path / "events.lhe"
    write_lhe(hard_block("hbb"), path, ENERGY)
    before = Simulation(_config(path), "hbb").root_recipe
    write_lhe(hard_block("hbb", 1), path, ENERGY)
    assert Simulation(_config(path), "hbb").root_recipe != before


def _config(path: Path) -> Config:
    values = small_config()
    values["samples"] = {"hbb": {"events": 30, "lhe": str(path), "set": DECAYS}}
    values["views"] = {"nominal": {}, "shower_seed": {"from": "shower"}}
    return parse(Config, values, "test")


def _broken(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "broken.lhe"
        path.write_text(change(gzip.decompress((DATA / "qcd.lhe.gz").read_bytes()).decode()))
        return path

    return write


def _cut_gzip(folder: Path) -> Path:
    path = folder / "cut.lhe.gz"
    path.write_bytes((DATA / "qcd.lhe.gz").read_bytes()[:1500])
    return path


def _flipped_gzip(folder: Path) -> Path:
    raw = bytearray((DATA / "qcd.lhe.gz").read_bytes())
    raw[1200] ^= 0x55
    path = folder / "flipped.lhe.gz"
    path.write_bytes(bytes(raw))
    return path


MISTAKES: list[tuple[Callable[[Path], Path], str]] = [
    (
        _broken(lambda text: text[: text.rindex("<event>") + 200]),
        r"broken.lhe, event 19: cannot be read \(.*\); write or",
    ),
    (
        _broken(lambda text: text.replace("6.500000e+03", "7.000000e+03")),
        r"broken.lhe: has beams \(2212, 2212, 7000.0, 7000.0\).*6500",
    ),
    (
        _broken(lambda text: text.replace("  2212  2212 ", "  2212 -2212 ")),
        r"broken.lhe: has beams \(2212, -2212, .*; set Beams:eCM",
    ),
    (
        _broken(lambda text: text.replace("     4  9999", "     5  9999", 3)),
        r"broken.lhe, event 0: announces 5 particles and has 4",
    ),
    (_broken(lambda _: "no events here"), r"broken.lhe, event 0: cannot be read \(.*\); write or copy the file again"),
    (
        _broken(lambda text: text[: text.index("<event>")] + "</LesHouchesEvents>"),
        r"broken.lhe: has 0 events, and 20 are",
    ),
    (_cut_gzip, r"cut.lhe.gz: is cut or damaged \(.*\); write or copy the file again"),
    (_flipped_gzip, r"flipped.lhe.gz: is cut or damaged \(.*\); write or copy the file again"),
    (lambda folder: folder / "none.lhe", r"none.lhe: no such file; give a Les Houches file"),
]


@pytest.mark.parametrize(
    ("make", "message"),
    MISTAKES,
    ids=[
        "cut mid-event",
        "beam energy",
        "beam particle",
        "announces more",
        "no LHE",
        "no events",
        "gzip cut",
        "gzip damaged",
        "no file",
    ],
)
def test_mistakes_are_one_line_that_names_file_and_event(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _read(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("make", "message"), [MISTAKES[0], MISTAKES[1], MISTAKES[7]], ids=["cut", "energy", "gzip"])
def test_of_a_bad_file_nothing_is_published(tmp_path: Path, make: Any, message: str) -> None:
    simulation = Simulation(_config(make(tmp_path)), "hbb")
    with pytest.raises(UserError, match=message):
        simulate_part(simulation, 0, 20, tmp_path / "data", simulation.all_views)
    assert not list((tmp_path / "data").glob("*part*"))


def test_a_number_that_is_not_finite_is_named(tmp_path: Path) -> None:
    events = hard_block("qcd", size=20)
    columns = {name: values.copy() for name, values in events.partons.columns.items()}
    columns["e"][int(events.partons.offsets[7]) + 2] = np.nan
    path = tmp_path / "nan.lhe"
    write_lhe(replace(events, partons=type(events.partons)(events.partons.offsets, columns)), path, ENERGY)
    with pytest.raises(UserError, match=r"nan.lhe, event 7: .*not finite; leave the event out"):
        _read(path)


def test_flipped_bits_of_a_compressed_file_never_give_other_numbers(tmp_path: Path) -> None:
    """The checksum lies at the end, behind the events asked for."""
    raw, draws = (DATA / "qcd.lhe.gz").read_bytes(), np.random.Generator(np.random.Philox(3))
    whole, told = _read(DATA / "qcd.lhe.gz", 0, 10), []
    for i, bit in enumerate(draws.integers(0, 8 * len(raw), 300).tolist()):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        path = tmp_path / f"{i}.lhe.gz"
        path.write_bytes(damaged)
        try:
            found = _read(path, 0, 10)
        except UserError as error:
            told.append(str(error))
            continue
        for name, column in whole.partons.columns.items():
            np.testing.assert_array_equal(found.partons[name], column)
        np.testing.assert_array_equal(found.weight, whole.weight)
    assert all(str(tmp_path) in line and "\n" not in line for line in told)
    assert len(told) > 290  # of the header some bits, such as those of the time, are free


def _row(text: str, row: int, column: int, word: str) -> str:
    """Put a word into event 3; row 0 is its head."""
    events = text.split("<event>\n")
    lines = events[4].split("\n")
    words = lines[row].split()
    words[column] = word
    lines[row] = " ".join(words)
    events[4] = "\n".join(lines)
    return "<event>\n".join(events)


BAD_NUMBERS: dict[str, tuple[int, int, str, str]] = {
    "scale": (0, 3, "nan", "a number that is not finite"),
    "infinite scale": (0, 3, "inf", "a number that is not finite"),
    "coupling": (0, 5, "nan", "a number that is not finite"),
    "weight": (0, 2, "nan", "a number that is not finite"),
    "lifetime": (3, 11, "nan", "a number that is not finite"),
    "spin": (3, 12, "nan", "a number that is not finite"),
    "large id": (3, 0, "99999999999", "an integer of more than 32 bits"),
    "huge id": (3, 0, "1e300", "an integer of more than 32 bits"),
    "large process": (0, 1, "99999999999", "an integer of more than 32 bits"),
    "one incoming": (1, 1, "1", r"other than 2 incoming partons \(status -1\)"),
    "three incoming": (3, 1, "-1", r"other than 2 incoming partons \(status -1\)"),
    "energy": (1, 9, "6500.1", "an incoming parton of an energy not above 0 or above the beam's 6500 GeV"),
    "no energy": (2, 9, "0", "an incoming parton of an energy not above 0 or above the beam's 6500 GeV"),
    "mother": (3, 2, "5", "a mother that is none of its particles"),
    "negative mother": (3, 3, "-1", "a mother that is none of its particles"),
}


@pytest.mark.parametrize("case", BAD_NUMBERS)
def test_what_cannot_be_an_event_is_named(tmp_path: Path, case: str) -> None:
    """Of an event without incoming partons Pythia would never come back."""
    row, column, word, message = BAD_NUMBERS[case]
    path = _broken(lambda text: _row(text, row, column, word))(tmp_path)
    with pytest.raises(UserError, match=f"broken.lhe, event 3: has {message}; leave the event out") as caught:
        _read(path)
    assert "\n" not in str(caught.value)


def test_a_broken_colour_flow_is_named(tmp_path: Path) -> None:
    path = _broken(lambda text: _row(text, 3, 4, "977"))(tmp_path)
    with pytest.raises(UserError, match=r"broken.lhe, event 3: Pythia refuses it as a hard process"):
        hard.read(LesHouchesFile(path, ENERGY), {}, stream(1, "qcd", "hard"), ENERGY, 0, 20)


def _weighted(line: str) -> Callable[[str], str]:
    """Give all events further weights, and event 3 the weight 0."""

    def change(text: str) -> str:
        text = text.replace("</event>", line + "</event>")
        return _row(text, 0, 2, "0")

    return change


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "<rwgt><wgt id='a b'>1</wgt><wgt id='a_b'>2</wgt></rwgt>",
            r"event 0: weights 'a b' and 'a_b' are both kept as .*; r",
        ),
        (
            "<rwgt><wgt id='up'>3</wgt></rwgt>",
            r"event 3: has weight 0, over which its further weight 'up', .*; leave the event o",
        ),
        ("<rwgt><wgt id='up'>nan</wgt></rwgt>", r"event 0: has a weight_up that is not finite; leave the event out"),
        ("<scales muf='inf'/>", r"event 0: has a scale_muf that is not finite; leave the event out"),
    ],
    ids=["one name", "lost", "nan", "scale"],
)
def test_further_weights_that_cannot_be_kept_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(_broken(_weighted(line))(tmp_path))


def test_an_event_whose_weights_are_all_0_is_kept(tmp_path: Path) -> None:
    found = _read(_broken(_weighted("<rwgt><wgt id='up'>0</wgt></rwgt>"))(tmp_path))
    assert found.weight[3] == 0
    assert (found.further["weight_up"] == 0).all()


def test_a_file_that_is_too_short_is_told() -> None:
    with pytest.raises(UserError, match=r"qcd.lhe.gz: has 20 events, and 30 are asked for; lower `events`"):
        _read(DATA / "qcd.lhe.gz", 10, 30)


def test_process_and_file_exclude_each_other() -> None:
    values, path = small_config(), str(DATA / "qcd.lhe.gz")
    values["samples"]["qcd"]["lhe"] = path
    with pytest.raises(UserError, match=r"samples.qcd: has both process and lhe; keep one"):
        check_config(parse(Config, values, "test"), "test")
    values["samples"]["qcd"] = {"events": 10, "lhe": path, "set": {"PhaseSpace:pTHatMin": 300.0}}
    with pytest.raises(
        UserError, match=r"samples.qcd.set: 'PhaseSpace:pTHatMin' does not act on events of a file; rem"
    ):
        check_config(parse(Config, values, "test"), "test")
