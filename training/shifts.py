"""What views change, as the store tells it: numbers of the simulation, or nothing but the draws."""

from collections import defaultdict
from typing import Any

from training.data.fetch import Store

_FEWEST = 2  # views that change it: of a single one there is no dependence to see
_SAID = ("from", "base", "set", "engine")


def shifts_of(store: Store) -> dict[str, dict[str, float]]:
    """Find the settings that alone are changed in several views.

    Returns
    -------
    dict
        Setting -> view -> value, rising. Where nominal's value is stored, nominal is among the views, and those that
        draw anew from the same cut on and change nothing; a program's default is not stored.
    """
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    unchanged: dict[str, list[str]] = defaultdict(list)
    for view in store.views:
        cut, changes = _change(store, view)
        if not changes and cut:
            unchanged[cut].append(view)
        elif len(changes) == 1 and _is_number(changes[0][1]):
            found[cut, changes[0][0]][view] = float(changes[0][1])
    shifts = {}
    for (cut, setting), values in found.items():
        if len(values) >= _FEWEST:
            nominal = _nominal(store, setting)
            known = values if nominal is None else values | dict.fromkeys(["nominal", *unchanged[cut]], nominal)
            shifts[setting] = dict(sorted(known.items(), key=lambda item: item[1]))
    return shifts


def throws_of(store: Store) -> dict[str, dict[str, float]]:
    """Find how far views move the settings that other views draw from a range, event by event.

    Returns
    -------
    dict
        View -> setting -> how far from nominal's value, in units of the way to the end of the range on that side: 1 is
        the upper end, -1 the lower. Of nominal, and of views that change such settings alone.
    """
    ranges = _drawn_ranges(store)
    if not ranges:
        return {}
    found = {"nominal": {setting: 0.0 for _, setting in ranges}}
    for view in store.views:
        cut, changes = _change(store, view)
        if changes and all((cut, setting) in ranges and _is_number(value) for setting, value in changes):
            found[view] = {setting: _moved(float(value), *ranges[cut, setting]) for setting, value in changes}
    return found


def _drawn_ranges(store: Store) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Give what settings are drawn from, about nominal: cut, setting -> lowest, nominal, highest."""
    drawn: dict[tuple[str, str], list[float]] = defaultdict(list)
    for view in store.views:
        cut, changes = _change(store, view)
        for setting, value in changes:
            if isinstance(value, dict):
                drawn[cut, setting] += value["given"]
    known = {key: (min(values), _nominal(store, key[1]), max(values)) for key, values in drawn.items()}
    return {key: (low, at, high) for key, (low, at, high) in known.items() if at is not None and low < at < high}


def _moved(value: float, low: float, nominal: float, high: float) -> float:
    """Give how far a value lies from nominal, where both ends of the range are 1 away."""
    return (value - nominal) / (high - nominal if value > nominal else nominal - low)


def redrawn(store: Store) -> list[str]:
    """List the views that draw anew from a cut on and change nothing: they differ from nominal by chance alone."""
    return [view for view in store.views if _change(store, view)[0] and not _change(store, view)[1]]


def _change(store: Store, view: str) -> tuple[str, list[tuple[str, Any]]]:
    """Give the cut from which on a view is drawn anew from nominal, and what it changes there.

    The cut is empty where views do not differ from nominal in that way: another program, another base, another origin
    in each sample.
    """
    origin = _origin(store, view)
    if origin is None or origin.get("engine") or origin.get("base") not in (None, "nominal"):
        return "", []
    return origin.get("from") or "", list((origin.get("set") or {}).items())


def _origin(store: Store, view: str) -> dict[str, Any] | None:
    """Tell how a view was made, if it is the same in all samples."""
    every = [dataset.parts[0].view(view).attributes for dataset in store.datasets.values()]
    told = [{name: origin.get(name) for name in _SAID} for origin in every]
    return told[0] if told.count(told[0]) == len(told) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nominal(store: Store, setting: str) -> float | None:
    """Give nominal's value, if the stored chain sets it."""
    chain = store.parts[0].attributes.get("config", {}).get("chain", {})
    values = [stage[setting] for stage in chain.values() if setting in stage]
    return float(values[0]) if values and _is_number(values[0]) else None
