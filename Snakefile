# Decides what is to be run when; how is up to `resim` and `resim-train`.
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/simulate.smk"


if CONFIG.engines:

    include: "workflow/rules/engines.smk"


include: "workflow/rules/train.smk"
include: "workflow/rules/compare.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        "results/comparison.json",
        expand("results/plots/object-{sample}.png", sample=SAMPLES),
        expand("results/plots/embedding-{method}.png", method=ENCODERS),
        # Asked for by themselves, for Snakemake lets a missing file be when what was made from it is there.
        STAMPS,


rule views:
    input:
        expand("results/data/{sample}/manifest.json", sample=SAMPLES),
        STAMPS,
