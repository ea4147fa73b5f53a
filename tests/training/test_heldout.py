"""Test sets of held-out samples: judged on other events, and never trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resim.errors import UserError
from tests.training.conftest import write_toy
from tests.training.test_training import SMALL
from training.config import Config, Task
from training.data.fetch import Store
from training.figures import Scored, quality, shift
from training.heads import evaluate_encoder
from training.heldout import open_held_out
from training.keys import generator
from training.labels import labelled_rows
from training.meter import Meter
from training.pretrain import contrastive_loader, normalisation_of, open_store, pretrain, validation_loader
from training.results import EvaluationResult, ViewFigures
from training.tasks import labels_of

TASK = Task(classes=["qcd", "hbb"])
Toy = Callable[[int, int], dict[str, Path]]
BOTH = {"other": {"qcd": "qcd_other", "hbb": "hbb_other"}}
SIGNAL = {"other": {"hbb": "hbb_other"}}


def config(test_sets: dict[str, dict[str, str]]) -> Config:
    return Config.model_validate({"training": SMALL, "evaluation": {"bootstrap": 100, "test_sets": test_sets}})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("held_out")
    return {s: write_toy(base / s, s, 100, 100, held_out=True) for s in ("qcd_other", "hbb_other")}


@pytest.fixture(scope="module")
def store(toy: Toy) -> Store:
    return open_store(toy(200, 100), config({}).training)


@pytest.fixture(scope="module")
def result(store: Store, folders: dict[str, Path]) -> EvaluationResult:
    settings = config(BOTH)
    trained, _ = pretrain(store, settings, "resim", 0)
    return evaluate_encoder(store, settings, trained, open_held_out(folders, store, settings))


def row(result: EvaluationResult, view: str) -> ViewFigures:
    return next(r for r in result.rows if (r.view, r.label_fraction, r.weighting) == (view, 1.0, "flat"))


def test_a_set_has_the_figures_of_a_view_on_its_own_objects(
    result: EvaluationResult, store: Store, folders: dict[str, Path]
) -> None:
    (other,) = open_held_out(folders, store, config(BOTH))
    replaced = [(one.sample, one.replaced) for one in other.stand_ins]
    assert replaced == [("qcd_other", "qcd"), ("hbb_other", "hbb")]
    found = row(result, "other")
    assert tuple(found.objects.values()) == tuple(len(one.rows) for one in other.stand_ins)
    assert found.figures.keys() == row(result, "vincia").figures.keys()
    assert all(len(figure.replicates) == 100 for figure in found.figures.values())
    assert [curve.view for curve in result.roc][-1] == "other"
    assert set(result.cosine) == set(store.views) - {"nominal"}
    assert set(result.provenance.held_out) == {"qcd_other", "hbb_other"}


def test_scores_of_a_set_are_those_of_its_objects(store: Store, folders: dict[str, Path]) -> None:
    """One sample replaced: the other class is nominal's own, and what is said of it moves by nothing."""
    settings = config(SIGNAL)
    trained, _ = pretrain(store, settings, "resim", 0)
    sets = open_held_out({"hbb_other": folders["hbb_other"]}, store, settings)
    found = row(evaluate_encoder(store, settings, trained, sets), "other")
    for name in ("background_efficiency_change_50", "wasserstein_background"):
        assert [found.figures[name].value, *found.figures[name].replicates] == [0.0] * 101
    assert np.std(found.figures["signal_efficiency_change_50"].replicates) > 0.02
    assert found.figures["wasserstein_signal"].value > 0
    nominal = row(evaluate_encoder(store, settings, trained, sets), "nominal")
    assert found.objects["qcd"] == nominal.objects["qcd"]


def test_the_interval_of_an_unpaired_change_covers_the_truth() -> None:
    """Scores of both sets are drawn alike, so the change of efficiency is 0; about 95 of 100 intervals must hold it."""
    n, hits = 400, 0
    label = np.repeat([0, 1], n // 2)
    for sample in range(100):
        draws = generator("unpaired", sample)
        resampled = [np.vstack([np.ones(n), draws.poisson(1, (100, n))]) for _ in range(2)]
        nominal, other = (Scored(draws.normal(size=n) + label, label, weight) for weight in resampled)
        change = shift(TASK, nominal, other)["background_efficiency_change_50"]
        hits += abs(change[0]) < 1.96 * change[1:].std(ddof=1)
    assert 88 <= hits <= 100


def test_the_threshold_is_nominals_and_the_quality_the_sets_own() -> None:
    """By hand: half of the signal lies at 2 and above; of the other set's background a quarter does."""
    ones = np.ones((1, 8))
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    nominal = Scored(np.array([0.0, 0.0, 0.0, 2.0, 1.0, 1.0, 2.0, 3.0]), label, ones)
    other = Scored(np.array([2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0]), label, ones)
    found = shift(TASK, nominal, other)
    assert found["background_efficiency_change_50"].tolist() == [0.5]
    assert found["background_efficiency_relative_change_50"].tolist() == [2.0]
    assert found["signal_efficiency_change_50"].tolist() == [-0.25]
    # one signal of four is less than 30 %: the threshold is that of two; 70 % are all four, for two lie at 1
    assert found["background_efficiency_change_30"].tolist() == [0.5]
    assert found["background_efficiency_change_70"].tolist() == [0.5]
    assert found["signal_efficiency_change_70"].tolist() == [-0.75]
    assert quality(TASK, other)["auc"].tolist() == [pytest.approx((3 * 0.5 + 4) / 16)]


def test_the_relative_change_counts_in_single_objects_where_nominal_keeps_no_background() -> None:
    """Nothing above the threshold in nominal, two of four in the view: two objects more, and none of that is no NaN."""
    ones = np.ones((1, 8))
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    nominal = Scored(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0]), label, ones)
    other = Scored(np.array([2.0, 2.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0]), label, ones)
    assert shift(TASK, nominal, other)["background_efficiency_relative_change_50"].tolist() == [2.0]
    assert shift(TASK, nominal, nominal)["background_efficiency_relative_change_50"].tolist() == [0.0]


def test_nothing_that_is_trained_sees_a_held_out_object(store: Store, folders: dict[str, Path], toy: Toy) -> None:
    """Rows are those of the trained samples alone; weights, labels and normalisation are the same bits with the set."""
    settings, without = config(BOTH), config({})
    sets = open_held_out(folders, store, settings)
    assert store.index.samples == ("hbb", "qcd")
    train = set(store.index.rows("train", store.views).tolist())
    loader = contrastive_loader(store, settings.training, "both", 0, Meter())
    assert set(np.concatenate([b.rows for b in loader.batches(range(2))]).tolist()) == train
    judged = validation_loader(loader, store)
    assert judged
    validation = np.concatenate([b.rows for b in judged.batches(range(1))])
    assert set(validation.tolist()) <= set(store.index.rows("validation", store.views).tolist())
    assert set(labelled_rows(store.index, labels_of(store, TASK), 1.0, 1, 0).tolist()) <= train
    for one in sets[0].stand_ins:
        assert set(one.store.index.split) == {one.store.index.split_code("test")}
    fresh = open_store(toy(200, 100), without.training)
    np.testing.assert_array_equal(
        normalisation_of(store, settings.training).mean, normalisation_of(fresh, without.training).mean
    )
    first, second = (
        pretrain(s, c, "both", 0)[0].encoder.state_dict() for s, c in ((store, settings), (fresh, without))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_judged_on_views_does_not_move_with_a_set(store: Store, folders: dict[str, Path]) -> None:
    trained, _ = pretrain(store, config({}), "resim", 0)
    alone = evaluate_encoder(store, config({}), trained)
    beside = evaluate_encoder(store, config(BOTH), trained, open_held_out(folders, store, config(BOTH)))
    assert [r for r in beside.rows if r.view != "other"] == alone.rows


def test_training_on_a_held_out_sample_is_refused(toy: Toy, folders: dict[str, Path]) -> None:
    given = {**toy(200, 100), "hbb_other": folders["hbb_other"]}
    with pytest.raises(
        UserError, match=r"--data hbb_other=.*: holds the test split alone, as samples with role eval"
    ) as e:
        open_store(given, config({}).training)
    assert str(e.value).endswith("nothing is trained on it; give it with --held-out")


MISTAKES: list[tuple[list[str], dict[str, dict[str, str]], str]] = [
    (["hbb_other"], BOTH, r"evaluation.test_sets: the sample 'qcd_other' is not given; add --held-out qcd_other=DIR"),
    (["hbb_other", "qcd_other"], SIGNAL, r"--held-out qcd_other: is in none of evaluation.test_sets; take it out, or"),
    (
        ["hbb_other"],
        {"other": {"hb": "hbb_other"}},
        r"evaluation.test_sets.other: 'hb' is no sample of --data; allowed",
    ),
    (["hbb_other"], {"vincia": {"hbb": "hbb_other"}}, r"evaluation.test_sets.vincia: a view of the data has this name"),
]


@pytest.mark.parametrize(("given", "sets", "message"), MISTAKES, ids=["missing", "idle", "no sample", "name"])
def test_sets_that_do_not_fit_are_refused(
    store: Store, folders: dict[str, Path], given: list[str], sets: dict[str, dict[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_held_out({name: folders[name] for name in given}, store, config(sets))


def test_a_sample_that_was_not_held_out_is_refused(store: Store, tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "hbb_other", "hbb_other", 100, 100)
    with pytest.raises(
        UserError, match=r"--held-out hbb_other=.*: holds objects of other splits than test, so it was n"
    ):
        open_held_out({"hbb_other": folder}, store, config(SIGNAL))
