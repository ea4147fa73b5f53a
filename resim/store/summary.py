"""What a data set holds, for people and for scripts."""

from collections import defaultdict
from typing import Any

from resim.cost import START, CostRecord, marginal_cost
from resim.store.dataset import Dataset
from resim.store.tables import VERSION


def summary(dataset: Dataset) -> dict[str, Any]:
    """Sum up a data set in what JSON can hold."""
    manifest, attributes = dataset.manifest, dataset.parts[0].attributes
    return {
        "sample": dataset.sample,
        "lane": attributes.get("lane"),
        "seed": attributes.get("seed"),
        "version": VERSION,
        "parts": len(dataset.parts),
        "events": sum(part.stop - part.first for part in dataset.parts),
        "first": dataset.parts[0].first,
        "stop": dataset.parts[-1].stop,
        "gaps": [list(gap) for gap in manifest.gaps],
        "objects": dataset.n_objects,
        "digest": manifest.digest["digest"],
        "software": _software(dataset),
        "commits": _commits(dataset),
        "start_cpu_s": marginal_cost(dataset.cost, START).cpu_s,
        "shared_cost_ms_per_event": _ms_per_event(dataset.cost, "objects"),
        "checkpoints": {name: _checkpoint_summary(dataset, name) for name in dataset.parts[0].checkpoints},
        "views": {name: _view_summary(dataset, name) for name in dataset.views},
    }


def _checkpoint_summary(dataset: Dataset, name: str) -> dict[str, Any]:
    owner = f"checkpoints/{name}"
    return {
        "recipe": dataset.parts[0].attributes.get("checkpoint_recipes", {}).get(name),
        "bytes": sum(entry.bytes[owner] for entry in dataset.manifest.parts),
        "cost_ms_per_event": _ms_per_event(dataset.cost, owner),
        "digest": dataset.manifest.digest["checkpoints"][name],
    }


def _view_summary(dataset: Dataset, name: str) -> dict[str, Any]:
    entries = dataset.manifest.parts
    total = marginal_cost(dataset.cost, name)
    return {
        **dataset.parts[0].view(name).attributes,
        "recipe": dataset.manifest.recipes.get(name),
        "n_present": sum(entry.n_present[name] for entry in entries),
        "bytes": sum(entry.bytes[name] for entry in entries),
        "failed": sum(len(part.attributes.get("failed", {}).get(name, [])) for part in dataset.parts),
        "cpu_s": total.cpu_s,
        "peak_mb": total.peak_mb,
        "cost_ms_per_event": _ms_per_event(dataset.cost, name),
        "digest": dataset.manifest.digest["views"][name],
    }


def _ms_per_event(records: tuple[CostRecord, ...], view: str) -> dict[str, float]:
    """Give CPU milliseconds per event that went through the stage, for each stage of a view."""
    own = [record for record in records if record.view == view and record.events]
    return {record.stage: 1000 * record.cpu_s / record.events for record in own}


def _software(dataset: Dataset) -> dict[str, str]:
    """Give the version of each package; several, where parts were made with different ones."""
    versions: dict[str, set[str]] = defaultdict(set)
    for part in dataset.parts:
        for package, version in part.attributes.get("software", {}).items():
            versions[package].update(str(version).split(", "))  # of a part made of several
    return {package: ", ".join(sorted(found)) for package, found in versions.items()}


def _commits(dataset: Dataset) -> list[str]:
    told = (str(part.attributes["commit"]) for part in dataset.parts if "commit" in part.attributes)
    return sorted({commit for one in told for commit in one.split(", ")})


def format_summary(content: dict[str, Any]) -> str:
    """Lay a summary out as text: a head, then one line a view."""
    events = f"{content['events']} in [{content['first']}, {content['stop']})"
    gaps = ", ".join(f"[{first}, {stop})" for first, stop in content["gaps"])
    head = {
        "sample": f"{content['sample']} (lane {content['lane']}, seed {content['seed']}, format {content['version']})",
        "events": events + (f", without {gaps}" if gaps else ""),
        "objects": f"{content['objects']} in {content['parts']} parts",
        "software": ", ".join(f"{package} {version}" for package, version in content["software"].items()) or "not said",
        "commit": ", ".join(content["commits"]) or "not said",
        "checkpoint": ", ".join(_kept_line(*item) for item in content["checkpoints"].items()) or "none",
        "start-up": f"{content['start_cpu_s']:.1f} CPU s in all parts, in no view's price",
        "digest": content["digest"],
    }
    lines = [f"{key:10} {value}" for key, value in head.items()]
    rows = [("view", "present", "failed", "MB", "ms/event", "of which"), *map(_row, content["views"].items())]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines += ["", *(_aligned(row, widths) for row in rows)]
    return "\n".join(lines)


def _kept_line(name: str, checkpoint: dict[str, Any]) -> str:
    ms = sum(checkpoint["cost_ms_per_event"].values())
    return f"{name} ({checkpoint['bytes'] / 1e6:.2f} MB, {ms:.2f} ms/event to write)"


def _row(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    name, view = item
    cost = view["cost_ms_per_event"]
    stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in cost.items())
    size = f"{view['bytes'] / 1e6:.2f}"
    return name, str(view["n_present"]), str(view["failed"]), size, f"{sum(cost.values()):.2f}", stages


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    """Put the name at the left, numbers at the right of their columns, and the stages last."""
    name, *numbers, stages = row
    cells = [
        name.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)),
        stages,
    ]
    return "  ".join(cells).rstrip()
