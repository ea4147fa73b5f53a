"""From the command line to the comparison, and the statistics in it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.container import ErrorbarContainer
from typer.testing import CliRunner

from resim.errors import UserError
from tests.training.conftest import write_toy
from tests.training.test_training import SMALL
from training.cli import app, data_folders, main
from training.compare import (
    benefits_of,
    estimate,
    few_above_threshold,
    half_width,
    labelled_pretraining,
    reading,
    separate,
)
from training.config import Task
from training.data.fetch import Store
from training.evaluate import bootstrap_weights
from training.figures import Scored, quality
from training.files import read_model
from training.keys import generator
from training.plots import draw_all, robustness, robustness_against_cost, roc
from training.results import Comparison, EvaluationResult, Provenance, Replicated, ViewFigures
from training.tasks import labels_of

Toy = Callable[[int, int], dict[str, Path]]


def _run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def compared(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two methods with two seeds by the command line and compare them; give the folder."""
    out = tmp_path_factory.mktemp("compared")
    judged_on = {"bootstrap": 20, "test_sets": {"other": {"hbb": "hbb_other"}}}
    content = {"training": SMALL | {"methods": {"resim": {}, "supervised": {}}}, "evaluation": judged_on}
    write_toy(out / "hbb_other", "hbb_other", 200, 100, held_out=True)
    held_out = ["--held-out", f"hbb_other={out / 'hbb_other'}"]
    (out / "config.yaml").write_text(yaml.safe_dump(content))
    common = ["--config", out / "config.yaml"]
    for name, folder in toy(200, 100).items():
        common += ["--data", f"{name}={folder}"]
    evaluations: list[object] = []
    for seed in range(2):
        contrastive = ["--method", "resim", "--seed-index", seed, *common]
        _run("pretrain", *contrastive, "--out", out / f"r{seed}.pt")
        _run("evaluate", *contrastive, "--encoder", out / f"r{seed}.pt", *held_out, "--out", out / f"r{seed}.json")
        scratch = ["--method", "supervised", "--seed-index", seed, *common]
        _run("supervised", *scratch, "--out", out / f"s{seed}.pt")
        judged = [*scratch, "--encoder", out / f"s{seed}.pt", *held_out]
        _run("evaluate", *judged, "--out", out / f"s{seed}.json")
        evaluations += ["--evaluation", out / f"r{seed}.json", "--evaluation", out / f"s{seed}.json"]
    _run("compare", *common, *held_out, *evaluations, "--out", out / "comparison.json", "--plots", out / "plots")
    return out


def test_the_comparison_holds_every_method_view_fraction_and_weighting(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    keys = {(b.method, b.label_fraction, b.view, b.weighting) for b in comparison.benefits}
    assert len(keys) == len(comparison.benefits) == 2 * 3 * (7 + 1) * 2
    assert all(len(e.seeds) == 2 for b in comparison.benefits for e in b.figures.values())
    assert all(e.low <= e.mean <= e.high for b in comparison.benefits for e in b.figures.values())
    assert comparison.methods["resim"].seed_indices == [0, 1]
    similar = comparison.methods["resim"].cosine
    assert set(similar) == set(comparison.views) - {"nominal"}
    assert all(len(c.positive.seeds) == 2 and c.positive.mean > c.random.mean for c in similar.values())
    assert [len(losses) for losses in comparison.methods["resim"].validation_loss] == [2, 2]


def test_a_test_set_stands_beside_the_views_in_table_and_pictures(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    stand_in = comparison.test_sets["other"]["hbb"]
    assert stand_in.stand_in == "hbb_other"
    rows = [b for b in comparison.benefits if b.view == "other"]
    assert {b.objects["hbb"] for b in rows} == {stand_in.objects}
    assert {b.objects["qcd"] for b in rows} == {b.objects["qcd"] for b in comparison.benefits if b.view == "nominal"}
    assert "other" not in comparison.views
    assert [line["view"] for line in csv.DictReader((compared / "plots/table.csv").open())].count("other") == 2 * 3
    evaluations = [read_model(path, EvaluationResult) for path in sorted(compared.glob("[rs][01].json"))]
    labels = {line.get_label() for panel in roc(comparison, evaluations).axes for line in panel.lines}
    assert {"vincia (held out)", "other (held out)"} <= labels
    ticks = [text.get_text() for text in robustness(comparison).axes[-1].get_xticklabels()]
    assert ticks[-2:] == ["vincia\n(held out)", "other\n(held out)"]
    legends = [panel.get_legend() for panel in robustness_against_cost(comparison).axes]
    assert all("other (held out)" in [text.get_text() for text in legend.get_texts()] for legend in legends)


def test_prices_follow_the_cost_records_of_the_train_share(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    view = comparison.views["rehadronized"]
    assert view.stages["shower"] == pytest.approx(10)
    assert view.cpu_ms_per_event == pytest.approx(sum(view.stages.values()))
    assert view.cpu_s == pytest.approx(view.cpu_ms_per_event * 400 / 1000)
    assert view.relative_to_nominal == pytest.approx(1, rel=0.05)
    trained_on = [v for name, v in comparison.views.items() if v.trained_on and name != "nominal"]
    share = comparison.methods["resim"].price.views_cpu_s / sum(v.cpu_s for v in trained_on)
    assert share == pytest.approx(0.5, abs=0.1)
    assert comparison.methods["supervised"].price.views_cpu_s == 0
    assert not comparison.views["vincia"].trained_on


def test_the_comparison_warns_of_few_seeds_and_says_what_it_cannot_tell(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    assert "method 'resim' has 2 training seeds, and fewer than 3 say little of the spread" in comparison.flags
    assert any("cannot separate" in line for line in comparison.reading)
    assert comparison.pt_auc["h_qcd"].within == (0.45 <= comparison.pt_auc["h_qcd"].value <= 0.55)


def test_pictures_are_the_same_bytes_when_drawn_again(compared: Path) -> None:
    evaluations = [read_model(path, EvaluationResult) for path in sorted(compared.glob("[rs][01].json"))]
    again = draw_all(read_model(compared / "comparison.json", Comparison), evaluations)
    names = ["cost_by_stage", "label_efficiency", "robustness", "robustness_cost", "roc", "shift", "training_curves"]
    assert sorted(again) == [f"{name}.png" for name in names]
    for name, picture in again.items():
        assert (compared / "plots" / name).read_bytes() == picture


def test_points_are_drawn_at_their_price_and_set_apart_on_the_page_alone(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    prices = sorted(summary.price.total_cpu_s for summary in comparison.methods.values())
    for panel in robustness_against_cost(comparison).axes:
        lines = [c.lines[0] for c in panel.containers if isinstance(c, ErrorbarContainer)]
        assert sorted({line.get_xdata()[0] for line in lines}) == prices
        assert len({(line.get_xdata()[0], *line.get_transform().transform((1, 0))) for line in lines}) == len(lines)
        assert panel.get_xlim()[0] < prices[0] < prices[-1] < panel.get_xlim()[1]


def test_an_evaluation_given_twice_or_of_other_data_is_refused(compared: Path, toy: Toy) -> None:
    common = ["--config", compared / "config.yaml", "--out", compared / "x.json", "--evaluation", compared / "r0.json"]
    common += ["--held-out", f"hbb_other={compared / 'hbb_other'}"]
    data = [f"--data={name}={folder}" for name, folder in toy(200, 100).items()]
    with pytest.raises(UserError, match="evaluation of 'resim' seed 0 is given twice"):
        _run("compare", *common, "--evaluation", compared / "r0.json", *data)
    other = [f"--data={name}={folder}" for name, folder in toy(80, 40).items()]
    with pytest.raises(UserError, match="evaluation of 'resim' seed 0 was not made from the data of --data"):
        _run("compare", *common, *other)
    write_toy(compared / "another", "hbb_other", 80, 40, held_out=True)
    with pytest.raises(UserError, match="evaluation of 'resim' seed 0 was not made from the data of --held-out"):
        _run("compare", *common[:-1], f"hbb_other={compared / 'another'}", *data)
    with pytest.raises(UserError, match=r"config.yaml: not a EvaluationResult: the file: Invalid JSON"):
        _run("compare", *common, "--evaluation", compared / "config.yaml", *data)
    assert not (compared / "x.json").exists()


def test_the_documented_schema_names_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text()
    definitions = [Comparison.model_json_schema(), *Comparison.model_json_schema()["$defs"].values()]
    keys = {key for definition in definitions for key in definition.get("properties", {})}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_schema_prints_the_json_schema_of_both_sections() -> None:
    assert set(json.loads(_run("schema"))["properties"]) == {"training", "evaluation"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["qcd"], r"--data 'qcd' is not SAMPLE=DIR, such as qcd=results/data/qcd"),
        (["qcd=a", "qcd=b"], "--data names the sample 'qcd' twice"),
        (["qcd=a"], "--data names only qcd; give two at least"),
    ],
)
def test_bad_data_options_are_refused(data: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_folders(data)


def test_a_mistake_ends_in_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["resim-train", "supervised", "--method", "supervised", "--seed-index", "0"]
    words += ["--config", str(tmp_path / "no.yaml")]
    monkeypatch.setattr("sys.argv", [*words, "--data", "a=b", "--data", "c=d", "--out", str(tmp_path / "o.json")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"resim-train: {tmp_path / 'no.yaml'}: ")
    assert "No such file" in line
    assert list(tmp_path.iterdir()) == []


def test_bootstrap_weights_belong_to_events_and_are_poisson(toy: Toy) -> None:
    index = Store(toy(400, 200), 12, 8).index
    rows = np.arange(800)
    weights = bootstrap_weights(index, rows, 50, 1)
    assert weights[0].tolist() == [1.0] * 800
    assert (weights[1:].mean(), weights[1:].var()) == pytest.approx((1, 1), abs=0.03)
    np.testing.assert_array_equal(bootstrap_weights(index, rows[100:200], 50, 1), weights[:, 100:200])


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says(toy: Toy) -> None:
    """AUC of two unit normals 1 apart is 0.760; of 100 samples about 95 intervals must hold it."""
    store = Store(toy(400, 200), 12, 8)
    task = Task(classes=["qcd", "hbb"])
    weights = bootstrap_weights(store.index, np.arange(800), 100, 1)
    hits, label = 0, labels_of(store, task).value
    for sample in range(100):
        score = generator("cover", sample).normal(size=800) + label
        auc = quality(task, Scored(score, label, weights))["auc"]
        hits += abs(auc[0] - 0.76025) < half_width(auc[:1], auc[None, 1:])
    assert 88 <= hits <= 100


def test_half_width_adds_seeds_and_events_in_quadrature() -> None:
    replicates = np.tile(np.array([-1.0, 1.0]), (3, 50))
    events = 1.959964 * np.sqrt(100 / 99)
    assert half_width(np.array([2.0, 2.0, 2.0]), replicates) == pytest.approx(events)
    seeds = 4.302653 * 1 / np.sqrt(3)
    assert half_width(np.array([1.0, 2.0, 3.0]), 0 * replicates) == pytest.approx(seeds)
    assert half_width(np.array([1.0, 2.0, 3.0]), replicates) == pytest.approx(np.hypot(events, seeds))


def test_an_interval_stays_where_the_figure_can_be() -> None:
    one = estimate("auc", [Replicated(value=v, replicates=[v] * 20) for v in (0.9, 0.99, 1.0)])
    assert (one.low > 0, one.high) == (True, 1.0)


def test_the_interval_of_a_rejection_is_symmetric_in_its_logarithm_and_never_reaches_1_for_a_good_one() -> None:
    draws = np.exp(np.log(100) + generator("rejection").normal(0, 0.5, (3, 500)))
    figures = [Replicated(value=v, replicates=r.tolist()) for v, r in zip((60, 100, 170), draws, strict=True)]
    one = estimate("rejection_50", figures)
    assert one.mean == pytest.approx((60 * 100 * 170) ** (1 / 3))
    assert one.high / one.mean == pytest.approx(one.mean / one.low)
    assert one.low > 10


def test_physical_weights_show_no_more_than_their_effective_number(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    for row in comparison.benefits:
        flat = row.weighting == "flat"
        assert (row.effective_background == row.objects["qcd"]) == flat
        assert row.effective_background <= row.objects["qcd"]
        assert max(row.figures["rejection_50"].seeds) <= row.effective_background * (1 + 1e-5)


def test_a_rejection_that_rests_on_few_background_objects_is_flagged() -> None:
    def told(value: float) -> list[str]:
        figure = Replicated(value=value, replicates=[value] * 20)
        result = _evaluation("a", 0, 0.9, np.zeros(20))
        result.rows[0].figures["rejection_50"] = figure
        result.rows[0].effective_background = 720
        return few_above_threshold(benefits_of([result]))

    assert told(60) == []
    assert told(120) == [
        "method 'a': fewer than 10 background objects are above the threshold of "
        "rejection_50 of t with 1 of the labels (6.0)"
    ]


def test_the_table_tells_flat_figures_with_intervals_and_the_price(compared: Path) -> None:
    comparison = read_model(compared / "comparison.json", Comparison)
    rows = list(csv.DictReader((compared / "plots" / "table.csv").open()))
    assert len(rows) == 2 * 3 * (7 + 1)
    first, benefit = rows[0], comparison.benefits[0]
    auc = benefit.figures["auc"]
    assert (first["method"], first["view"]) == (benefit.method, benefit.view)
    assert first["AUC"] == f"{float(f'{auc.mean:.3g}'):g} [{float(f'{auc.low:.3g}'):g}, {float(f'{auc.high:.3g}'):g}]"
    assert first["background score shift"] == ""
    assert {row["labels in pretraining"] for row in rows} == {"0"}
    price = comparison.methods[benefit.method].price
    assert float(first["price (CPU s)"]) == pytest.approx(price.total_cpu_s, rel=0.06)
    parts = [float(first[f"{part} (CPU s)"]) for part in ("views", "augmentation", "training", "head")]
    assert sum(parts) == pytest.approx(price.total_cpu_s, rel=0.06)
    assert price.total_cpu_s == pytest.approx(
        price.views_cpu_s + price.augment_cpu_s + price.training_cpu_s + price.head_cpu_s
    )
    assert (price.head_cpu_s > 0) == (benefit.method != "supervised")


def test_encoders_that_have_seen_labels_are_named() -> None:
    none = _evaluation("a", 0, 0.9, np.zeros(2))
    seen = none.model_copy(update={"method": "supcon", "pretraining_labels": 600})
    assert labelled_pretraining({"a": [none]}) == []
    (told,) = labelled_pretraining({"a": [none], "supcon": [seen, seen]})
    assert told.startswith("labels were seen in pretraining by supcon (600): ")


def _evaluation(method: str, seed: int, auc: float, noise: np.ndarray) -> EvaluationResult:
    figure = Replicated(value=auc, replicates=(auc + noise).tolist())
    row = ViewFigures(
        task="t",
        head="linear",
        label_fraction=1.0,
        n_labels=9,
        view="nominal",
        weighting="flat",
        objects={"qcd": 9, "hbb": 9},
        effective_background=9,
        figures={"auc": figure},
    )
    provenance = Provenance(training_digest="", evaluation_digest="", seed=1, data={}, held_out={}, software={})
    empty = {"cost": {}, "loss": [], "validation_loss": [], "probe": {}, "roc": [], "cosine": {}}
    empty |= {"heads_cpu_s": {}, "pretraining_labels": 0}
    return EvaluationResult(method=method, seed_index=seed, provenance=provenance, rows=[row], **empty)


def test_paired_differences_separate_what_single_intervals_do_not() -> None:
    noise = 0.05 * generator("noise").normal(size=100)
    better = [_evaluation("a", s, 0.81 + 0.01 * s, noise) for s in range(3)]
    worse = [_evaluation("b", s, 0.80 + 0.01 * s, noise) for s in range(3)]
    (found,) = separate("a", better, "b", worse)
    assert found.separated
    assert found.difference == pytest.approx(0.01)
    (same,) = separate("a", better, "b", [_evaluation("b", s, 0.80 + 0.03 * s, noise) for s in range(3)])
    assert not same.separated


def test_the_reading_names_winners_and_what_is_open() -> None:
    quiet = np.zeros(100)
    methods = {
        "a": [_evaluation("a", s, 0.9 + 0.001 * s, quiet) for s in range(3)],
        "b": [_evaluation("b", s, 0.8 + 0.002 * s, quiet) for s in range(3)],
        "c": [_evaluation("c", s, 0.8 + 0.001 * s, quiet) for s in range(3)],
    }
    separations = [s for x, y in (("a", "b"), ("b", "c")) for s in separate(x, methods[x], y, methods[y])]
    told = reading([row for results in methods.values() for row in benefits_of(results)], separations, "jets")
    assert told[0].startswith("t, auc, 1 of the labels, nominal: a is better than b by 0.09")
    assert told[1] == "t, auc, 1 of the labels, nominal: the intervals cannot separate b/c."
    assert told[-1].startswith("The test sample of t holds 9 qcd and 9 hbb jets. Of 2 differences, 1 leave out 0")
