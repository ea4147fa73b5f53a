"""Which views change a single number of the simulation, and to what: their figures can be put over its value."""

from collections import defaultdict
from typing import Any

from training.data.fetch import Store

_DEFAULTS = {
    "TimeShower:renormMultFac": 1.0,
    "SpaceShower:renormMultFac": 1.0,
}  # Pythia's, where the chain says nothing
_FEWEST = 2  # views that change it: of a single one there is no dependence to see
_SAID = ("from", "base", "set", "engine")


def shifts_of(store: Store) -> dict[str, dict[str, float]]:
    """Find the settings that alone are changed in several views.

    Returns
    -------
    dict
        Setting -> view -> value, rising. Where nominal's value is stored, or is a known default, nominal is among the
        views, and those that draw anew from the same cut on and change nothing.
    """
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    redrawn: dict[str, list[str]] = defaultdict(list)
    for view in store.views:
        origin = _origin(store, view)
        if origin is None or origin.get("engine") or origin.get("base") not in (None, "nominal"):
            continue
        cut, changes = origin.get("from") or "", list((origin.get("set") or {}).items())
        if not changes and cut:
            redrawn[cut].append(view)
        elif len(changes) == 1 and _is_number(changes[0][1]):
            found[cut, changes[0][0]][view] = float(changes[0][1])
    shifts = {}
    for (cut, setting), values in found.items():
        if len(values) >= _FEWEST:
            unchanged = dict.fromkeys(["nominal", *redrawn[cut]], _nominal(store, setting))
            known = values | {view: value for view, value in unchanged.items() if value is not None}
            shifts[setting] = dict(sorted(known.items(), key=lambda item: item[1]))
    return shifts


def _origin(store: Store, view: str) -> dict[str, Any] | None:
    """Tell how a view was made, if it is the same in all samples."""
    every = [dataset.parts[0].view(view).attributes for dataset in store.datasets.values()]
    told = [{name: origin.get(name) for name in _SAID} for origin in every]
    return told[0] if told.count(told[0]) == len(told) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nominal(store: Store, setting: str) -> float | None:
    """Give nominal's value, if it is known: of the stored chain, or the default."""
    chain = store.parts[0].attributes.get("config", {}).get("chain", {})
    values = [stage[setting] for stage in (*chain.values(), _DEFAULTS) if setting in stage]
    return float(values[0]) if values and _is_number(values[0]) else None
