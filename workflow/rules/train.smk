# resim-train keeps its threads to training.threads: torch would otherwise take all cores in every job.
rule pretrain:
    input:
        MANIFESTS,
    output:
        "results/training/{method}/seed-{seed}.pt",
    log:
        "results/logs/pretrain/{method}-{seed}.log",
    benchmark:
        "results/benchmarks/pretrain/{method}-{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=120,
    params:
        config=RESOLVED,
        data=DATA,
        settings=TRAINING.model_dump(mode="json", exclude={"methods", "seeds", "supervised"}),
    message:
        "Training an encoder on {wildcards.method} pairs, seed {wildcards.seed} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train pretrain --config {params.config} --method {wildcards.method} --seed-index {wildcards.seed} "
        "{params.data} --out {output} > {log} 2>&1"


rule evaluate:
    input:
        data=MANIFESTS,
        encoder=rules.pretrain.output,
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
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        config=RESOLVED,
        data=DATA,
        settings=EVALUATION.model_dump(mode="json"),
    message:
        "Probing the encoder trained on {wildcards.method} pairs, seed {wildcards.seed}, on every view ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train evaluate --config {params.config} --method {wildcards.method} --seed-index {wildcards.seed} "
        "--encoder {input.encoder} {params.data} --out {output} > {log} 2>&1"


rule supervised:
    input:
        MANIFESTS,
    output:
        "results/evaluation/supervised/seed-{seed}.json",
    log:
        "results/logs/supervised/{seed}.log",
    benchmark:
        "results/benchmarks/supervised/{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: TRAINING.threads
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=120,
    params:
        config=RESOLVED,
        data=DATA,
        settings=TRAINING.model_dump(mode="json", exclude={"methods", "seeds", "pretrain", "augment"}),
        evaluation=EVALUATION.model_dump(mode="json"),
    message:
        "Training from scratch with labels, seed {wildcards.seed} ({threads} thread, {resources.mem_mb} MB, {resources.runtime} min)"
    shell:
        "resim-train supervised --config {params.config} --seed-index {wildcards.seed} {params.data} "
        "--out {output} > {log} 2>&1"


# A method named `supervised` has no encoder to pretrain.
ruleorder: supervised > evaluate
