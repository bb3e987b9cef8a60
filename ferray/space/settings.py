"""The `parameters` of a sweep file: each is a field of the recipe with a value, values, or a distribution.

Begin at `read_parameter`.
"""

import logging
import math
import re
from dataclasses import dataclass
from typing import Any

from ferray.errors import RecipeError, SpaceError
from ferray.recipe import check_field_name, check_value, is_integer_field
from ferray.space.definition import Method
from ferray.space.nodes import Node, describe_value
from ferray.space.parameter import Parameter, multiple
from ferray.wording import did_you_mean

log = logging.getLogger(__name__)

_ENDS = ("min", "max")

_KEYS: dict[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": _ENDS,
    "uniform": _ENDS,
    "log_uniform": _ENDS,
    "log_uniform_values": _ENDS,
    "inv_log_uniform": _ENDS,
    "inv_log_uniform_values": _ENDS,
    "q_uniform": (*_ENDS, "q"),
    "q_log_uniform": (*_ENDS, "q"),
    "q_log_uniform_values": (*_ENDS, "q"),
    "normal": ("mu", "sigma"),
    "log_normal": ("mu", "sigma"),
    "q_normal": ("mu", "sigma", "q"),
    "q_log_normal": ("mu", "sigma", "q"),
    "beta": ("a", "b"),
    "q_beta": ("a", "b", "q"),
}
"""W&B's distributions and the keys of each."""

_REQUIRED = ("value", "values", *_ENDS)
"""Keys without a default."""

_IN_A_GRID = ("constant", "categorical", "int_uniform", "q_uniform")
"""Distributions whose values a grid can list."""


def flatten(parameters: Node) -> dict[str, Node]:
    """Every parameter by its own name, also those nested in groups, as W&B allows.

    Raises:
        SpaceError: A name that is not a field of the recipe, or one that is given twice.
    """
    found: dict[str, Node] = {}
    for name, node in parameters.mapping().items():
        is_group = isinstance(node.value, dict) and "parameters" in node.value
        if is_group and len(node.value) > 1:
            other = next(key for key in node.value if key != "parameters")
            raise node.value[other].error("stands beside `parameters`", "Leave it out, or put it one level deeper")
        inner = flatten(node.value["parameters"]) if is_group else {name: node}
        for inner_name, inner_node in inner.items():
            if inner_name in found:
                first = found[inner_name].where
                raise inner_node.error(f"is {inner_name} for the second time, after {first}", "Remove one of the two")
            if not is_group:
                try:
                    check_field_name(inner_name, where=inner_node.where)
                except RecipeError as error:
                    raise inner_node.error("is not a setting of the recipe", error.args[2]) from error
        found |= inner
    return found


def read_parameter(name: str, node: Node, *, method: Method) -> Parameter:
    """One parameter, checked against the recipe and against the method of the search.

    Raises:
        SpaceError: Keys that do not go together, a value that the recipe refuses, or a distribution that the method
            cannot search.
    """
    if not isinstance(node.value, dict):
        key = "values" if isinstance(node.value, tuple) else "value"
        raise node.error(f"is {describe_value(node.value)}, not a mapping", f"Write `{name}: {{{key}: ...}}`")
    distribution = _read_distribution(node)
    for key, child in node.mapping().items():
        if key not in (*_KEYS[distribution], "distribution"):
            raise child.error(f"does not go with {distribution}", f"It takes {', '.join(_KEYS[distribution])}")
    if distribution == "constant":
        value = _read_value(name, node.value["value"])
        parameter = Parameter(name=name, kind="value", distribution=distribution, values=(value,), where=node.where)
    elif distribution.startswith("categorical"):
        parameter = _read_values(name, node, distribution, method)
    elif "min" in _KEYS[distribution]:
        parameter = _read_range(name, node, distribution)
        _warn_of_whole_numbers(name, node, parameter)
    else:
        parameter = _read_shape(name, node, distribution)
    _check_method(parameter, node, method)
    return parameter


def _warn_of_whole_numbers(name: str, node: Node, parameter: Parameter) -> None:
    """A setting that takes fractions, with two ends without a point: W&B draws whole numbers, perhaps unintended."""
    if parameter.distribution != "int_uniform" or "distribution" in node.value or is_integer_field(name):
        return
    low, high = parameter.low, parameter.high
    values = f"{low} or {high}" if (low or 0) + 1 == high else f"{low} to {high}"
    way_out = f"Write `min: {low}.0` and `max: {high}.0` for fractions, or `distribution: int_uniform` to keep it"
    log.warning("%s: %s is %s, whole numbers only, as in W&B. %s", node.where, node.place, values, way_out)


def _read_distribution(node: Node) -> str:
    """The distribution that is named, or the one that W&B infers from the keys."""
    keys = node.mapping()
    named = keys.get("distribution")
    if named is None:
        return _infer_distribution(node)
    if named.value not in tuple(_KEYS):  # a mapping cannot be looked up in one
        way_out = f"{_nearest_distribution(str(named.value))}Known: {', '.join(_KEYS)}"
        raise named.error(f"is {describe_value(named.value)}", way_out)
    distribution = str(named.value)
    for key in _KEYS[distribution]:
        if key in _REQUIRED and key not in keys:
            raise node.error(f"has no {key}", f"{distribution} takes {', '.join(_KEYS[distribution])}")
    return distribution


def _nearest_distribution(name: str) -> str:
    """A question that offers the nearest distribution; for the logarithm of a value the one that takes values."""
    letters = re.sub("[^a-z]", "", name.lower())
    return did_you_mean("log_uniform_values" if letters == "loguniform" else name, _KEYS)


def _infer_distribution(node: Node) -> str:
    keys = node.mapping()
    if "value" in keys:
        return "constant"
    if "values" in keys:
        return "categorical_w_probabilities" if "probabilities" in keys else "categorical"
    if "min" not in keys or "max" not in keys:
        way_out = "Write value, values, or min and max; distributions other than uniform have a name"
        raise node.error(f"has only {', '.join(keys)}", way_out)
    return "int_uniform" if all(isinstance(keys[key].number(), int) for key in _ENDS) else "uniform"


def _read_value(name: str, node: Node) -> Any:
    """A value as the recipe holds it."""
    if isinstance(node.value, dict | tuple):
        raise node.error(f"is {describe_value(node.value)}", "Write a number, a text or null")
    try:
        return check_value(name, node.value, where=node.where)
    except RecipeError as error:
        _, what, way_out = error.args
        reason = what.removeprefix(f"{name} {node.value!r}: ")
        raise node.error(f"is {describe_value(node.value)}: {reason}", way_out) from error


def _read_values(name: str, node: Node, distribution: str, method: Method) -> Parameter:
    values: dict[Any, None] = {}  # in order; a list would be searched for each of thousands
    for item in node.value["values"].sequence():
        value = _read_value(name, item)
        if value in values and method == "grid":  # W&B drops it too
            what = f"{item.place} is {describe_value(item.value)}, which the list has already"
            log.warning("%s: %s; it counts once", item.where, what)
        elif value in values:
            way_out = "Remove one of the two"
            if method == "random":
                way_out += "; for a larger share write probabilities"
            raise item.error(f"is {describe_value(item.value)}, which the list has already", way_out)
        values[value] = None
    return Parameter(
        name=name,
        kind="values",
        distribution=distribution,
        values=tuple(values),
        probabilities=_read_probabilities(node, len(values)),
        where=node.where,
    )


def _read_probabilities(node: Node, count: int) -> tuple[float, ...] | None:
    given = node.value.get("probabilities")
    if given is None:
        return None
    shares = [float(item.number()) for item in given.sequence()]
    if len(shares) != count:
        raise given.error(f"has {len(shares)} numbers for {count} values", "Write one for each value")
    if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise given.error(f"has the sum {sum(shares):g}, or a negative number", "Write shares that add up to 1")
    return tuple(shares)


def _read_range(name: str, node: Node, distribution: str) -> Parameter:
    """A range of whole numbers or of fractions: each end is a value that the recipe accepts."""
    low, high = _read_ends(name, node, distribution)
    spacing = _read_spacing(name, node, distribution)
    if spacing.step is not None:
        low, high = _ends_on_steps(node, low, high, spacing.step)
    _check_kind(name, node, spacing, way_out="Use int_uniform, q_uniform or q_log_uniform_values with a whole q")
    for key, end in (("min", low), ("max", high)):
        child = node.value[key]
        _read_value(name, Node(int(end) if spacing.is_whole else end, child.where, child.place))
    return Parameter(
        name=name,
        kind="int" if spacing.is_whole else "float",
        distribution=distribution,
        low=spacing.of(low),
        high=spacing.of(high),
        log="log" in distribution,
        step=spacing.step,
        where=node.where,
    )


def _read_shape(name: str, node: Node, distribution: str) -> Parameter:
    """A normal or beta distribution: it has no ends, so each draw is checked when it is drawn."""
    keys = node.mapping()
    names, defaults = (("a", "b"), (1, 1)) if distribution.endswith("beta") else (("mu", "sigma"), (0, 1))
    numbers = [keys[key].number() if key in keys else default for key, default in zip(names, defaults, strict=True)]
    if numbers[1] < 0 or (names[0] == "a" and min(numbers) <= 0):
        raise node.error(f"has {names[0]} {numbers[0]:g} and {names[1]} {numbers[1]:g}", "Write numbers above 0")
    spacing = _read_spacing(name, node, distribution)
    if name == "epochs":
        raise node.error("has no largest value, which a search must know of epochs", "Use int_uniform: min and max")
    _check_kind(name, node, spacing, way_out=f"Use q_{distribution} with q: 1")
    return Parameter(
        name=name,
        kind="int" if spacing.is_whole else "float",
        distribution=distribution,
        log="log" in distribution,
        step=spacing.step,
        shape=(float(numbers[0]), float(numbers[1])),
        where=node.where,
    )


@dataclass(frozen=True)
class _Spacing:
    """Which of the numbers between its ends a distribution can give."""

    is_whole: bool
    """Whether they are whole."""
    step: int | float | None
    """Whether they are multiples of a number; None for all of them."""

    def of(self, number: int | float) -> int | float:
        """A number of the right type."""
        return int(number) if self.is_whole else float(number)


def _read_spacing(name: str, node: Node, distribution: str) -> _Spacing:
    if not distribution.startswith("q_"):
        return _Spacing(is_whole=distribution == "int_uniform", step=None)
    keys = node.mapping()
    if "q" not in keys and not is_integer_field(name):
        what = f"{distribution} without q has whole numbers only, as in W&B. Write q, such as `q: 0.1`, or `q: 1`"
        log.warning("%s: %s is %s", node.where, node.place, what)
    step = keys["q"].number() if "q" in keys else 1
    if step <= 0:
        raise keys["q"].error(f"is {step:g}", "Write a number above 0")
    is_whole = step == int(step)
    return _Spacing(is_whole=is_whole, step=int(step) if is_whole else step)


def _check_kind(name: str, node: Node, spacing: _Spacing, *, way_out: str) -> None:
    if is_integer_field(name) and not spacing.is_whole:
        raise node.error(f"draws fractions, but {name} is a whole number", way_out)


def _read_ends(name: str, node: Node, distribution: str) -> tuple[float, float]:
    """The smallest and the largest value of a range, before its steps."""
    keys = node.mapping()
    low, high = keys["min"].number(), keys["max"].number()
    if not low < high:
        way_out = "Write the smaller one as min; for one number, value"
        raise keys["max"].error(f"is {high:g}, not above min, {low:g}", way_out)
    if distribution == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
        way_out = "Write them without a point, or use uniform"
        raise node.error("is int_uniform, but its ends are no whole numbers", way_out)
    if distribution in ("log_uniform", "q_log_uniform", "inv_log_uniform"):
        return _ends_of_exponents(name, node, distribution)
    if "log" in distribution and low <= 0:
        raise keys["min"].error(f"is {low:g}, which has no logarithm", "Write a number above 0")
    return low, high


def _ends_of_exponents(name: str, node: Node, distribution: str) -> tuple[float, float]:
    """The ends of a distribution whose min and max are natural-log exponents, of the value or of its reciprocal."""
    keys = node.mapping()
    low, high = keys["min"].number(), keys["max"].number()
    if distribution == "inv_log_uniform":
        low, high = -high, -low
    try:
        ends = math.exp(low), math.exp(high)
        for end in ends:
            check_value(name, max(1, round(end)) if is_integer_field(name) else end, where=node.where)
    except (RecipeError, OverflowError) as error:
        what = f"is {distribution}, whose min and max are natural-log exponents: e**{low:g} to e**{high:g} is no {name}"
        raise node.error(what, f"For values write `distribution: {distribution}_values`") from error
    if distribution == "log_uniform" and low > 0 and _accepts(name, low) and _accepts(name, high):
        what = f"is {distribution}: values from {ends[0]:.4g} to {ends[1]:.4g}, e**{low:g} to e**{high:g}, as in W&B"
        way_out = f"For {low:g} to {high:g} write `distribution: log_uniform_values`"
        log.warning("%s: %s %s. %s", node.where, node.place, what, way_out)
    if ends[0] <= 0:
        raise keys["min"].error(f"is {ends[0]:g}, which has no logarithm", "Write a number above 0")
    return ends


def _accepts(name: str, value: float) -> bool:
    """Whether the recipe accepts a value."""
    try:
        check_value(name, value, where="")
    except RecipeError:
        return False
    return True


def _ends_on_steps(node: Node, low: float, high: float, step: float) -> tuple[float, float]:
    """The first and the last multiple of the step between two ends."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if first > last:
        raise node.error(f"has no multiple of q, {step:g}, between min and max", "Lower q, or widen the range")
    return multiple(first, step), multiple(last, step)


def _check_method(parameter: Parameter, node: Node, method: Method) -> None:
    """Refuse what a grid cannot list, and what TPE cannot model."""

    def refuse(reason: str, way_out: str) -> SpaceError:
        return node.error(f"is {parameter.distribution}, {reason}", way_out)

    if method == "grid" and parameter.distribution not in _IN_A_GRID:
        raise refuse("which a grid cannot list", "Name its values, or use method: random")
    if method != "bayes":
        return
    if parameter.probabilities is not None:
        raise refuse("but TPE weighs values itself", "Leave the probabilities out, or use method: random")
    if parameter.shape is not None:
        raise refuse("which TPE cannot search: it needs two ends", "Use min and max, or method: random")
    if parameter.log and parameter.step is not None and (parameter.kind, parameter.step) != ("int", 1):
        raise refuse(
            "and TPE has no steps on a logarithmic range", "Use q: 1, or log_uniform_values, or method: random"
        )
