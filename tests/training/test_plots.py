"""Pictures of numbers that are known: what is drawn where, and what is told."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from tests.training import conftest
from training.compare import benefits_of, over_seeds
from training.data.fetch import Store
from training.plots import (
    accuracy,
    accuracy_by_class,
    draw_all,
    label_efficiency,
    robustness,
    robustness_against_cost,
    roc,
    similarity_against_shift,
)
from training.plots.common import colours, headline
from training.plots.roc_bands import curves
from training.results import (
    Comparison,
    CosineOverSeeds,
    EvaluationResult,
    MethodSummary,
    Price,
    Provenance,
    Replicated,
    RocCurve,
    Separation,
    ViewFigures,
    ViewPrice,
)
from training.shifts import redrawn, shifts_of, throws_of

Toy = Callable[[int, int], dict[str, Path]]
PROVENANCE = Provenance(training_digest="", evaluation_digest="", seed=1, data={}, held_out={}, software={})
VIEWS = {"nominal": True, "fsr_mur_half": True, "fsr_mur_2": True, "shower_seed": True, "vincia": False}
EFFICIENCY = [0.1, 0.5, 1.0]  # of the signal
BACKGROUND = 60.0  # objects
TASKS = {"h_qcd": ["qcd", "hbb"], "three": ["qcd", "hbb", "wqq"], "mass": []}
GOOD = {"h_qcd": "auc", "three": "accuracy", "mass": "resolution"}
MOVED = {
    "h_qcd": {"background_efficiency_relative_change_50": 0.4, "wasserstein_background": 0.02},
    "three": {"wasserstein": 0.05, "accuracy_change": -0.03},
    "mass": {"wasserstein": 2.0, "mean_change": -1.0},
}


def _figures(task: str, head: str, view: str, labels: int, seed: int) -> ViewFigures:
    """Give figures of one training; every view but nominal is moved by its number times the first's."""
    values = {GOOD[task]: 0.5 + labels / 1000}
    values |= {f"accuracy_{name}": 0.1 * place for place, name in enumerate(TASKS[task])} if task == "three" else {}
    values |= {} if view == "nominal" else {n: v * list(VIEWS).index(view) for n, v in MOVED[task].items()}
    return ViewFigures(
        task=task, head=head, label_fraction=labels / 100, n_labels=labels, view=view, weighting="flat",
        objects={"qcd": 50, "hbb": 50}, effective_background=BACKGROUND if task == "h_qcd" else None,
        figures={n: Replicated(value=v + 0.01 * seed, replicates=[v - 0.01, v + 0.01]) for n, v in values.items()},
    )  # fmt: skip


def _evaluation(method: str, seed: int, tasks: Sequence[str], heads: Sequence[str]) -> EvaluationResult:
    """Give a training with a background efficiency of 0.1 (seed 0) or 0.4 (seed 1) where that of the signal is 0.5."""
    middle = {"nominal": 1.0, "fsr_mur_half": 0.5, "fsr_mur_2": 2.0, "shower_seed": 1.0, "vincia": 0.25}
    return EvaluationResult(
        method=method, seed_index=seed, provenance=PROVENANCE, cost={}, loss=[], validation_loss=[], probe={},
        cosine={}, heads_cpu_s={}, pretraining_labels=0,
        rows=[_figures(t, h, v, n, seed) for t in tasks for h in heads for n in (10, 100) for v in VIEWS],
        roc=[
            RocCurve(view=v, signal_efficiency=EFFICIENCY, background_efficiency=[0.0, (0.1, 0.4)[seed] * middle[v], 1])
            for v in VIEWS
        ],
    )  # fmt: skip


def made(
    methods: Sequence[str] = ("resim", "supervised"),
    tasks: Sequence[str] = ("h_qcd",),
    shifts: dict[str, dict[str, float]] | None = None,
) -> tuple[Comparison, list[EvaluationResult]]:
    """Give a comparison of trainings whose figures are known; all methods have the same."""
    heads = {method: ["own"] if method == "supervised" else ["linear", "mlp"] for method in methods}
    found = {m: [_evaluation(m, seed, tasks, heads[m]) for seed in (0, 1)] for m in methods}
    none = {"cpu_s": None, "wall_s": None, "cpu_ms_per_event": None, "relative_to_nominal": None, "stages": {}}
    counts = {"bytes_written": 0, "events": 100, "objects": 100}
    cost = {name: 1.0 for name in Price.model_fields if name not in ("augment_ms_per_jet", "heads_cpu_s")}
    cosine = {
        view: CosineOverSeeds(positive=over_seeds([0.8, 0.9]), random=over_seeds([0.0, 0.0]))
        for view in VIEWS
        if view != "nominal"
    }
    summary = MethodSummary(
        price=Price(**cost, heads_cpu_s={}, augment_ms_per_jet=None),
        pretraining_labels=0,
        cosine=cosine,
        seed_indices=[0, 1],
        loss=[],
        validation_loss=[],
        probe=[],
    )
    comparison = Comparison(
        provenance=PROVENANCE, tasks={name: TASKS[name] for name in tasks}, samples={}, pt_auc={},
        views={view: ViewPrice(**none, **counts, trained_on=trained_on) for view, trained_on in VIEWS.items()},
        shifts=shifts or {}, throws={}, chance=["shower_seed"], test_sets={}, methods=dict.fromkeys(methods, summary),
        benefits=[row for results in found.values() for row in benefits_of(results)],
        separations=[], flags=[], reading=[],
    )  # fmt: skip
    return comparison, [result for results in found.values() for result in results]


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def _bars(figure: Figure, panel: int) -> list[ErrorbarContainer]:
    return [each for each in figure.axes[panel].containers if isinstance(each, ErrorbarContainer)]


def test_roc_curves_are_geometric_means_over_seeds_and_never_more_than_the_sample_shows() -> None:
    found = curves(*made(), "resim")
    assert found.rejection["nominal"].tolist() == [[60, 10, 1], [60, 2.5, 1]]
    assert found.mean("nominal") == pytest.approx([60, 5, 1])
    low, high = found.spread("nominal")
    width = np.exp(np.std([np.log(10), np.log(2.5)], ddof=1))
    assert (low[1], high[1]) == (pytest.approx(5 / width), pytest.approx(5 * width))
    low, high = found.envelope(["nominal", "fsr_mur_half", "fsr_mur_2"])
    assert (low[1], high[1]) == (pytest.approx(2.5), pytest.approx(10))


def test_held_out_views_are_lines_beside_the_envelope_and_ratios_need_ten_background_objects() -> None:
    figure = roc(*made())
    upper, lower = (next(p for p in figure.axes if p.get_title() == "resim"), figure.axes[2])
    lines = {line.get_label(): line.get_ydata() for line in upper.lines}
    assert set(lines) == {"nominal", "vincia (held out)", "no discrimination"}
    assert lines["vincia (held out)"] == pytest.approx([60, 20, 1])
    ratios = {line.get_label(): line.get_ydata() for line in lower.lines}
    assert np.isnan(ratios["vincia (held out)"][0])  # nominal keeps 1 of 60; then 12
    assert ratios["vincia (held out)"][1:] == pytest.approx([4, 1])
    (envelope, *_) = upper.collections
    at_half = envelope.get_paths()[0].vertices
    assert sorted(set(at_half[at_half[:, 0] == 0.5][:, 1].round(6))) == [2.5, 10]


def with_held_out(count: int) -> tuple[Comparison, list[EvaluationResult]]:
    """Give a comparison with a test set, which moves least, and further held-out views, the last of which move most."""
    comparison, evaluations = made()
    names = {"sherpa": 0.05, **{f"view_{n}": 0.1 * (n + 1) * (-1) ** n for n in range(count - 2)}}
    benefits, results = list(comparison.benefits), []
    for row in [b for b in benefits if b.view == "vincia"]:
        for name, moved in names.items():
            change = {n: f.model_copy(update={"mean": moved}) for n, f in row.figures.items()}
            benefits.append(row.model_copy(update={"view": name, "figures": change}))
    for each in evaluations:
        drawn = next(curve for curve in each.roc if curve.view == "nominal")
        middle = drawn.background_efficiency[1]
        more = [
            drawn.model_copy(update={"view": name, "background_efficiency": [0.0, middle * (1 + moved / 2), 1]})
            for name, moved in names.items()
        ]
        results.append(each.model_copy(update={"roc": [*each.roc, *more]}))
    views = comparison.views | dict.fromkeys([n for n in names if n != "sherpa"], comparison.views["vincia"])
    update = {"views": views, "test_sets": {"sherpa": {}}, "benefits": benefits}
    return comparison.model_copy(update=update), results


def test_of_many_held_out_views_test_sets_and_what_moves_most_are_lines_and_the_others_an_envelope() -> None:
    figure = roc(*with_held_out(10))
    upper = next(panel for panel in figure.axes if panel.get_title() == "resim")
    lines = {line.get_label(): line.get_linestyle() for line in upper.lines}
    held_out = {name: style for name, style in lines.items() if "(held out)" in str(name)}
    # vincia's change is 1.6, of the others the last one's is the largest
    assert list(held_out) == [f"{name} (held out)" for name in ("sherpa", "vincia", "view_7", "view_6")]
    envelope = next(each for each in upper.collections if each.get_label() == "other held-out views (6)")
    at_half = envelope.get_paths()[0].vertices
    found = sorted(set(at_half[at_half[:, 0] == 0.5][:, 1].round(4)))
    assert found == [round(5 / 1.25, 4), round(5 / 0.7, 4)]
    assert "held-out views by their largest change" in figure.legends[0].get_title().get_text()
    few = roc(*with_held_out(4))
    assert not [text for text in _texts(few) if text.startswith("other held-out")]
    assert "Lines:" not in few.legends[0].get_title().get_text()


def test_many_methods_are_wrapped_into_rows_of_four_and_have_colours_of_their_own() -> None:
    methods = [f"m{number}" for number in range(17)]
    comparison, evaluations = made(methods[:6])
    figure = roc(comparison, evaluations)
    assert [panel.get_title() for panel in figure.axes if panel.get_title()] == methods[:6]
    assert len(figure.axes) == 2 * 6
    shares = {panel.get_subplotspec().rowspan.start for panel in figure.axes}
    assert shares == {0, 1, 2, 3}
    assert len(set(colours(made(methods)[0]).values())) == 17
    assert colours(made(methods[:1])[0])["m0"] == colours(comparison)["m0"]


def test_robustness_puts_every_view_and_method_at_its_figure_with_chance_marked() -> None:
    comparison, _ = made()
    figure = robustness(comparison)
    names = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert names == ["shower_seed", "fsr_mur_half", "fsr_mur_2", "vincia\n(held out)"]
    first, second = _bars(figure, 1)
    assert first.lines[0].get_ydata() == pytest.approx(np.array([3, 1, 2, 4]) * 0.02 + 0.005)
    assert np.all(first.lines[0].get_xdata() < second.lines[0].get_xdata())
    changes = _bars(figure, 0)[0].lines[0].get_ydata()
    assert changes == pytest.approx(np.array([3, 1, 2, 4]) * 0.4 + 0.005)
    marks = [c for c in figure.axes[1].collections if len(c.get_segments()) == 1 and len(c.get_segments()[0]) == 2]
    levels = [mark.get_segments()[0][:, 1] for mark in marks if np.ptp(mark.get_segments()[0][:, 1]) == 0]
    assert np.array(levels) == pytest.approx(np.full((2 * 4, 2), 3 * 0.02 + 0.005))
    assert "chance" in _texts(figure)


@pytest.mark.parametrize(("task", "panels"), [("h_qcd", 2), ("three", 2), ("mass", 2)])
def test_pictures_of_any_kind_of_main_task_are_drawn_and_roc_curves_of_two_classes_alone(
    task: str, panels: int
) -> None:
    comparison, evaluations = made(tasks=[task])
    drawn = draw_all(comparison, evaluations)
    assert ("roc.png" in drawn) == (task == "h_qcd")
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    assert {name for name in drawn if name.startswith("accuracy")} == (
        {"accuracy.png", "accuracy_by_class.png"} if task == "three" else set()
    )
    assert len(drawn) == 6 + (task == "h_qcd") + 2 * (task == "three")
    assert len(robustness(comparison).axes) == panels


def test_label_efficiency_has_a_panel_for_each_task_and_a_line_for_each_head() -> None:
    comparison, _ = made(tasks=list(TASKS))
    figure = label_efficiency(comparison)
    assert [panel.get_title() for panel in figure.axes] == list(TASKS)
    assert [panel.get_ylabel() for panel in figure.axes] == ["AUC", "accuracy", "resolution, unit of the target"]
    lines = [bars.lines[0] for bars in _bars(figure, 0)]
    chosen = list(colours(comparison).values())
    drawn = [(to_hex(line.get_color()), line.get_marker(), line.get_linestyle()) for line in lines]
    assert drawn == [(chosen[0], "o", "-"), (chosen[0], "^", "-"), (chosen[1], "o", "-")]
    for line in lines:
        assert np.log([10, 100]) == pytest.approx(np.log(np.asarray(line.get_xdata(), dtype=float)), abs=0.12)
        assert line.get_ydata() == pytest.approx([0.515, 0.605])
    assert _texts(figure) == ["resim", "supervised", "head linear", "head mlp"]


def test_methods_whose_pretraining_saw_labels_are_dashed_and_it_is_told() -> None:
    comparison, _ = made()
    seen = comparison.methods["resim"].model_copy(update={"pretraining_labels": 600})
    figure = label_efficiency(comparison.model_copy(update={"methods": comparison.methods | {"resim": seen}}))
    assert [bars.lines[0].get_linestyle() for bars in _bars(figure, 0)] == ["--", "--", "-"]
    assert "Dashed: the pretraining has seen labels" in figure.legends[0].get_title().get_text()
    assert "Dashed" not in label_efficiency(comparison).legends[0].get_title().get_text()


def test_shifts_are_drawn_over_the_value_of_the_setting_with_nominal_aside() -> None:
    values = {"fsr_mur_half": 0.25, "nominal": 1.0, "shower_seed": 1.0, "fsr_mur_2": 4.0}
    comparison, _ = made(shifts={"TimeShower:renormMultFac": values})
    figure = similarity_against_shift(headline(comparison))
    upper, lower = figure.axes
    assert (lower.get_xscale(), lower.get_xlabel()) == ("log", "TimeShower:renormMultFac")
    similar, moved = (_bars(figure, panel)[0].lines[0] for panel in (0, 1))
    assert similar.get_xdata().tolist() == moved.get_xdata().tolist() == [0.25, 1.0, 4.0]
    assert similar.get_ydata() == pytest.approx([0.85] * 3)
    assert moved.get_ydata() == pytest.approx(np.array([1, 3, 2]) * 0.02 + 0.005)
    assert [panel.lines[0].get_xydata().tolist() for panel in (upper, lower)] == [[[1.0, 1.0]], [[1.0, 0.0]]]
    linear = similarity_against_shift(made(shifts={"alphaS": {"fsr_mur_half": 0.11, "fsr_mur_2": 0.14}})[0])
    assert linear.axes[1].get_xscale() == "linear"


def test_without_a_setting_of_several_values_the_picture_says_so() -> None:
    (text,) = similarity_against_shift(made()[0]).texts
    assert text.get_text().startswith("No setting of the simulation is changed to several values")


def _shifts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, dict[str, object]], **attributes: object
) -> object:
    monkeypatch.setattr(conftest, "CHANGES", changes)
    monkeypatch.setattr(conftest, "ATTRIBUTES", attributes)
    samples = {name: conftest.write_toy(folder / name, name, 20, 20) for name in ("qcd", "hbb")}
    return shifts_of(Store(samples, 12, 8))


def test_shifts_are_of_settings_that_several_views_change_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, dict[str, object]] = {"fsr_mur_2": {"a:b": 4}, "fsr_mur_half": {"a:b": 0.25}, "vincia": {"c": 2}}
    found = _shifts(tmp_path, monkeypatch, changes, config={"chain": {"hard": {"d": 3}, "shower": {"a:b": 1.0}}})
    values = {"fsr_mur_half": 0.25, "nominal": 1.0, "shower_seed": 1.0, "fsr_mur_2": 4.0}
    assert found == {"a:b": values}
    assert list(found["a:b"].values()) == [0.25, 1.0, 1.0, 4.0]


def test_chance_is_views_that_draw_anew_and_change_nothing(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(toy(80, 40), 12, 8)
    assert redrawn(store) == ["shower_seed", "rehadronized", "redetected"]
    monkeypatch.setattr("training.shifts._origin", lambda *_: {"from": "shower", "set": {}, "engine": "herwig"})
    assert redrawn(store) == []


def test_the_mark_of_chance_is_the_largest_of_its_views() -> None:
    comparison, _ = made()
    figure = robustness(comparison.model_copy(update={"chance": ["fsr_mur_half", "shower_seed"]}))
    marks = [mark.get_segments() for mark in figure.axes[1].collections]
    levels = {round(m[0][0, 1], 6) for m in marks if len(m) == 1 and len(m[0]) == 2 and np.ptp(m[0][:, 1]) == 0}
    assert levels == {0.065}
    assert "chance" in _texts(figure)
    none = robustness(comparison.model_copy(update={"chance": []}))
    assert not [text for text in _texts(none) if text.startswith("chance")]


def test_nominal_has_no_place_where_its_value_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, dict[str, object]] = {"fsr_mur_2": {"a:b": 3}, "fsr_mur_half": {"a:b": 2.5}}
    assert _shifts(tmp_path, monkeypatch, changes) == {"a:b": {"fsr_mur_half": 2.5, "fsr_mur_2": 3.0}}


@pytest.mark.parametrize("other", [{"a:b": True}, {"a:b": {"uniform": [1, 2]}}, {"a:b": 1, "a:c": 2}, {"a:c": 1}])
def test_what_is_no_single_number_is_no_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, object]
) -> None:
    assert _shifts(tmp_path, monkeypatch, {"fsr_mur_2": {"a:b": 2}, "fsr_mur_half": other}) == {}


RANGES = {"field": {"kind": "uniform", "given": [0.4, 0.6]}, "tau": {"kind": "log_uniform", "given": [500, 5000]}}
CHAIN = {"config": {"chain": {"charge": {"field": 0.5, "tau": 2000.0}}}}


def _throws(folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, dict[str, object]]) -> object:
    monkeypatch.setattr(conftest, "CHANGES", changes)
    monkeypatch.setattr(conftest, "ATTRIBUTES", CHAIN)
    samples = {name: conftest.write_toy(folder / name, name, 20, 20) for name in ("qcd", "hbb")}
    return throws_of(Store(samples, 12, 8))


def test_throws_are_measured_by_the_ends_of_the_range_that_is_drawn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upper and the lower end are 1 away, each on its side: 1500 below 2000 and 3000 above it."""
    changes: dict[str, dict[str, object]] = {
        "shower_seed": dict(RANGES),
        "fsr_mur_2": {"field": 0.55, "tau": 3500.0},
        "fsr_mur_half": {"tau": 500.0},
        "vincia": {"field": 0.2, "other": 1.0},
    }
    found = _throws(tmp_path, monkeypatch, changes)
    expected = {
        "nominal": {"field": 0.0, "tau": 0.0},
        "fsr_mur_2": {"field": 0.5, "tau": 0.5},
        "fsr_mur_half": {"tau": -1.0},
    }
    assert found == {view: pytest.approx(moved) for view, moved in expected.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"fsr_mur_2": {"field": 0.55}},
        {"shower_seed": {"beta": {"kind": "uniform", "given": [1, 2]}}, "fsr_mur_2": {"beta": 1.5}},
        {"shower_seed": {"field": {"kind": "choose", "given": [0.5, 0.6]}}, "fsr_mur_2": {"field": 0.55}},
    ],
    ids=["nothing is drawn", "nominal is unknown", "nominal is the end"],
)
def test_without_a_range_about_nominal_there_are_no_throws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, dict[str, object]]
) -> None:
    assert _throws(tmp_path, monkeypatch, changes) == {}


def thrown() -> Comparison:
    """Give a comparison of three classes: one view between, one beyond, one of a setting alone, and one of another."""
    throws = {
        "nominal": {"field": 0.0, "tau": 0.0},
        "fsr_mur_2": {"field": 0.5, "tau": 0.5},
        "vincia": {"field": -3.0, "tau": -1.2},
        "fsr_mur_half": {"tau": 1.0},
    }
    comparison, _ = made(tasks=["three"])
    differences = [
        Separation(task="three", figure="accuracy", label_fraction=1.0, view=view, first="resim", second="supervised",
                   difference=0.1, low=0.05, high=0.2, separated=True)
        for view in VIEWS
    ]  # fmt: skip
    return headline(comparison.model_copy(update={"throws": throws, "separations": differences}))


def test_accuracy_is_a_line_over_settings_moved_together_and_points_at_the_other_views() -> None:
    figure = accuracy(thrown())
    lines, names, differences, _ = figure.axes
    first, second = (line for line in lines.lines if len(line.get_xdata()) == 3)
    assert first.get_xdata().tolist() == second.get_xdata().tolist() == [-3.0, 0.0, 0.5]
    assert first.get_ydata() == pytest.approx([0.605] * 3)
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == ["nominal", "fsr_mur_half", "shower_seed"]
    ((minus,),) = ([line for line in differences.lines if len(line.get_xdata()) == 3],)
    assert minus.get_ydata() == pytest.approx([-0.1] * 3)  # the second's from the first
    band = differences.collections[0].get_paths()[0].vertices[:, 1]
    assert sorted(set(band.round(6))) == [-0.2, -0.05]
    chance = [line.get_ydata()[0] for line in lines.lines if len(line.get_xdata()) == 2]
    assert chance == pytest.approx([1 / 3])
    assert [len(_bars(figure, panel)) for panel in (1, 3)] == [2, 1]
    assert names.get_xlim() == (-0.5, 2.5)


def test_what_lies_beyond_the_range_is_shown_nearer_in_the_same_order() -> None:
    axis = accuracy(thrown()).axes[0].transData
    left, lower, nominal, upper = (axis.transform((x, 0.5))[0] for x in (-3, -1, 0, 1))
    assert left < lower < nominal < upper
    assert (lower - left) / (nominal - lower) == pytest.approx(0.5)
    assert upper - nominal == pytest.approx(nominal - lower)


def test_accuracy_has_a_row_for_each_class_and_only_names_where_nothing_is_thrown() -> None:
    figure = accuracy_by_class(thrown())
    assert len(figure.axes) == 2 * 3
    heights = [axes.lines[0].get_ydata()[0] for axes in figure.axes[::2]]
    assert heights == pytest.approx([0.005, 0.105, 0.205])
    plain = accuracy(made(tasks=["three"])[0])
    assert len(plain.axes) == 1
    assert len(plain.axes[0].get_xticks()) == len(VIEWS)


def test_the_view_that_stands_for_robustness_is_none_beyond_the_range() -> None:
    """Of views that are held out, it is the one that moves scores most; vincia moves them more than all others."""
    comparison = thrown()
    views = comparison.views | {"fsr_mur_half": comparison.views["vincia"], "fsr_mur_2": comparison.views["vincia"]}
    figure = robustness_against_cost(comparison.model_copy(update={"views": views}))
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "fsr_mur_2 (held out)" in named
    assert not [name for name in named if name.startswith(("vincia", "fsr_mur_half"))]
