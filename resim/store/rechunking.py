"""Parts cut anew: the same events in parts of other sizes."""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resim.cost import CostRecord, add, from_json, to_json
from resim.ragged import offsets_of
from resim.store.part import Part, StoredView, schema_of
from resim.store.tables import Checkpoint, Extra, ObjectTable, ViewTable, join
from resim.store.writing import write_part

_COUNTS = ("bytes_read", "bytes_written", "events", "objects")


def write_range(parts: Sequence[Part], first: int, stop: int, directory: Path) -> Part:
    """Write one part with the events [first, stop), whole blocks, out of the parts that hold them.

    What it cost to make a part, and which events it lost, goes with its events, a cost by their share; versions and
    commits of all the parts are named. What it cost to write is what it costs now.

    Parameters
    ----------
    parts
        Parts of one data set, in the order of their events, which leave out none of the range.
    directory
        Folder of the new data set.
    """
    pieces = [_Piece(part, max(first, part.first), min(stop, part.stop)) for part in parts]
    tables = [piece.objects() for piece in pieces]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    one = parts[0]
    return write_part(
        directory,
        ObjectTable(columns, one.object_descriptions()),
        {name: _joined([piece.view(name) for piece in pieces]) for name in one.views},
        schema_of(one.view(one.views[0])),
        _attributes(pieces) | {"first": first, "stop": stop},
        checkpoints={name: join([piece.checkpoint(name) for piece in pieces]) for name in one.checkpoints},
    )


@dataclass(frozen=True)
class _Piece:
    """The events [first, stop) of a part."""

    part: Part
    first: int
    stop: int

    @cached_property
    def rows(self) -> slice:
        events = self.part.read_array("objects/event")
        return slice(*np.searchsorted(events, [self.first, self.stop]).tolist())

    def objects(self) -> dict[str, Any]:
        return {name: values[self.rows] for name, values in self.part.objects().items()}

    def view(self, name: str) -> ViewTable:
        return StoredView(self.part, name).read(self.rows)  # not `part.view`: the part would keep its arrays

    def checkpoint(self, name: str) -> Checkpoint:
        whole = self.part.checkpoint(name)
        return whole.take((whole.events["event"] >= self.first) & (whole.events["event"] < self.stop))

    @property
    def cost(self) -> list[CostRecord]:
        """What making these events took; counts of all pieces of a part add up to the part's."""
        return [self._share(record) for record in from_json(self.part.attributes.get("cost", []))]

    def _share(self, record: CostRecord) -> CostRecord:
        n, start, end = self.part.stop - self.part.first, self.first - self.part.first, self.stop - self.part.first
        counts = {name: getattr(record, name) * end // n - getattr(record, name) * start // n for name in _COUNTS}
        share = (end - start) / n
        return replace(record, cpu_s=record.cpu_s * share, wall_s=record.wall_s * share, **counts)

    @property
    def failed(self) -> dict[str, list[list[Any]]]:
        lost = self.part.attributes.get("failed", {})
        return {view: [one for one in events if self.first <= one[0] < self.stop] for view, events in lost.items()}


def _joined(views: Sequence[ViewTable]) -> ViewTable:
    one = views[0]
    extras = {
        name: Extra(np.concatenate([view.extras[name].values for view in views]), extra.columns)
        for name, extra in one.extras.items()
    }
    return ViewTable(
        np.concatenate([view.present for view in views]),
        np.concatenate([view.columns for view in views]),
        offsets_of(np.concatenate([np.diff(view.offsets) for view in views])),
        np.concatenate([view.constituents for view in views]),
        one.attributes,
        extras,
    )


def _attributes(pieces: Sequence[_Piece]) -> dict[str, Any]:
    """Join what parts say of themselves; what must be the same, and the config, is the first one's."""
    all_of = [piece.part.attributes for piece in pieces]
    attributes = dict(all_of[0])
    if "cost" in attributes:
        attributes["cost"] = to_json(add(record for piece in pieces for record in piece.cost))
    if "failed" in attributes:
        lost = [piece.failed for piece in pieces]
        attributes["failed"] = {view: [one for of in lost for one in of.get(view, [])] for view in lost[0]}
    if "software" in attributes:
        software = [one.get("software", {}) for one in all_of]
        attributes["software"] = {name: _named(software, name) for name in dict(ChainMap(*software))}
    if "commit" in attributes:
        attributes["commit"] = _named(all_of, "commit")
    return attributes


def _named(all_of: Sequence[dict[str, Any]], key: str) -> str:
    """Name each value once, in the order of the events."""
    return ", ".join(dict.fromkeys(one[key] for one in all_of if key in one))
