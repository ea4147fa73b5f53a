rule compare:
    input:
        data=MANIFESTS,
        held_out=HELD_OUT_MANIFESTS,
        evaluations=expand("results/evaluation/{method}/seed-{seed}.json", method=METHODS, seed=SEEDS),
    output:
        comparison=report(
            "results/comparison.json",
            category="Comparison",
            labels={"what": "all figures, with intervals"},
        ),
        table=report(
            "results/plots/table.csv",
            caption="../report/table.rst",
            category="Comparison",
            labels={"what": "table of methods and views"},
        ),
        plots=[
            report(
                f"results/plots/{name}.png",
                caption=f"../report/{name}.rst",
                category="Comparison",
                labels={"what": title},
            )
            for name, title in PLOTS.items()
        ],
    log:
        "results/logs/compare.log",
    benchmark:
        "results/benchmarks/compare.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        **asks(mem_mb=2000, runtime=30),
    params:
        config=RESOLVED,
        data=DATA,
        held_out=HELD_OUT_DATA,
        plots=lambda wildcards, output: Path(output.plots[0]).parent,
        evaluations=lambda wildcards, input: [f"--evaluation {file}" for file in input.evaluations],
    message:
        "Putting the benefit of each method beside its price ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train compare --config {params.config} {params.evaluations} {params.data} "
        "{params.held_out} --out {output.comparison} --plots {params.plots} > {log} 2>&1"


rule embedding:
    input:
        data=MANIFESTS,
        encoder="results/training/{method}/seed-0.pt",
    output:
        report(
            "results/plots/embedding-{method}.png",
            caption="../report/embedding.rst",
            category="Comparison",
            labels={"what": "test objects as {method} sees them"},
        ),
    log:
        "results/logs/embedding/{method}.log",
    benchmark:
        "results/benchmarks/embedding/{method}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        **asks(mem_mb=2000, runtime=30),
    params:
        config=RESOLVED,
        data=DATA,
    message:
        "Drawing test objects as {wildcards.method} sees them ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train embed --config {params.config} --method {wildcards.method} --seed-index 0 "
        "--encoder {input.encoder} {params.data} --out {output} > {log} 2>&1"


rule picture:
    input:
        "results/data/{sample}/manifest.json",
    output:
        report(
            "results/plots/object-{sample}.png",
            caption="../report/object.rst",
            category="Views",
            labels={"what": "one object of {sample} in all its views"},
        ),
    log:
        "results/logs/picture/{sample}.log",
    benchmark:
        "results/benchmarks/picture/{sample}.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 1
    resources:
        **asks(mem_mb=1000, runtime=10),
    params:
        folder=subpath(input[0], parent=True),
    message:
        "Drawing one object of {wildcards.sample} in all its views ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim show {params.folder} --out {output} > {log} 2>&1"
