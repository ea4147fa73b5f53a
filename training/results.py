"""The result files: one evaluation a training, one comparison of all. docs/comparison.md tells the same in prose."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Weighting = Literal["flat", "physical"]
OWN_HEAD = "own"  # of a network that classifies itself


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Provenance(_Result):
    """What a result was made from."""

    training_digest: str = Field(
        description="SHA-256 of what the resolved `training` section tells the method, or each of all methods"
    )
    evaluation_digest: str = Field(description="SHA-256 of the resolved `evaluation` section and the tasks")
    seed: int = Field(description="training.seed")
    data: dict[str, str] = Field(description="sample -> content digest of its data set")
    held_out: dict[str, str] = Field(description="the same of the samples of test sets; empty for an encoder")
    software: dict[str, str] = Field(description="package -> version")


class Replicated(_Result):
    """A figure and its values in the bootstrap resamplings of the test events."""

    value: float
    replicates: list[float]


class _Figures(_Result):
    """Where some figures belong."""

    task: str
    head: str = Field(description="what was fitted on the encoder; own: the network classifies itself")
    label_fraction: float
    n_labels: int = Field(description="labels used")
    view: str = Field(description="a view, or a test set of held-out samples")
    weighting: Weighting
    objects: dict[str, int] = Field(description="class -> objects judged; `all` of a regression")
    effective_background: float | None = Field(
        description="(sum of weights)^2 / sum of squares: the most a rejection can be; null but for two classes"
    )


class ViewFigures(_Figures):
    """The figures of one training on one view or test set."""

    figures: dict[str, Replicated]


class RocCurve(_Result):
    """Background over signal efficiency on one view or test set: main task, first head, most labels, flat weights."""

    view: str
    signal_efficiency: list[float]
    background_efficiency: list[float]


class Cosine(_Result):
    """Mean cosine similarity of encoder outputs: the same object in nominal and this view; different objects."""

    positive: float
    random: float


class EvaluationResult(_Result):
    """What `resim-train evaluate` and `supervised` write."""

    format: Literal["resim-evaluation"] = "resim-evaluation"
    version: Literal[6] = 6
    method: str
    seed_index: int
    provenance: Provenance
    cost: dict[str, float] = Field(description="of the training: CPU and wall seconds, MiB")
    heads_cpu_s: dict[str, float] = Field(
        description="head -> CPU seconds of its fit, and of embedding the train split where it needs that: main task, "
        "most labels; empty where the network classifies itself"
    )
    pretraining_labels: int = Field(description="train objects whose classes the loss of the pretraining was told")
    loss: list[float] = Field(description="mean training loss of each epoch")
    validation_loss: list[float] = Field(description="loss on the validation split after each epoch; empty without one")
    probe: dict[str, list[float]] = Field(
        description="figure -> of the encoder's outputs on validation objects after each epoch; empty without a watch, "
        "and where that was of another main task"
    )
    rows: list[ViewFigures]
    roc: list[RocCurve] = Field(description="empty where the main task has not two classes")
    cosine: dict[str, Cosine]


class Estimate(_Result):
    """A figure over training seeds."""

    mean: float
    spread: float | None = Field(description="standard deviation over training seeds; null for a single seed")
    low: float = Field(description="lower end of the 95 % interval of the mean")
    high: float = Field(description="upper end")
    seeds: list[float] = Field(description="value of each training seed, by rising seed index")


class OverSeeds(_Result):
    """A number of each training seed."""

    mean: float
    spread: float | None = Field(description="standard deviation over training seeds; null for a single seed")
    seeds: list[float] = Field(description="by rising seed index")


class CosineOverSeeds(_Result):
    """Cosine similarities of encoder outputs: the same object in nominal and this view; different objects."""

    positive: OverSeeds
    random: OverSeeds


class PtAuc(_Result):
    """The AUC of jet pT alone on nominal, all splits, flat weights."""

    value: float
    low: float
    high: float
    allowed: tuple[float, float]
    within: bool = Field(description="whether `value` lies in `allowed`")


class ViewPrice(_Result):
    """What one view added to the simulation of all samples; what it shares with nominal is under nominal.

    Times are null, and `stages` empty, where a data set came without records of its simulation.
    """

    cpu_s: float | None
    wall_s: float | None
    bytes_written: int
    events: int = Field(description="that the stages of the view saw; fewer where it was made for some splits")
    objects: int = Field(description="that exist in the view")
    cpu_ms_per_event: float | None
    relative_to_nominal: float | None = Field(description="CPU time an event over that of nominal")
    stages: dict[str, float] = Field(description="stage -> CPU ms an event")
    trained_on: bool


class StandIn(_Result):
    """A held-out sample that takes the place of another in a test set."""

    stand_in: str = Field(description="the held-out sample")
    objects: int


class Price(_Result):
    """What one training of a method costs, CPU seconds; views are charged for the train split's share of objects."""

    views_cpu_s: float | None = Field(description="null where a view's price is not known, and so is the total")
    views_bytes: float
    augment_cpu_s: float
    training_cpu_s: float = Field(description="reading, network, optimiser and validation, without augmentation")
    head_cpu_s: float = Field(description="of the first of `heads_cpu_s`; 0 where the network classifies itself")
    heads_cpu_s: dict[str, float] = Field(
        description="head -> its fit, and embedding the train split where it needs that; only the first is in the total"
    )
    total_cpu_s: float | None
    augment_ms_per_jet: float | None = Field(description="null where nothing is augmented")


class Benefit(_Figures):
    """The figures of a method on one view or test set."""

    method: str
    figures: dict[str, Estimate]


class MethodSummary(_Result):
    """A method's price, its similarities and how its training went."""

    price: Price
    pretraining_labels: int = Field(description="train objects whose classes the loss of the pretraining was told")
    cosine: dict[str, CosineOverSeeds] = Field(description="view -> similarities")
    seed_indices: list[int]
    loss: list[list[float]] = Field(description="seed -> mean training loss of each epoch")
    validation_loss: list[list[float]] = Field(description="seed -> loss on the validation split after each epoch")
    probe: list[dict[str, list[float]]] = Field(description="seed -> figure -> after each epoch, see training.watch")


class Separation(_Result):
    """The difference of two methods, each by its first head, in one figure; paired by seed and by test event."""

    task: str
    figure: str
    label_fraction: float
    view: str
    first: str
    second: str
    difference: float = Field(description="first minus second; of rejections the logarithm of first over second")
    low: float
    high: float
    separated: bool = Field(description="the 95 % interval leaves out 0")


class Comparison(_Result):
    """What `resim-train compare` writes."""

    format: Literal["resim-comparison"] = "resim-comparison"
    version: Literal[8] = 8
    provenance: Provenance
    tasks: dict[str, list[str]] = Field(description="task, the main one first -> its classes; none of a regression")
    samples: dict[str, dict[str, int]] = Field(description="sample -> split -> objects")
    pt_auc: dict[str, PtAuc] = Field(description="task of two classes ->")
    views: dict[str, ViewPrice]
    shifts: dict[str, dict[str, float]] = Field(
        description="setting that several views change, and nothing else -> view -> its value there; see docs"
    )
    throws: dict[str, dict[str, float]] = Field(
        description="view -> setting -> how far from nominal, where 1 and -1 are the ends of the range that views draw "
        "it from event by event; of nominal, and views that change such settings alone; empty where none is drawn"
    )
    chance: list[str] = Field(
        description="views that draw anew from a cut on and change nothing: they differ from nominal by chance alone"
    )
    test_sets: dict[str, dict[str, StandIn]] = Field(description="set -> sample -> what stands in for it")
    methods: dict[str, MethodSummary]
    benefits: list[Benefit]
    separations: list[Separation]
    flags: list[str] = Field(description="what forbids to trust a number; empty if nothing does")
    reading: list[str] = Field(description="what the numbers say, and what they cannot tell, derived from them")
