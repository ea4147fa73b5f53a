"""What a method sees, by its kind, and how one entry of `training.methods` becomes several.

A method is a kind and what is other for it in the sections of `training`; see `training.config.TrainingConfig.of`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

KindName = Literal[
    "resim", "generic", "both", "supervised", "supervised_generic", "supervised_resim", "supervised_both", "dann"
]
NAMED_BY = "[a-z0-9_.-]"  # of what names of methods, and so of files, are made
_LISTS = (("views",), ("tasks",))  # by nature; any other list stands for a method each


class Kind(NamedTuple):
    """What a kind of method sees of an object."""

    labelled: bool
    """Learns from labels; else from pairs."""
    resimulated: bool
    """Sees all of `training.views`, and pays for them; else nominal alone."""
    augmented: bool
    """What it sees is augmented."""
    adversarial: bool = False
    """Learns from labels on nominal, and must not tell views apart."""

    def seen(self, views: Sequence[str]) -> tuple[str, ...]:
        """Choose what it sees of the views that there are."""
        return tuple(dict.fromkeys(views)) if self.resimulated else ("nominal",)

    @property
    def unread(self) -> set[str]:
        """Name what of the `training` section the kind does not read."""
        found = {"pretrain"} if self.labelled else {"supervised", "tasks"}
        found |= set() if self.resimulated else {"views", "pairs"}
        found |= set() if self.augmented else {"augment"}
        return found if self.adversarial else found | {"dann"}


KINDS: dict[KindName, Kind] = {
    "resim": Kind(labelled=False, resimulated=True, augmented=False),
    "generic": Kind(labelled=False, resimulated=False, augmented=True),
    "both": Kind(labelled=False, resimulated=True, augmented=True),
    "supervised": Kind(labelled=True, resimulated=False, augmented=False),
    "supervised_generic": Kind(labelled=True, resimulated=False, augmented=True),
    "supervised_resim": Kind(labelled=True, resimulated=True, augmented=False),
    "supervised_both": Kind(labelled=True, resimulated=True, augmented=True),
    "dann": Kind(labelled=True, resimulated=True, augmented=False, adversarial=True),
}


def one_a_value(name: str, changes: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a method for each value of a list where one value belongs, named NAME_FIELD_VALUE.

    Of several lists every combination is one. The kind is the name where none is given.

    Raises
    ------
    ValueError
        If a list is empty, or a value cannot be part of a name.
    """
    changes = {"kind": name} | dict(changes)
    path = _first_list(changes)
    if path is None:
        yield name, changes
        return
    values, place = _at(changes, path), ".".join((name, *path))
    if not values:
        raise ValueError(f"{place}: is an empty list, which makes no method of any value; give one, or leave it out")
    for value in values:
        yield from one_a_value(f"{name}_{path[-1]}_{_word(value, place)}", _with(changes, path, value))


def _word(value: Any, place: str) -> str:
    """Give what a value is called in the name of its method: 1e-05, true, small."""
    word = str(value).lower().replace("+", "")
    if not re.fullmatch(f"{NAMED_BY}+", word):
        raise ValueError(
            f"{place}: {value!r} cannot be part of a method's name, which is made of {NAMED_BY}; "
            "write a method of its own for it"
        )
    return word


def _first_list(changes: Mapping[str, Any], place: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Find where the first such list is."""
    for key, value in changes.items():
        here = (*place, key)
        if isinstance(value, list) and here not in _LISTS:
            return here
        if isinstance(value, dict) and (found := _first_list(value, here)):
            return found
    return None


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


def _with(values: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    key, *inner = path
    return {**values, key: _with(values[key], tuple(inner), value) if inner else value}
