"""Published sparse images, written here as their converters and torch write them: in, and to the end of a training.

No file of either set is at hand. Layouts are those that the public readers and converters of arXiv:2502.07724 use.
"""

import json
import pickle
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from resim.config import Config, Source
from resim.errors import UserError
from resim.interop.images import read_image
from resim.interop.sparse import PARTICLES, open_layout
from resim.interop.torchfile import LARGEST, read_torch
from resim.plan import check_config
from resim.published import import_options, source_paths, source_views
from resim.store import Dataset, open_dataset, validate
from resim.typed import parse
from tests.conftest import resim
from tests.test_cli import _mistake

CLASSES = tuple(PARTICLES)
CELL = 0.38
PEDESTAL = (580 - 288) * 256 / (1300 - 288)  # of larnd-sim's electronics, in counts
Arrays = dict[str, Any]


def draws(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.random.SeedSequence(key).generate_state(2, np.uint64)))


def image(kind: int, file: int, event: int, throw: int = 0) -> Arrays:
    """Make what the converter saves: hits in no order and on no grid, some twice in a cell; a vertex (3, 1)."""
    shared, own = draws(kind, file, event), draws(kind, file, event, 1 + throw)
    vertex = shared.uniform((-50, -50, 600), (50, 50, 700))
    n = 20 + 4 * kind
    along = np.linspace(0, 10, n)[:, None] * shared.normal(size=3)
    adc = own.integers(80, 120 + 20 * kind, n).astype(np.uint8)
    places = vertex + along + own.normal(0, 0.1, (n, 3))
    places[-1] = places[0]
    charge = (adc / 256 * (1300 - 288) + 288 - 580) / 4
    return {"adc": adc, "coordinates": places, "charge": charge, "vertex": vertex[:, None]}


def write_images(folder: Path, kinds: tuple[str, ...] = CLASSES, events: int = 6, throws: int = 2) -> Path:
    """Write what the converter does: a folder a throw, in it one a class; names are those of larnd-sim's files."""
    for kind in kinds:
        for throw in range(throws + 1):
            setting = f"electronics_throw{throw}" if throw else "nominal"
            place = folder / setting / "all" / kind
            place.mkdir(parents=True)
            for event in range(events):
                stem = f"{kind}_edep_file_{240 + event % 2}_{setting}"
                arrays = image(CLASSES.index(kind), event % 2, event, throw)
                np.savez(place / f"{stem}_eventID_{event}.npz", **arrays)
    return folder


def cubes(kind: int, event: int) -> Arrays:
    """Make what a file of the segmented-cube set holds; of every four events two start alike."""
    own, start = draws(kind, event), draws(kind, event // 2, 9)
    n = 24 + 4 * kind
    places = np.unique(own.integers(-30, 30, (n, 3)), axis=0) * 10.0 + 5
    tags = own.random(len(places)) < 0.5
    tags[:2] = True, False
    light = np.where(tags, own.uniform(20, 60 + 30 * kind, len(places)), own.uniform(1, 5, len(places)))
    direction = start.normal(size=3)
    return {
        "reco_hits": np.column_stack([places, light, np.full(len(places), 10.0)]),
        "true_nodes": own.normal(size=(4, 3)),
        "Tag_Trk": tags,
        "TrueIniPos": start.uniform(-500, 500, 3),
        "TrueIniDir": direction / np.linalg.norm(direction),
        "TrueIniP": np.float64(start.uniform(100, 1000)),
        "event": event,
        "name": CLASSES[kind],
    }


def write_cubes(folder: Path, kinds: tuple[str, ...] = ("electron", "muon"), events: int = 8) -> Path:
    torch = pytest.importorskip("torch")
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for event in range(events):
            torch.save(cubes(CLASSES.index(kind), event), folder / kind / f"event{event}.pt")
    return folder


def imported(out: Path, kind: str, *words: object) -> Dataset:
    done = resim("import", kind, *words, "--out", out, "--block-size", 2, "--events-per-part", 4)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(out)
    assert validate(dataset.manifest.path.parent) == []
    return dataset


def rows_of(dataset: Dataset, view: str) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[NDArray[np.float32]]]:
    """Give columns, presence and voxels of all objects."""
    tables = [part.view(view).read(slice(None)) for part in dataset.parts]
    voxels = [t.constituents[a:b] for t in tables for a, b in pairwise(t.offsets.tolist())]
    return np.concatenate([t.columns for t in tables]), np.concatenate([t.present for t in tables]), voxels


# --- images -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def test_an_image_becomes_cells_with_the_charge_of_its_hits(images: Path, tmp_path: Path) -> None:
    """Followed hit by hit: cells of 0.38 cm as the published network has them, of hits that share one the sums."""
    dataset = imported(tmp_path / "muon", "images", images, "--sample", "muon", "--particle", "muon")
    assert dataset.views == ("nominal", "electronics_throw_1", "electronics_throw_2")
    objects = dataset.objects()
    assert objects["pdg"].tolist() == [13] * 6
    keys = list(zip(objects["file"].tolist(), objects["file_event"].tolist(), strict=True))
    assert keys == sorted(keys)
    for throw, view in enumerate(dataset.views):
        columns, present, voxels = rows_of(dataset, view)
        assert present.all()
        names = dataset.parts[0].view(view).column_names
        for (file, event), found, column in zip(keys, voxels, columns, strict=True):
            arrays = image(2, event % 2, event, throw)
            assert file == 240 + event % 2
            hits: dict[tuple[int, ...], list[int]] = {}
            for i, place in enumerate(arrays["coordinates"]):
                hits.setdefault(tuple(np.floor(place / CELL).astype(int).tolist()), []).append(i)
            assert len(hits) < len(arrays["adc"])
            cells = sorted(hits)
            np.testing.assert_allclose(found[:, :3], (np.array(cells) + 0.5) * CELL, rtol=1e-6)
            charge = [arrays["charge"][hits[cell]].sum() for cell in cells]
            np.testing.assert_allclose(found[:, 4], charge, rtol=1e-5)
            # what counts say is what charge says
            np.testing.assert_allclose((found[:, 3] - PEDESTAL) / 256 * (1300 - 288) / 4, charge, rtol=1e-4)
            told = dict(zip(names, column.tolist(), strict=True))
            assert (told["n_hits"], told["n_voxels"]) == (len(arrays["adc"]), len(hits))
            assert told["charge"] == pytest.approx(arrays["charge"].sum(), rel=1e-5)
            assert {"deposited", "escaped", "active", "contained"} & set(names) == set()
    vertex = [image(2, event % 2, event)["vertex"][2, 0] for _, event in keys]
    np.testing.assert_allclose(objects["vertex_z"], vertex)


def test_all_classes_or_one(images: Path, tmp_path: Path) -> None:
    dataset = imported(tmp_path / "all", "images", images / "nominal", "--sample", "any")
    assert dataset.views == ("nominal",)
    assert sorted(set(dataset.objects()["pdg"].tolist())) == sorted(PARTICLES.values())
    assert len(dataset.objects()["event"]) == 30


def test_images_that_were_not_written_are_absent(images: Path, tmp_path: Path) -> None:
    files = sorted((images / "nominal/all/proton").iterdir()) + sorted(
        (images / "electronics_throw2").rglob("proton_*")
    )
    missing = [files[0], files[-1]]
    words = [path for path in files if path not in missing]
    # files without their folders: the throw is in their names
    dataset = imported(tmp_path / "proton", "images", *words, "--sample", "proton")
    assert dataset.views == ("nominal", "electronics_throw_2")
    nominal, throw = (rows_of(dataset, view)[1] for view in dataset.views)
    assert nominal.tolist() == [False, *[True] * 5]
    assert throw.tolist() == [*[True] * 5, False]


def test_a_view_can_be_called_nominal(images: Path, tmp_path: Path) -> None:
    words = ("--sample", "gamma", "--particle", "gamma")
    throws = [images / f"electronics_throw{throw}" for throw in (1, 2)]
    _mistake(
        resim("import", "images", *throws, *words, "--out", tmp_path / "none"),
        "has no image without a throw in its name or folders; say which view is, as in electronics_throw_1=nominal",
    )
    given = "electronics_throw_2=nominal,electronics_throw_1=low"
    dataset = imported(tmp_path / "two", "images", *throws, *words, "--views", given)
    assert dataset.views == ("nominal", "low")
    assert rows_of(dataset, "low")[2][0][:, 4].sum() == pytest.approx(image(1, 0, 0, 1)["charge"].sum(), rel=1e-5)


def test_parts_leave_no_trace(images: Path, tmp_path: Path) -> None:
    words = (images, "--sample", "pion", "--particle", "pion")
    many = imported(tmp_path / "many", "images", *words)
    assert resim("import", "images", *words, "--out", tmp_path / "one", "--block-size", 2).returncode == 0
    assert len(many.parts) == 2
    assert open_dataset(tmp_path / "one").manifest.digest["digest"] == many.manifest.digest["digest"]


Spoil = Callable[[Path, Arrays], object]


def _saved(**changes: Any) -> Spoil:
    return lambda path, arrays: np.savez(path, **{name: v for name, v in (arrays | changes).items() if v is not None})


class Trap:
    """Makes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Call what writes."""
        return Path.write_text, (self.path, "caught")


def _trap(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays | {"adc": np.array([Trap(path.parent / "caught")], dtype=object)}, allow_pickle=True)


def _raw(path: Path, arrays: Arrays) -> None:
    np.savez(path, **{name: values for name, values in arrays.items() if name != "adc"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("adc.npy", b"no array")


BAD_IMAGES: dict[str, tuple[Spoil, str]] = {
    "object arrays": (_trap, "cannot be read as an image (Object arrays cannot be loaded when allow_pickle=False)"),
    "a pickle": (lambda path, arrays: path.write_bytes(pickle.dumps(arrays)), "cannot be read as an image (File is"),
    "no archive": (lambda path, _: path.write_text("no"), "cannot be read as an image (File is not a zip file)"),
    "cut": (lambda path, _: path.write_bytes(path.read_bytes()[:500]), "cannot be read as an image"),
    "no counts": (_saved(adc=None), "cannot be read as an image ('adc is not a file in the archive'"),
    "other lengths": (_saved(charge=np.ones(3)), "charge has type float64 and shape (3,), not numbers, a row a hit"),
    "two dimensions": (_saved(coordinates=np.ones((20, 2))), "coordinates has type float64 and shape (20, 2), not"),
    "words": (_saved(adc=np.array(["a"] * 20)), "adc has type <U1 and shape (20,), not numbers"),
    "not finite": (_saved(charge=np.full(20, np.nan)), "charge has a value that is not finite"),
    "deposits": (_saved(adc=np.full(20, 0.3)), "adc holds no counts; images of deposits, with energies there"),
    "far away": (_saved(coordinates=np.full((20, 3), 1e30)), "coordinates has a value beyond 10000, which no detector"),
    "vertex far away": (_saved(vertex=np.full(3, -1e5)), "vertex has a value beyond 10000"),
    "too much charge": (_saved(charge=np.full(20, 1e300)), "charge has a value beyond 1e+09"),
    "raw bytes": (_raw, "cannot be read as an image (adc is no array)"),
    "no hit": (_saved(adc=np.ones(0), charge=np.ones(0), coordinates=np.ones((0, 3))), "coordinates has type float64"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_refused_and_leave_nothing(case: str, tmp_path: Path) -> None:
    spoil, message = BAD_IMAGES[case]
    folder = write_images(tmp_path / "files", ("electron",), throws=0)
    path = sorted(folder.rglob("*.npz"))[-1]
    spoil(path, image(0, 1, 5))
    done = resim("import", "images", folder, "--sample", "x", "--block-size", 2, "--out", tmp_path / "out" / "x")
    _mistake(done, f"{path}: {message}")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (path.parent / "caught").exists()


def test_a_trap_for_memory_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "electron_a_b_1_eventID_1.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("adc.npy", "w") as record:
        for _ in range(300):
            record.write(bytes(1 << 20))
    with pytest.raises(UserError, match=rf"would be 314572800 bytes, and {LARGEST} are allowed"):
        read_image(path)


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        (["nothing.txt"], (), "holds no .npz file; give .npz files, or folders of them"),
        (["event_7.npz"], (), "event_7.npz: has no name as the converter gives, CLASS_A_B_INDEX_..._eventID_EVENT.npz"),
        (["tau_a_b_1_eventID_2.npz"], (), "has no name as the converter gives"),
        (["a/muon_a_b_1_eventID_2.npz", "b/muon_a_b_1_eventID_2.npz"], (), "is of the same event and view as"),
        (["muon_a_b_1_eventID_2.npz"], ("--particle", "pion"), "has no image of the class 'pion'"),
        (
            ["muon_a_b_1_eventID_2.npz"],
            ("--views", "throw_3=low"),
            "has no view 'throw_3' to be named anew; it has nom",
        ),
        (["muon_a_b_1_eventID_2.npz"], ("--views", "nominal"), "--views 'nominal': is not two words with ="),
        (["muon_a_b_1_eventID_2.npz"], ("--events-per-part", 150), "--events-per-part 150: not whole blocks of 100"),
    ],
)
def test_names_that_tell_nothing_are_refused(
    names: list[str], words: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(folder / name, **image(0, 0, 0)) if name.endswith("npz") else (folder / name).write_text("")
    _mistake(resim("import", "images", folder, "--sample", "x", "--out", tmp_path / "out", *words), message)
    _mistake(resim("import", "images", tmp_path / "none", "--sample", "x", "--out", tmp_path / "out"), "no such file")
    _mistake(resim("import", "images", folder, "--out", tmp_path / "out"), "--sample is missing")
    assert not (tmp_path / "out").exists()


def test_throws_are_told_by_the_name_or_the_nearest_folder(tmp_path: Path) -> None:
    places = {
        "nominal": "larndsim_10throws_5particles/muon_a_b_7_larndsim_eventID_1.npz",
        "throw_3": "throw_9/larndsim_throw3_30kpp/muon_a_b_7_larndsim_eventID_1.npz",
        "throw_11": "throw_9/muon_a_b_7_throw11_eventID_1.npz",
        "electronics_throw_4": "electronics_throw4/all/muon/muon_a_b_7_eventID_1.npz",
    }
    for place in places.values():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / place, **image(0, 0, 0))
    found = open_layout("images", [tmp_path])
    assert (len(found), list(found.views)) == (1, ["nominal", "electronics_throw_4", "throw_3", "throw_11"])


# --- cubes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cube_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("cubes"))


SHARES = ("nominal=0", "0.05", "half=0.5", "1")


def test_cubes_keep_tracks_and_a_share_of_the_crosstalk(cube_files: Path, tmp_path: Path) -> None:
    words = ("--sample", "muon", "--particle", "muon", "--crosstalk", ",".join(SHARES))
    dataset = imported(tmp_path / "muon", "cubes", cube_files, *words)
    assert dataset.views == ("nominal", "crosstalk_5", "half", "crosstalk_100")
    shares = dict(zip(dataset.views, (0, 0.05, 0.5, 1), strict=True))
    objects, kept = dataset.objects(), {view: rows_of(dataset, view)[2] for view in dataset.views}
    for event in range(8):
        arrays = cubes(2, event)
        hits, tags = arrays["reco_hits"], arrays["Tag_Trk"]
        inside = {view: {tuple(row) for row in kept[view][event][:, :3].round(3).tolist()} for view in kept}
        places = [tuple(row) for row in (hits[:, :3] / 10).astype(np.float32).round(3).tolist()]
        for view, share in shares.items():
            found = kept[view][event]
            assert {place for place, tag in zip(places, tags, strict=True) if tag} <= inside[view] <= set(places)
            assert len(found) == tags.sum() + round(share * (~tags).sum())
            light = dict(zip(places, hits[:, 3], strict=True))
            expected = [light[tuple(row)] for row in found[:, :3].round(3).tolist()]
            np.testing.assert_allclose(found[:, 4], expected, rtol=1e-6)
            assert (found[:, 3] == found[:, 4]).all()
        assert inside["nominal"] <= inside["crosstalk_5"] <= inside["half"] <= inside["crosstalk_100"]
        assert objects["n_crosstalk"][event] == (~tags).sum()
        np.testing.assert_allclose([objects[f"vertex_{a}"][event] * 10 for a in "xyz"], arrays["TrueIniPos"])
        np.testing.assert_allclose([objects[f"direction_{a}"][event] for a in "xyz"], arrays["TrueIniDir"])
        assert objects["momentum"][event] == arrays["TrueIniP"]
    assert dataset.parts[0].view("half").attributes["set"] == {"crosstalk": 0.5}


def test_which_crosstalk_is_kept_is_drawn_by_the_event_alone(cube_files: Path, tmp_path: Path) -> None:
    words = (cube_files, "--sample", "muon", "--particle", "muon", "--crosstalk", "0.5")
    many = imported(tmp_path / "many", "cubes", *words)
    assert resim("import", "cubes", *words, "--out", tmp_path / "one", "--block-size", 2).returncode == 0
    other = imported(tmp_path / "other", "cubes", *words, "--seed", 5)
    assert open_dataset(tmp_path / "one").manifest.digest["digest"] == many.manifest.digest["digest"]
    mine, theirs = (rows_of(dataset, "crosstalk_50")[2] for dataset in (many, other))
    assert [len(voxels) for voxels in mine] == [len(voxels) for voxels in theirs]
    assert any(not np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    # without a share of its own, nominal is what the file has
    assert [len(v) for v in rows_of(many, "nominal")[2]] == [len(cubes(2, event)["reco_hits"]) for event in range(8)]


def test_events_that_start_alike_are_in_one_split(tmp_path: Path) -> None:
    folder = write_cubes(tmp_path / "files", ("electron",), 60)
    dataset = imported(tmp_path / "electron", "cubes", folder, "--sample", "electron")
    objects = dataset.objects()
    splits: dict[float, set[int]] = {}
    for momentum, split in zip(objects["momentum"].tolist(), objects["split"].tolist(), strict=True):
        splits.setdefault(momentum, set()).add(split)
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {0, 1, 2}


def test_a_file_is_read_as_torch_reads_it_with_numpy_allowed(cube_files: Path) -> None:
    """`weights_only=True` and NumPy's types, and for bytes what pickle's second protocol writes them with."""
    torch = pytest.importorskip("torch")
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "i8", "b1")]
    allowed = [np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar, *dtypes]
    for path in sorted(cube_files.rglob("*.pt")):
        with torch.serialization.safe_globals(allowed):
            expected = torch.load(path, weights_only=True)
        found = read_torch(path)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert np.asarray(found[name]).dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(found[name], value)


def _kinds() -> Arrays:
    grid = np.arange(12).reshape(3, 4)
    numbers = {kind: grid.astype(kind) for kind in ("u1", "i2", "i8", "f2", "f4", "f8", ">f8", ">i4", "?")}
    return numbers | {"columns": np.asfortranarray(grid), "none": np.zeros((0, 3)), "scalar": np.float32(2.5)}


def test_all_kinds_of_numbers_come_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(_kinds(), tmp_path / "kinds.pt")
    found = read_torch(tmp_path / "kinds.pt")
    for name, value in _kinds().items():
        assert np.asarray(found[name]).dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(found[name], value)


def archive(path: Path, content: bytes, record: str = "event/data.pkl", kind: int = zipfile.ZIP_STORED) -> None:
    """Write an archive as torch does, with any pickle."""
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr(record, content)


def _torch(content: Any) -> Callable[[Path], object]:
    return lambda path: pytest.importorskip("torch").save(content, path)


def _pickled(make: Callable[[Path], Any]) -> Callable[[Path], object]:
    return lambda path: archive(path, pickle.dumps(make(path), protocol=2))


def _named(stream: bytes) -> Callable[[Path], object]:
    return lambda path: archive(path, b"\x80\x04" + stream + b".")


def _with_setting(path: Path) -> None:
    """Change an attribute of what stands in for NumPy's functions, which a pickle can ask for."""
    stream = b"\x80\x02}cnumpy\ndtype\nN}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xs\x86bX\x01\x00\x00\x00aK\x01s."
    archive(path, stream)


def _huge(path: Path) -> None:
    """Claim a shape that the bytes do not have."""
    content = pickle.dumps({"reco_hits": np.zeros((2, 4))}, protocol=2)
    archive(path, content.replace(b"K\x02K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86"))


def _shaped(shape: bytes) -> Callable[[Path], object]:
    """Give an array a shape of any opcodes."""
    content = pickle.dumps({"reco_hits": np.zeros((2, 4))}, protocol=2)
    return lambda path: archive(path, content.replace(b"K\x02K\x04\x86", shape))


def _often(path: Path) -> None:
    """Name a text of 1 MB once and have it encoded again and again."""
    words = b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"X\x06\x00\x00\x00latin1\x86q\x01"
    _named(b"](c_codecs\nencode\nq\x00" + words + b"R" + b"h\x00h\x01R" * 40 + b"e")(path)


NEEDS = "only NumPy's arrays and numbers are allowed"
OTHER = "needs other things than dicts, lists, arrays, numbers and words"
BAD_CUBES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a trap": (_pickled(lambda path: Trap(path.parent / "caught")), f"needs __builtin__.getattr, and {NEEDS}"),
    "a trap in torch's own": (lambda path: _torch({"x": Trap(path.parent / "caught")})(path), NEEDS),
    "a name with dots": (_named(b"\x8c\x05numpy\x8c\x13testing._private.os\x93"), f"and {NEEDS}"),
    "an array's method": (_named(b"cnumpy\nndarray.tofile\n"), f"needs numpy.ndarray.tofile, and {NEEDS}"),
    "objects": (_torch({"reco_hits": np.array([{}], dtype=object)}), "needs arrays of 'O8', and only those of numbers"),
    "records": (_torch({"reco_hits": np.zeros(2, dtype=[("a", "f8")])}), "needs arrays of 'V8', and only those of num"),
    "a stand-in changed": (_with_setting, "cannot be read as a file of torch.save"),
    "a shape that does not fit": (_huge, "has an array whose bytes do not fit its shape"),
    "a list": (_torch([1, 2]), "holds list, not dict"),
    "no archive": (lambda path: path.write_bytes(pickle.dumps({})), "(File is not a zip file)"),
    "another archive": (lambda path: archive(path, b"", "x"), "has 0 records data.pkl, not one"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:700]), "cannot be read as a file of torch.save"),
    "an empty pickle": (lambda path: archive(path, b""), "cannot be read as a file of torch.save"),
    "bytes of a length": (_named(b"c__builtin__\nbytes\nJ\x00\x00\xe1\x11\x85R"), "takes 1 positional argument but 2"),
    "a buffer without end": (_named(b"\x96" + (400 << 20).to_bytes(8, "little")), OTHER),
    "sets": (_named(b"\x8f"), OTHER),
    "a new object": (_named(b"N)\x81"), OTHER),
    "a function changed": (_named(b"c_codecs\nencode\n}X\x01\x00\x00\x00aNsb"), "changes other things than arrays"),
    "a name of tuples": (_named(b"})" + b"\x85" * 1_000_000 + b"Ns"), "has a dict with other names than words"),
    "a shape of words": (_shaped(b"X\x02\x00\x00\x00aa\x85"), "has an array of no possible shape"),
    "a shape of a long number": (_shaped(b"\x8b\x00\x00\x10\x00" + b"\x01" * (1 << 20) + b"\x85"), "of no possible"),
    "a text encoded often": (_often, f"would make more than {LARGEST} bytes"),
    "compressed": (lambda path: archive(path, bytes(LARGEST), kind=zipfile.ZIP_DEFLATED), "is compressed, as"),
    "too large": (lambda path: archive(path, bytes(LARGEST + 1)), f"and {LARGEST} are allowed"),
    "a memo without end": (_named(b"]r\xff\xff\xff\x7f"), "holds list, not dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CUBES)
def test_files_that_need_more_are_refused_and_leave_nothing(case: str, tmp_path: Path) -> None:
    spoil, message = BAD_CUBES[case]
    folder = write_cubes(tmp_path / "files", ("muon",), 6)
    path = folder / "muon/event5.pt"
    spoil(path)
    done = resim("import", "cubes", folder, "--sample", "x", "--block-size", 2, "--out", tmp_path / "out" / "x")
    _mistake(done, f"{path}: ", message)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (path.parent / "caught").exists()
    assert read_torch(folder / "muon/event4.pt")["event"] == 4


def test_tensors_are_more_than_numpy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"reco_hits": torch.zeros(3, 4)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"needs (tensors|torch\.\S+), and only NumPy's arrays and numbers are allowed"):
        read_torch(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Tag_Trk": None}, "lacks Tag_Trk; give files of the segmented-cube set"),
        ({"reco_hits": np.zeros((5, 3))}, r"reco_hits has shape (5, 3) and Tag_Trk"),
        ({"Tag_Trk": np.full(36, 2)}, "the latter of 0 and 1"),
        ({"reco_hits": np.full((36, 4), np.nan)}, "reco_hits is not an array of finite numbers"),
        ({"reco_hits": np.full((32, 4), 1e30)}, "has a place beyond 10000 cm or light beyond 1e+09"),
        ({"reco_hits": np.full((32, 4), -1.1e5)}, "has a place beyond 10000 cm"),
        ({"TrueIniPos": np.full(3, 1e6)}, "has a place beyond 10000 cm"),
        ({"TrueIniDir": [1, 0, 0]}, "TrueIniDir is not an array of finite numbers"),
        ({"TrueIniPos": np.zeros(2)}, "TrueIniPos, TrueIniDir and TrueIniP are not 3, 3 and 1 numbers"),
    ],
)
def test_other_contents_are_refused(changes: Arrays, message: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "muon").mkdir()
    content = {name: value for name, value in (cubes(2, 0) | changes).items() if value is not None}
    torch.save(content, tmp_path / "muon/event0.pt")
    _mistake(resim("import", "cubes", tmp_path, "--sample", "x", "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--crosstalk", "1.5"), "--crosstalk: '1.5' is not a share, and one is from 0 to 1"),
        (("--crosstalk", "low=x"), "--crosstalk: 'x' is not a share"),
        (("--crosstalk", "0.5,0.5"), "--crosstalk: 'crosstalk_50' is given more than once"),
        (("--crosstalk", "Low=0.5"), "view: 'Low' is no name"),
        (("--particle", "proton"), "has no file in a folder 'proton'"),
    ],
)
def test_options_of_cubes(words: tuple[str, ...], message: str, cube_files: Path, tmp_path: Path) -> None:
    _mistake(resim("import", "cubes", cube_files, "--sample", "x", "--out", tmp_path / "out", *words), message)


def test_cubes_lie_in_folders_of_classes(tmp_path: Path) -> None:
    archive(tmp_path / "event0.pt", b"")
    with pytest.raises(UserError, match="lies in no folder named after a class, electron, gamma, muon, pion, proton"):
        open_layout("cubes", [tmp_path])


def test_torch_is_not_needed(cube_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    imported(tmp_path / "muon", "cubes", cube_files / "muon", "--sample", "muon")


# --- in a config, and on to a training ----------------------------------------------------------------------------


def config_of(**sources: dict[str, Any]) -> dict[str, Any]:
    samples = {name: {"source": source} for name, source in sources.items()}
    return {"lane": "lartpc", "block_size": 2, "events_per_part": 4, "samples": samples, "views": {"nominal": {}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lane": "jets"}, r"c: samples.x.source: images: is of the lane 'lartpc'; change `lane`"),
        ({"source": {"images": ["none"]}}, r"c: samples.x.source: none: there is no such file or folder; give .npz"),
        ({"source": {"rs3l": ["x.h5"]}}, r"c: samples.x.source: rs3l: is of the lane 'jets'; change `lane`"),
    ],
)
def test_a_config_with_published_images_is_checked(change: dict[str, Any], message: str, images: Path) -> None:
    values = config_of(x={"images": [str(images)]})
    if "source" in change:
        values["samples"]["x"] = change
    else:
        values |= change
    with pytest.raises(UserError, match=message):
        check_config(parse(Config, values, "c"), "c")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"images": ["a"], "cubes": ["b"]}, "give one of store, rs3l, images, cubes, not images and cubes"),
        ({"images": ["a"], "crosstalk": {"x": 0.5}}, "crosstalk acts on cubes, and images is given; remove the line"),
        ({"rs3l": ["a"], "particle": "muon"}, "particle acts on images and cubes, and rs3l is given; remove the line"),
        ({"cubes": ["a"], "crosstalk": {"x": 1.5}}, "crosstalk.x: input should be less than or equal to 1"),
    ],
)
def test_options_that_would_not_act_are_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(Config, config_of(x=source), "c")


def test_a_config_says_what_the_command_does(images: Path, cube_files: Path, tmp_path: Path) -> None:
    crosstalk = {"nominal": 0.0, "much": 0.75}
    values = config_of(
        pion={"images": [str(images)], "particle": "pion", "views": {"electronics_throw_2": "other"}},
        muon={"cubes": [str(cube_files)], "particle": "muon", "crosstalk": crosstalk},
    )
    config = parse(Config, values, "c")
    check_config(config, "c")
    views = {"pion": ("nominal", "electronics_throw_1", "other"), "muon": ("nominal", "much")}
    for name, expected in views.items():
        source = config.samples[name].source
        assert isinstance(source, Source)
        assert source_views(source) == (expected, True)
        options = import_options(config, name)
        done = resim("import", source.kind, *source_paths(source), "--out", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
        found = open_dataset(tmp_path / name)
        assert (found.views, found.sample) == (expected, name)
        assert found.parts[0].attributes["seed"] == config.seed


@pytest.mark.parametrize(("kind", "methods"), [("images", ("resim", "supervised")), ("cubes", ("resim",))])
def test_what_was_imported_is_trained_on(kind: str, methods: tuple[str, ...], tmp_path: Path) -> None:
    """By the lane's encoder, on pairs of its views, with labels by sample, to the scores of every view."""
    pytest.importorskip("torch")
    from tests.training.test_compare import _run

    names = ("electron", "proton") if kind == "images" else ("electron", "muon")
    options: tuple[object, ...] = ()
    if kind == "images":
        write_images(tmp_path / "files", names, 40)
        views = ["nominal", "electronics_throw_1", "electronics_throw_2"]
    else:
        write_cubes(tmp_path / "files", names, 40)
        views, options = ["nominal", "crosstalk_25"], ("--crosstalk", "nominal=0,0.25")
    folders = {name: tmp_path / name for name in names}
    for name, folder in folders.items():
        imported(folder, kind, tmp_path / "files", "--sample", name, "--particle", name, *options)
    values = {
        "training": {
            "seeds": 1,
            "tasks": {"particle": {"classes": list(names)}},
            "methods": {method: {} for method in methods},
            "views": views,
            "encoder": {"kind": "convnext", "constituents": 20, "grid": CELL if kind == "images" else 1.0},
            "pretrain": {"epochs": 1, "batch": 10, "projection": 8},
            "supervised": {"steps": 2, "batch": 10},
            "loader": {"group": 4, "shuffle": 16},
        },
        "evaluation": {"bootstrap": 20, "label_fractions": [1.0]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    common = ["--config", tmp_path / "config.yaml", *(w for n, f in folders.items() for w in ("--data", f"{n}={f}"))]
    judged: list[object] = []
    for method in methods:
        one, network, scores = [*common, "--method", method], tmp_path / f"{method}.pt", tmp_path / f"{method}.json"
        _run("pretrain" if method == "resim" else method, *one, "--seed-index", 0, "--out", network)
        _run("evaluate", *one, "--seed-index", 0, "--encoder", network, "--out", scores)
        judged += ["--evaluation", scores]
    _run("compare", *common, *judged, "--out", tmp_path / "comparison.json")
    benefits = json.loads((tmp_path / "comparison.json").read_text())["benefits"]
    assert {(b["method"], b["view"]) for b in benefits} == {(m, v) for m in methods for v in views}
    assert all(0 <= b["figures"]["auc"]["mean"] <= 1 for b in benefits)


@pytest.mark.parametrize("layout", ["rs3l", "hepmc3"])
def test_formats_of_jets_do_not_hold_images(layout: str, images: Path, tmp_path: Path) -> None:
    dataset = imported(tmp_path / "muon", "images", images, "--sample", "muon", "--particle", "muon")
    folder = dataset.manifest.path.parent
    done = resim("export", folder, "--to", layout, "--out", tmp_path / "x")
    _mistake(done, f"--to {layout}: is for the lane jets, and this is lartpc; export parquet")
    assert not (tmp_path / "x").exists()


def test_images_go_out_as_parquet_and_come_back(images: Path, tmp_path: Path) -> None:
    dataset = imported(tmp_path / "muon", "images", images, "--sample", "muon", "--particle", "muon")
    assert resim("export", dataset.manifest.path.parent, "--to", "parquet", "--out", tmp_path / "x").returncode == 0
    assert resim("import", "parquet", tmp_path / "x", "--out", tmp_path / "back").returncode == 0
    assert open_dataset(tmp_path / "back").manifest.digest["digest"] == dataset.manifest.digest["digest"]
