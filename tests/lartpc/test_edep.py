"""Files of edep-sim, written here in the schema of its dumpTree (old and new names), become deposits.

No file of edep-sim itself is at hand, and uproot cannot write its classes: of the ROOT reader only the refusals run.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
import yaml
from numpy.typing import NDArray

from resim.config import Config
from resim.errors import UserError
from resim.lartpc.edep import EdepFiles, event_ids, read_edep
from resim.lartpc.transport.particles import MUON, MUON_MASS, PROTON, PROTON_MASS
from resim.plan import check_workflow
from resim.store import Dataset, open_dataset, validate
from resim.typed import parse
from tests.conftest import resim
from tests.test_cli import _mistake

_ENDS = ("x_start", "y_start", "z_start", "x_end", "y_end", "z_end")
_NEW = {"event": "event_id", "track": "traj_id", "pdg": "pdg_id", "parent": "parent_id"}
_OLD = {"event": "eventID", "track": "trackID", "pdg": "pdgId", "parent": "parentID"}
_REFERENCE = Path(__file__).parents[3] / "shared/reference/lartpc/segments.npz"


def _segments(names: dict[str, str], n: int = 30) -> NDArray[Any]:
    """Make straight tracks of three events, numbered 7, 3, 5, in mixed order."""
    fields: list[tuple[str, str]] = [(names["event"], "u4"), (names["track"], "u4"), (names["pdg"], "i4")]
    fields += [(name, "f4") for name in (*_ENDS, "dx", "dE", "dEdx")] + [("t0", "f8")]
    table: NDArray[Any] = np.zeros(n, dtype=fields)
    step = np.arange(n)
    table[names["event"]] = np.array([7, 3, 5])[step % 3]
    table[names["track"]] = step % 2
    table[names["pdg"]] = np.where(step % 2 == 0, MUON, 11)
    for axis, (start, end) in enumerate(zip(_ENDS[:3], _ENDS[3:], strict=True)):
        table[start], table[end] = step + axis, step + axis + 0.1
    table["dx"], table["dE"], table["t0"] = np.sqrt(0.03), 0.25 + step, step / 1e3
    return table


def _trajectories(names: dict[str, str]) -> NDArray[Any]:
    """Make a primary of each event and a daughter of it before it."""
    fields: list[Any] = [(names["event"], "u4"), (names["track"], "u4"), (names["parent"], "i4"), (names["pdg"], "i4")]
    table: NDArray[Any] = np.zeros(6, dtype=[*fields, ("pxyz_start", "f4", (3,)), ("xyz_start", "f4", (3,))])
    table[names["event"]] = [3, 3, 5, 5, 7, 7]
    table[names["parent"]] = [0, -1] * 3
    table[names["pdg"]] = [11, MUON, 11, MUON, 11, PROTON]
    table["pxyz_start"][1::2] = [[0, 0, 100], [300, 0, 400], [0, -600, 0]]
    table["xyz_start"][1::2] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    return table


def _write(path: Path, **tables: NDArray[Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, table in tables.items():
            file[name] = table
    return path


@pytest.mark.parametrize(("names", "table"), [(_NEW, "segments"), (_OLD, "tracks"), (_OLD, "segments")])
def test_hdf5_of_both_ages(tmp_path: Path, names: dict[str, str], table: str) -> None:
    written = _segments(names)
    path = _write(tmp_path / "edep.h5", **{table: written, "trajectories": _trajectories(names)})
    deposits = read_edep(path)
    assert deposits.event.tolist() == [3, 5, 7]
    assert np.diff(deposits.segments.offsets).tolist() == [10, 10, 10]
    mine = written[written[names["event"]] == 5]
    segments = deposits.segments.between(1, 2)
    assert segments["energy"].tolist() == mine["dE"].tolist()
    assert segments["z_end"].tolist() == mine["z_end"].tolist()
    assert segments["track"].tolist() == mine[names["track"]].tolist()
    assert segments["pdg"].tolist() == mine[names["pdg"]].tolist()
    assert np.allclose(segments["time"], mine["t0"] - mine["t0"].min())  # the file has no time of the primary
    assert np.all(segments["length"] >= np.float32(np.sqrt(0.03)) - 1e-6)
    assert {name: column.dtype for name, column in segments.columns.items() if name in ("pdg", "energy")} == {
        "pdg": np.int32,
        "energy": np.float32,
    }


def test_primaries_come_from_the_trajectories(tmp_path: Path) -> None:
    path = _write(tmp_path / "edep.h5", segments=_segments(_NEW), trajectories=_trajectories(_NEW))
    primaries = read_edep(path).primaries
    assert primaries.pdg.tolist() == [MUON, MUON, PROTON]
    kinetic = [np.hypot(100, MUON_MASS) - MUON_MASS, np.hypot(500, MUON_MASS) - MUON_MASS]
    assert np.allclose(primaries.kinetic_energy, [*kinetic, np.hypot(600, PROTON_MASS) - PROTON_MASS])
    assert np.allclose(primaries.direction, [[0, 0, 1], [0.6, 0, 0.8], [0, -1, 0]])
    assert primaries.vertex.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_an_event_without_deposits_stays(tmp_path: Path) -> None:
    segments = _segments(_NEW)
    path = _write(tmp_path / "edep.h5", segments=segments[segments["event_id"] != 5], trajectories=_trajectories(_NEW))
    assert np.diff(read_edep(path).segments.offsets).tolist() == [10, 0, 10]


def test_without_trajectories_the_first_segment_stands_for_the_primary(tmp_path: Path) -> None:
    written = _segments(_NEW)
    deposits = read_edep(_write(tmp_path / "edep.h5", segments=written), [5, 3])
    assert deposits.event.tolist() == [3, 5]
    assert deposits.primaries.pdg.tolist() == [11, MUON]
    assert np.allclose(deposits.primaries.direction, 1 / np.sqrt(3))
    sums = [written["dE"][written["event_id"] == event].sum() for event in (3, 5)]
    assert np.allclose(deposits.primaries.kinetic_energy, sums)


@pytest.mark.skipif(not _REFERENCE.exists(), reason="the reference segments of another simulator are not at hand")
def test_reference_segments(tmp_path: Path) -> None:
    with np.load(_REFERENCE) as columns:
        table: NDArray[Any] = np.zeros(len(columns["dE"]), dtype=[(n, columns[n].dtype) for n in columns])
        for name in columns:
            table[name] = columns[name]
    deposits = read_edep(_write(tmp_path / "edep.h5", tracks=table))
    assert len(deposits.event) == 6
    sums = np.add.reduceat(deposits.segments["energy"].astype(float), deposits.segments.offsets[:-1])
    expected = [table["dE"][table["eventID"] == event].astype(float).sum() for event in range(6)]
    assert np.allclose(sums, expected, rtol=1e-12)


def _without(table: NDArray[Any], name: str) -> NDArray[Any]:
    kept = [field for field in table.dtype.names or () if field != name]
    small: NDArray[Any] = np.zeros(len(table), dtype=[(field, table.dtype[field]) for field in kept])
    for field in kept:
        small[field] = table[field]
    return small


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    good, path = _segments(_NEW), tmp_path / "edep.h5"
    with pytest.raises(UserError, match="there is no such file"):
        read_edep(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(UserError, match=r"neither HDF5 nor named \.root"):
        read_edep(tmp_path / "text.h5")
    with pytest.raises(UserError, match=r"no data set segments \(in old files: tracks\), but trajectories"):
        read_edep(_write(path, trajectories=_trajectories(_NEW)))
    with pytest.raises(UserError, match="segments has no field dE;"):
        read_edep(_write(path, segments=_without(good, "dE")))
    with pytest.raises(UserError, match="segments has no field pdg_id or pdgId"):
        read_edep(_write(path, segments=_without(good, "pdg_id")))
    with pytest.raises(UserError, match="trajectories has no field pxyz_start"):
        read_edep(_write(path, segments=good, trajectories=_without(_trajectories(_NEW), "pxyz_start")))
    with pytest.raises(UserError, match="has no event 4; it has 3 events, 3 to 7"):
        read_edep(_write(path, segments=good), [3, 4])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dE", np.nan, "energy of segment 11 is nan, not 0 to 1e+06 MeV; write the file again"),
        ("dE", -1.0, "energy of segment 11 is -1, not"),
        ("dE", 1e300, "energy of segment 11 is 1e+300, not"),
        ("y_end", np.inf, "position of segment 11 is inf, not -10000 to 10000 cm"),
        ("x_start", -1.1e4, "position of segment 11 is -11000, not"),
        ("dx", 1e30, "length of segment 11 is 1e+30, not 0 to 10000 cm"),
        ("t0", np.nan, "time after the primary of segment 11 is nan, not -1e+07 to 1e+07 µs"),
        ("t0", 1e12, "time after the primary of segment 11 is 1e+12, not"),
    ],
)
def test_bad_numbers_are_refused(tmp_path: Path, field: str, value: float, message: str) -> None:
    table = _segments(_NEW)
    table = table.astype([(name, "f8" if name == field else kind) for name, kind in table.dtype.descr])
    table[field][11] = value
    with pytest.raises(UserError, match=re.escape(message)):
        read_edep(_write(tmp_path / "edep.h5", segments=table))


def test_bad_primaries_are_refused(tmp_path: Path) -> None:
    path, table = tmp_path / "edep.h5", _trajectories(_NEW)
    with pytest.raises(UserError, match="event 5 has no primary trajectory"):
        read_edep(_write(path, segments=_segments(_NEW), trajectories=table[table["event_id"] != 5]))
    table["pdg_id"][3] = 321
    with pytest.raises(UserError, match="primary of PDG id 321"):
        read_edep(_write(path, segments=_segments(_NEW), trajectories=table))
    table["pdg_id"][3], table["pxyz_start"][3] = MUON, np.nan
    with pytest.raises(UserError, match="momentum of a primary is not a number"):
        read_edep(_write(path, segments=_segments(_NEW), trajectories=table))


@pytest.mark.parametrize("name", ["t_start", "t"])
def test_times_are_counted_from_the_primary(tmp_path: Path, name: str) -> None:
    """A file of a spill: events begin at 0, 1.2 and 2.4 s."""
    segments, trajectories = _segments(_NEW), _trajectories(_NEW)
    begin = {3: 1.2e6, 5: 2.4e6, 7: 0.0}
    segments["t0"] += [begin[event] + 4.0 for event in segments["event_id"].tolist()]
    timed: NDArray[Any] = np.zeros(6, dtype=[*trajectories.dtype.descr, (name, "f8")])
    for field in trajectories.dtype.names or ():
        timed[field] = trajectories[field]
    timed[name] = [begin[event] + (parent >= 0) for event, parent in trajectories[["event_id", "parent_id"]].tolist()]
    deposits = read_edep(_write(tmp_path / "edep.h5", segments=segments, trajectories=timed))
    step = np.arange(30).reshape(10, 3)[:, [1, 2, 0]].T.ravel()
    assert np.allclose(deposits.segments["time"], 4.0 + step / 1e3, atol=1e-6)
    timed[name][1] = np.nan
    with pytest.raises(UserError, match="time of a primary is not a number"):
        read_edep(_write(tmp_path / "edep.h5", segments=segments, trajectories=timed))


def test_times_without_a_primary_are_counted_from_the_earliest_start(tmp_path: Path) -> None:
    plain = _segments(_NEW)
    segments: NDArray[Any] = np.zeros(len(plain), dtype=[*plain.dtype.descr, ("t0_start", "f8")])
    for field in plain.dtype.names or ():
        segments[field] = plain[field]
    segments["t0"] += 1.2e6
    segments["t0_start"] = segments["t0"] - 0.5
    time = read_edep(_write(tmp_path / "edep.h5", segments=segments)).segments["time"]
    assert np.allclose(time, np.tile(0.5 + np.arange(10) * 3e-3, 3), atol=1e-6)


def test_trajectories_of_2023(tmp_path: Path) -> None:
    table = _trajectories(_OLD)
    old = table.copy()
    old.dtype.names = tuple(name.removesuffix("_start") for name in table.dtype.names or ())
    new, found = (
        read_edep(_write(tmp_path / "edep.h5", tracks=_segments(_OLD), trajectories=rows)).primaries
        for rows in (table, old)
    )
    assert found.vertex.tolist() == new.vertex.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert found.kinetic_energy.tolist() == new.kinetic_energy.tolist()


def _typed(field: str, kind: Any) -> NDArray[Any]:
    table = _segments(_NEW)
    return np.zeros(len(table), dtype=[(n, kind if n == field else k) for n, k in table.dtype.descr])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_typed("dE", "S4"), r"segments\.dE has type \|S4 and shape \(30,\), not numbers"),
        (_typed("dE", ("f4", (2,)))[:1], r"segments\.dE has type"),
        (_typed("event_id", "f4"), r"segments\.event_id has type float32"),
        (_segments(_NEW).reshape(2, 15), "segments is no table, a row an entry"),
        (np.zeros(3), "segments has no field event_id or eventID"),
    ],
)
def test_tables_of_other_kinds_are_refused(table: NDArray[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_edep(_write(tmp_path / "edep.h5", segments=table))


def test_a_group_is_no_table(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "edep.h5", "w") as file:
        file.create_group("segments")
    with pytest.raises(UserError, match="segments is no table, a row an entry; give a file of edep-sim's dumpTree"):
        read_edep(tmp_path / "edep.h5")


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    path = _write(tmp_path / "edep.h5", segments=_segments(_NEW)[:0], trajectories=_trajectories(_NEW)[:0])
    assert len(read_edep(path).event) == len(event_ids(path)) == 0
    assert len(read_edep(_write(tmp_path / "bare.h5", segments=_segments(_NEW)[:0])).event) == 0
    with pytest.raises(UserError, match="0 events are there, and 2 are asked for; lower `events`"):
        EdepFiles([path]).read(0, 2)


def test_trees_of_another_layout_are_refused(tmp_path: Path) -> None:
    names = ("Primaries.Position", *(f"Trajectories.{name}" for name in ("ParentId", "PDGCode", "InitialMomentum")))
    with uproot.recreate(tmp_path / "edep.root") as file:
        branches = {name: np.arange(3) for name in ("EventId", *names, "SegmentDetectors")}
        file.mktree("EDepSimEvents", branches).extend(branches)
    with pytest.raises(UserError, match="tree EDepSimEvents is not laid out as edep-sim writes it"):
        read_edep(tmp_path / "edep.root")


def test_other_root_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "edep.root"
    path.write_text("no")
    with pytest.raises(UserError, match="cannot be read"):
        read_edep(path)
    with uproot.recreate(path) as file:
        file["other"] = {"x": np.arange(3)}
    with pytest.raises(UserError, match="has no tree EDepSimEvents"):
        read_edep(path)
    with uproot.recreate(path) as file:
        file["EDepSimEvents"] = {"EventId": np.arange(3)}
    assert event_ids(path).tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"tree EDepSimEvents has no branch Primaries\.Position"):
        read_edep(path)


# --- a sample of such files ---------------------------------------------------------------------------------------


def _event_file(path: Path, events: range, length: float = 12.0) -> Path:
    """Write muons that cross the middle of the detector, an event of two tracks each, ids 10, 20 ..."""
    tables, rows = [], []
    for number in events:
        start, way = np.array([-240.0, 3.0, 640.0 + number]), np.array([0.6, 0.48, 0.64])
        points = start + np.arange(round(length / 0.1) + 1)[:, None] * 0.1 * way
        table: NDArray[Any] = np.zeros(len(points) - 1, dtype=_segments(_NEW).dtype)
        table["event_id"], table["traj_id"], table["pdg_id"] = 10 * (number + 1), np.arange(len(table)) % 2, MUON
        for i, axis in enumerate(_ENDS[:3]):
            table[axis], table[_ENDS[3 + i]] = points[:-1, i], points[1:, i]
        table["dx"], table["dE"] = 0.1, 0.21 + 0.01 * number
        tables.append(table)
        rows.append((10 * (number + 1), start))
    trajectories: NDArray[Any] = np.zeros(len(rows), dtype=_trajectories(_NEW).dtype)
    for row, (event, start) in zip(trajectories, rows, strict=True):
        row["event_id"], row["parent_id"], row["pdg_id"] = event, -1, MUON
        row["pxyz_start"], row["xyz_start"] = (180, 144, 192), start
    return _write(path, segments=np.concatenate(tables), trajectories=trajectories)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("edep")
    return [str(_event_file(folder / f"{a}.h5", range(a, b))) for a, b in ((0, 3), (3, 4), (4, 8))]


def _config(files: list[str], **changes: Any) -> dict[str, Any]:
    views = {"nominal": {}, "weak": {"from": "charge", "set": {"field": 0.4}}, "noise": {"from": "readout"}}
    common = {"lane": "lartpc", "block_size": 2, "events_per_part": 4, "checkpoint": "deposits", "views": views}
    return common | {"samples": {"beam": {"events": 6, "edep": files}}} | changes


def _simulate(folder: Path, values: dict[str, Any], *words: object) -> Any:
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    words = ("--config", folder / "config.yaml", "--sample", "beam", "--out", folder / "data", *words)
    return resim("simulate", *words)


def _column(dataset: Dataset, view: str, name: str) -> list[float]:
    return [value for part in dataset.parts for value in part.view(view).column(name).tolist()]


def _images(dataset: Dataset, view: str) -> list[NDArray[np.float32]]:
    views = [part.view(view) for part in dataset.parts]
    return [image for v in views for image in np.split(v.constituents[:], v.offsets[1:-1])]


def test_a_sample_of_files_has_their_deposits_in_all_views(files: list[str], tmp_path: Path) -> None:
    """Events are numbered over the files, blocks and parts cut across them, and views share what was read."""
    done = _simulate(tmp_path, _config(files))
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path / "data")
    assert validate(tmp_path / "data") == []
    assert dataset.views == ("nominal", "weak", "noise")
    objects = dataset.objects()
    assert objects["event"].tolist() == [0, 1, 2, 3, 4, 5]
    assert set(objects["pdg"].tolist()) == {MUON}
    assert objects["vertex_z"].tolist() == [640, 641, 642, 643, 644, 645]
    assert np.allclose(objects["kinetic_energy"], np.hypot(300, MUON_MASS) - MUON_MASS)
    for view in dataset.views:
        assert np.allclose(_column(dataset, view, "deposited"), 120 * (0.21 + 0.01 * np.arange(6)))
        assert min(_column(dataset, view, "n_voxels")) > 10
    charges = {view: np.array(_column(dataset, view, "charge")) for view in dataset.views}
    assert (charges["weak"] < charges["nominal"]).all()
    # Their sums of counts may agree by chance.
    for here, there in zip(_images(dataset, "noise"), _images(dataset, "nominal"), strict=True):
        assert not np.array_equal(here, there)
    kept = dataset.parts[1].checkpoint("deposits")
    read = EdepFiles(files).read(4, 6)
    assert kept.events["event"].tolist() == read.event.tolist() == [4, 5]
    assert all((kept.particles[name] == values).all() for name, values in read.segments.columns.items())


def test_parts_and_order_of_jobs_leave_no_trace(files: list[str], tmp_path: Path) -> None:
    digests = []
    for name, size in (("one", 6), ("three", 2)):
        (tmp_path / name).mkdir()
        assert _simulate(tmp_path / name, _config(files, checkpoint=None), "--shard-size", size).returncode == 0
        digests.append(open_dataset(tmp_path / name / "data").manifest.digest["digest"])
    assert digests[0] == digests[1]


def test_other_content_of_a_file_is_another_recipe(files: list[str], tmp_path: Path) -> None:
    mine = [str(shutil.copy(file, tmp_path)) for file in files]
    recipes = []
    for length in (12.0, 6.0):
        _event_file(Path(mine[0]), range(3), length)
        assert _simulate(tmp_path, _config(mine, checkpoint=None), "--views", "nominal").returncode == 0
        dataset = open_dataset(tmp_path / "data")
        recipes.append(dataset.manifest.recipes["nominal"])
        assert _column(dataset, "nominal", "deposited")[0] == pytest.approx(0.21 * length / 0.1)
    assert recipes[0] != recipes[1]


def test_a_view_that_is_added_starts_from_the_stored_deposits(files: list[str], tmp_path: Path) -> None:
    mine = [str(shutil.copy(file, tmp_path)) for file in files]
    assert _simulate(tmp_path, _config(mine), "--views", "nominal").returncode == 0
    before = open_dataset(tmp_path / "data").parts[0].digest["checkpoints"]
    assert _simulate(tmp_path, _config(mine)).returncode == 0
    dataset = open_dataset(tmp_path / "data")
    assert dataset.views == ("nominal", "weak", "noise")
    assert dataset.parts[0].digest["checkpoints"] == before


def test_events_beyond_the_files_are_told_in_one_line(files: list[str], tmp_path: Path) -> None:
    done = _simulate(tmp_path, _config(files[:2], samples={"beam": {"events": 6, "edep": files[:2]}}))
    told = (
        f"{files[0]}, {files[1]}: 4 events are there, and 6 are asked for; lower `events` of the sample, or give more"
    )
    _mistake(done, told)


@pytest.mark.parametrize(
    ("sample", "changes", "message"),
    [
        ({"edep": ["none.h5"]}, {}, "samples.beam.edep: there is no file none.h5; give files that edep-sim"),
        ({"process": "muon"}, {}, "samples.beam: has edep, so process would not act; keep one of the two"),
        ({"set": {"particle": "mu"}}, {}, "samples.beam: has edep, so set would not act; keep one of the two"),
        ({"edep": []}, {}, "samples.beam.edep: tuple should have at least 1 item"),
        ({"events": None}, {}, "samples.beam: events is missing: give their number, or a source"),
        (
            {},
            {"views": {"nominal": {}, "again": {"from": "deposits"}}},
            "samples.beam.edep: views.again makes deposits anew, and those of the files cannot be; cut it at charge or",
        ),
        (
            {},
            {"lane": "jets", "checkpoint": None, "views": {"nominal": {}}},
            "samples.beam.edep: is for the lane lartpc",
        ),
    ],
)
def test_what_would_not_act_on_files_is_refused(
    sample: dict[str, Any], changes: dict[str, Any], message: str, files: list[str], tmp_path: Path
) -> None:
    values = _config(files, **changes)
    values["samples"]["beam"] |= sample
    _mistake(_simulate(tmp_path, values), message)
    assert not (tmp_path / "data").exists()


def test_files_that_are_held_out_are_not_trained_on(files: list[str]) -> None:
    values = _config(files)
    values["samples"]["other"] = {"events": 2, "edep": files[2:], "role": "evaluation"}
    with pytest.raises(
        UserError, match=r"samples.other and samples.beam read the same 4.h5, and the former is held out"
    ):
        check_workflow(parse(Config, values, "c"), ("nominal",), Path("results"), "c")
