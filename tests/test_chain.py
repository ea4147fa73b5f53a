"""The tree of views and its walk, on a chain that counts: each stage notes its runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resim.chain import Draw, Settings, Step, View, Walk, drawn_values, tree, walk
from resim.cost import Meter
from resim.keys import Stream

STAGES = ("b", "c", "d")
ALL = ("train", "test")


@dataclass(frozen=True)
class Numbers:
    """One number an event."""

    event: NDArray[np.int64]
    value: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> "Numbers":
        return Numbers(self.event[rows], self.value[rows])

    @classmethod
    def join(cls, pieces: Sequence["Numbers"]) -> "Numbers":
        return cls(np.concatenate([p.event for p in pieces]), np.concatenate([p.value for p in pieces]))


@dataclass
class Adder:
    """Adds a draw to each event; loses the events in `loses`."""

    runs: list[tuple[str, int]] = field(default_factory=list)
    loses: tuple[int, ...] = ()

    def run(self, state: Numbers, settings: Any, stream: Stream) -> Numbers:
        self.runs.append((str(stream.name[3]), len(state.event)))
        draws = stream.uniform(state.event, np.ones(len(state.event), dtype=np.int64), 1)[:, 0]
        after = Numbers(state.event, state.value + draws + sum(value for _, value in settings))
        return after.take(~np.isin(after.event, self.loses))


@dataclass
class FusedAdder:
    """Runs b and c in one call, through the same arithmetic."""

    calls: list[tuple[str, list[bool]]] = field(default_factory=list)

    def run_fused(
        self, state: Numbers, steps: Sequence[Step], streams: Sequence[Stream], keep: Sequence[bool]
    ) -> list[Any]:
        self.calls.append((steps[0].view, list(keep)))
        states = []
        for step, stream, wanted in zip(steps, streams, keep, strict=True):
            state = Adder().run(state, step.settings, stream)
            states.append(state if wanted or step is steps[-1] else None)
        return states


def _view(
    name: str, cut: str | None, splits: tuple[str, ...] = ALL, settings: Settings = (), base: View | None = None
) -> View:
    """Give a view whose stage after the cut has some settings."""
    index = STAGES.index(cut) if cut else len(STAGES)
    path = list(base.path if base else (Step(stage, (), "nominal") for stage in STAGES))
    for i in range(index, len(STAGES)):
        path[i] = Step(STAGES[i], settings if i == index else path[i].settings, name)
    return View(name, cut, base.name if base else "nominal", settings, 0, tuple(path), splits)


VIEWS = [_view("nominal", None), _view("again_b", "b"), _view("again_c", "c"), _view("again_d", "d")]


def _walk(views: list[View], fused: bool = False, loses: tuple[int, ...] = (), events: int = 6) -> Any:
    stages = {name: Adder(loses=loses if name == "c" else ()) for name in STAGES}
    fused_stage = FusedAdder()
    pairs = {view.path[0]: view.path[1:2] for view in views if view.path[0].view == view.path[1].view}
    pairs |= {view.path[0]: view.path[1:2] for view in VIEWS if view.path[0].view == view.path[1].view}
    lost: list[tuple[str, list[int], str]] = []
    context = Walk(
        stages, {"b": fused_stage}, 1, "s",
        lambda event, splits: np.isin(event % 2, [{"train": 0, "test": 1}[s] for s in splits]),
        Meter(), lambda step: pairs.get(step, ()) if fused else (),
        lambda view, ids, stage: lost.append((view.name, ids.tolist(), stage)),
    )  # fmt: skip
    start = Numbers(np.arange(events, dtype=np.int64), np.zeros(events))
    found = {view.name: state for view, state in walk(tree(views), start, context)}
    return found, stages, fused_stage, context.meter, lost


def test_every_edge_runs_once_and_shared_ones_are_nominals() -> None:
    _, stages, _, _, _ = _walk(VIEWS)
    assert [run for run, _ in stages["b"].runs] == ["nominal", "again_b"]
    assert [run for run, _ in stages["c"].runs] == ["nominal", "again_c", "again_b"]
    assert [run for run, _ in stages["d"].runs] == ["nominal", "again_d", "again_c", "again_b"]


def test_a_view_is_the_same_whatever_else_is_asked_for() -> None:
    together = _walk(VIEWS)[0]
    for view in VIEWS:
        alone = _walk([view])[0]
        np.testing.assert_array_equal(alone[view.name].value, together[view.name].value)


def test_fused_stages_give_the_same_numbers_and_keep_only_what_is_needed() -> None:
    apart, fused = _walk(VIEWS)[0], _walk(VIEWS, fused=True)
    for name, state in apart.items():
        np.testing.assert_array_equal(fused[0][name].value, state.value)
    assert fused[2].calls == [("nominal", [True, True]), ("again_b", [False, True])]
    assert [run for run, _ in fused[1]["c"].runs] == ["again_c"]


def test_a_view_cut_behind_a_fused_stage_runs_without_nominal() -> None:
    np.testing.assert_array_equal(_walk([VIEWS[2]], fused=True)[0]["again_c"].value, _walk(VIEWS)[0]["again_c"].value)


def test_runs_are_only_for_the_splits_that_need_them() -> None:
    found, stages, _, _, _ = _walk([_view("nominal", None), _view("late", "c", ("test",))])
    assert found["late"].event.tolist() == [1, 3, 5]
    assert stages["b"].runs == [("nominal", 6)]
    assert stages["c"].runs == [("nominal", 6), ("late", 3)]


def test_lost_events_are_told_for_every_view_that_misses_them() -> None:
    found, _, _, _, lost = _walk(VIEWS, loses=(2,))
    assert lost == [
        ("nominal", [2], "c"),
        ("again_d", [2], "c"),
        ("again_c", [2], "c"),
        ("again_b", [2], "c"),
    ]
    assert all(2 not in state.event for state in found.values())


def test_a_view_pays_for_what_lies_below_its_cut_and_nominal_for_the_rest() -> None:
    alone = {(r.stage, r.view) for r in _walk([VIEWS[2]])[3].records}
    assert alone == {("b", "nominal"), ("c", "again_c"), ("d", "again_c")}
    records = _walk(VIEWS)[3].records
    paid = {(r.stage, r.view): r.events for r in records}
    assert paid[("b", "nominal")] == 6
    assert ("b", "again_c") not in paid
    assert {stage for stage, view in paid if view == "again_c"} == {"c", "d"}


def test_a_view_shares_everything_with_its_base_up_to_its_cut() -> None:
    base = VIEWS[1]  # cut before b
    below = _view("below", "d", settings=(("more", 10.0),), base=base)
    found, stages, _, meter, _ = _walk([*VIEWS, below])
    assert [run for run, _ in stages["c"].runs] == ["nominal", "again_c", "again_b"]
    last = STAGES.index("d")
    own = (
        Adder()
        .run(Numbers(np.arange(6), np.zeros(6)), below.path[last].settings, below.path[last].stream(1, "s"))
        .value
    )
    shared = (
        found["again_b"].value
        - Adder().run(Numbers(np.arange(6), np.zeros(6)), (), base.path[last].stream(1, "s")).value
    )
    np.testing.assert_allclose(found["below"].value, shared + own)
    assert {stage for stage, view in ((r.stage, r.view) for r in meter.records) if view == "below"} == {"d"}
    alone, _, _, meter, _ = _walk([below])  # what it shares is its base's to pay, whether that is asked for or not
    np.testing.assert_array_equal(alone["below"].value, found["below"].value)
    assert {(r.stage, r.view) for r in meter.records} == {("b", "again_b"), ("c", "again_b"), ("d", "below")}


DRAW = Draw("choose", (100.0, 200.0, 400.0))
DRAWN = _view("drawn", "b", settings=(("shift", DRAW),))


@pytest.mark.parametrize("fused", [False, True])
def test_each_event_has_the_setting_that_its_key_draws(fused: bool) -> None:
    found = _walk([_view("nominal", None), DRAWN], fused=fused, events=60)[0]["drawn"]
    values = drawn_values(DRAWN, np.arange(60), 1, "s")["shift"]
    assert set(values) == {100.0, 200.0, 400.0}
    np.testing.assert_array_equal(found.event, np.arange(60))
    np.testing.assert_array_equal((found.value // 100) * 100, values)
    without = _walk([_view("drawn", "b")], events=60)[0]["drawn"]  # the other draws of the stage stay what they are
    np.testing.assert_allclose(found.value - values, without.value)


def test_what_an_event_draws_depends_on_nothing_but_its_key() -> None:
    whole = drawn_values(DRAWN, np.arange(100), 1, "s")["shift"]
    np.testing.assert_array_equal(drawn_values(DRAWN, np.arange(40, 60), 1, "s")["shift"], whole[40:60])
    assert (drawn_values(DRAWN, np.arange(100), 2, "s")["shift"] != whole).any()
    assert np.bincount(np.searchsorted(DRAW.options, drawn_values(DRAWN, np.arange(3000), 1, "s")["shift"])).min() > 900


def test_no_events() -> None:
    assert all(len(state.event) == 0 for state in _walk([*VIEWS, DRAWN], events=0)[0].values())


def test_what_is_drawn_does_not_hang_on_the_order_of_settings() -> None:
    draws = ("shift", DRAW), ("scale", DRAW)
    views = [_view("drawn", "b", settings=order) for order in (draws, draws[::-1])]
    one, other = (drawn_values(view, np.arange(20), 1, "s") for view in views)
    assert list(one) == list(other) == ["scale", "shift"]
    np.testing.assert_array_equal(one["shift"], other["shift"])
