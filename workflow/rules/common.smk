# Names and paths that several rules use. What the config means is for resim.config and training.config to say.
import json
import re
from pathlib import Path
from shlex import quote

from resim.config import Config
from resim.engines import SUFFIXES
from resim.errors import UserError
from resim.plan import check_config, check_workflow
from resim.published import import_options
from resim.simulate import Simulation, part_ranges
from resim.typed import parse as checked
from training.config import parse_sections

RESOLVED = "results/config.json"


def _checked():
    """Check the whole config before any rule is read; a mistake is one line."""
    try:
        simulation, learning = checked(Config, config, "config"), parse_sections(config, "config")
        check_config(simulation, "config")
        views = learning.training.trained_on if "training" in config else ()
        check_workflow(simulation, views, Path("results"), "config")
    except UserError as error:
        raise WorkflowError(" ".join(str(error).split()))
    return simulation, learning


CONFIG, LEARNING = _checked()
TRAINING, EVALUATION = LEARNING.training, LEARNING.evaluation
SAMPLES = list(CONFIG.samples)
# The others have a data set that exists already.
SIMULATED = [name for name, sample in CONFIG.samples.items() if sample.source is None]
# What is held out never comes near a training rule: those see these samples alone.
TRAINED_ON = [name for name, sample in CONFIG.samples.items() if sample.role != "evaluation"]
METHODS = list(TRAINING.methods)
LABELLED = [name for name in METHODS if TRAINING.kind(name).labelled]
# Those that train an encoder on pairs.
ENCODERS = [name for name in METHODS if name not in LABELLED]
SEEDS = list(range(TRAINING.seeds))


def one_of(names):
    """Give the expression that matches some names, in which a dot may be, and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    sample="|".join(SAMPLES),
    view="[a-z][a-z0-9_]*",
    part=r"\d{8}-\d{8}",
    method=one_of(METHODS),
    seed=r"\d+",


onstart:
    # What the jobs read, with all that --config and --configfile changed. A dry run does not come here.
    Path(RESOLVED).parent.mkdir(parents=True, exist_ok=True)
    Path(RESOLVED).write_text(json.dumps(config, indent=2))


# What the numbers of each view depend on is digested, so that a change runs its jobs again.
SIMULATIONS = {sample: Simulation(CONFIG, sample) for sample in SIMULATED}
RECIPES = {name: sample.recipes for name, sample in SIMULATIONS.items()}


def events_of_part(wildcards):
    """Give the events of a part, FIRST:STOP."""
    return ":".join(str(int(n)) for n in wildcards.part.split("-"))


def engine_of(sample, view):
    """Give the engine that makes a view: its name, and what the config says of it."""
    name = dict(SIMULATIONS[sample].engine_steps[view].settings)["engine"]
    return name, CONFIG.engines[name]


def incoming_file(wildcards, view):
    """Name what the engine of a view gives for a part."""
    name, engine = engine_of(wildcards.sample, view)
    return f"results/incoming/{wildcards.sample}/{view}/{name}-{wildcards.part}{SUFFIXES[engine.output]}"


def incoming(wildcards):
    """Name what engines give for a part: view -> file."""
    return {view: incoming_file(wildcards, view) for view in SIMULATIONS[wildcards.sample].engine_steps}


def part_stamps(sample):
    """Name the outputs of a sample's jobs."""
    ranges = part_ranges(0, CONFIG.samples[sample].events, CONFIG.events_per_part, CONFIG.block_size)
    return [f"results/data/{sample}/part-{first:08d}-{stop:08d}/done" for first, stop in ranges]


def listed(sample):
    """Name what stands for the parts that a sample's manifest lists: stamps of its jobs, or a data set's manifest."""
    source = CONFIG.samples[sample].source
    if source is None:
        return part_stamps(sample)
    return [str(Path(source.store or f"results/imported/{sample}") / "manifest.json")]


def listed_parts(wildcards, input):
    """Say on the command line which parts those are; ten thousand names would not fit there."""
    if wildcards.sample in SIMULATED:
        return f"--events 0:{CONFIG.samples[wildcards.sample].events} --shard-size {CONFIG.events_per_part}"
    return quote(str(Path(input[0]).parent))


# Only where some view has pile-up.
POOL_RECIPES = {s.lane.pool_recipe(view) for s in SIMULATIONS.values() for view in s.all_views} - {None}
POOL = ["results/pool.done"] if POOL_RECIPES else []
POOL_OPTION = "--pool results/pool" if POOL else ""
STAMPS = [stamp for sample in SIMULATED for stamp in part_stamps(sample)]
MANIFESTS = expand("results/data/{sample}/manifest.json", sample=TRAINED_ON)
DATA = " ".join(f"--data {sample}=results/data/{sample}" for sample in TRAINED_ON)
# Encoders see fewer samples where some serve tasks alone.
PRETRAINED_ON = [name for name in TRAINED_ON if name in (TRAINING.samples or TRAINED_ON)]
PRETRAIN_MANIFESTS = expand("results/data/{sample}/manifest.json", sample=PRETRAINED_ON)
PRETRAIN_DATA = " ".join(f"--data {sample}=results/data/{sample}" for sample in PRETRAINED_ON)
# For the rules that judge.
HELD_OUT = sorted(EVALUATION.held_out)
HELD_OUT_MANIFESTS = expand("results/data/{sample}/manifest.json", sample=HELD_OUT)
HELD_OUT_DATA = " ".join(f"--held-out {sample}=results/data/{sample}" for sample in HELD_OUT)
PLOTS = {
    "robustness": "change of scores by view",
    "label_efficiency": "figure of merit by number of labels",
    "shift": "similarity by size of a shift",
    "robustness_cost": "robustness against cost",
    "cost_by_stage": "cost by stage",
    "training_curves": "how trainings went",
}
# Of more classes there are accuracies in place of a ROC curve; a regression has neither.
if len(TRAINING.main_task.members) == 2:
    PLOTS["roc"] = "ROC curves"
if len(TRAINING.main_task.members) > 2:
    PLOTS["accuracy"] = "accuracy by size of a throw, and by view"
    PLOTS["accuracy_by_class"] = "the same, class by class"


def asks(mem_mb, runtime, disk_mb=1000, gpu=0):
    """Give what a job asks of a cluster, MB and minutes, under the names of every executor; a retry asks for more."""

    def grown(amount, unit=1):
        return lambda wildcards, attempt: unit * (amount(wildcards) if callable(amount) else amount) * attempt

    memory, disk = grown(mem_mb), grown(disk_mb)
    condor = {
        "htcondor_request_mem_mb": memory,
        "htcondor_request_disk_mb": disk,
        "classad_MaxRuntime": grown(runtime, 60),  # CERN's limit of a job, in seconds; other pools take no notice
    }
    gpus = {"gpu": gpu, "request_gpus": gpu} if gpu else {}
    return {"mem_mb": memory, "disk_mb": disk, "runtime": grown(runtime), **gpus, **condor}


def images(wildcards):
    """Give the number of events of a part, each as often as there are views."""
    first, stop = map(int, wildcards.part.split("-"))
    return (stop - first) * len(SIMULATIONS[wildcards.sample].all_views)


def asks_of_part():
    """Give what the simulation of a part asks: 0.05 MB, 10 kB of disk and 0.1 s an image, or less.

    The rest is for modules, compiled code and starting.
    """
    return asks(
        mem_mb=lambda wildcards: 1200 + images(wildcards) // 20,
        disk_mb=lambda wildcards: 500 + images(wildcards) // 100,
        runtime=lambda wildcards: 30 + images(wildcards) // 600,
    )


def memory_of_list(wildcards):
    """Give the MB to list a sample's parts: 0.04 for a view of a part, or less."""
    if wildcards.sample not in SIMULATED:
        return 1000
    return 1000 + len(part_stamps(wildcards.sample)) * len(RECIPES[wildcards.sample]) // 25


def asks_of_training(section):
    """Give what a training asks, by the section of the config that has its batches: some 20 kB a constituent in one."""

    def memory(wildcards):
        told = TRAINING.of(wildcards.method)
        return 2000 + getattr(told, section).batch * told.encoder.constituents // 50

    return asks(mem_mb=memory, runtime=240, gpu=int(TRAINING.trainer.accelerator == "gpu"))


# One job is one core's work, whatever a library may think.
PINNED = " ".join(f"{name}_NUM_THREADS=1" for name in ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMBA"))
shell.prefix(f"set -euo pipefail; export {PINNED}; ")
