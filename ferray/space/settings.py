"""The `parameters` of a sweep file: each one a field of the recipe with a value, values, or a distribution."""

import difflib
import math
from typing import Any

from ferray.errors import RecipeError, SpaceError
from ferray.recipe import check_field_name, check_value, is_integer_field
from ferray.space.definition import Method
from ferray.space.nodes import Node, describe
from ferray.space.parameter import Parameter, multiple

_RANGES = ("int_uniform", "uniform", "log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values")
_STEPS = ("q_uniform", "q_log_uniform", "q_log_uniform_values")

_KEYS: dict[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    **dict.fromkeys(_RANGES, ("min", "max")),
    **dict.fromkeys(_STEPS, ("min", "max", "q")),
    **dict.fromkeys(("normal", "log_normal"), ("mu", "sigma")),
    **dict.fromkeys(("q_normal", "q_log_normal"), ("mu", "sigma", "q")),
    "beta": ("a", "b"),
    "q_beta": ("a", "b", "q"),
}
"""What goes with each distribution."""


def flatten(parameters: Node) -> dict[str, Node]:
    """Every parameter by its own name; those nested in groups, as W&B allows, come out of them.

    Raises:
        SpaceError: A name that is no field of the recipe, or one that is there twice.
    """
    found: dict[str, Node] = {}
    for name, node in parameters.mapping().items():
        nested = isinstance(node.value, dict) and "parameters" in node.value
        if nested and len(node.value) > 1:
            other = next(key for key in node.value if key != "parameters")
            raise node.value[other].error("stands beside `parameters`", "Leave it out, or put it one level deeper")
        inner = flatten(node.value["parameters"]) if nested else {name: node}
        for inner_name, inner_node in inner.items():
            if inner_name in found:
                twin = found[inner_name].where
                raise inner_node.error(f"is {inner_name} for the second time, after {twin}", "Remove one of the two")
            if not nested:
                try:
                    check_field_name(inner_name, where=inner_node.where)
                except RecipeError as error:
                    raise inner_node.error("is no setting of the recipe", error.args[2]) from error
        found |= inner
    return found


def read_parameter(name: str, node: Node, *, method: Method) -> Parameter:
    """One parameter, checked against the recipe and against what the method can do.

    Raises:
        SpaceError: Keys that do not go together, a value that the recipe refuses, or a distribution that the method
            cannot search.
    """
    if not isinstance(node.value, dict):
        key = "values" if isinstance(node.value, tuple) else "value"
        raise node.error(f"is {describe(node.value)}, not a mapping", f"Write `{name}: {{{key}: ...}}`")
    distribution = _read_distribution(node)
    for key, child in node.mapping().items():
        if key not in (*_KEYS[distribution], "distribution"):
            raise child.error(f"does not go with {distribution}", f"It takes {', '.join(_KEYS[distribution])}")
    if distribution == "constant":
        value = _check(name, node.value["value"])
        parameter = Parameter(name=name, kind="value", distribution=distribution, values=(value,), where=node.where)
    elif distribution.startswith("categorical"):
        parameter = _read_values(name, node, distribution)
    elif "min" in _KEYS[distribution]:
        parameter = _read_range(name, node, distribution)
    else:
        parameter = _read_shape(name, node, distribution)
    _check_method(parameter, node, method)
    return parameter


def _read_distribution(node: Node) -> str:
    """The distribution that is named, or the one that W&B infers from the keys."""
    keys = node.mapping()
    named = keys.get("distribution")
    if named is not None:
        if named.value not in tuple(_KEYS):  # a mapping cannot be looked up in one
            near = difflib.get_close_matches(str(named.value), _KEYS, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise named.error(f"is {describe(named.value)}", f"{hint}Known: {', '.join(_KEYS)}")
        missing = [key for key in _KEYS[named.value] if key in ("value", "values", "min", "max") and key not in keys]
        if missing:
            raise node.error(f"has no {missing[0]}", f"{named.value} takes {', '.join(_KEYS[named.value])}")
        return str(named.value)
    if "value" in keys:
        return "constant"
    if "values" in keys:
        return "categorical_w_probabilities" if "probabilities" in keys else "categorical"
    if "min" in keys and "max" in keys:
        low, high = keys["min"].number(), keys["max"].number()
        if isinstance(low, int) != isinstance(high, int):
            whole, key = (low, "min") if isinstance(low, int) else (high, "max")
            raise keys[key].error(
                f"is {whole} and the other end has a point: whole numbers or fractions?",
                f"Write `{key}: {float(whole)}`",
            )
        return "int_uniform" if isinstance(low, int) else "uniform"
    raise node.error(
        f"has only {', '.join(keys)}",
        "Write value, values, or min and max; distributions other than uniform have a name",
    )


def _read_values(name: str, node: Node, distribution: str) -> Parameter:
    items = node.value["values"].sequence()
    values: dict[Any, None] = {}  # in order; a list would be searched for each of thousands
    for item in items:
        value = _check(name, item)
        if value in values:
            raise item.error(f"is {describe(item.value)} for the second time", "Remove one of the two")
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
    keys = node.mapping()
    low, high = keys["min"].number(), keys["max"].number()
    if not low < high:
        raise keys["max"].error(
            f"is {high:g}, not above min, {low:g}", "Write the smaller one as min; for one number, value"
        )
    if distribution == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
        raise node.error(
            "is int_uniform, but its ends are no whole numbers", "Write them without a point, or use uniform"
        )
    if distribution in ("log_uniform", "q_log_uniform", "inv_log_uniform"):
        low, high = _from_exponents(name, node, distribution)
    log = "log" in distribution
    if log and low <= 0:
        raise keys["min"].error(f"is {low:g}, which has no logarithm", "Write a number above 0")
    step = _read_step(node) if distribution in _STEPS else None
    if step is not None:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if first > last:
            raise node.error(f"has no multiple of q, {step:g}, between min and max", "Lower q, or widen the range")
        low, high = multiple(first, step), multiple(last, step)
    whole = distribution == "int_uniform" or (step is not None and step == int(step))
    if is_integer_field(name) and not whole:
        way_out = "Use int_uniform, q_uniform or q_log_uniform_values with a whole q"
        raise node.error(f"draws fractions, but {name} is a whole number", way_out)
    for key, end in (("min", low), ("max", high)):
        _check(name, Node(int(end) if whole else end, keys[key].where, keys[key].place))
    return Parameter(
        name=name,
        kind="int" if whole else "float",
        distribution=distribution,
        low=int(low) if whole else float(low),
        high=int(high) if whole else float(high),
        log=log,
        step=int(step) if whole and step is not None else step,
        where=node.where,
    )


def _from_exponents(name: str, node: Node, distribution: str) -> tuple[float, float]:
    """Ends of a distribution whose min and max are natural-log exponents, of the value or of its reciprocal."""
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
    return ends


def _read_step(node: Node) -> int | float:
    keys = node.mapping()
    if "q" not in keys:
        return 1
    step = keys["q"].number()
    if step <= 0:
        raise keys["q"].error(f"is {step:g}", "Write a number above 0")
    return step


def _read_shape(name: str, node: Node, distribution: str) -> Parameter:
    """A normal or beta distribution: it has no ends, so what it draws is checked when it is drawn."""
    keys = node.mapping()
    names, defaults = (("a", "b"), (1, 1)) if distribution.endswith("beta") else (("mu", "sigma"), (0, 1))
    numbers = [keys[key].number() if key in keys else default for key, default in zip(names, defaults, strict=True)]
    if numbers[1] < 0 or (names[0] == "a" and min(numbers) <= 0):
        raise node.error(f"has {names[0]} {numbers[0]:g} and {names[1]} {numbers[1]:g}", "Write numbers above 0")
    step = _read_step(node) if distribution.startswith("q_") else None
    whole = step is not None and step == int(step)
    if name == "epochs":
        raise node.error("has no largest value, which a search must know of epochs", "Use int_uniform: min and max")
    if is_integer_field(name) and not whole:
        raise node.error(f"draws fractions, but {name} is a whole number", f"Use q_{distribution} with q: 1")
    return Parameter(
        name=name,
        kind="int" if whole else "float",
        distribution=distribution,
        log="log" in distribution,
        step=int(step) if whole and step is not None else step,
        shape=(float(numbers[0]), float(numbers[1])),
        where=node.where,
    )


def _check(name: str, node: Node) -> Any:
    """A value as the recipe holds it."""
    if isinstance(node.value, dict | tuple):
        raise node.error(f"is {describe(node.value)}", "Write a number, a text or null")
    try:
        return check_value(name, node.value, where=node.where)
    except RecipeError as error:
        _, what, way_out = error.args
        reason = what.removeprefix(f"{name} {node.value!r}: ")
        raise node.error(f"is {describe(node.value)}: {reason}", way_out) from error


def _check_method(parameter: Parameter, node: Node, method: Method) -> None:
    """What a grid cannot list, and what TPE cannot model, is refused."""

    def refuse(reason: str, way_out: str) -> SpaceError:
        return node.error(f"is {parameter.distribution}, {reason}", way_out)

    if method == "grid" and parameter.distribution not in (
        "constant",
        "categorical",
        "int_uniform",
        "q_uniform",
    ):
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
