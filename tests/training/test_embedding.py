"""What the picture of an encoder's outputs shows, and where it comes from."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from typer.testing import CliRunner

from resim.errors import UserError
from tests.training.test_training import SMALL, small
from training import embedding as module
from training.cli import app
from training.data.fetch import Store
from training.embedding import Embedding, draw, embedded
from training.evaluate import embed
from training.keys import generator
from training.plots import png
from training.pretrain import Trained, open_store, pretrain

Toy = Callable[[int, int], dict[str, Path]]


@pytest.fixture(scope="module")
def known(toy: Toy) -> tuple[Trained, Store]:
    """Train an encoder; give it and the data."""
    store = open_store(toy(200, 100), small().training)
    return pretrain(store, small(), "resim", 0)[0], store


def test_points_are_the_principal_components_of_nominal_and_views_are_put_among_them(
    known: tuple[Trained, Store],
) -> None:
    trained, store = known
    found, rows = embedded(trained, store, 1), store.index.rows("test", ["nominal"])
    nominal = embed(trained.encoder, trained.normalisation, store, "nominal", rows).astype(np.float64)
    centred = nominal - nominal.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    share = singular**2 / np.sum(singular**2)
    np.testing.assert_allclose(np.abs(found.points), np.abs(centred @ directions[:2].T), atol=1e-5)
    assert found.axes == tuple(f"component {i + 1} ({share[i]:.0%} of variance)" for i in range(2))
    np.testing.assert_array_equal(found.sample, store.index.sample[rows])
    assert set(found.moved) == set(store.views) - {"nominal"}
    pca = PCA(2, svd_solver="full").fit(nominal)
    for view, points in found.moved.items():
        there = store.index.present[view][rows[found.followed]]
        own = embed(trained.encoder, trained.normalisation, store, view, rows[found.followed])
        np.testing.assert_allclose(points[there], pca.transform(own)[there], atol=1e-5)
        assert np.isnan(points[~there]).all()


def test_objects_are_spread_over_samples_and_those_followed_are_chosen_by_key(
    known: tuple[Trained, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, store = known
    all_of = embedded(trained, store, 1)
    assert np.bincount(all_of.sample[all_of.followed]).tolist() == [6, 6]
    assert embedded(trained, store, 1).followed.tolist() == all_of.followed.tolist()
    assert embedded(trained, store, 2).followed.tolist() != all_of.followed.tolist()
    monkeypatch.setattr(module, "_POINTS", 28)  # of seven views
    assert np.bincount(embedded(trained, store, 1).sample[embedded(trained, store, 1).followed]).tolist() == [2, 2]
    monkeypatch.setattr(module, "_OBJECTS", 40)
    few = embedded(trained, store, 1)
    assert few.points.shape == (40, 2)
    assert abs(np.bincount(few.sample)[0] / 40 - np.mean(all_of.sample == 0)) < 0.05


def test_the_picture_names_axes_samples_and_views(known: tuple[Trained, Store]) -> None:
    trained, store = known
    found = embedded(trained, store, 1)
    left, right = draw(found, "resim, seed 0").axes
    assert (left.get_xlabel(), left.get_ylabel()) == found.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(store.index.samples)
    named = [text.get_text() for text in right.get_legend().get_texts()]
    assert named == ["nominal", *(view for view in store.views if view != "nominal")]
    marks = [line.get_marker() for line in right.get_legend().get_lines()]
    assert len(set(marks)) == len(named)
    drawn = [line for line in right.lines if line.get_marker() == marks[0]]
    assert len(drawn) == len(found.followed)
    assert png(lambda: draw(found, "resim")) == png(lambda: draw(found, "resim"))


def test_many_views_look_each_its_own_way() -> None:
    views = [f"view_{number}" for number in range(20)]
    points, moved = generator("embedding").normal(size=(30, 2)), generator("moved").normal(size=(20, 5, 2))
    given = Embedding(
        ("a", "b"), points, np.arange(30) % 5, tuple("vwxyz"), np.arange(5), dict(zip(views, moved, strict=True))
    )
    right = draw(given, "many").axes[1]
    named = right.get_legend().get_lines()
    assert [line.get_label() for line in named] == ["nominal", *views]
    assert len({(line.get_marker(), line.get_fillstyle()) for line in named}) == 21


def test_the_command_draws_and_asks_for_what_umap_needs(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"training": SMALL}))
    common = ["--config", f"{tmp_path / 'config.yaml'}", "--method", "generic", "--seed-index", "0"]
    common += [f"--data={sample}={folder}" for sample, folder in toy(80, 40).items()]
    encoder, picture = str(tmp_path / "encoder.pt"), tmp_path / "embedding.png"
    for words in (
        ["pretrain", *common, "--out", encoder],
        ["embed", *common, "--encoder", encoder, f"--out={picture}"],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.exception
    assert picture.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    asked = CliRunner().invoke(
        app, ["embed", *common, "--encoder", encoder, f"--out={tmp_path / 'umap.png'}", "--umap"]
    )
    assert isinstance(asked.exception, UserError)
    assert str(asked.exception) == (
        "--umap: umap-learn is not installed; `pip install umap-learn`, or leave --umap out for PCA"
    )
    assert not (tmp_path / "umap.png").exists()
