"""The published HDF5 layout, out and in, on real events."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from resim.errors import UserError
from resim.interop.exchange import whole_dataset, whole_file
from resim.interop.rs3l import ELECTRON, MUON, ImportSettings, examine, export_rs3l, import_rs3l, vartype_of
from resim.read import read as events_of
from resim.store import Dataset, dataset_digest, open_dataset, validate
from tests.conftest import resim
from tests.interop.conftest import folder_of
from tests.test_cli import _mistake, _mount
from training.config import Task
from training.data.fetch import Store
from training.tasks import labels_of

P = 100
OURS = ("features", "jet_features", "parton_features", "truth_label", "jettype", "vartype")
Rows = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def exported(qcd: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rs3l") / "qcd.h5"
    export_rs3l(qcd, path)
    return path


def read(path: Path) -> Rows:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in OURS}


def write(path: Path, rows: Rows) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in rows.items():
            file[name] = values
    return path


def published(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Make of an export what the authors publish: float64, pairs in any order, nothing of ours."""
    chosen = np.stack([2 * order, 2 * order + 1], axis=1).reshape(-1)
    return {
        name: values[chosen].astype(values.dtype if name == "truth_label" else float) for name, values in rows.items()
    }


@pytest.fixture
def mixed(hbb: Dataset, exported: Path, tmp_path: Path) -> Path:
    """Give a file as the authors make it: half of the pairs quarks and gluons, half H, each parton in one pair."""
    export_rs3l(hbb, tmp_path / "hbb.h5")
    both = [read(exported), read(tmp_path / "hbb.h5")]
    pieces = []
    for rows in both:
        _, first = np.unique(rows["parton_features"][0::2], axis=0, return_index=True)
        # of each parton another one of its views
        n = len(rows["vartype"]) // 2
        views = [
            np.flatnonzero((rows["parton_features"][0::2] == rows["parton_features"][2 * i]).all(1)) for i in first
        ]
        pieces.append(published(rows, np.array([mine[i % len(mine)] for i, mine in enumerate(views)])))
        assert len(first) < n
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in OURS}
    n = len(joined["vartype"]) // 2
    return write(tmp_path / "merged.h5", published(joined, np.random.Generator(np.random.Philox(1)).permutation(n)))


def test_rows_are_what_the_authors_readers_take(exported: Path) -> None:
    """Follow their steps: constituents are the leading rows with a pT, 0::2 and 1::2 are pairs, labels one a row."""
    rows = read(exported)
    n = len(rows["features"])
    assert rows["features"].shape == (n, P, 15)
    dtypes = (np.float32, np.float32, np.float64, np.int64, np.float64, np.float64)
    assert {name: rows[name].dtype for name in OURS} == dict(zip(OURS, dtypes, strict=True))
    assert {name: rows[name].shape for name in OURS[1:]} == {
        "jet_features": (n, 6),
        "parton_features": (n, 4),
        "truth_label": (n,),
        "jettype": (n,),
        "vartype": (n,),
    }
    for row in rows["features"]:
        leading = np.count_nonzero(row[:, 0])
        assert (row[:leading, 0] > 0).all()
        assert not row[leading:].any()
        assert (np.diff(row[:leading, 0]) <= 0).all()
    assert (rows["vartype"][0::2] == -1).all()
    assert set(rows["vartype"][1::2]) == {0, 1, 2}
    assert (rows["parton_features"][0::2] == rows["parton_features"][1::2]).all()
    assert not rows["truth_label"].any()
    assert set(rows["jettype"]) <= {1, 2, 3, 5, 6, 7, 8}
    relative = rows["features"][:, 0, 0] / rows["jet_features"][:, 0]
    np.testing.assert_allclose(relative, rows["features"][:, 0, 1], rtol=1e-6)


def test_columns_are_in_the_published_order(exported: Path, qcd: Dataset) -> None:
    """Of constituents and jets: each row's numbers are those of the store under these names."""
    features = ("pt", "relpt", "eta", "phi", "e", "rele", "charge", "d0", "dz", "dr")
    features += tuple(f"is_{kind}" for kind in ("photon", "muon", "electron", "charged_hadron", "neutral_hadron"))
    of_jet = ("pt", "eta", "phi", "e", "softdrop_mass", "n2")
    rows = read(exported)
    with h5py.File(exported) as file:
        objects = file["resim/objects/object"][()]
    jets = events_of(folder_of(qcd)).jets
    mine = {int(jet.object): jet for jet in ak.flatten(jets)}
    for i in range(0, len(objects), 2):  # the nominal rows
        jet, found = mine[objects[i]], rows["features"][i]
        n = min(len(jet.constituents), P)
        for k, name in enumerate(features):
            np.testing.assert_array_equal(found[:n, k], ak.to_numpy(jet.constituents[name])[:n], err_msg=name)
        np.testing.assert_allclose(rows["jet_features"][i], [getattr(jet, name) for name in of_jet], rtol=1e-5)


def test_labels_pass_through_the_constructor_that_the_authors_use(exported: Path) -> None:
    """`torch.FloatTensor(np.array(scalar))` takes an integer for a size: vartype and jettype must be floats."""
    torch = pytest.importorskip("torch")
    with h5py.File(exported) as file:
        for name in ("vartype", "jettype"):
            assert torch.FloatTensor(np.array(file[name][1])).item() == file[name][1]


def test_one_view_follows_the_other_within_a_part(exported: Path) -> None:
    """The authors' batches are neighbouring rows: the same nominal jet twice in a batch would be its own negative."""
    runs = np.diff(read(exported)["vartype"][1::2]) != 0
    assert runs.sum() == 2 * 3 - 1


def test_gluons_are_told_by_what_they_split_into(exported: Path, qcd: Dataset) -> None:
    rows = read(exported)
    with h5py.File(exported) as file:
        columns = file["resim/columns"][()]
        jettype = file["resim/objects/jettype"][()]
    names = qcd.parts[0].view("nominal").column_names
    splitting = columns[:, names.index("splitting")]
    gluon = jettype == 5
    assert (gluon & (splitting > 5)).any()
    np.testing.assert_array_equal(rows["jettype"], np.where(gluon & (splitting > 0), splitting, jettype))


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_round_trip_gives_the_same_arrays(sample: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(sample)
    export_rs3l(dataset, tmp_path / "x.h5")
    import_rs3l([tmp_path / "x.h5"], tmp_path / "back", ImportSettings(sample))
    assert validate(tmp_path / "back") == []
    back = open_dataset(tmp_path / "back")
    assert [(part.first, part.stop) for part in back.parts] == [(part.first, part.stop) for part in dataset.parts]
    assert back.views == dataset.views
    for old, new in zip(dataset.parts, back.parts, strict=True):
        compare(old, new)


def compare(old: Any, new: Any) -> None:
    """Compare the objects of a part that are in nominal and the view, to the bit."""
    before, after = old.objects(), new.objects()
    rows = np.searchsorted(before["object"], after["object"])
    for name, values in after.items():
        assert values.dtype == before[name].dtype
        np.testing.assert_array_equal(values, before[name][rows])
    nominal = old.view("nominal").present
    for name in old.views[1:]:
        was, now = old.view(name), new.view(name)
        assert now.attributes == was.attributes
        assert (was.view_columns, was.constituent_columns) == (now.view_columns, now.constituent_columns)
        was, now = was.read(slice(None)), now.read(slice(None))
        np.testing.assert_array_equal(now.present, (was.present & nominal)[rows])
        np.testing.assert_array_equal(now.columns[now.present], was.columns[rows][now.present])
        for i in np.flatnonzero(now.present):
            mine = now.constituents[now.offsets[i] : now.offsets[i + 1]]
            np.testing.assert_array_equal(mine, was.constituents[was.offsets[rows[i]] : was.offsets[rows[i] + 1]])


def test_published_file_becomes_a_data_set_like_any_other(mixed: Path, tmp_path: Path) -> None:
    rows, folders = read(mixed), {"qcd": tmp_path / "qcd", "hbb": tmp_path / "hbb"}
    for label, (sample, folder) in enumerate(folders.items()):
        settings = ImportSettings(sample, truth_label=label, block_size=10, events_per_part=50)
        import_rs3l([mixed], folder, settings)
        assert validate(folder) == []
    assert open_dataset(folders["qcd"]).views == ("nominal", "shower_seed", "fsr_mur_sqrt2", "fsr_mur_sqrt_half")
    store = Store(folders, constituents=P, group=16)
    assert set(store.index.split) == {0, 1, 2}
    everything = np.arange(len(store.index.object))
    row = 2 * store.index.event  # pairs are numbered as they stand in the file
    np.testing.assert_array_equal(store.read("nominal", everything), rows["features"][row].astype(np.float32))
    np.testing.assert_array_equal(labels_of(store, Task(classes=["qcd", "hbb"])).value, rows["truth_label"][row])
    for code, view in enumerate(store.views[1:]):
        present = store.index.present[view]
        np.testing.assert_array_equal(present, rows["vartype"][row + 1] == code)
        jets = store.read(view, everything[present])
        np.testing.assert_array_equal(jets, rows["features"][row + 1][present].astype(np.float32))


def test_a_jets_columns_follow_from_the_layout(mixed: Path, hbb: Dataset, tmp_path: Path) -> None:
    import_rs3l([mixed], tmp_path / "hbb", ImportSettings("hbb", truth_label=1))
    part = open_dataset(tmp_path / "hbb").parts[0]
    view = part.view("nominal")
    known = {pt: i for i, pt in enumerate(hbb.view_columns("nominal")[:, 0].tolist())}
    rows = [known[pt] for pt in view.column("pt").tolist()]
    names = hbb.parts[0].view("nominal").column_names
    for name in view.column_names:
        expected = hbb.view_columns("nominal")[rows, names.index(name)]
        # the mass comes from float32 momenta
        tolerance = 0.02 if name == "mass" else 1e-4
        np.testing.assert_allclose(view.column(name), expected, rtol=tolerance, atol=1e-5, err_msg=name)


def test_parts_and_steps_leave_no_trace(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_rs3l([mixed], tmp_path / "one", ImportSettings("x", block_size=10))
    monkeypatch.setattr("resim.interop.rs3l._STEP", 7)
    import_rs3l([mixed], tmp_path / "many", ImportSettings("x", block_size=10, events_per_part=20))
    one, many = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "many")
    assert (len(one.parts), len(many.parts) > 3) == (1, True)
    assert dataset_digest(one.parts) == dataset_digest(many.parts)


def test_pt_is_put_in_falling_order(exported: Path, tmp_path: Path) -> None:
    rows = read(exported)
    n = np.count_nonzero(rows["features"][0, :, 0])
    rows["features"][0, :n] = rows["features"][0, :n][::-1].copy()
    import_rs3l([write(tmp_path / "x.h5", rows)], tmp_path / "back", ImportSettings("x"))
    view = open_dataset(tmp_path / "back").parts[0].view("nominal").read(slice(0, 1))
    np.testing.assert_array_equal(view.constituents, read(exported)["features"][0, :n])


def swapped(rows: Rows) -> Rows:
    features = rows["features"].copy()
    features[:, :, [MUON, ELECTRON]] = features[:, :, [ELECTRON, MUON]]
    return rows | {"features": features}


def test_exchanged_lepton_columns_are_seen_and_put_right(hbb: Dataset, tmp_path: Path) -> None:
    export_rs3l(hbb, tmp_path / "hbb.h5")
    rows = read(tmp_path / "hbb.h5")
    wrong = write(tmp_path / "wrong.h5", swapped(rows))
    assert any("right as named (by their mass)" in line for line in examine([tmp_path / "hbb.h5"]))
    assert any("EXCHANGED" in line for line in examine([wrong]))
    import_rs3l([write(tmp_path / "right.h5", rows)], tmp_path / "right", ImportSettings("x"))
    import_rs3l([wrong], tmp_path / "swapped", ImportSettings("x", swap_leptons=True))
    right, put_right = open_dataset(tmp_path / "right"), open_dataset(tmp_path / "swapped")
    assert right.manifest.digest["views"] == put_right.manifest.digest["views"]
    assert right.manifest.recipes != put_right.manifest.recipes


def test_leptons_without_mass_are_told_by_number_and_momentum(hbb: Dataset, tmp_path: Path) -> None:
    export_rs3l(hbb, tmp_path / "hbb.h5")
    rows = read(tmp_path / "hbb.h5")
    rows["features"][..., 4] = rows["features"][..., 0] * np.cosh(rows["features"][..., 2])
    lines = examine([write(tmp_path / "massless.h5", rows)])
    assert any("more and softer" in line or "do not tell" in line for line in lines)
    assert not any("EXCHANGED" in line for line in lines)


def test_few_leptons_tell_nothing(exported: Path, tmp_path: Path) -> None:
    rows = {name: values[:4] for name, values in read(exported).items()}
    assert any("too few" in line for line in examine([write(tmp_path / "few.h5", rows)]))


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"from": "shower", "set": {}}, 0),
        ({"from": "shower", "set": {"TimeShower:renormMultFac": 2.0}}, 1),
        ({"from": "shower", "set": {"TimeShower:renormMultFac": 0.5}}, 2),
        ({"from": "shower", "set": {"PartonShowers:model": 2}}, None),
        ({"from": "shower", "set": {"TimeShower:renormMultFac": 2.0, "PartonLevel:MPI": False}}, None),
        ({"from": "detector", "set": {}}, None),
        ({"from": None, "set": {}}, None),
    ],
)
def test_code_of_a_view(attributes: dict[str, Any], code: int | None) -> None:
    assert vartype_of(attributes) == code


def test_views_without_a_code_need_one(qcd: Dataset, tmp_path: Path) -> None:
    counts = export_rs3l(qcd, tmp_path / "x.h5", ["nominal", "fsr_mur_2"], codes={"fsr_mur_2": 3})
    assert set(counts) == {"fsr_mur_2"}
    assert set(read(tmp_path / "x.h5")["vartype"]) == {-1, 3}
    with pytest.raises(UserError, match="no view 'vincia' in the data set; it has nominal"):
        export_rs3l(qcd, tmp_path / "y.h5", ["nominal", "vincia"])
    with pytest.raises(UserError, match="--vartype vincia: no such view"):
        export_rs3l(qcd, tmp_path / "y.h5", codes={"vincia": 3})
    with pytest.raises(UserError, match="view other than nominal: has no code"):
        export_rs3l(qcd, tmp_path / "y.h5", ["nominal"])
    assert not list(tmp_path.glob("*y.h5*"))


def changed(name: str, change: Callable[[NDArray[Any]], Any]) -> Callable[[Rows], Rows]:
    def apply(rows: Rows) -> Rows:
        values = rows[name].copy()
        return rows | {name: change(values)}

    return apply


def put(index: Any, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def apply(values: NDArray[Any]) -> NDArray[Any]:
        values[index] = value
        return values

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: {n: v for n, v in rows.items() if n != "jettype"}, "lacks jettype; the layout has features"),
        (lambda rows: {n: v[:-1] for n, v in rows.items()}, "rows; they come in pairs"),
        (lambda rows: {n: v[1:-1] for n, v in rows.items()}, "row 0 is not nominal"),
        (changed("features", lambda v: v[:, :, :14]), r"features has shape .*, not \(\d+, P, 15\)"),
        (changed("vartype", lambda v: v[:, None]), r"vartype has shape .*, not \(\d+\)"),
        (changed("truth_label", lambda v: v[:-2]), "truth_label has shape"),
        (changed("vartype", put(3, -1)), "row 3 is nominal"),
        (changed("parton_features", put((5, 0), 1.0)), "row 5 has another parton than the row before"),
        (changed("truth_label", put(7, 1)), "row 7 has another truth_label"),
        (changed("vartype", put(1, 12)), "vartype 12: is no view that is known .* give --vartypes"),
        (changed("features", put((4, 0, 3), np.nan)), "row 4 of features .* not finite"),
        (changed("features", put((6, 1, 0), 0.0)), "row 6 of features .* gap"),
        (changed("features", put(8, 0.0)), "row 8 of features is empty"),
        (changed("jet_features", put((9, 3), np.inf)), "row 9 of jet_features is not finite"),
    ],
)
def test_damage_is_named_and_leaves_nothing(
    damage: Callable[[Rows], Rows], message: str, exported: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.h5", damage(read(exported)))
    with pytest.raises(UserError, match=message):
        import_rs3l([path], tmp_path / "back", ImportSettings("x", block_size=10, events_per_part=10))
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_files_that_are_no_hdf5(tmp_path: Path, exported: Path) -> None:
    (tmp_path / "text.h5").write_text("pt eta phi\n")
    (tmp_path / "half.h5").write_bytes(exported.read_bytes()[:-1000])
    for name in ("text.h5", "half.h5", "none.h5"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as HDF5"):
            import_rs3l([tmp_path / name], tmp_path / "back", ImportSettings("x"))


def test_a_disk_that_gets_full(qcd: Dataset, tmp_path: Path) -> None:
    """The HDF5 library ends the process with a segmentation fault where a write fails; it must not learn of it."""
    small = tmp_path / "small"
    small.mkdir()
    if not _mount(small, "256k"):
        pytest.skip("a small file system can only be mounted by root")
    try:
        done = resim("export", folder_of(qcd), "--to", "rs3l", "--out", small / "x.h5")
        _mistake(done, "no space left on the disk", "Free space or choose another folder")
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def digest_after(path: Path, out: Path) -> str | None:
    """Import a file; None where it is refused in one line that names it."""
    try:
        import_rs3l([path], out, ImportSettings("x"))
    except UserError as error:
        return None if path.name in str(error) else str(error)
    return str(open_dataset(out).manifest.digest["digest"])


def test_a_flipped_bit_is_seen_or_harmless(exported: Path, tmp_path: Path) -> None:
    raw, path, outcomes = exported.read_bytes(), tmp_path / "x.h5", []
    for i in range(10):
        damaged = bytearray(raw)
        damaged[(2 * i + 1) * len(raw) // 20] ^= 16
        path.write_bytes(damaged)
        outcomes.append(digest_after(path, tmp_path / f"{i}"))
    assert set(outcomes) <= {None, digest_after(exported, tmp_path / "whole")}
    assert outcomes.count(None) > 5


def _rename_group(file: h5py.File) -> None:
    file.move("resim", "rdsim")


def _rename_head(file: h5py.File) -> None:
    file.move("resim/head", "resim/hdad")


def _rename_objects(file: h5py.File) -> None:
    file.move("resim/objects", "resim/objfcts")


def _change_ids(file: h5py.File) -> None:
    file["resim/objects/event"][:] = file["resim/objects/event"][:] + 1


def _lose_rows(file: h5py.File) -> None:
    file["resim/columns"].resize(len(file["resim/columns"]) - 2, axis=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rename_group, r"x.h5: lacks resim/head, which our export has; copy or export it again"),
        (_rename_head, r"x.h5: lacks resim/head, which our export has; copy or export it again"),
        (_rename_objects, r"x.h5: damaged \(.*component not found.*\); copy or export it again"),
        (_change_ids, r"x.h5: damaged \(.*id.* 8 x event \+ slot.*\); copy or export it again"),
        (_lose_rows, r"x.h5: damaged \(resim/columns has too few rows\); copy or export it again"),
    ],
)
def test_damage_that_no_checksum_tells(
    damage: Callable[[h5py.File], None], message: str, exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(exported.read_bytes())
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=message) as told:
        import_rs3l([path], tmp_path / "back", ImportSettings("x"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "back").exists()


def test_files_that_do_not_go_together(exported: Path, mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stands in two pairs of one view"):
        import_rs3l([exported, exported], tmp_path / "back", ImportSettings("x"))
    with pytest.raises(UserError, match="has no event numbers"):
        import_rs3l([exported, mixed], tmp_path / "back", ImportSettings("x"))
    with pytest.raises(UserError, match="no pair has it; found 0, 1"):
        import_rs3l([mixed], tmp_path / "back", ImportSettings("x", truth_label=3))
    assert not (tmp_path / "back").exists()


def test_what_is_there_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and not empty"):
        import_rs3l([exported], tmp_path, ImportSettings("x"))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is a folder; give the name of a file"):
        export_rs3l(open_dataset_of(exported, tmp_path / "back"), tmp_path)


@pytest.mark.parametrize("out", ["/proc/x/y", "/proc/y"])
def test_a_place_where_nothing_can_be_made_is_told(out: str) -> None:
    for whole in (whole_file, whole_dataset):
        with (
            pytest.raises(UserError, match=rf"--out {out}: cannot be made there \(.*\); choose another folder"),
            whole(Path(out)),
        ):
            pytest.fail("there is such a place")


def open_dataset_of(exported: Path, out: Path) -> Dataset:
    import_rs3l([exported], out, ImportSettings("x"))
    return open_dataset(out)


def test_settings_that_make_no_sense(exported: Path, tmp_path: Path) -> None:
    for settings, message in (
        (ImportSettings("Two Words"), "--sample: 'Two Words' is no name"),
        (ImportSettings("x", vartypes={0: "a/b"}), "--vartypes: 'a/b' is no name"),
        (ImportSettings("x", events_per_part=150), "--events-per-part 150: not whole blocks of 100"),
    ):
        with pytest.raises(UserError, match=message):
            import_rs3l([exported], tmp_path / "back", settings)
