"""What a space varies in vain: settings without effect, ranges of one value, and values that a capped grid leaves out.

None of this is a fault, and W&B says nothing of it; but a search then trains points that it cannot tell apart, or
ranks settings that it has not tried. Begin at `find_idle_settings` and `describe_capped_grid`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ferray.recipe import Recipe
from ferray.space.definition import Space
from ferray.space.parameter import Parameter
from ferray.space.sampling import num_existing_points

MAX_COMBINATIONS = 10_000
"""Combinations of a grid's values that are tried for one setting."""


@dataclass(frozen=True)
class Condition:
    """When a setting has an effect on the numbers of a run."""

    needs: str
    """In words, as a sweep file would have it."""
    reads: tuple[str, ...]
    """The settings that decide."""
    holds: Callable[[Mapping[str, Any]], bool]
    """Whether it has an effect, by the values of those."""


def _alters(values: Mapping[str, Any]) -> bool:
    by_policy = values["augmentation"] != "none" and values["augmentation_strength"] > 0
    return bool(by_policy or values["random_erasing"] > 0)


def _has_fewer_views(values: Mapping[str, Any]) -> bool:
    views = values["augmentation_views"]
    return _alters(values) and views is not None and views < values["epochs"]


def _takes_steps(values: Mapping[str, Any]) -> bool:
    return bool(values["schedule"] == "step" and values["step_epochs"] < values["epochs"])


def _may_end_early(values: Mapping[str, Any]) -> bool:
    return values["patience"] is not None and values["patience"] < values["epochs"] - 1


CONDITIONS: dict[str, Condition] = {
    "momentum": Condition("optimizer: sgd", ("optimizer",), lambda values: values["optimizer"] == "sgd"),
    "augmentation": Condition(
        "augmentation_strength above 0", ("augmentation_strength",), lambda values: values["augmentation_strength"] > 0
    ),
    "augmentation_strength": Condition(
        "an augmentation other than none", ("augmentation",), lambda values: values["augmentation"] != "none"
    ),
    "augmentation_views": Condition(
        "an augmentation, or random_erasing, and fewer views than epochs",
        ("augmentation", "augmentation_strength", "random_erasing", "augmentation_views", "epochs"),
        _has_fewer_views,
    ),
    "trunk_lr_factor": Condition("another freeze than trunk", ("freeze",), lambda values: values["freeze"] != "trunk"),
    "effective_number_beta": Condition(
        "class_balance: effective_number_weights",
        ("class_balance",),
        lambda values: values["class_balance"] == "effective_number_weights",
    ),
    "logit_adjustment_tau": Condition(
        "class_balance: logit_adjustment",
        ("class_balance",),
        lambda values: values["class_balance"] == "logit_adjustment",
    ),
    "schedule": Condition(
        "cosine, or step with step_epochs below epochs",
        ("schedule", "step_epochs", "epochs"),
        lambda values: values["schedule"] == "cosine" or _takes_steps(values),
    ),
    "step_epochs": Condition(
        "schedule: step, and step_epochs below epochs", ("schedule", "step_epochs", "epochs"), _takes_steps
    ),
    "step_factor": Condition(
        "schedule: step, and step_epochs below epochs", ("schedule", "step_epochs", "epochs"), _takes_steps
    ),
    "mixup_alpha": Condition("batch_size above 1", ("batch_size",), lambda values: values["batch_size"] > 1),
    "patience": Condition("a patience below epochs - 1", ("patience", "epochs"), _may_end_early),
}
"""Settings that have an effect only beside others."""


def find_idle_settings(space: Space) -> Iterator[str]:
    """What the space varies without effect, one line each, with place, fault and way out."""
    for parameter in space.parameters:
        if (idle := _describe_one_value(parameter)) is not None:
            yield f"{parameter.where}: {parameter.name} {idle}"
        elif (condition := CONDITIONS.get(parameter.name)) is None:
            continue
        elif parameter.searched:
            yield from _describe_effect(space, parameter, condition)
        elif parameter.is_option and parameter.values != (getattr(Recipe, parameter.name),):
            yield from _describe_option(space, parameter, condition)


def describe_capped_grid(space: Space, num_points: int | None) -> str | None:
    """That a grid with a cap leaves out values, since it takes the first points in order, as W&B does.

    Args:
        space: Any.
        num_points: The first points that are taken; None for all.

    Returns:
        None where nothing is left out of what the space varies.
    """
    existing = num_existing_points(space)
    if space.method != "grid" or num_points is None or existing is None or num_points >= existing:
        return None
    taken = []
    stride = existing
    for parameter in space.parameters:
        count = parameter.num_values or 1
        stride //= count
        num_taken = min(count, math.ceil(num_points / stride))
        if num_taken < count:
            values = ", ".join(str(parameter.value_at(index)) for index in range(min(num_taken, 3)))
            more = ", ..." if num_taken > 3 else ""
            taken.append(f"{parameter.name} {values}{more} of {count} values")
    if not taken:
        return None
    what = f"only the first {num_points:,} of the grid's {existing:,} points, in the file's order: {'; '.join(taken)}"
    return f"{space.file}: {what}. For points among all values write `method: random`, or name fewer values"


def _describe_one_value(parameter: Parameter) -> str | None:
    """Of a parameter whose form promises several values and that has fewer."""
    if parameter.kind in ("int", "float") and parameter.low is not None and parameter.low == parameter.high:
        return f"is always {parameter.low:g}: no other multiple of q is between min and max. Lower q, or write value"
    if parameter.shape is not None and not parameter.distribution.endswith("beta") and parameter.shape[1] == 0:
        return "is always the same: sigma is 0. Write value, or a sigma above 0"
    if parameter.probabilities is not None and 0 in parameter.probabilities:
        never = [value for value, share in zip(parameter.values, parameter.probabilities, strict=True) if not share]
        return f"is never {', '.join(map(str, never))}: the probability is 0. Leave it out, or give it a share"
    return None


def _describe_effect(space: Space, parameter: Parameter, condition: Condition) -> Iterator[str]:
    """Of a setting that has an effect at no point, or in a grid only at some: the others repeat each other."""
    ends = _values_of(space, condition.reads, lambda one: one.ends())
    if ends is None:
        return
    if not any(map(condition.holds, ends)):
        what = f"{parameter.name} varies without effect: it needs {condition.needs}, which no point has"
        yield f"{parameter.where}: {what}. Add that, or give {parameter.name} one value"
    elif space.method == "grid" and (repeated := _count_repeated(space, parameter.name, condition)):
        existing = num_existing_points(space)
        what = f"{parameter.name} has no effect without {condition.needs}: {repeated:,} of {existing:,} points"
        own = ", or fewer such values" if parameter.name in condition.reads else ""
        yield f"{parameter.where}: {what} repeat others. Two files, one without {parameter.name}, avoid that{own}"


def _describe_option(space: Space, parameter: Parameter, condition: Condition) -> Iterator[str]:
    """Of a setting of the command line that has an effect at no point; one value of a file may only be a habit."""
    ends = _values_of(space, condition.reads, lambda one: one.ends())
    if ends is not None and not any(map(condition.holds, ends)):
        what = f"{parameter.name} has no effect: it needs {condition.needs}, which no point has"
        yield f"{parameter.where}: {what}. Add that, or leave {parameter.name} out"


def _count_repeated(space: Space, name: str, condition: Condition) -> int:
    """Points of a grid that differ from another one only in a setting's values without effect."""
    names = tuple(dict.fromkeys((*condition.reads, name)))
    combinations, existing = _values_of(space, names, _list_values), num_existing_points(space)
    if combinations is None or existing is None:
        return 0
    others = tuple(one for one in names if one != name)
    idle = Counter(tuple(values[one] for one in others) for values in combinations if not condition.holds(values))
    return sum(count - 1 for count in idle.values()) * existing // len(combinations)


def _values_of(
    space: Space, names: tuple[str, ...], list_values: Callable[[Parameter], tuple[Any, ...] | None]
) -> list[dict[str, Any]] | None:
    """All combinations of some settings' values; None if one of them cannot be listed, or there are too many."""
    parameters = {parameter.name: parameter for parameter in space.parameters}
    listed = []
    for name in names:
        values = list_values(parameters[name]) if name in parameters else (getattr(Recipe, name),)
        if not values:
            return None
        listed.append(values)
    if math.prod(map(len, listed)) > MAX_COMBINATIONS:
        return None
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*listed)]


def _list_values(parameter: Parameter) -> tuple[Any, ...] | None:
    count = parameter.num_values
    if count is None or count > MAX_COMBINATIONS:
        return None
    return tuple(parameter.value_at(index) for index in range(count))
