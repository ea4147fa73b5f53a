"""Keeps what came of every fault that tests inject, and tells it in a table and a line of JSON when they have ended.

A test elsewhere joins in by pytest's own `record_property("fault", (FAULT, "right"))`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resim.config import Config
from resim.simulate import Simulation, simulate_part
from resim.store import write_manifest
from tests.faults.runs import RANGES, SAMPLE, config

OUTCOMES = ("right", "clear error", "wrong")


class Outcome:
    """What came of a fault: wrong, until a test has found otherwise."""

    def __init__(self) -> None:
        self.name = "wrong"

    def right(self) -> None:
        self.name = "right"

    def clear_error(self) -> None:
        self.name = "clear error"


class Faults:
    """Injects faults, each by its name in the table."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    @contextmanager
    def inject(self, fault: str) -> Iterator[Outcome]:
        outcome = Outcome()
        try:
            yield outcome
        finally:
            self._record("fault", (fault, outcome.name))
        assert outcome.name != "wrong", f"{fault}: neither the right data nor a clear error"


@pytest.fixture
def faults(record_property: Callable[[str, object], None]) -> Faults:
    return Faults(record_property)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data set that nothing happened to."""
    folder, simulation = tmp_path_factory.mktemp("reference"), Simulation(Config.model_validate(config()), SAMPLE)
    write_manifest(folder, [simulate_part(simulation, *r, folder, simulation.all_views).path for r in RANGES])
    return folder


class _Table:
    """Counts what tests recorded; a test that failed before it recorded anything wrong is a wrong outcome, too."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str]]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = [value for name, value in report.user_properties if name == "fault"]
        if report.failed and not any(outcome == "wrong" for _, outcome in found):
            self._counts[report.nodeid, "wrong"] += 1
        if report.when == "teardown":
            self._counts.update((fault, outcome) for fault, outcome in found)

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        if not self._counts or hasattr(config, "workerinput"):
            return
        names = sorted({fault for fault, _ in self._counts})
        rows = [[self._counts[name, outcome] for outcome in OUTCOMES] for name in names]
        totals = [sum(column) for column in zip(*rows, strict=True)]
        width, write = max(map(len, names)), config.get_terminal_writer().line
        write("")
        write(f"{'fault':{width}}  injected  right  clear error  wrong")
        for name, row in [*zip(names, rows, strict=True), ("all", totals)]:
            write(f"{name:{width}}  {sum(row):8}  {row[0]:5}  {row[1]:11}  {row[2]:5}")
        write(json.dumps(dict(zip(("injected", "right", "clear_error", "wrong"), (sum(totals), *totals), strict=True))))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Table())
