# resim-train keeps its threads to training.threads: torch would otherwise take all cores in every job.
# Beside the output it leaves a folder seed-N.run, which is no output: Snakemake would remove it, and with it the state
# that a job started again goes on from.
# A training is made again if what its own method is told changes (params.settings), and for no other method's sake.


rule pretrain:
    input:
        PRETRAIN_MANIFESTS,
    output:
        "results/training/{method}/seed-{seed}.pt",
    log:
        "results/logs/pretrain/{method}-{seed}.log",
    benchmark:
        "results/benchmarks/pretrain/{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of([name for name in METHODS if name not in LABELLED]),
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        **asks_of_training("pretrain"),
    params:
        config=RESOLVED,
        data=PRETRAIN_DATA,
        settings=lambda wildcards: TRAINING.settings_of(wildcards.method),
    message:
        "Training an encoder on pairs by {wildcards.method}, seed {wildcards.seed} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train pretrain --config {params.config} --method {wildcards.method} --seed-index {wildcards.seed} "
        "{params.data} --out {output} > {log} 2>&1"


rule supervised:
    input:
        MANIFESTS,
    output:
        "results/training/{method}/seed-{seed}.pt",
    log:
        "results/logs/supervised/{method}-{seed}.log",
    benchmark:
        "results/benchmarks/supervised/{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of(LABELLED),
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        **asks_of_training("supervised"),
    params:
        config=RESOLVED,
        data=DATA,
        settings=lambda wildcards: TRAINING.settings_of(wildcards.method),
        fractions=EVALUATION.label_fractions,
    message:
        "Training from scratch with labels by {wildcards.method}, seed {wildcards.seed} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train supervised --config {params.config} --method {wildcards.method} --seed-index {wildcards.seed} "
        "{params.data} --out {output} > {log} 2>&1"


rule evaluate:
    input:
        data=MANIFESTS,
        held_out=HELD_OUT_MANIFESTS,
        encoder="results/training/{method}/seed-{seed}.pt",
    output:
        "results/evaluation/{method}/seed-{seed}.json",
    log:
        "results/logs/evaluate/{method}-{seed}.log",
    benchmark:
        "results/benchmarks/evaluate/{method}-{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        **asks(mem_mb=2000, runtime=60),
    params:
        config=RESOLVED,
        data=DATA,
        held_out=HELD_OUT_DATA,
        settings=lambda wildcards: LEARNING.judging_of(wildcards.method),
    message:
        "Judging {wildcards.method}, seed {wildcards.seed}, on every view and test set ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train evaluate --config {params.config} --method {wildcards.method} --seed-index {wildcards.seed} "
        "--encoder {input.encoder} {params.data} {params.held_out} --out {output} > {log} 2>&1"
