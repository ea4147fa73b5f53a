"""Views as Awkward arrays."""

import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import fsspec
import numpy as np
import pytest

from resim.errors import UserError
from resim.read import iterate, read
from resim.store import Dataset, dataset_digest, open_dataset, write_manifest
from tests.interop.conftest import IMAGE_VIEWS, VIEWS, folder_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("view", VIEWS)
def test_events_jets_and_constituents_are_those_of_the_store(view: str, qcd: Dataset) -> None:
    events = read(folder_of(qcd), view)
    objects, present = qcd.objects(), qcd.present(view)
    np.testing.assert_array_equal(events.event, np.unique(objects["event"]))
    jets = ak.flatten(events.jets)
    np.testing.assert_array_equal(jets.object, objects["object"][present])
    np.testing.assert_array_equal(jets.jettype, objects["jettype"][present])
    np.testing.assert_array_equal(ak.flatten(ak.broadcast_arrays(events.event, events.jets.pt)[0]), jets.object // 8)
    stored = qcd.parts[0].view(view)
    for name in set(stored.column_names) - {"e"}:
        column = qcd.view_columns(view)[present, stored.column_names.index(name)]
        np.testing.assert_array_equal(ak.to_numpy(jets[name]), column)
    pieces = np.concatenate([part.view(view).constituents[:] for part in qcd.parts])
    for i, column in enumerate(stored.constituent_columns):
        np.testing.assert_array_equal(ak.flatten(jets.constituents[column.name]), pieces[:, i])


@pytest.mark.parametrize("view", IMAGE_VIEWS)
def test_events_images_and_voxels_are_those_of_the_store(view: str, images: Dataset) -> None:
    events = read(folder_of(images), view)
    objects, present = images.objects(), images.present(view)
    np.testing.assert_array_equal(events.event, objects["event"])
    np.testing.assert_array_equal(ak.num(events.images), present)
    assert events.fields == ["event", "split", "weight", "images"]
    found = ak.flatten(events.images)
    for name in ("object", "pdg", "kinetic_energy", "vertex_x", "direction_z"):
        np.testing.assert_array_equal(found[name], objects[name][present])
    stored = images.parts[0].view(view)
    columns = images.view_columns(view)[present]
    np.testing.assert_array_equal(np.stack([ak.to_numpy(found[n]) for n in stored.column_names], axis=1), columns)
    pieces = np.concatenate([part.view(view).constituents[:] for part in images.parts])
    assert found.voxels.fields == ["x", "y", "z", "adc", "charge"]
    np.testing.assert_array_equal(np.stack([ak.flatten(found.voxels[n]) for n in "xyz"], axis=1), pieces[:, :3])


def test_voxels_are_no_momenta(images: Dataset) -> None:
    events = read(folder_of(images))
    for record in (events.images, events.images.voxels):
        assert not hasattr(record, "px")
        assert not hasattr(record, "deltaR")


def test_four_vectors_add_up(hbb: Dataset) -> None:
    events = read(folder_of(hbb))
    whole = ak.sum(events.jets.constituents, axis=-1)
    assert ak.max(events.jets.deltaR(whole)) < 0.02
    np.testing.assert_allclose(ak.flatten(whole.mass), ak.flatten(events.jets.mass), rtol=0.01)
    np.testing.assert_allclose(ak.flatten(whole.e), ak.flatten(events.jets.e), rtol=0.01)
    stored = hbb.parts[0].view("nominal")
    e = hbb.view_columns("nominal")[hbb.present("nominal"), stored.column_names.index("e")]
    np.testing.assert_allclose(ak.flatten(events.jets.e), e, rtol=1e-5)


def test_views_have_the_same_events(qcd: Dataset) -> None:
    nominal, seed = (read(folder_of(qcd), view) for view in VIEWS[:2])
    np.testing.assert_array_equal(nominal.event, seed.event)
    assert len(nominal.jets) == len(seed.jets)


def test_parts_come_one_by_one(qcd: Dataset) -> None:
    parts = list(iterate(folder_of(qcd), "fsr_mur_2"))
    assert len(parts) == len(qcd.parts)
    assert ak.array_equal(ak.concatenate(parts), read(folder_of(qcd), "fsr_mur_2"), equal_nan=True)


def test_a_folder_may_have_colons_in_its_name(qcd: Dataset, tmp_path: Path) -> None:
    shutil.copytree(folder_of(qcd), tmp_path / "run::7")
    assert ak.array_equal(read(tmp_path / "run::7"), read(folder_of(qcd)), equal_nan=True)


def test_no_such_view_or_data_set(qcd: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no view 'foo'; it has nominal, shower_seed"):
        iterate(folder_of(qcd), "foo")
    with pytest.raises(UserError, match="is no data set"):
        read(tmp_path)


@pytest.fixture
def url(qcd: Dataset) -> Iterator[str]:
    """Put a data set into the memory of this process, behind a URL."""
    files = fsspec.filesystem("memory")
    files.put(str(folder_of(qcd)), "/sets/qcd", recursive=True)
    yield "memory://sets/qcd"
    files.rm("/sets", recursive=True)


@pytest.mark.parametrize("view", VIEWS)
def test_a_url_gives_what_the_folder_gives(view: str, qcd: Dataset, url: str) -> None:
    expected = read(folder_of(qcd), view)
    for where in (url, f"{url}/manifest.json", f"file://{folder_of(qcd)}"):
        assert ak.array_equal(read(where, view), expected, equal_nan=True), where


def test_a_data_set_behind_a_url_is_checked_and_only_read(qcd: Dataset, url: str) -> None:
    dataset = open_dataset(url)
    assert dataset_digest(dataset.parts, recompute=True) == qcd.manifest.digest
    again = pickle.loads(pickle.dumps(dataset.parts[1]))
    np.testing.assert_array_equal(again.objects()["object"], qcd.parts[1].objects()["object"])
    with pytest.raises(UserError, match=r"memory://sets/qcd/part-0+-0+20: is read from a URL, and this needs it on a"):
        write_manifest("elsewhere", [dataset.parts[0].place])


def test_parts_may_lie_beside_the_manifests_folder(qcd: Dataset, url: str, tmp_path: Path) -> None:
    shutil.copytree(folder_of(qcd), tmp_path / "qcd")
    write_manifest(tmp_path / "all", [tmp_path / "qcd" / part.path.name for part in qcd.parts])
    fsspec.filesystem("memory").put(str(tmp_path / "all"), "/sets/all", recursive=True)
    assert ak.array_equal(read("memory://sets/all"), read(url), equal_nan=True)
    assert [str(part.place) for part in open_dataset("memory://sets/all").parts] == [
        f"{url}/{part.path.name}" for part in qcd.parts
    ]


@pytest.mark.parametrize("file", ["objects/event/c.0", "views/nominal/constituents/c.0.0"])
def test_damage_behind_a_url_is_named(file: str, url: str) -> None:
    files = fsspec.filesystem("memory")
    (path,) = (name for name in files.find("/sets/qcd") if name.endswith(f"000020/data.zarr/{file}"))
    content = bytearray(files.cat_file(path))
    content[len(content) // 3] ^= 1
    files.pipe_file(path, bytes(content))
    with pytest.raises(UserError, match=r"memory://sets/qcd/part.*cannot be read .*resim validate. lists the damage"):
        read(url)
    files.rm_file(path)
    with pytest.raises(UserError, match=f"memory://sets/qcd/part.*{file}: missing or not {len(content)} bytes long"):
        read(url)


def test_no_data_set_behind_a_url(url: str) -> None:
    with pytest.raises(UserError, match="memory://sets: is no data set"):
        read("memory://sets")
    with pytest.raises(UserError, match="memory://sets/qcd: has no view 'foo'"):
        read(url, "foo")
    with pytest.raises(UserError, match=r"nowhere://x: cannot be read \(Unsupported filesystem: .nowhere"):
        read("nowhere://x")


def test_the_documents_example_runs(hbb: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "exchange.md").read_text()
    example, _ = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert "results/data/hbb" in example
    exec(example.replace("results/data/hbb", str(folder_of(hbb))), {})
    shift, angle = map(float, capsys.readouterr().out.split())
    assert abs(shift) < 300
    assert 0 < angle < 0.8


def test_the_documents_example_of_images_runs(images: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "exchange.md").read_text()
    _, example = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert "results/data/proton" in example
    exec(example.replace("results/data/proton", str(folder_of(images))), {})
    charge, distance = map(float, capsys.readouterr().out.split())
    assert 1000 < charge < 20000  # ke of 50 to 400 MeV
    assert 0 < distance < 5  # cm
