# Programs that run by themselves, a job a part: what goes out to them, their run, what comes back (docs/engines.md).
import sys
from shlex import quote

# By its path, because in an engine's environment there is no `resim`; the engine's command does run in there.
RESIM = f"{quote(sys.executable)} -c 'from resim.cli import main; main()'"


def upstream(wildcards):
    """Name what other engines gave, that the engine of a view starts from."""
    steps = SIMULATIONS[wildcards.sample].engine_steps
    path = next(view.path for view in SIMULATIONS[wildcards.sample].all_views if view.name == wildcards.view)
    before = path[: path.index(steps[wildcards.view])]
    return {name: incoming_file(wildcards, name) for name, step in steps.items() if step in before}


def engine_inputs(wildcards):
    """Name what the engine of a view takes: a file of events, and what was prepared for all parts."""
    name, engine = engine_of(wildcards.sample, wildcards.view)
    sent = f"results/outgoing/{wildcards.sample}/{wildcards.view}/part-{wildcards.part}{SUFFIXES.get(engine.input)}"
    prepared = f"results/engines/{name}"
    return ({} if engine.input == "none" else {"sent": sent}) | ({"scratch": prepared} if engine.prepare else {})


def engine_options(wildcards):
    """Put them on the command line."""
    options = {"sent": "--input", "scratch": "--scratch"}
    return [f"{options[what]} {file}" for what, file in engine_inputs(wildcards).items()]


def prepare_command(name):
    """Give a function, because Snakemake looks for its own wildcards in words."""
    return lambda wildcards: CONFIG.engines[name].prepare


rule outgoing:
    input:
        POOL,
        lambda wildcards: upstream(wildcards).values(),
    output:
        temp("results/outgoing/{sample}/{view}/part-{part}{suffix}"),
    log:
        "results/logs/outgoing/{sample}-{view}-{part}{suffix}.log",
    benchmark:
        "results/benchmarks/outgoing/{sample}-{view}-{part}{suffix}.tsv"
    wildcard_constraints:
        suffix=r"\.lhe\.gz|\.hepmc3\.gz",
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks(mem_mb=1500, runtime=60),
    params:
        config=RESOLVED,
        events=events_of_part,
        incoming=lambda wildcards: [f"--incoming {name}={file}" for name, file in upstream(wildcards).items()],
        pool=POOL_OPTION,
        recipe=lambda wildcards: SIMULATIONS[wildcards.sample].engine_recipe(wildcards.view),
    message:
        "Writing {wildcards.sample}, events {params.events}, for the engine of {wildcards.view} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim outgoing --config {params.config} --sample {wildcards.sample} --view {wildcards.view} "
        "--events {params.events} --out {output} {params.incoming} {params.pool} > {log} 2>&1"


# A rule for each engine, because each has an environment and a time limit of its own.
for NAME, ENGINE in CONFIG.engines.items():
    ENVIRONMENT = str(Path(workflow.basedir) / (ENGINE.env or "envs/base.yaml"))

    if ENGINE.prepare is not None:

        rule:
            name:
                f"prepare_{NAME}"
            output:
                directory(f"results/engines/{NAME}"),
            log:
                f"results/logs/engines/{NAME}.log",
            benchmark:
                f"results/benchmarks/engines/{NAME}.tsv"
            conda:
                ENVIRONMENT
            threads: 1
            resources:
                **asks(mem_mb=2000, runtime=int(ENGINE.minutes) + 2),
            params:
                resim=RESIM,
                config=RESOLVED,
                engine=NAME,
                command=prepare_command(NAME),
            message:
                "Preparing the engine {params.engine} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
            shell:
                "{params.resim} prepare --config {params.config} --engine {params.engine} --out {output} --log {log}"

    rule:
        name:
            f"run_{NAME}"
        input:
            unpack(engine_inputs),
        output:
            made=f"results/incoming/{{sample}}/{{view}}/{NAME}-{{part}}{SUFFIXES[ENGINE.output]}",
            cost=f"results/incoming/{{sample}}/{{view}}/{NAME}-{{part}}{SUFFIXES[ENGINE.output]}.json",
        log:
            f"results/logs/engines/{NAME}/{{sample}}-{{view}}-{{part}}.log",
        benchmark:
            f"results/benchmarks/engines/{NAME}/{{sample}}-{{view}}-{{part}}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asks(mem_mb=2000, runtime=int(ENGINE.minutes) + 10),
        params:
            resim=RESIM,
            config=RESOLVED,
            engine=NAME,
            events=events_of_part,
            given=engine_options,
            recipe=lambda wildcards: SIMULATIONS[wildcards.sample].engine_recipe(wildcards.view),
        message:
            "Running {params.engine} for {wildcards.sample}, view {wildcards.view}, events {params.events} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
        shell:
            "{params.resim} engine --config {params.config} --sample {wildcards.sample} --view {wildcards.view} "
            "--events {params.events} {params.given} --out {output.made} --log {log}"
