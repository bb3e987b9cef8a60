"""A recipe: all settings that decide the numbers of one training run.

A `Recipe` is one flat frozen value that is checked when it is made. A hash of the recipe and of the fingerprints of
data and pretrained weights is the identity of the run: the same identity means the same numbers.

Begin at `Recipe`; `trial_id` is the identity.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray.errors import RecipeError
from ferray.versions import TIMM, altering_libraries, building_library
from ferray.wording import did_you_mean

NUMBERS_VERSION = 2
"""Increased by every change of ferray's code that changes the numbers of a training run; part of every identity."""

NO_WEIGHTS = "none, zero-mean filters"
"""The fingerprint where there are no pretrained weights; it changes if random weights are drawn in another way."""

BackboneName = Literal[
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "resnet18",
    "resnet50",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
]
TimmName = Annotated[str, Field(pattern=r"^timm/[a-z0-9_]+$")]
Freeze = Literal["none", "blocks1-3", "blocks1-4", "trunk"]
Policy = Literal["none", "light", "standard", "strong"]
ClassBalance = Literal[
    "none",
    "inverse_weights",
    "sqrt_inverse_weights",
    "effective_number_weights",
    "balanced_sampling",
    "logit_adjustment",
]
MetricName = Literal["val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss"]


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False),
)
class Recipe:
    """All settings that decide the numbers of one training run, and no others."""

    backbone: BackboneName | TimmName = "vgg16"
    """Architecture of the trunk; `timm/` and a name for one of timm's models, which the extra `timm` installs."""

    weights: Literal["pretrained", "none"] = "pretrained"
    """Initial weights of the trunk; `--weights` says which pretrained ones, whose hash is a part of the identity."""

    image_size: Annotated[int, Field(ge=32, le=512)] | None = None
    """Side of the square picture in pixels; None for the size of the store."""

    freeze: Freeze = "trunk"
    """The part of the trunk that keeps its weights, of the five blocks into which each is cut; `trunk` is all of it."""

    head_pooling: Literal["average", "flatten"] = "flatten"
    """How the trunk's output, shape (512, height, width), becomes a vector."""

    feature_scaling: Literal["none", "standardize"] = "none"
    """What the head does with the trunk's output first; `standardize` subtracts each channel's mean and divides by its
    standard deviation, both over the training pictures of the first epoch and the trunk before the first step."""

    hidden_units: Annotated[int, Field(ge=1, le=8192)] | None = 256
    """Units of the head's hidden layer; None for a linear head."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of the units before the output layer that a step drops."""

    augmentation: Policy = "none"
    """Policy that alters the training pictures, in every epoch in another way."""

    augmentation_strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Scale of the policy's ranges; 1 is the policy as defined, 0 leaves the pictures unchanged."""

    augmentation_views: Annotated[int, Field(ge=1)] | None = None
    """Altered copies of each picture that the epochs use in turn; None for a new one in every epoch."""

    random_erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of a rectangle of noise over a training picture, after the policy and independent of its strength."""

    mixup_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Alpha of mixup, which mixes pairs of pictures, or of their frozen features, by Beta(alpha, alpha); 0 for none."""

    targets: Literal["labels", "votes"] = "labels"
    """What a training picture should be taken for: its label, or its annotators' votes as a distribution over the
    classes, where the store has votes; scores always count labels."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over all classes."""

    class_balance: ClassBalance = "none"
    """How training compensates for classes of unequal size; only one way at a time, since two would do it twice."""

    effective_number_beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Beta of `effective_number_weights`: 0 gives all classes the same weight, near 1 the inverse of their size."""

    logit_adjustment_tau: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Factor of the classes' log shares that `logit_adjustment` adds to the training logits."""

    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Exponent of the focal loss, in which confidently predicted faces count less; 0 for plain cross-entropy."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Algorithm that updates the weights."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Peak learning rate of the head."""

    trunk_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate of the trunk's free layers as a fraction of the head's."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd; the other optimizers ignore it."""

    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the learning rate after the warm-up."""

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs in which the learning rate rises linearly to `learning_rate`; fractions are allowed."""

    step_epochs: Annotated[int, Field(ge=1)] = 5
    """Epochs between two decreases of the step schedule."""

    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of the learning rate at each decrease of the step schedule."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Faces per optimizer step, all ranks together."""

    epochs: Annotated[int, Field(ge=1, le=10000)] = 10
    """Largest number of passes over the training split."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better `monitor` after which the run ends; None to run all epochs."""

    monitor: MetricName = "val_accuracy"
    """Validation metric by which the best epoch is chosen; a search sets it to the metric of its space."""

    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of a step's gradient; None for no limit."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the trunk; `auto` is replaced by the faster one, measured before the first trial."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the head's initial weights, the order of faces, dropout, mixup and augmentation."""

    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Parts into which the training and validation splits together are divided; None to use the splits as they are."""

    fold: Annotated[int, Field(ge=0, lt=100)] | None = None
    """The fold to validate with, counted from 0; the others are trained on. All seeds have the same folds."""

    shuffle_labels: bool = False
    """Whether the labels of the training faces are permuted, to check that scores then fall to chance."""

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}, but the run has only {self.epochs} epochs")
        if self.weights == "none" and self.freeze in ("blocks1-3", "blocks1-4"):
            raise ValueError(
                f"freeze is {self.freeze!r}, but weights is 'none': there is nothing to keep; use pretrained ones"
            )
        if (self.folds is None) != (self.fold is None):
            raise ValueError(f"folds is {self.folds} and fold is {self.fold}: a fold needs both")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold}, but there are only {self.folds} folds, counted from 0")

    @property
    def alters_pictures(self) -> bool:
        """Whether training pictures differ from those of the store."""
        return (self.augmentation != "none" and self.augmentation_strength > 0) or self.random_erasing > 0

    def view_epoch(self, epoch: int) -> int:
        """The epoch, counted from 1, whose altered pictures an epoch trains on: its own, or those of an earlier one."""
        return epoch if self.augmentation_views is None else (epoch - 1) % self.augmentation_views + 1

    @property
    def maximize(self) -> bool:
        """Whether a larger `monitor` is better."""
        return is_maximized(self.monitor)

    def cost(self, score: float) -> float:
        """A value of `monitor` as something to minimize: a loss as it is, an accuracy negated."""
        return -score if self.maximize else score


FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Recipe))
METRICS: tuple[str, ...] = get_args(MetricName)


def is_maximized(metric: MetricName) -> bool:
    """Whether a larger value of a metric is better."""
    return metric != "val_loss"


NEUTRAL_BY_DEFAULT = frozenset(
    {
        "feature_scaling",
        "random_erasing",
        "mixup_alpha",
        "targets",
        "class_balance",
        "effective_number_beta",
        "logit_adjustment_tau",
        "focal_gamma",
        "folds",
        "fold",
        "shuffle_labels",
    }
)
"""Settings whose default has no effect, so that a recipe keeps the numbers and the identity that it had without them.

A new setting of this kind is added here; then no identity changes, and records stay valid. Its default must never
change, or an identity would have other numbers.
"""
_ADAPTER = TypeAdapter(Recipe)


def make_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """A checked recipe from plain values; fields that are not given take their defaults.

    Args:
        values: Field names and JSON scalars.
        where: File and line or option, for the error.

    Raises:
        RecipeError: An unknown field (the nearest known name is offered) or a value out of bounds.
    """
    checked = {name: check_value(name, value, where=where) for name, value in values.items()}
    try:
        return _ADAPTER.validate_python(checked)
    except ValidationError as error:
        raise RecipeError(where, _fault(error), "Change one of the two") from error  # a rule between fields


def check_value(name: str, value: Any, *, where: str) -> Any:
    """One field's value as a recipe holds it; rules between fields are not checked.

    Args:
        name: The field's name.
        value: A JSON scalar; a whole number is accepted for a fraction (1 for 1.0), and the reverse.
        where: File and line or option, for the error.

    Raises:
        RecipeError: An unknown field (the nearest known name is offered) or a value out of bounds.
    """
    check_field_name(name, where=where)
    if isinstance(value, float) and value.is_integer() and is_integer_field(name):
        value = int(value)
    try:
        return _field(name).validate_python(value, strict=True)  # strict: True is no 1, and "5" is no 5
    except ValidationError as error:
        raise RecipeError(where, f"{name} {value!r}: {_fault(error)}", f"Change {name}; {_bounds(name)}") from error


def is_integer_field(name: str) -> bool:
    """Whether a field holds whole numbers."""
    return any(choice.get("type") == "integer" for choice in _choices(name))


def check_field_name(name: str, *, where: str) -> None:
    """Refuse a name that is not a field of `Recipe`, and offer the nearest.

    Raises:
        RecipeError: The name is unknown.
    """
    if name in FIELD_NAMES:
        return
    way_out = f"{did_you_mean(name, FIELD_NAMES)}Known: {', '.join(FIELD_NAMES)}"
    raise RecipeError(where, f"unknown setting {name!r}", way_out)


def read_recipe(text: str, *, where: str) -> Recipe:
    """The recipe of a JSON text that `to_json` wrote.

    Raises:
        RecipeError: The text is not JSON, not an object, or not a recipe.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(where, f"not JSON: {error}", "Write the recipe as one JSON object") from error
    if not isinstance(values, dict):
        raise RecipeError(where, f"a JSON {type(values).__name__}, not an object", "Write one JSON object")
    return make_recipe(values, where=where)


def to_values(recipe: Recipe) -> dict[str, Any]:
    """All fields as JSON scalars, in the order of the class."""
    return {name: getattr(recipe, name) for name in FIELD_NAMES}


def to_json(recipe: Recipe) -> str:
    """Canonical JSON, of which an identity is the hash: sorted keys, no spaces, no neutral settings at their default.

    So a recipe that does not use a setting has the same text in a version of ferray that does not know the setting.
    """
    values = {
        name: value
        for name, value in to_values(recipe).items()
        if name not in NEUTRAL_BY_DEFAULT or value != getattr(Recipe, name)
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def trial_id(recipe: Recipe, *, data_fingerprint: str, weights_fingerprint: str, groups_fingerprint: str = "") -> str:
    """Identity of a training run: 12 hexadecimal digits; runs with the same identity have the same numbers.

    It stays the same in later versions: a setting of `NEUTRAL_BY_DEFAULT` counts only if it is not at its default,
    `altering_libraries` only if the recipe alters pictures, and `building_library` only for timm's backbones.

    Args:
        recipe: With `precision` and `image_size` settled, or equal ids would not mean equal numbers.
        data_fingerprint: The store's fingerprint.
        weights_fingerprint: The fingerprint of the pretrained weights; ignored where the recipe starts from none.
        groups_fingerprint: Of the store's groups, which folds are made of; ignored without; empty in older records.

    Raises:
        ValueError: `precision` is still `auto` or `image_size` still None.
    """
    if recipe.precision == "auto" or recipe.image_size is None:
        raise ValueError("settle precision and image_size before asking for an identity")
    weights = weights_fingerprint if recipe.weights == "pretrained" else NO_WEIGHTS
    parts = [str(NUMBERS_VERSION), to_json(recipe), data_fingerprint, weights]
    if recipe.alters_pictures:
        parts.append(altering_libraries())
    if builder := building_library(recipe.backbone):
        parts.append(builder)
    if recipe.folds is not None and groups_fingerprint:
        parts.append(groups_fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@functools.cache
def _field(name: str) -> TypeAdapter[Any]:
    """The validator of one field with its bounds, without the rules between fields."""
    return TypeAdapter(get_type_hints(Recipe, include_extras=True)[name], config=ConfigDict(allow_inf_nan=False))


@functools.cache
def _choices(name: str) -> tuple[dict[str, Any], ...]:
    """The values that a field accepts, as JSON schemas of which one must match."""
    schema = _ADAPTER.json_schema()["properties"][name]
    return tuple(schema.get("anyOf", [schema]))


def _fault(error: ValidationError) -> str:
    """The message of the first error that pydantic found."""
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


def _bounds(field: str) -> str:
    """The values that a field accepts, in words."""
    words = []
    for choice in _choices(field):
        if "enum" in choice:
            words.append("one of " + ", ".join(choice["enum"]))
        elif choice.get("type") == "null":
            words.append("null")
        elif "pattern" in choice:
            words.append(f"{TIMM}NAME")
        else:
            limits = [
                f"{sign} {choice[key]:.12g}"
                for key, sign in (
                    ("minimum", ">="),
                    ("exclusiveMinimum", ">"),
                    ("maximum", "<="),
                    ("exclusiveMaximum", "<"),
                )
                if key in choice
            ]
            words.append(" ".join([choice.get("type", "value"), " and ".join(limits)]).strip())
    return "allowed: " + " or ".join(words)
