"""The typed contract of the `training:` and `evaluation:` sections of config.yaml."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from resim.errors import UserError
from resim.typed import parse, read_yaml
from training.methods import KINDS, NAMED_BY, Kind, KindName, one_a_value

Size = Literal["tiny", "small", "base", "large"]
Loss = Literal["ntxent", "supcon_in", "supcon_out", "vicreg"]
Head = Literal["linear", "mlp", "finetuned"]
Fraction = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _nothing_stands_twice(cls, given: Any) -> Any:
        """Refuse a list that names something twice: no list of the two sections means anything by it."""
        for place, one in enumerate(given if isinstance(given, list) else ()):
            if one in given[:place]:
                raise ValueError(f"{one!r} stands twice; take one away")
        return given


class LoaderConfig(_Section):
    """How objects travel from the parts to the batches."""

    group: int = Field(256, ge=1, description="consecutive objects that are read together")
    shuffle: int = Field(
        8192, ge=2, description="objects read at a time, in whole groups, and shuffled among each other"
    )
    memory_mb: int = Field(
        1024, ge=0, description="keep the objects in memory when they need at most this; 0 always reads the parts"
    )
    workers: int = Field(
        0, ge=0, le=64, description="processes that read and convert; 0: two threads of the training. Same batches"
    )
    buckets: int = Field(
        1,
        ge=1,
        le=64,
        description="pieces of a batch, by length, that go through the network one by one, each with little padding; "
        "same batches, sums in another order",
    )


class PairsConfig(_Section):
    """Which two of `training.views` make a pair; they are drawn anew every epoch, of those that have the object."""

    first: Literal["any", "nominal"] = Field(
        "any", description="any: any two views; nominal: nominal and any other, of the objects that nominal has"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="view -> how often it is drawn as against the others; 1 if not named"
    )
    shared_by: int = Field(
        1, ge=1, description="neighbouring objects that share a pair in an epoch; with more, fewer views need be read"
    )


class Task(_Section):
    """What is learned from labels: which of some classes an object is of, or a number of it."""

    classes: list[str | list[str]] | None = Field(
        None,
        min_length=2,
        description="samples, or lists of samples that are one class; of two, the last is the signal",
    )
    target: str | None = Field(None, description="a column of `objects` or of the nominal view, that is regressed")
    samples: list[str] | None = Field(None, min_length=1, description="of `target`: whose objects; null: all")

    @property
    def members(self) -> list[list[str]]:
        """The samples of each class."""
        return [[one] if isinstance(one, str) else one for one in self.classes or ()]

    @property
    def names(self) -> list[str]:
        """What the classes are called: by their samples."""
        return ["+".join(members) for members in self.members]

    @property
    def named_samples(self) -> list[str]:
        """All samples that are named."""
        return [sample for members in self.members for sample in members] + (self.samples or [])

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Task":
        if (self.classes is None) == (self.target is None):
            raise ValueError("give either `classes` or `target`: [qcd, hbb], or a column such as gen_mass")
        if self.classes is not None and self.samples is not None:
            raise ValueError("`samples` belongs to `target`; `classes` name theirs")
        twice = {name for name in self.named_samples if self.named_samples.count(name) > 1}
        if twice or [] in self.members:
            raise ValueError(f"each class needs samples of its own; twice: {', '.join(sorted(twice)) or 'none'}")
        return self


class VoxelAugmentConfig(_Section):
    """Generic augmentations of a sparse image (arXiv:2502.07724); off, or 0, takes one out of those that are drawn."""

    drawn: int = Field(3, ge=1, le=16, description="how many are drawn, with replacement, and done one after another")
    identity: bool = Field(True, description="nothing at all is one of those that are drawn")
    rotate: Literal["any", "drift", "off"] = Field(
        "any", description="about the charge-weighted centre; any: about any axis; drift: about the drift's, x"
    )
    translate: float = Field(
        25.0, ge=0, le=1000, description="cm; shift of the image along each axis, uniform in +- this"
    )
    drop: float = Field(0.1, ge=0, lt=1, description="probability of a voxel to be left out")
    scale: float = Field(0.25, ge=0, le=1, description="charge times 1 + Gaussian noise of this width, one an image")
    scale_voxels: float = Field(0.25, ge=0, le=1, description="the same, one a voxel")
    shift_voxels: float = Field(0.3, ge=0, le=100, description="cm; Gaussian noise on each coordinate of a voxel")


class AugmentConfig(_Section):
    """Generic augmentations: of a jet in the manner of JetCLR (arXiv:2108.04253), and under `voxels` of an image."""

    rotate: bool = Field(True, description="rotate in eta-phi about the pT-weighted centre, by any angle")
    translate: float = Field(0.2, ge=0, le=2, description="shift of the jet in eta and in phi, uniform in +- this")
    smear: float = Field(0.1, ge=0, le=10, description="GeV; eta and phi get Gaussian noise of width smear / pT")
    splits: int = Field(8, ge=0, le=64, description="at most so many constituents split into two collinear ones")
    voxels: VoxelAugmentConfig = Field(VoxelAugmentConfig(), description="of the lane lartpc, which reads it alone")


class EncoderShape(NamedTuple):
    """How large a transformer is."""

    width: int
    layers: int
    heads: int


SIZES: dict[Size, EncoderShape] = {
    "tiny": EncoderShape(width=32, layers=1, heads=2),
    "small": EncoderShape(width=64, layers=2, heads=4),
    "base": EncoderShape(width=128, layers=8, heads=8),  # as ParT was published (arXiv:2202.03772)
    "large": EncoderShape(width=256, layers=12, heads=16),
}


class StageShape(NamedTuple):
    """How large the stages of a convolutional network are; each but the first has half the resolution."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]


STAGES: dict[Size, StageShape] = {
    "tiny": StageShape((8, 16, 32), (1, 1, 1)),
    "small": StageShape((16, 32, 64), (1, 1, 1)),
    "base": StageShape((48, 96, 192, 384), (2, 2, 6, 2)),  # ConvNeXt V2 Femto (arXiv:2301.00808)
    "large": StageShape((96, 192, 384, 768), (3, 3, 9, 3)),  # ConvNeXt V2 Tiny
}


class EncoderConfig(_Section):
    """The network over constituents."""

    kind: Literal["plain", "part", "rs3l", "convnext", "patches"] = Field(
        "plain",
        description="plain: transformer that takes the mean; of jets also part: transformer that also sees each pair's "
        "kT, momentum sharing, distance and mass, and pools by attention; rs3l: dynamic edge convolutions as "
        "published; of images also convnext: sparse convolutions; patches: plain over cubes of voxels",
    )
    constituents: int = Field(
        32, ge=2, le=4096, description="constituents kept, the hardest or of highest charge; time grows with it"
    )
    size: Size = Field(
        "small",
        description="of all but rs3l: tiny to large; the next three, not of convnext, take its values",
    )
    width: int | None = Field(None, ge=4, le=2048, description="numbers a constituent is embedded in")
    layers: int | None = Field(None, ge=1, le=24, description="transformer blocks")
    heads: int | None = Field(None, ge=1, le=32, description="attention heads; `width` must be a multiple of them")
    outputs: int = Field(8, ge=2, le=2048, description="of rs3l: numbers a jet is described by; published: 8, 128, 512")
    grid: float | None = Field(
        None,
        gt=0,
        le=100,
        description="cm, of convnext and patches: edge of a cell; null: of a voxel of the data. Give one to compare "
        "detectors of different pitch, or where voxels stand on no grid",
    )
    kernel: Literal[3, 5] = Field(3, description="of convnext: voxels along an edge of the convolutions")
    patch: int = Field(8, ge=1, le=256, description="of patches: voxels along an edge of a cube")
    recompute: bool = Field(
        False,
        description="compute activations again in the backward pass: less memory, half as much time again; same result",
    )

    @property
    def shape(self) -> EncoderShape:
        """Give the transformer's width, layers and heads: those that are set, the others by the size."""
        own = EncoderShape(*(getattr(self, name) for name in EncoderShape._fields))
        return EncoderShape(*(by_size if x is None else x for x, by_size in zip(own, SIZES[self.size], strict=True)))

    @property
    def needs_edge(self) -> bool:
        """Tell whether cells are to be as large as the voxels of the data."""
        return self.kind in ("convnext", "patches") and self.grid is None

    @model_validator(mode="after")
    def _shape_is_possible(self) -> "EncoderConfig":
        if self.shape.width % self.shape.heads:
            raise ValueError(f"width {self.shape.width} is not a multiple of heads {self.shape.heads}")
        if self.kind == "rs3l" and (self.width or self.layers or self.heads or self.size != "small"):
            why = "kind rs3l has the layers of its publication; leave size, width, layers and heads out"
            raise ValueError(f"{why}, or for a method take back those of training.encoder: size small, the others null")
        if self.kind == "convnext" and (self.width or self.layers or self.heads):
            why = "kind convnext has the layers of its size; leave width, layers and heads out"
            raise ValueError(f"{why}, or for a method take back those of training.encoder: all null")
        return self


class OptimiserConfig(_Section):
    """Adam with a linear warm-up, and a decay by half a cosine or in steps.

    The published RS3L networks were trained with Adam, rate 0.001 and neither weight decay nor warm-up, halved every 50
    epochs: so the authors' script (github.com/jeffkrupa/deepjet-geometric, examples/cl_v1_train_t0p1_nloss.py) and the
    states of optimiser and schedule in their checkpoint.
    """

    name: Literal["adamw", "adam"] = Field(
        "adamw", description="they differ in the weight decay: decoupled from the gradient, or a part of it"
    )
    learning_rate: float = Field(2e-3, gt=0, le=1, description="peak rate")
    weight_decay: float = Field(0.01, ge=0, le=1, description="adamw: share of the rate; adam: L2 penalty")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    schedule: Literal["cosine", "step"] = Field(
        "cosine", description="after the warm-up; cosine: down to zero at the end; step: times `factor` every `every`"
    )
    factor: float = Field(0.5, gt=0, le=1, description="of the schedule step; published RS3L: 0.5")
    every: int = Field(50, ge=1, description="epochs, of the schedule step; published RS3L: 50")


class TrainerConfig(_Section):
    """On what a training runs and what it leaves; one process trains on one device, and `torchrun` starts more."""

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: a GPU where there is one")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true",
        description="mixed: matrix products in 16 bits, weights and losses in 32; bf16 needs no care, 16 needs a GPU",
    )
    compile: bool = Field(False, description="torch.compile: minutes at the start, then faster steps; needs a compiler")
    logger: list[Literal["csv", "tensorboard", "wandb"]] = Field(
        ["csv"], description="where metrics go, beside the output; wandb must be installed, and logs in by itself"
    )


class VicregConfig(_Section):
    """Weights of the three terms of VICReg (arXiv:2105.04906)."""

    invariance: float = Field(25.0, ge=0, description="weight of the distance between partners")
    variance: float = Field(25.0, ge=0, description="weight of the hinge that keeps every column spread")
    covariance: float = Field(1.0, ge=0, description="weight of the covariances between columns")


class PretrainConfig(_Section):
    """Training on pairs of views."""

    epochs: int = Field(10, ge=1, description="times every train object is seen")
    batch: int = Field(256, ge=2, description="objects a step; each is told from all others of its batch")
    loss: Loss = Field(
        "ntxent",
        description="ntxent; supcon_in and supcon_out, which with alpha above 0 also draw objects of a class together "
        "(the sum over partners inside or outside the logarithm); vicreg",
    )
    alpha: float = Field(
        0.0,
        ge=0,
        le=1,
        description="supcon_in, supcon_out: weight of the same class as against the same object; 0 is ntxent, 1 is "
        "fully supervised; above 0 the labels of all train objects are used",
    )
    temperature: float = Field(
        0.1, gt=0, le=10, description="of all losses but vicreg; smaller looks at nearer neighbours"
    )
    vicreg: VicregConfig = Field(VicregConfig(), description="of the loss vicreg")
    projection: int = Field(
        64,
        ge=0,
        description="width of the space in which the loss compares; dropped afterwards; 0: it compares the encoder's "
        "own outputs, as RS3L does",
    )
    probe: int = Field(
        256,
        ge=0,
        description="validation objects, at most, on which the encoder is watched after each epoch; 0: none",
    )

    @model_validator(mode="after")
    def _alpha_is_for_supcon(self) -> "PretrainConfig":
        if self.alpha and not self.loss.startswith("supcon"):
            raise ValueError(f"alpha {self.alpha} needs loss supcon_in or supcon_out, not {self.loss}")
        return self


class SupervisedConfig(_Section):
    """Training from scratch on the nominal view with labels."""

    steps: int = Field(80, ge=1, description="gradient steps at every label fraction, rounded up to whole epochs")
    batch: int = Field(128, ge=1, description="objects a step, at most")


class DannConfig(_Section):
    """Domain-adversarial training (Ganin et al., arXiv:1505.07818), whose domains are the views."""

    domains: Literal["views", "nominal"] = Field(
        "views",
        description="views: each is one; nominal: it is one and all others together another, as of two detectors",
    )
    weight: float = Field(
        0.3,
        ge=0,
        le=100,
        description="of the reversed gradient at the end, to which it rises from 0 as published; there it is 1, "
        "where the domain classifier falls behind if both learn with Adam",
    )


class MethodConfig(_Section):
    """A method: its kind, and what takes the place of fields of the sections of `training`.

    A list where one value belongs makes a method for each value, named NAME_FIELD_VALUE.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required"))  # the kind may be in the name

    kind: KindName = Field(description="what it sees; the method's name where that is one")
    tasks: list[str] | None = Field(None, min_length=1, description="of training.tasks; null: all. With the main one")
    views: list[str] | None = Field(None, min_length=2, description="in place of training.views")
    pairs: dict[str, Any] = Field({}, description="fields of training.pairs")
    loader: dict[str, Any] = Field({}, description="fields of training.loader")
    augment: dict[str, Any] = Field({}, description="fields of training.augment")
    encoder: dict[str, Any] = Field({}, description="fields of training.encoder")
    optimiser: dict[str, Any] = Field({}, description="fields of training.optimiser")
    pretrain: dict[str, Any] = Field({}, description="fields of training.pretrain")
    supervised: dict[str, Any] = Field({}, description="fields of training.supervised")
    dann: dict[str, Any] = Field({}, description="fields of training.dann")


class TrainingConfig(_Section):
    """All that `resim-train pretrain` and `supervised` are told."""

    seed: int = Field(1, ge=0, description="root of every random number of training and evaluation")
    seeds: int = Field(3, ge=1, le=100, description="trainings of each method that differ in the seed alone")
    threads: int = Field(1, ge=1, description="CPU threads a process; the last bits of the weights depend on it")
    samples: list[str] | None = Field(
        None, min_length=2, description="that encoders are pretrained on; null: all. The others serve tasks alone"
    )
    tasks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Task] = Field(
        {"h_qcd": Task(classes=["qcd", "hbb"])},
        min_length=1,
        description="what is learned from labels, by name; the first is the main one",
    )
    methods: dict[Annotated[str, Field(pattern=rf"^[a-z]{NAMED_BY}*$")], MethodConfig] = Field(
        {name: MethodConfig(kind=name) for name in ("resim", "generic", "both", "supervised")},
        min_length=1,
        description="name -> kind, and what is other than in the sections below; null takes a method away",
    )
    views: list[str] = Field(
        ["nominal", "shower_seed", "fsr_mur_2", "fsr_mur_half", "rehadronized", "redetected"],
        min_length=2,
        description="views that pairs are drawn from; each must have been made for the train split",
    )
    pairs: PairsConfig = Field(PairsConfig(), description="how pairs are drawn from the views")
    loader: LoaderConfig = Field(LoaderConfig(), description="reading and shuffling")
    augment: AugmentConfig = Field(AugmentConfig(), description="the generic augmentations")
    encoder: EncoderConfig = Field(EncoderConfig(), description="the network")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="how it is fitted")
    trainer: TrainerConfig = Field(TrainerConfig(), description="on what it runs")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="contrastive training")
    supervised: SupervisedConfig = Field(SupervisedConfig(), description="training from scratch")
    dann: DannConfig = Field(DannConfig(), description="domain-adversarial training from scratch")

    @field_validator("methods", mode="before")
    @classmethod
    def _one_method_a_value(cls, given: Any) -> Any:
        """Spell methods out: their kinds, and each value of a list."""
        if not isinstance(given, dict):
            return given  # a mistake that is told of next, as is an entry that is no mapping
        methods: dict[str, Any] = {}
        for name, changes in given.items():
            if changes is None:  # so another config file takes a method away
                continue
            for one, other in one_a_value(name, changes) if isinstance(changes, dict) else [(name, changes)]:
                if one in methods:
                    raise ValueError(f"two methods have the name {one!r}; rename one")
                methods[one] = other
        return methods

    @property
    def main_task(self) -> Task:
        """The one whose classes the supervised contrastive losses see."""
        return next(iter(self.tasks.values()))

    @model_validator(mode="after")
    def _methods_do_the_main_task(self) -> "TrainingConfig":
        main, allowed = next(iter(self.tasks)), ", ".join(self.tasks)
        for name, method in self.methods.items():
            for task in method.tasks or ():
                if task not in self.tasks:
                    raise ValueError(f"methods.{name}.tasks: {task!r} is none of training.tasks; allowed: {allowed}")
            if method.tasks and method.tasks[0] != main:
                raise ValueError(f"methods.{name}.tasks: must begin with the main task, {main}")
        return self

    @model_validator(mode="after")
    def _pairs_are_of_views(self) -> "TrainingConfig":
        allowed = ", ".join(self.views)
        for view in self.pairs.weights:
            if view not in self.views:
                raise ValueError(f"pairs.weights: {view!r} is not among training.views; allowed: {allowed}")
        if self.pairs.first == "nominal" and "nominal" not in self.views:
            raise ValueError(f"pairs.first is nominal, which is not among training.views ({allowed}); add it there")
        return self

    def of(self, method: str, where: str = "config") -> "TrainingConfig":
        """Give what a method is told: the sections with its changes, and itself as the only one of `methods`.

        `where` says where the config was read from.

        Raises
        ------
        UserError
            If there is no such method, or what its changes make of a section is not allowed.
        """
        if method not in self.methods:
            raise UserError(f"{method!r} is none of training.methods; allowed: {', '.join(self.methods)}")
        changes = self.methods[method].model_dump(exclude_defaults=True)
        told = self.model_dump() | {"methods": {method: {"kind": changes.pop("kind")}}}
        told["tasks"] = {name: told["tasks"][name] for name in changes.pop("tasks", self.tasks)}
        told |= {name: _changed(getattr(self, name), new) for name, new in changes.items()}
        return parse(TrainingConfig, told, where, f"training.methods.{method}")

    def kind(self, method: str) -> Kind:
        """Give what a method sees."""
        return KINDS[self.methods[method].kind]

    def views_of(self, method: str) -> tuple[str, ...]:
        """Name the views that a method sees."""
        return self.kind(method).seen(self.methods[method].views or self.views)

    def settings_of(self, method: str) -> dict[str, Any]:
        """Give all that changes the weights of a method, and nothing that changes others alone, as plain values."""
        without = self.kind(method).unread | {"seeds", "methods"}
        same_numbers: dict[str, Any] = {"trainer": {"logger"}, "loader": {"workers", "memory_mb"}}
        told = self.of(method)
        found: dict[str, Any] = told.model_dump(mode="json", exclude=dict.fromkeys(without, True) | same_numbers)
        found["kind"] = self.methods[method].kind
        if "tasks" in without and told.pretrain.alpha:
            found["classes"] = self.main_task.classes
        return found

    @property
    def trained_on(self) -> list[str]:
        """The views that any method may see."""
        return list(dict.fromkeys([*self.views, *(v for m in self.methods.values() for v in m.views or ())]))


def _changed(section: Any, new: Any) -> Any:
    """Put what is new in the place of fields of a section, and of the sections in it, as plain values."""
    if not (isinstance(section, BaseModel) and isinstance(new, dict)):
        return new
    inner = {name: _changed(getattr(section, name, None), value) for name, value in new.items()}
    return section.model_dump() | inner


class EvaluationConfig(_Section):
    """All that `resim-train evaluate` and `compare` are told."""

    label_fractions: list[Fraction] = Field(
        [0.01, 0.1, 1.0], min_length=1, description="shares of the train labels; a larger one contains the smaller"
    )
    heads: list[Head] = Field(
        ["linear"],
        min_length=1,
        description="what is fitted on encoders; methods are compared by the first",
    )
    probe_c: float = Field(0.1, gt=0, description="inverse strength of the L2 penalty of the linear probe")
    bootstrap: int = Field(200, ge=20, le=10000, description="resamplings of the test events for the intervals")
    pt_auc: tuple[float, float] = Field(
        (0.45, 0.55),
        description="where the AUC of jet pT alone must lie for the classes to be fairly matched",
    )
    test_sets: dict[str, Annotated[dict[str, str], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="name -> {sample: the sample of role evaluation that stands in for it}; judged beside the views",
    )

    @field_validator("pt_auc")
    @classmethod
    def _limits_rise(cls, given: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= given[0] < given[1] <= 1:
            raise ValueError(f"must be two rising numbers from 0 to 1, such as [0.45, 0.55], not {list(given)}")
        return given

    @property
    def held_out(self) -> set[str]:
        """The samples that stand in for others in some test set."""
        return {sample for stand_ins in self.test_sets.values() for sample in stand_ins.values()}


class Config(_Section):
    """The two sections that this package reads; the others are the simulation's."""

    training: TrainingConfig = Field(TrainingConfig(), description="see TrainingConfig")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="see EvaluationConfig")

    def of(self, method: str) -> "Config":
        """Give what a method is told; see `TrainingConfig.of`."""
        return self.model_copy(update={"training": self.training.of(method)})

    def judging_of(self, method: str) -> dict[str, Any]:
        """Give all that changes how a trained method is judged, as plain values."""
        read = {"tasks", "supervised"} if "finetuned" in self.evaluation.heads else {"tasks"}
        return self.evaluation.model_dump(mode="json") | self.training.of(method).model_dump(mode="json", include=read)


def load(path: Path) -> Config:
    """Read and check the `training:` and `evaluation:` sections of a config file; what is missing takes its default.

    Raises
    ------
    UserError
        If the file cannot be read, is no YAML mapping, or a value is not allowed; names file, key and allowed values.
    """
    return parse_sections(read_yaml(path), str(path))


def parse_sections(content: dict[str, Any], where: str) -> Config:
    """Check the two sections of a config's content that was read from `where`."""
    config = parse(Config, {name: content.get(name) or {} for name in Config.model_fields}, where)
    samples = {"samples": config.training.samples or []}
    samples |= {f"tasks.{name}": task.named_samples for name, task in config.training.tasks.items()}
    views = {f"methods.{name}.views": config.training.of(name, where).views for name in config.training.methods}
    _refuse_held_out(content, "views", {"views": config.training.views} | views, where)
    _refuse_held_out(content, "samples", samples, where)
    if content.get("samples"):
        if content.get("training") is not None:
            _check_samples(content, samples, where)
        _check_test_sets(content, config.evaluation, where)
    return config


def _refuse_held_out(content: dict[str, Any], section: str, named: dict[str, list[str]], where: str) -> None:
    """Refuse to train on what has role evaluation."""
    for key, names in named.items():
        for name in names:
            if _role(content, section, name) == "evaluation":
                why = f"{name!r} has role evaluation: it is held out from all training"
                raise UserError(f"{where}: training.{key}: {why}; take it out, or change its role in `{section}`")


def _check_samples(content: dict[str, Any], named: dict[str, list[str]], where: str) -> None:
    """Refuse samples that there are none of."""
    learned = [name for name in content["samples"] if _role(content, "samples", name) != "evaluation"]
    for key, names in named.items():
        for name in names:
            if name not in learned:
                allowed = ", ".join(learned)
                raise UserError(f"{where}: training.{key}: {name!r} is no sample to train on; allowed: {allowed}")


def _check_test_sets(content: dict[str, Any], evaluation: EvaluationConfig, where: str) -> None:
    """Refuse test sets of samples that are trained on, and held-out samples that nothing is judged on."""
    roles = {name: _role(content, "samples", name) for name in content["samples"]}
    held_out = [name for name, role in roles.items() if role == "evaluation"]
    learned = [name for name in roles if name not in held_out]
    for name, stand_ins in evaluation.test_sets.items():
        place = f"{where}: evaluation.test_sets.{name}"
        if name in (content.get("views") or {}):
            raise UserError(f"{place}: a view has this name; rename one of the two")
        for sample, stand_in in stand_ins.items():
            if sample not in learned:
                raise UserError(f"{place}: {sample!r} is no sample that is trained on; allowed: {', '.join(learned)}")
            if stand_in not in held_out:
                why = f"{sample}: {stand_in!r} is no sample with role evaluation"
                raise UserError(f"{place}.{why}; allowed: {', '.join(held_out) or 'none yet'}")
    idle = [name for name in held_out if name not in evaluation.held_out]
    if idle:
        why = f"samples.{idle[0]}: has role evaluation and is in no test set"
        example = f"{{NAME: {{SAMPLE: {idle[0]}}}}}"
        raise UserError(f"{where}: {why}; say under evaluation.test_sets what it stands in for: {example}")


def _role(content: dict[str, Any], section: str, name: str) -> Any:
    """Look up the role of a view, one of its replicas, or a sample in the part that the simulation reads."""
    known = content.get(section) or {}
    found = known.get(name, known.get(name.rpartition("_")[0]))  # replicas are named NAME_1, NAME_2 ...
    return found.get("role") if isinstance(found, dict) else None
