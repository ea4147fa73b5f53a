"""Views as Awkward arrays."""

import re
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from resim.errors import UserError
from resim.read import iterate, read
from resim.store import Dataset
from tests.interop.conftest import VIEWS, folder_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("view", VIEWS)
def test_events_jets_and_constituents_are_those_of_the_store(view: str, qcd: Dataset) -> None:
    events = read(folder_of(qcd), view)
    objects, present = qcd.objects(), qcd.present(view)
    np.testing.assert_array_equal(events.event, np.unique(objects["event"]))
    jets = ak.flatten(events.jets)
    np.testing.assert_array_equal(jets.object, objects["object"][present])
    np.testing.assert_array_equal(jets.jettype, objects["jettype"][present])
    np.testing.assert_array_equal(ak.flatten(ak.broadcast_arrays(events.event, events.jets.pt)[0]), jets.object // 8)
    stored = qcd.parts[0].view(view)
    for name in set(stored.column_names) - {"e"}:
        column = qcd.view_columns(view)[present, stored.column_names.index(name)]
        np.testing.assert_array_equal(ak.to_numpy(jets[name]), column)
    pieces = np.concatenate([part.view(view).constituents[:] for part in qcd.parts])
    for i, column in enumerate(stored.constituent_columns):
        np.testing.assert_array_equal(ak.flatten(jets.constituents[column.name]), pieces[:, i])


def test_four_vectors_add_up(hbb: Dataset) -> None:
    events = read(folder_of(hbb))
    whole = ak.sum(events.jets.constituents, axis=-1)
    assert ak.max(events.jets.deltaR(whole)) < 0.02
    np.testing.assert_allclose(ak.flatten(whole.mass), ak.flatten(events.jets.mass), rtol=0.01)
    np.testing.assert_allclose(ak.flatten(whole.e), ak.flatten(events.jets.e), rtol=0.01)
    stored = hbb.parts[0].view("nominal")
    e = hbb.view_columns("nominal")[hbb.present("nominal"), stored.column_names.index("e")]
    np.testing.assert_allclose(ak.flatten(events.jets.e), e, rtol=1e-5)


def test_views_have_the_same_events(qcd: Dataset) -> None:
    nominal, seed = (read(folder_of(qcd), view) for view in VIEWS[:2])
    np.testing.assert_array_equal(nominal.event, seed.event)
    assert len(nominal.jets) == len(seed.jets)


def test_parts_come_one_by_one(qcd: Dataset) -> None:
    parts = list(iterate(folder_of(qcd), "fsr_mur_2"))
    assert len(parts) == len(qcd.parts)
    assert ak.array_equal(ak.concatenate(parts), read(folder_of(qcd), "fsr_mur_2"), equal_nan=True)


def test_no_such_view_or_data_set(qcd: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no view 'foo'; it has nominal, shower_seed"):
        iterate(folder_of(qcd), "foo")
    with pytest.raises(UserError, match="is no data set"):
        read(tmp_path)


def test_the_documents_example_runs(hbb: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "exchange.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert "results/data/hbb" in example
    exec(example.replace("results/data/hbb", str(folder_of(hbb))), {})
    shift, angle = map(float, capsys.readouterr().out.split())
    assert abs(shift) < 300
    assert 0 < angle < 0.8
