"""A recipe: everything that decides the numbers of one training run.

A `Recipe` is one flat frozen value, checked where it is made. Together with the fingerprints of the data and of the
pretrained weights it has an identity, a hash: same identity, same numbers.

Begin at `Recipe`; `trial_id` is its identity.
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
from ferray.wording import did_you_mean

NUMBERS_VERSION = 1
"""Raised by every change of ferray's code that changes the numbers of a training run; part of every identity."""

NO_WEIGHTS = "none, zero-mean filters"
"""Stands for the fingerprint where there are no pretrained weights; changes with the way random ones are drawn."""

Backbone = Literal["vgg16", "vgg16_bn"]
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
Metric = Literal["val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss"]


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False),
)
class Recipe:
    """Everything that decides the numbers of one training run, and nothing else."""

    backbone: Backbone = "vgg16"
    """Architecture of the convolutional trunk."""

    weights: Literal["pretrained", "none"] = "pretrained"
    """What the trunk starts from; which pretrained weights is the command's `--weights`, hashed into the identity."""

    image_size: Annotated[int, Field(ge=32, le=512)] | None = None
    """Side of the square picture in pixels; None for the store's own."""

    freeze: Freeze = "trunk"
    """The part of the trunk that keeps its weights; `trunk` is all of its convolutions."""

    head_pooling: Literal["average", "flatten"] = "flatten"
    """How the trunk's output, shape (512, height, width), becomes a vector."""

    hidden_units: Annotated[int, Field(ge=1, le=8192)] | None = 256
    """Units of the head's hidden layer; None for a linear head."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of the units before the output layer that a step leaves out."""

    augmentation: Policy = "none"
    """Policy that alters the training pictures, anew in every epoch."""

    augmentation_strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Scale of the policy's ranges; 1 is the policy as named, 0 leaves the pictures alone."""

    augmentation_views: Annotated[int, Field(ge=1)] | None = None
    """Altered copies of each picture that the epochs use in turn; None for a new one in every epoch."""

    random_erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How often a training picture has a rectangle of noise put over it, after the policy; whatever the strength."""

    mixup_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Mixes faces in pairs, by shares from Beta(alpha, alpha): pictures, or what frozen layers make of them; 0: not."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over all classes."""

    class_balance: ClassBalance = "none"
    """How training makes up for classes of unequal size: one way at a time, since each alone already does it."""

    effective_number_beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Beta of effective-number weights; 0 weighs all classes alike, near 1 by their inverse size. Else ignored."""

    logit_adjustment_tau: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How much of the classes' log shares logit adjustment adds to the training logits. Else ignored."""

    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Exponent of the focal loss, which counts a face less the surer its label is predicted; 0 for none."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Rule that turns gradients into steps."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Peak learning rate of the head."""

    trunk_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate of the trunk's free layers as a fraction of the head's."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd; the others ignore it."""

    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the learning rate after the warm-up."""

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs of linear rise to `learning_rate`; fractions are allowed."""

    step_epochs: Annotated[int, Field(ge=1)] = 5
    """Epochs between two falls of the step schedule."""

    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the step schedule multiplies the learning rate by."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Faces per optimizer step, all ranks together."""

    epochs: Annotated[int, Field(ge=1, le=10000)] = 10
    """Passes over the training split, at most."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better `monitor` after which the run ends; None to run all epochs."""

    monitor: Metric = "val_accuracy"
    """Validation metric that names the best epoch; a search sets it from its space."""

    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of a step's gradient; None for no limit."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the trunk; `auto` is settled by a measurement before the first trial and recorded."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the head's first weights, the order of faces, dropout, mixup and augmentation."""

    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Parts into which the training and validation splits together are cut; None to use the splits as they are."""

    fold: Annotated[int, Field(ge=0, lt=100)] | None = None
    """Which of the `folds` is validated with, from 0; the others are trained on. The cut is the same for all seeds."""

    shuffle_labels: bool = False
    """Whether training faces get each other's labels, at random: a check that scores then fall to chance."""

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
        """Whether training sees other pictures than the store's."""
        return (self.augmentation != "none" and self.augmentation_strength > 0) or self.random_erasing > 0

    def view_epoch(self, epoch: int) -> int:
        """The epoch, counted from 1, whose altered pictures an epoch trains on: its own, or an earlier one's again."""
        return epoch if self.augmentation_views is None else (epoch - 1) % self.augmentation_views + 1

    @property
    def maximize(self) -> bool:
        """Whether a larger `monitor` is better."""
        return is_maximized(self.monitor)

    def cost(self, score: float) -> float:
        """A value of `monitor` as something to minimize: a loss as it is, an accuracy negated."""
        return -score if self.maximize else score


FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Recipe))
METRICS: tuple[str, ...] = get_args(Metric)


def is_maximized(metric: Metric) -> bool:
    """Whether a larger value of a metric is better."""
    return metric != "val_loss"


NEUTRAL_BY_DEFAULT = frozenset(
    {
        "random_erasing",
        "mixup_alpha",
        "class_balance",
        "effective_number_beta",
        "logit_adjustment_tau",
        "focal_gamma",
        "folds",
        "fold",
        "shuffle_labels",
    }
)
"""Settings whose default does nothing, so that a recipe has the numbers, and the identity, that it had without them.

A setting that is added goes here where that holds; then no identity changes, and what is on record stays valid. Its
default must never change: that would give an identity other numbers.
"""
_ADAPTER = TypeAdapter(Recipe)


def make_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """A checked recipe from plain values; fields not named take their defaults.

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
    """One field's value as a recipe holds it; the rules between fields are not looked at.

    Args:
        name: Of the field.
        value: A JSON scalar; a whole number may stand for a fraction (1 for 1.0) and the other way round.
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
    """Refuse a name that is no field of `Recipe`, offering the nearest.

    Raises:
        RecipeError: The name is unknown.
    """
    if name in FIELD_NAMES:
        return
    way_out = f"{did_you_mean(name, FIELD_NAMES)}Known: {', '.join(FIELD_NAMES)}"
    raise RecipeError(where, f"unknown setting {name!r}", way_out)


def read_recipe(text: str, *, where: str) -> Recipe:
    """The recipe of a JSON text as `to_json` writes it.

    Raises:
        RecipeError: Not JSON, not an object, or not a recipe.
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
    """Canonical JSON, what an identity hashes: sorted keys, no spaces; without what is neutral and at its default.

    So a recipe that does not use a setting has one text, whether or not its version of ferray knew the setting.
    """
    values = {
        name: value
        for name, value in to_values(recipe).items()
        if name not in NEUTRAL_BY_DEFAULT or value != getattr(Recipe, name)
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def trial_id(recipe: Recipe, *, data_fingerprint: str, weights_fingerprint: str) -> str:
    """Identity of a training run: 12 hexadecimal digits, equal for equal numbers.

    It outlives new settings: those of `NEUTRAL_BY_DEFAULT` count only where they are not at their default.

    Args:
        recipe: With `precision` and `image_size` settled, else equal ids would not mean equal numbers.
        data_fingerprint: Of the store.
        weights_fingerprint: Of the pretrained weights; ignored where the recipe starts from none.

    Raises:
        ValueError: `precision` is still `auto` or `image_size` still None.
    """
    if recipe.precision == "auto" or recipe.image_size is None:
        raise ValueError("settle precision and image_size before asking for an identity")
    weights = weights_fingerprint if recipe.weights == "pretrained" else NO_WEIGHTS
    text = "\n".join((str(NUMBERS_VERSION), to_json(recipe), data_fingerprint, weights))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def help_rows() -> list[tuple[str, str, str]]:
    """Every field as (name, default, docstring with bounds), for help texts and documents."""
    defaults = to_values(Recipe())
    texts = _ADAPTER.json_schema()["properties"]
    return [(name, json.dumps(defaults[name]), f"{texts[name]['description']} {_bounds(name)}") for name in FIELD_NAMES]


@functools.cache
def _field(name: str) -> TypeAdapter[Any]:
    """What checks one field alone, with the bounds that stand beside it."""
    return TypeAdapter(get_type_hints(Recipe, include_extras=True)[name], config=ConfigDict(allow_inf_nan=False))


@functools.cache
def _choices(name: str) -> tuple[dict[str, Any], ...]:
    """What a field accepts, as JSON schemas, one of which must hold."""
    schema = _ADAPTER.json_schema()["properties"][name]
    return tuple(schema.get("anyOf", [schema]))


def _fault(error: ValidationError) -> str:
    """The first fault, in pydantic's words."""
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


def _bounds(field: str) -> str:
    """What a field accepts, in words."""
    words = []
    for choice in _choices(field):
        if "enum" in choice:
            words.append("one of " + ", ".join(choice["enum"]))
        elif choice.get("type") == "null":
            words.append("null")
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
