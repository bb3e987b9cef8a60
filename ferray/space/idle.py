"""What a space varies in vain: settings without effect, ranges of one value, and values that a capped grid leaves out.

None of this is a fault, and W&B says nothing of it; but a search then trains points that it cannot tell apart, or
ranks settings that it has not tried. Begin at `find_idle_settings` and `describe_capped_grid`.
"""

import itertools
import math
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
        "an augmentation, or random_erasing", ("augmentation", "augmentation_strength", "random_erasing"), _alters
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
    "step_epochs": Condition("schedule: step", ("schedule",), lambda values: values["schedule"] == "step"),
    "step_factor": Condition("schedule: step", ("schedule",), lambda values: values["schedule"] == "step"),
    "mixup_alpha": Condition("batch_size above 1", ("batch_size",), lambda values: values["batch_size"] > 1),
    "patience": Condition("a patience below epochs - 1", ("patience", "epochs"), _may_end_early),
}
"""Settings that have an effect only beside others."""


def find_idle_settings(space: Space) -> Iterator[str]:
    """What the space varies without effect, one line each, with place, fault and way out."""
    for parameter in space.parameters:
        if (idle := _describe_one_value(parameter)) is not None:
            yield f"{parameter.where}: {parameter.name} {idle}"
        elif parameter.searched and (condition := CONDITIONS.get(parameter.name)) is not None:
            yield from _describe_effect(space, parameter, condition)


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
    elif space.method == "grid" and parameter.name not in condition.reads:
        combinations = _values_of(space, condition.reads, _list_values)
        existing, count = num_existing_points(space), parameter.num_values
        if combinations is None or existing is None or count is None:
            return
        idle = sum(not condition.holds(values) for values in combinations)
        repeated = existing * idle // len(combinations) * (count - 1) // count
        if repeated:
            what = f"{parameter.name} has no effect without {condition.needs}: {repeated:,} of {existing:,} points"
            yield f"{parameter.where}: {what} repeat others. Two files, one without {parameter.name}, avoid that"


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
