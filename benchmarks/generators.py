"""Jets of two generators side by side, without weights: means with their errors, and how unlike the distributions are.

python -m benchmarks.generators results/data/qcd results/data/qcd_sherpa
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from resim.store import open_dataset

COLUMNS = ("pt", "mass", "softdrop_mass", "n_constituents", "n2")
_Values = NDArray[np.float64]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generators", description=__doc__)
    parser.add_argument("first", type=Path, help="folder of a data set")
    parser.add_argument("second", type=Path)
    parser.add_argument("--view", default="nominal")
    arguments = parser.parse_args()
    folders = (arguments.first, arguments.second)
    (first, first_event), (second, second_event) = (jets(folder, arguments.view) for folder in folders)
    print(f"| | {folders[0].name} | {folders[1].name} | KS p |\n|---|---|---|---|")
    print(f"| jets | {len(first_event)} | {len(second_event)} | |")
    for name in COLUMNS:
        p = ks_2samp(first[name], second[name]).pvalue
        print(f"| {name} | {mean(first[name], first_event)} | {mean(second[name], second_event)} | {p:.2g} |")


def jets(folder: Path, view: str) -> tuple[dict[str, _Values], NDArray[np.int64]]:
    """Read columns and events of the jets of a view."""
    dataset = open_dataset(folder)
    views = [part.view(view) for part in dataset.parts]
    present = np.concatenate([each.present for each in views])
    columns = {name: np.concatenate([each.column(name) for each in views])[present] for name in COLUMNS}
    return {name: values.astype(np.float64) for name, values in columns.items()}, dataset.objects()["event"][present]


def mean(values: _Values, event: NDArray[np.int64]) -> str:
    """Give the mean with its error; jets of one event are not independent, events are."""
    _, event = np.unique(event, return_inverse=True)
    of_event = np.bincount(event, values - values.mean())
    error = np.sqrt(np.sum(of_event**2)) / len(values)
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    main()
