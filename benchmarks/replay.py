"""Is replay right? Replayed nominal events against the same settings run straight through Pythia.

Compares the leading hadron-level jet (anti-kT, R = 0.8, stable visible particles, |eta| < 2.4): pT, mass, number of
constituents; and the number of multiple interactions of the event, by two-sample Kolmogorov-Smirnov tests. The two
sets share no random number.

    python -m benchmarks.replay --config config.yaml --events 5000
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from tqdm import tqdm

from resim.chain import NOMINAL, Step
from resim.config import Config, load_config
from resim.jets import hard, pythia
from resim.jets.engine import STAGES, replay
from resim.jets.lane import hard_settings

MPI_INCOMING = -31  # two such partons for each further interaction
STRAIGHT_SEED = 4711
PT_MIN, ETA_MAX = 200.0, 2.4  # GeV
P_MIN = 0.01
QUANTITIES = ("jet_pt", "jet_mass", "jet_constituents", "interactions")


def quantities(batch: ak.Array) -> NDArray[np.float64]:
    """Give the compared quantities of Pythia's events, (n, 4); events without a jet are left out."""
    particles = ak.drop_none(batch).prt
    interactions = ak.sum(particles.status == MPI_INCOMING, axis=1) / 2 + 1
    kind = abs(particles.id)
    visible = (particles.status > 0) & (kind != 12) & (kind != 14) & (kind != 16)  # neutrinos leave no trace
    p = particles.p[visible]
    inputs = ak.zip({"px": p.px, "py": p.py, "pz": p.pz, "E": p.e}, with_name="Momentum4D")
    cluster = fastjet.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.8))
    jets, sizes = cluster.inclusive_jets(PT_MIN), ak.num(cluster.constituent_index(PT_MIN), axis=2)
    pt = np.hypot(jets.px, jets.py)
    eta = np.arcsinh(jets.pz / pt)
    mass = np.sqrt(np.maximum(jets.E**2 - pt**2 - jets.pz**2, 0))
    inside = abs(eta) < ETA_MAX
    leading = ak.argmax(pt[inside], axis=1, keepdims=True)
    columns = [ak.flatten(x[inside][leading], axis=1) for x in (pt, mass, sizes)]
    found = ~ak.to_numpy(ak.is_none(columns[0]))
    return np.stack([ak.to_numpy(x[found]).astype(float) for x in (*columns, interactions)], axis=1)


def replayed(config: Config, sample: str, events: int, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Generate, keep and replay `events` events."""
    size = config.block_size
    streams = [Step(stage, (), NOMINAL).stream(config.seed, sample) for stage in STAGES]
    inherited = tuple(
        (k, v) for k, v in settings.items() if k.startswith(pythia.INHERITED) or pythia.is_particle_data(k)
    )
    downstream = (*inherited, *(pair for stage in STAGES for pair in config.chain.get(stage, {}).items()))
    found = []
    for block in tqdm(range(events // size), desc=f"{sample} replayed", disable=None):
        state = hard.generate(settings, config.seed, sample, block, size)
        batches = replay(state, downstream, settings["Beams:eCM"], streams)
        found += [quantities(batch) for batch in batches]
    return np.concatenate(found)


def straight_through(config: Config, sample: str, events: int, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Run the same settings in one go, as any user of Pythia would."""
    chain = config.chain
    merged = {name: v for stage in STAGES for name, v in chain.get(stage, {}).items()} | settings
    instance = pythia.initialise(pythia.make(merged.items()), merged.items())
    instance.rndm.init(STRAIGHT_SEED)
    size = config.block_size
    batches = tqdm(range(events // size), desc=f"{sample} straight", disable=None)
    return np.concatenate([quantities(instance.nextBatch(size, "none")) for _ in batches])


def compare(config: Config, sample: str, events: int) -> dict[str, dict[str, float]]:
    """Compare replayed with straight-through events, quantity by quantity."""
    settings = hard_settings(config, sample)
    a, b = replayed(config, sample, events, settings), straight_through(config, sample, events, settings)
    return {
        name: {"p": float(ks_2samp(x, y).pvalue), "replayed": float(x.mean()), "straight": float(y.mean())}
        for name, x, y in zip(QUANTITIES, a.T, b.T, strict=True)
    }


def main() -> None:
    """Print the comparison of every sample as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--events", type=int, default=5000)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    found = {sample: compare(config, sample, arguments.events) for sample in config.samples}
    print(json.dumps(found, indent=2))
    if any(quantity["p"] <= P_MIN for row in found.values() for quantity in row.values()):
        sys.exit(f"a p-value is not above {P_MIN}: replay does not agree with running straight through")


if __name__ == "__main__":
    main()
