"""Put each method's benefit beside its price, and say what the numbers cannot tell apart.

Intervals (95 %) of a mean over training seeds join two errors in quadrature: Student's t over the seeds, for another
training would have ended elsewhere, and the bootstrap over test events, for another test sample would have judged
differently. A difference of two methods pairs their trainings by seed and their resamplings by event.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from resim.cost import STORING, CostRecord, add, marginal_cost
from resim.errors import UserError
from resim.store import Dataset
from training import metrics
from training.config import Config, Task
from training.data.fetch import Index, Store
from training.evaluate import bootstrap_weights
from training.heldout import HeldOutSet
from training.provenance import provenance
from training.results import (
    Benefit,
    Comparison,
    CosineOverSeeds,
    Estimate,
    EvaluationResult,
    MethodSummary,
    OverSeeds,
    Price,
    PtAuc,
    Replicated,
    Separation,
    StandIn,
    ViewFigures,
    ViewPrice,
)
from training.shifts import redrawn, shifts_of, throws_of
from training.tasks import check_tasks, labels_of

CONFIDENCE = 0.95
_FEW = 10  # background objects above a threshold: with fewer, a rejection is uncertain by a third and more
SEPARATED_BY = (
    *("auc", "accuracy", "accuracy_change", "resolution", "rejection_50"),
    *("wasserstein_background", "wasserstein"),
)
_OF_CLASS = "accuracy_"  # methods are also told apart class by class
_SMALLER_IS_BETTER = ("resolution", "wasserstein")
_RANGES = {  # beginnings of figures' names -> where they can be
    "auc": (0.0, 1.0),
    "rejection_": (1.0, np.inf),
    "background_efficiency_relative_change_": (-1.0, np.inf),
    "wasserstein_": (0.0, 1.0),
    "wasserstein": (0.0, np.inf),
    "accuracy_change": (-1.0, 1.0),
    "accuracy": (0.0, 1.0),
    "resolution": (0.0, np.inf),
    "rmse": (0.0, np.inf),
    "r2": (-np.inf, 1.0),
}
Key = tuple[str, str, float, str, str]  # task, head, label fraction, view, weighting
Evaluations = Mapping[str, Sequence[EvaluationResult]]  # method -> trainings by rising seed index


def compare(
    evaluations: Sequence[EvaluationResult], store: Store, config: Config, held_out: Sequence[HeldOutSet] = ()
) -> Comparison:
    """Join evaluations of all methods and seeds with what the views cost.

    Raises
    ------
    UserError
        If there is none, two are of the same training, or one is of other data or another config.
    """
    _check(evaluations, store, config, held_out)
    grouped: dict[str, list[EvaluationResult]] = defaultdict(list)
    for result in sorted(evaluations, key=lambda e: e.seed_index):
        grouped[result.method].append(result)
    methods: dict[str, list[EvaluationResult]] = {
        method: grouped[method] for method in config.training.methods if method in grouped
    }
    views = view_prices(store, config.training.trained_on)
    check_tasks(store, config.training)
    pt_auc = {name: auc for name, task in config.training.tasks.items() if (auc := jet_pt_auc(store, task, config))}
    separations = [s for a, b in combinations(methods, 2) for s in separate(a, methods[a], b, methods[b])]
    benefits = [row for results in methods.values() for row in benefits_of(results)]
    return Comparison(
        provenance=provenance(config, store, held_out=held_out),
        tasks={name: task.names for name, task in config.training.tasks.items()},
        samples=_sample_sizes(store.index),
        pt_auc=pt_auc,
        views=views,
        shifts=shifts_of(store),
        throws=throws_of(store),
        chance=redrawn(store),
        test_sets={each.name: _stand_ins(each) for each in held_out},
        methods={
            method: summarise(results, config.training.views_of(method), views, store.index)
            for method, results in methods.items()
        },
        benefits=benefits,
        separations=separations,
        flags=flags(pt_auc, methods, config)
        + labelled_pretraining(methods)
        + unknown_prices(views)
        + few_above_threshold(benefits),
        reading=reading(benefits, separations, store.lane.objects),
    )


def _stand_ins(held_out: HeldOutSet) -> dict[str, StandIn]:
    return {one.replaced: StandIn(stand_in=one.sample, objects=len(one.rows)) for one in held_out.stand_ins}


def view_prices(store: Store, trained_on: Sequence[str]) -> dict[str, ViewPrice]:
    """Sum the cost records of each view over the samples."""
    records = add(record for dataset in store.datasets.values() for record in dataset.cost)
    known = {view for view in store.views if all(_is_recorded(dataset, view) for dataset in store.datasets.values())}
    own = {view: [r for r in records if r.view == view] for view in store.views}
    nominal = sum(_ms_per_event(own["nominal"]).values()) if "nominal" in known else None
    return {
        view: _view_price(own[view], store.index, view, nominal, view in trained_on, view in known)
        for view in store.views
    }


def _is_recorded(dataset: Dataset, view: str) -> bool:
    """Tell whether a data set says what making a view took; a published one does not."""
    return any(record.view == view and record.stage not in STORING for record in dataset.cost)


def _view_price(
    own: Sequence[CostRecord], index: Index, view: str, nominal_ms: float | None, trained_on: bool, known: bool
) -> ViewPrice:
    stages = _ms_per_event(own) if known else {}
    per_event, total = sum(stages.values()), marginal_cost(own, view)
    return ViewPrice(
        cpu_s=total.cpu_s if known else None,
        wall_s=total.wall_s if known else None,
        bytes_written=total.bytes_written,
        events=max(own, key=lambda record: record.cpu_s).events if own else 0,
        objects=int(index.present[view].sum()),
        cpu_ms_per_event=per_event if known else None,
        relative_to_nominal=per_event / nominal_ms if known and nominal_ms else None,
        stages=stages,
        trained_on=trained_on,
    )


def _ms_per_event(own: Sequence[CostRecord]) -> dict[str, float]:
    """Give what each stage of a view takes for an event that it saw: a view of some splits sees fewer events."""
    return {record.stage: 1000 * record.cpu_s / record.events for record in own if record.events}


def jet_pt_auc(store: Store, task: Task, config: Config) -> PtAuc | None:
    """Measure how well jet pT alone tells two classes apart, whichever side is higher: it should not.

    None where there are not two classes, and in lanes without jets.
    """
    index = store.index
    if index.pt is None or len(task.members) != 2:
        return None
    labels = labels_of(store, task)
    rows = np.flatnonzero(index.present["nominal"] & labels.member)
    weights = bootstrap_weights(index, rows, config.evaluation.bootstrap, config.training.seed)
    auc = metrics.roc(index.pt[rows].astype(np.float64), labels.value[rows], weights).auc()
    low, high = config.evaluation.pt_auc
    half = ndtri((1 + CONFIDENCE) / 2) * auc[1:].std(ddof=1)
    value = float(auc[0])
    return PtAuc(value=value, low=value - half, high=value + half, allowed=(low, high), within=low <= value <= high)


def estimate(name: str, figures: Sequence[Replicated]) -> Estimate:
    """Take mean, spread and interval of a figure over training seeds; the interval stays where the figure can be."""
    scaled = [_scaled(name, figure) for figure in figures]
    values = np.array([value for value, _ in scaled])
    half, mean = half_width(values, np.array([replicates for _, replicates in scaled])), values.mean()
    back = np.exp if _is_rejection(name) else float
    lowest, highest = next((r for start, r in _RANGES.items() if name.startswith(start)), (-np.inf, np.inf))
    return Estimate(
        mean=float(back(mean)),
        spread=_spread([figure.value for figure in figures]),
        low=max(float(back(mean - half)), lowest),
        high=min(float(back(mean + half)), highest),
        seeds=[figure.value for figure in figures],
    )


def _scaled(name: str, figure: Replicated) -> tuple[float, NDArray[np.float64]]:
    """Give value and replicates where errors are symmetric: of a rejection, 1 over a small count, the logarithms."""
    value, replicates = figure.value, np.array(figure.replicates)
    return (float(np.log(value)), np.log(replicates)) if _is_rejection(name) else (value, replicates)


def _is_rejection(name: str) -> bool:
    return name.startswith("rejection")


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Take mean and spread of a number over training seeds."""
    return OverSeeds(mean=float(np.mean(values)), spread=_spread(values), seeds=list(values))


def half_width(values_S: NDArray[np.float64], replicates_SB: NDArray[np.float64]) -> float:
    """Give half the width of the interval of the mean over S seeds, from values and their B event resamplings."""
    seeds = len(values_S)
    events = ndtri((1 + CONFIDENCE) / 2) * replicates_SB.mean(axis=0).std(ddof=1)
    if seeds == 1:  # nothing is known of other trainings; `flags` says so
        return float(events)
    training = stdtrit(seeds - 1, (1 + CONFIDENCE) / 2) * values_S.std(ddof=1) / np.sqrt(seeds)
    return float(np.hypot(events, training))


def benefits_of(results: Sequence[EvaluationResult]) -> list[Benefit]:
    """Join the figures of all trainings of one method."""
    tables = [_by_key(result) for result in results]
    return [
        Benefit(
            method=results[0].method,
            **row.model_dump(exclude={"figures"}),
            figures={name: estimate(name, [table[key].figures[name] for table in tables]) for name in row.figures},
        )
        for key, row in tables[0].items()
    ]


def separate(
    first: str, first_results: Sequence[EvaluationResult], second: str, second_results: Sequence[EvaluationResult]
) -> list[Separation]:
    """Compare two methods by their first heads, flat weights, over the seeds that both have."""
    left, right = ({e.seed_index: _by_first_head(e) for e in results} for results in (first_results, second_results))
    common = sorted(set(left) & set(right))
    found = []
    for key in left[common[0]] if common else ():
        if key not in right[common[0]]:  # another's task
            continue
        known = left[common[0]][key].figures
        for figure in (name for name in known if name in SEPARATED_BY or name.startswith(_OF_CLASS)):
            pairs = [(left[seed][key].figures[figure], right[seed][key].figures[figure]) for seed in common]
            low, mean, high = _difference(figure, pairs)
            found.append(
                Separation(
                    task=key[0], figure=figure, label_fraction=key[1], view=key[2], first=first, second=second,
                    difference=mean, low=low, high=high, separated=low > 0 or high < 0,
                )
            )  # fmt: skip
    return found


def _by_first_head(result: EvaluationResult) -> dict[tuple[str, float, str], ViewFigures]:
    """Look up figures with flat weights of the head that methods are compared by."""
    first = result.rows[0].head
    rows = (row for row in result.rows if (row.head, row.weighting) == (first, "flat"))
    return {(row.task, row.label_fraction, row.view): row for row in rows}


def _difference(name: str, pairs: Sequence[tuple[Replicated, Replicated]]) -> tuple[float, float, float]:
    scaled = [(_scaled(name, first), _scaled(name, second)) for first, second in pairs]
    values = np.array([a[0] - b[0] for a, b in scaled])
    half = half_width(values, np.array([a[1] - b[1] for a, b in scaled]))
    mean = float(values.mean())
    return mean - half, mean, mean + half


def summarise(
    results: Sequence[EvaluationResult], seen: Sequence[str], views: Mapping[str, ViewPrice], index: Index
) -> MethodSummary:
    """Price a method that has `seen` some of the views and join its similarities and losses over seeds."""
    return MethodSummary(
        price=price(results, {view: views[view] for view in seen}, {view: _train_share(index, view) for view in seen}),
        pretraining_labels=max(e.pretraining_labels for e in results),
        cosine={
            view: CosineOverSeeds(
                positive=over_seeds([e.cosine[view].positive for e in results]),
                random=over_seeds([e.cosine[view].random for e in results]),
            )
            for view in results[0].cosine
        },
        seed_indices=[e.seed_index for e in results],
        loss=[e.loss for e in results],
        validation_loss=[e.validation_loss for e in results],
        probe=[e.probe for e in results],
    )


def _train_share(index: Index, view: str) -> float:
    """Give the share of a view's objects that are in the train split."""
    present = index.present[view]
    return float(np.mean(index.split[present] == index.split_code("train"))) if present.any() else 0.0


def price(
    results: Sequence[EvaluationResult], views: Mapping[str, ViewPrice], train_share: Mapping[str, float]
) -> Price:
    """Add up what one training of a method costs, mean over seeds, with the `views` that it saw but nominal."""
    needed = [view for view in views if view != "nominal"]
    cost = {name: float(np.mean([e.cost[name] for e in results])) for name in results[0].cost}
    views_cpu_s = _sum_if_known([(train_share[view], views[view].cpu_s) for view in needed])
    heads = {name: float(np.mean([e.heads_cpu_s[name] for e in results])) for name in results[0].heads_cpu_s}
    jets, augment, head = cost["augmented_jets"], cost["augment_cpu_s"], next(iter(heads.values()), 0.0)
    return Price(
        views_cpu_s=views_cpu_s,
        views_bytes=sum(train_share[view] * views[view].bytes_written for view in needed),
        augment_cpu_s=augment,
        training_cpu_s=cost["cpu_s"] - augment,
        head_cpu_s=head,
        heads_cpu_s=heads,
        total_cpu_s=None if views_cpu_s is None else views_cpu_s + cost["cpu_s"] + head,
        augment_ms_per_jet=1000 * augment / jets if jets else None,
    )


def _sum_if_known(terms: Sequence[tuple[float, float | None]]) -> float | None:
    """Sum shares of prices, if each is known."""
    priced = [share * price for share, price in terms if price is not None]
    return sum(priced) if len(priced) == len(terms) else None


def unknown_prices(views: Mapping[str, ViewPrice]) -> list[str]:
    """Say which views have no price."""
    without = [view for view, price in views.items() if price.cpu_s is None]
    why = "a data set came without records of what its simulation took"
    return [f"the price of {', '.join(without)} is unknown: {why}"] if without else []


def flags(pt_auc: Mapping[str, PtAuc], methods: Evaluations, config: Config) -> list[str]:
    """Say what forbids to trust a number."""
    found = [
        f"jet pT alone tells the classes of {task} apart: AUC {auc.value:.3f} is outside "
        f"{auc.allowed[0]}-{auc.allowed[1]}; flatten the spectra alike"
        for task, auc in pt_auc.items()
        if not auc.within
    ]
    found += [f"method {method!r} was not evaluated" for method in config.training.methods if method not in methods]
    found += [
        f"method {method!r} has {len(results)} training seeds, and fewer than 3 say little of the spread"
        for method, results in methods.items()
        if len(results) < 3
    ]
    return found


def labelled_pretraining(methods: Evaluations) -> list[str]:
    """Say which encoders have seen labels that the number of labels of their heads does not count."""
    seen = {name: max(e.pretraining_labels for e in results) for name, results in methods.items()}
    which = ", ".join(f"{name} ({count})" for name, count in seen.items() if count)
    why = "`n_labels` counts those of the head alone, so this is no label efficiency"
    return [f"labels were seen in pretraining by {which}: {why}"] if which else []


def few_above_threshold(benefits: Sequence[Benefit]) -> list[str]:
    """Say of each method where a rejection in nominal rests on so few background objects that it says little."""
    found = []
    for method in dict.fromkeys(row.method for row in benefits):
        rows = [b for b in benefits if (b.method, b.view, b.weighting) == (method, "nominal", "flat")]
        few = {
            f"{name} of {row.task} with {row.label_fraction:.3g} of the labels"
            f" ({row.effective_background / figure.mean:.1f})"
            for row in rows
            for name, figure in row.figures.items()
            if _is_rejection(name) and row.effective_background and row.effective_background / figure.mean < _FEW
        }
        if few:
            which = ", ".join(sorted(few))
            found.append(f"method {method!r}: fewer than {_FEW} background objects are above the threshold of {which}")
    return found


def reading(benefits: Sequence[Benefit], separations: Sequence[Separation], objects: str) -> list[str]:
    """Tell in words what the intervals say of the methods in the main task, on nominal and on the other views.

    `objects` says what is judged: jets, images.
    """
    nominal = next(b for b in benefits if b.view == "nominal")
    told: list[str] = []
    for figure, on_nominal in product(SEPARATED_BY, (True, False)):
        for fraction in sorted({s.label_fraction for s in separations}):
            told += _told(
                f"{nominal.task}, {figure}, {fraction:.3g} of the labels, "
                f"{'nominal' if on_nominal else 'other views and test sets'}",
                [s for s in separations if (s.task, s.figure, s.label_fraction) == (nominal.task, figure, fraction)
                 and (s.view == "nominal") == on_nominal],
            )  # fmt: skip
    held = " and ".join(f"{n} {name}" for name, n in nominal.objects.items())
    told.append(
        f"The test sample of {nominal.task} holds {held} {objects}. "
        f"Of {len(separations)} differences, {sum(s.separated for s in separations)} leave out 0 at 95 %; "
        f"if all methods were equal, chance alone would make it about {round((1 - CONFIDENCE) * len(separations))}."
    )
    return told


def _told(title: str, separations: Sequence[Separation]) -> list[str]:
    """Make a sentence for each difference that leaves out 0, and one for all the others."""
    if not separations:
        return []
    found = [f"{title}: {_verdict(s)}." for s in separations if s.separated]
    open_views: dict[str, list[str]] = defaultdict(list)
    for s in separations:
        if not s.separated:
            open_views[f"{s.first}/{s.second}"].append(s.view)
    if not found:
        return [f"{title}: the intervals cannot separate any two methods."]
    views = {s.view for s in separations}
    pairs = [p if len(v) == len(views) else f"{p} ({', '.join(v)})" for p, v in open_views.items()]
    return [*found, f"{title}: the intervals cannot separate {'; '.join(pairs)}."] if pairs else found


def _verdict(s: Separation) -> str:
    """Say which method is better and by how much; a score that moves less is better."""
    first_is_better = (s.difference > 0) != s.figure.startswith(_SMALLER_IS_BETTER)
    winner, loser = (s.first, s.second) if first_is_better else (s.second, s.first)
    low, high = sorted((abs(s.low), abs(s.high)))
    where = "" if s.view == "nominal" else f" on {s.view}"
    return f"{winner} is better than {loser}{where} by {low:.3g} to {high:.3g}"


def _by_key(result: EvaluationResult) -> dict[Key, ViewFigures]:
    return {(row.task, row.head, row.label_fraction, row.view, row.weighting): row for row in result.rows}


def _sample_sizes(index: Index) -> dict[str, dict[str, int]]:
    return {
        name: {split: int(np.sum((index.sample == code) & (index.split == i))) for i, split in enumerate(index.splits)}
        for code, name in enumerate(index.samples)
    }


def _check(
    evaluations: Sequence[EvaluationResult], store: Store, config: Config, held_out: Sequence[HeldOutSet]
) -> None:
    """Refuse evaluations that cannot be compared with each other."""
    if not evaluations:
        raise UserError("nothing to compare; give at least one --evaluation")
    seen = set()
    for result in evaluations:
        name = f"evaluation of {result.method!r} seed {result.seed_index}"
        if (result.method, result.seed_index) in seen:
            raise UserError(f"{name} is given twice; give each training once")
        seen.add((result.method, result.seed_index))
        expected = provenance(config, store, result.method, held_out)
        sources = {"data": "the data of --data", "held_out": "the data of --held-out"}
        for what in (*sources, "training_digest", "evaluation_digest"):
            if getattr(result.provenance, what) != getattr(expected, what):
                source = sources.get(what, "this --config")
                raise UserError(f"{name} was not made from {source}; evaluate it anew")
