"""Parquet and ROOT, out and in, on real events; and the commands `export` and `import`."""

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
import yaml

from resim.errors import UserError
from resim.interop.columnar import LABELS, export_parquet, export_root, import_parquet, import_root
from resim.interop.rs3l import ImportSettings, export_rs3l, import_rs3l
from resim.read import read
from resim.store import Dataset, dataset_digest, open_dataset, validate
from tests.conftest import resim
from tests.interop.conftest import LARTPC, folder_of
from tests.test_cli import _mistake


def contents(dataset: Dataset, views: tuple[str, ...] | None = None) -> dict[str, str]:
    found = dataset_digest(dataset.parts, views or dataset.views)
    return {"objects": found["objects"], **found["views"]}


@pytest.mark.parametrize("sample", ["qcd", "hbb", "images"])
def test_parquet_gives_the_data_set_back(sample: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(sample)
    export_parquet(dataset, tmp_path / "x.parquet")
    import_parquet(tmp_path / "x.parquet", tmp_path / "back")
    assert validate(tmp_path / "back") == []
    back = open_dataset(tmp_path / "back")
    assert contents(back) == contents(dataset)
    for old, new in zip(dataset.parts, back.parts, strict=True):
        lost = {"checkpoint_recipes"}  # with the checkpoints
        assert {k: v for k, v in old.attributes.items() if k not in lost} == new.attributes
        assert [new.view(v).attributes for v in new.views] == [old.view(v).attributes for v in old.views]


def test_parquet_of_some_views(qcd: Dataset, tmp_path: Path) -> None:
    export_parquet(qcd, tmp_path / "x.parquet", ["nominal", "fsr_mur_2"])
    import_parquet(tmp_path / "x.parquet", tmp_path / "back")
    back = open_dataset(tmp_path / "back")
    assert back.views == ("nominal", "fsr_mur_2")
    assert contents(back, back.views) == contents(qcd, back.views)
    assert set(back.parts[0].attributes["recipes"]) == set(back.views)


def test_parquet_reads_without_this_package(qcd: Dataset, tmp_path: Path) -> None:
    export_parquet(qcd, tmp_path / "x.parquet")
    rows = ak.from_parquet(tmp_path / "x.parquet")
    assert len(rows) == qcd.n_objects
    np.testing.assert_array_equal(ak.to_numpy(~ak.is_none(rows.shower_seed)), qcd.present("shower_seed"))
    leading = ak.drop_none(rows.nominal).constituents.pt[:, 0]
    views = [part.view("nominal").read(slice(None)) for part in qcd.parts]
    expected = [v.constituents[v.offsets[:-1][v.present], 0] for v in views]
    np.testing.assert_array_equal(ak.to_numpy(leading), np.concatenate(expected))


@pytest.mark.parametrize("sample", ["hbb", "images"])
def test_root_gives_the_views_back(sample: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(sample)
    files = [tmp_path / f"{view}.root" for view in dataset.views]
    for view, file in zip(dataset.views, files, strict=True):
        export_root(dataset, file, [view])
    import_root(files, tmp_path / "back")
    assert validate(tmp_path / "back") == []
    back = open_dataset(tmp_path / "back")
    old, new = dataset.objects(), back.objects()
    rows = np.searchsorted(old["object"], new["object"])
    assert len(rows) == np.any([dataset.present(view) for view in dataset.views], axis=0).sum()
    for name, values in new.items():
        assert values.dtype == old[name].dtype
        np.testing.assert_array_equal(values, old[name][rows])
    for view in dataset.views:
        np.testing.assert_array_equal(back.present(view), dataset.present(view)[rows])
        np.testing.assert_array_equal(back.view_columns(view), dataset.view_columns(view)[rows])
        pieces = [[p.view(view).constituents[:] for p in each.parts] for each in (dataset, back)]
        np.testing.assert_array_equal(np.concatenate(pieces[0]), np.concatenate(pieces[1]))
    assert not set(back.manifest.recipes.values()) & set(dataset.manifest.recipes.values())


def test_root_of_images_has_the_names_of_the_lane(images: Dataset, tmp_path: Path) -> None:
    export_root(images, tmp_path / "x.root")
    tree = uproot.open(tmp_path / "x.root")["tree"].arrays()
    assert len(tree) == images.present("nominal").sum()
    assert set(tree.pdg) == {2212}
    np.testing.assert_array_equal(tree.nvoxel, ak.num(tree.voxel_charge))
    np.testing.assert_array_equal(tree.nvoxel, tree.image_n_voxels)
    np.testing.assert_allclose(ak.sum(tree.voxel_charge, axis=1), tree.image_charge, rtol=1e-5)
    other = [n for n in tree.fields if n.partition("_")[0] not in ("image", "voxel", "vertex", "direction", "kinetic")]
    assert sorted(other) == ["event", "nvoxel", "object", "pdg", "split", "weight"]


def test_what_is_for_jets_alone_is_refused_in_one_line(images: Dataset, tmp_path: Path, write_config: Any) -> None:
    folder, out = folder_of(images), tmp_path / "x"
    for to in ("rs3l", "hepmc3"):
        done = resim("export", folder, "--to", to, "--out", out)
        _mistake(done, f"resim: --to {to}: is for the lane jets, and this is lartpc; export parquet")
        assert len(done.stderr.splitlines()) == 1
    done = resim("export", folder, "--to", "root", "--higgs", "Hbb", "--out", out)
    _mistake(done, "--higgs Hbb: is a label of jets, and the data set has none")
    _mistake(resim("pool", "--config", LARTPC, "--out", out), "the lane 'lartpc' has no pile-up, and needs no pool")
    values = yaml.safe_load(LARTPC.read_text())
    for sample, told in (
        ({"events": 50, "lhe": "x.lhe"}, "samples.proton.lhe: is for the lane jets"),
        ({"source": {"rs3l": ["x.h5"]}}, "samples.proton.source: rs3l: is of the lane 'jets'; change `lane`"),
    ):
        _mistake(resim("check", "--config", write_config(values | {"samples": {"proton": sample}})), told)
    assert not out.exists()


@pytest.mark.parametrize("sample", ["hbb", "images"])
def test_data_of_a_lane_that_is_not_known(
    sample: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset: Dataset = request.getfixturevalue(sample)
    for part in dataset.parts:
        monkeypatch.setitem(part.attributes, "lane", "muons")
    with pytest.raises(UserError, match="the data are of the lane 'muons', and ROOT is written of jets, lartpc"):
        export_root(dataset, tmp_path / "x.root")
    assert not list(tmp_path.iterdir())


def test_root_has_the_branches_of_jetclass(hbb: Dataset, tmp_path: Path) -> None:
    """Names, signs and units as the reader published with JetClass documents them."""
    export_root(hbb, tmp_path / "x.root")
    with uproot.open(tmp_path / "x.root") as file:
        assert [name for name, kind in file.classnames(cycle=False).items() if kind == "TTree"] == ["tree"]
        tree = file["tree"].arrays()
    flags = ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
    particle = ("px", "py", "pz", "energy", "deta", "dphi", "d0val", "dzval", "charge", *(f"is{f}" for f in flags))
    jet = ("pt", "eta", "phi", "energy", "nparticles", "sdmass")
    wanted = [f"part_{n}" for n in particle] + [f"jet_{n}" for n in jet] + [f"label_{n}" for n in LABELS]
    assert set(wanted) <= set(tree.fields)
    assert len(tree) == hbb.present("nominal").sum()
    labels = np.stack([ak.to_numpy(tree[f"label_{name}"]) for name in LABELS], axis=1)
    np.testing.assert_array_equal(labels, np.broadcast_to(np.array(LABELS) == "Hbb", labels.shape))
    pt = np.hypot(tree.part_px, tree.part_py)
    np.testing.assert_allclose(ak.flatten(pt), ak.flatten(tree.part_pt), rtol=1e-6)
    np.testing.assert_allclose(ak.sum(tree.part_energy, axis=1), tree.jet_energy, rtol=1e-3)
    eta = np.arcsinh(tree.part_pz / pt)
    deta = ak.where(tree.jet_eta > 0, eta - tree.jet_eta, -(eta - tree.jet_eta))
    np.testing.assert_allclose(ak.flatten(deta), ak.flatten(tree.part_deta), atol=1e-5)
    np.testing.assert_allclose(
        ak.flatten(np.hypot(tree.part_deta, tree.part_dphi)), ak.flatten(tree.part_dr), atol=1e-5
    )
    assert (abs(ak.to_numpy(ak.flatten(tree.part_dphi))) < 1).all()


def test_labels_of_quarks_and_gluons(qcd: Dataset, tmp_path: Path) -> None:
    export_root(qcd, tmp_path / "x.root")
    tree = uproot.open(tmp_path / "x.root")["tree"].arrays()
    assert ak.all(tree.label_QCD)
    assert not any(ak.any(tree[f"label_{name}"]) for name in LABELS[1:])


def test_a_higgs_boson_whose_decay_is_not_known_needs_a_label(hbb: Dataset, tmp_path: Path) -> None:
    """Published sets do not say what H decays to."""
    export_rs3l(hbb, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["resim"], file.attrs["resim"]
    import_rs3l([tmp_path / "x.h5"], tmp_path / "hbb", ImportSettings("hbb"))
    published = open_dataset(tmp_path / "hbb")
    with pytest.raises(UserError, match="decay that no label of JetClass names; give --higgs LABEL"):
        export_root(published, tmp_path / "x.root")
    export_root(published, tmp_path / "x.root", higgs="Hcc")
    assert ak.all(uproot.open(tmp_path / "x.root")["tree"].arrays().label_Hcc)


def test_a_tree_holds_one_view(qcd: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--views nominal,fsr_mur_2: a tree holds one view"):
        export_root(qcd, tmp_path / "x.root", ["nominal", "fsr_mur_2"])
    with pytest.raises(UserError, match="no view 'foo' in the data set; it has nominal"):
        export_root(qcd, tmp_path / "x.root", ["foo"])
    with pytest.raises(UserError, match="no label of JetClass; it has QCD, Hbb"):
        export_root(qcd, tmp_path / "x.root", higgs="Hbx")
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_go_together(qcd: Dataset, hbb: Dataset, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("nominal.root", "seed.root", "some.root")]
    export_root(qcd, files[0])
    export_root(qcd, files[1], ["shower_seed"])
    for wrong, message in (
        ([files[1]], "the files hold shower_seed; give one of each view, and nominal among them"),
        ([files[0], files[0]], "the files hold nominal; give one of each view"),
    ):
        with pytest.raises(UserError, match=message):
            import_root(wrong, tmp_path / "back")
    export_parquet(hbb, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="not a ROOT file"):
        import_root([tmp_path / "x.parquet"], tmp_path / "back")
    with pytest.raises(UserError, match=r"nominal.root: cannot be read as Parquet"):
        import_parquet(files[0], tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_damaged_and_foreign_files(qcd: Dataset, tmp_path: Path) -> None:
    export_parquet(qcd, tmp_path / "x.parquet")
    raw = bytearray((tmp_path / "x.parquet").read_bytes())
    (tmp_path / "half.parquet").write_bytes(raw[: len(raw) // 2])
    ak.to_parquet(ak.Array([{"pt": 1.0}]), tmp_path / "foreign.parquet")
    export_root(qcd, tmp_path / "x.root")
    (tmp_path / "half.root").write_bytes((tmp_path / "x.root").read_bytes()[:5000])
    for name, message in (("half", "cannot be read as Parquet"), ("foreign", "was not written by `resim export`")):
        with pytest.raises(UserError, match=message):
            import_parquet(tmp_path / f"{name}.parquet", tmp_path / "back")
    with pytest.raises(UserError, match="cannot be read as ROOT"):
        import_root([tmp_path / "half.root"], tmp_path / "back")
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "back").exists()


def digest_after(path: Path, out: Path) -> str | None:
    """Import a file of either format; None where it is refused in one line that names it."""
    try:
        import_parquet(path, out) if path.suffix == ".parquet" else import_root([path], out)
    except UserError as error:
        return None if path.name in str(error) else str(error)
    return str(open_dataset(out).manifest.digest["digest"])


@pytest.mark.parametrize("name", ["x.parquet", "x.root"])
def test_a_flipped_bit_is_seen_or_harmless(name: str, qcd: Dataset, tmp_path: Path) -> None:
    path = tmp_path / name
    export_parquet(qcd, path) if name == "x.parquet" else export_root(qcd, path)
    whole, raw = digest_after(path, tmp_path / "whole"), path.read_bytes()
    outcomes = []
    for i in range(10):
        damaged = bytearray(raw)
        damaged[(2 * i + 1) * len(raw) // 20] ^= 16
        path.write_bytes(damaged)
        outcomes.append(digest_after(path, tmp_path / f"{i}"))
    assert set(outcomes) <= {None, whole}
    assert outcomes.count(None) > 5


def test_commands_on_images(images: Dataset, tmp_path: Path) -> None:
    for to in ("parquet", "root"):
        done = resim("export", folder_of(images), "--to", to, "--out", tmp_path / f"x.{to}")
        assert done.returncode == 0, done.stderr
        done = resim("import", to, tmp_path / f"x.{to}", "--out", tmp_path / to)
        assert done.returncode == 0, done.stderr
        assert "whole" in resim("validate", tmp_path / to).stdout
        assert ak.array_equal(read(tmp_path / to), read(folder_of(images)), equal_nan=True)


def test_commands(hbb: Dataset, tmp_path: Path) -> None:
    folder = folder_of(hbb)
    for to, sample in (("rs3l", ["--sample", "hbb"]), ("parquet", []), ("root", [])):
        out = tmp_path / f"x.{to}"
        done = resim("export", folder, "--to", to, "--out", out)
        assert done.returncode == 0, done.stderr
        done = resim("import", to, out, "--out", tmp_path / to, *sample)
        assert done.returncode == 0, done.stderr
        assert "whole" in resim("validate", tmp_path / to).stdout
    done = resim("import", "rs3l", tmp_path / "x.rs3l", "--out", folder, "--sample", "hbb")
    assert "column 11 (is_muon)" in done.stdout
    _mistake(done, "is there already and not empty")


def test_mistakes_in_commands(hbb: Dataset, tmp_path: Path) -> None:
    folder, file = folder_of(hbb), tmp_path / "x.h5"
    to = ("--to", "rs3l", "--out", file)
    _mistake(resim("export", folder, *to, "--vartype", "fsr_mur_2"), "--vartype 'fsr_mur_2'", "= between")
    _mistake(resim("export", folder, *to, "--vartype", "fsr_mur_2=up"), "'up' is not a whole number")
    _mistake(resim("export", tmp_path, *to), "is no data set")
    assert resim("export", folder, *to).returncode == 0
    into = ("import", "rs3l", file, "--out", tmp_path / "back")
    _mistake(resim(*into), "--sample is missing")
    _mistake(resim(*into, "--sample", "x", "--splits", "1"), "--splits 1", "train, validation, test")
    _mistake(resim(*into, "--sample", "x", "--splits", "1,1,1"), "--splits", "must be 1")
    _mistake(resim("import", "parquet", file, file, "--out", tmp_path / "back"), "a second file")
    assert not (tmp_path / "back").exists()
