rule pool:
    output:
        touch("results/pool.done"),
    log:
        "results/logs/pool.log",
    benchmark:
        "results/benchmarks/pool.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks(mem_mb=2000, runtime=60),
    params:
        config=RESOLVED,
        recipe=sorted(POOL_RECIPES),
    message:
        "Generating collisions for pile-up ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim pool --config {params.config} --out results/pool > {log} 2>&1"


rule simulate:
    input:
        POOL,
        lambda wildcards: incoming(wildcards).values(),
    output:
        # Inside the part's folder: when the part is deleted, so is this, and the part is made again.
        touch("results/data/{sample}/part-{part}/done"),
    log:
        "results/logs/simulate/{sample}-{part}.log",
    benchmark:
        "results/benchmarks/simulate/{sample}-{part}.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks_of_part(),
    params:
        config=RESOLVED,
        events=events_of_part,
        incoming=lambda wildcards: [f"--incoming {view}={file}" for view, file in incoming(wildcards).items()],
        size=lambda wildcards: CONFIG.events_per_part,
        pool=POOL_OPTION,
        recipes=lambda wildcards: RECIPES[wildcards.sample],
    message:
        "Simulating {wildcards.sample}, events {params.events}, in all views ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim simulate --config {params.config} --sample {wildcards.sample} --events {params.events} "
        "--shard-size {params.size} {params.pool} {params.incoming} --out results/data/{wildcards.sample} "
        "--no-manifest > {log} 2>&1"


rule manifest:
    input:
        lambda wildcards: listed(wildcards.sample),
    output:
        "results/data/{sample}/manifest.json",
    log:
        "results/logs/manifest/{sample}.log",
    benchmark:
        "results/benchmarks/manifest/{sample}.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks(mem_mb=memory_of_list, runtime=30),
    params:
        folder=subpath(output[0], parent=True),
        parts=listed_parts,
    message:
        "Listing the parts of {wildcards.sample} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim manifest {params.folder} {params.parts} > {log} 2>&1"


rule import_published:
    input:
        lambda wildcards: CONFIG.samples[wildcards.sample].source.files,
    output:
        "results/imported/{sample}/manifest.json",
    log:
        "results/logs/import/{sample}.log",
    benchmark:
        "results/benchmarks/import/{sample}.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks(mem_mb=2000, runtime=240),
    params:
        folder=subpath(output[0], parent=True),
        kind=lambda wildcards: CONFIG.samples[wildcards.sample].source.kind,
        options=lambda wildcards: import_options(CONFIG, wildcards.sample),
    message:
        "Importing {wildcards.sample} from published files ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        # An earlier import goes first: a data set is never written over another.
        "rm -rf {params.folder} && "
        "resim import {params.kind} {input:q} --out {params.folder} {params.options} > {log} 2>&1"
