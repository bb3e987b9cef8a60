"""Settings whose best value is the last one that was tried in its direction: a better value may lie beyond.

Only settings with an order count: numbers, and the words of `ORDERED`. A value that the recipe's own bounds do not let
pass, such as a dropout of 0, is no edge.

Begin at `find_edges`.
"""

import dataclasses
import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from ferray.errors import RecipeError
from ferray.model.backbones import find_backbone
from ferray.recipe import Recipe, check_value, is_integer_field
from ferray.records.points import REPEATED
from ferray.records.run import Run
from ferray.report.wording import ORDERED, setting_text
from ferray.space import Parameter, Space

NEAR = 0.05
"""Share of a range from which on a value counts as being at its end."""

_GEOMETRIC = 2.0
"""Ratio of neighboring values from which on the next one is found by multiplying, not by adding."""

Side = Literal["lowest", "highest"]

Fits = Callable[[Any], bool]
"""Whether the winner, and the shortest recipe that was tried, could have a value of a setting."""


class Extendable(Protocol):
    """A search that could try more, planned or on record."""

    @property
    def run(self) -> Run:
        """Its folder."""
        ...

    @property
    def space(self) -> Space:
        """What it searches."""
        ...

    @property
    def max_trials(self) -> int | None:
        """Limit of the points that the command has set."""
        ...


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A setting whose best value has no neighbor on one side."""

    name: str
    """Of the setting."""
    value: Any
    """That of the winner."""
    side: Side
    num_values: int
    """Distinct values that were tried or are still to be tried; 0 for a range."""
    beyond: Any
    """A value to try next, or the end of a wider range."""
    setting: str
    """As `--set` takes it: the values so far and that one, or the wider range."""

    def sentence(self) -> str:
        """What was seen, and what it may mean."""
        return f"{self.place()}; a better one may lie beyond"

    def place(self) -> str:
        """Where the value lies."""
        if self.num_values == 0:
            where = f"close to the {self.side} that the space allows"
        else:
            where = f"the {self.side} of {self.num_values} values"
        return f"{self.name} {setting_text(self.name, self.value)} is {where}"

    def way_out(self, search: Extendable) -> str:
        """The command that goes on beyond it, with room for as many points again where their number is limited."""
        words = [search.run.resume_command, "--set", shlex.quote(self.setting)]
        words += [] if search.space.run_cap is None else ["--set", f"run_cap={2 * search.space.run_cap}"]
        words += [] if search.max_trials is None else ["--max-trials", str(2 * search.max_trials)]
        return " ".join(words)


def find_edges(search: Extendable, winner: Recipe, tried: Iterable[Recipe]) -> list[Edge]:
    """The settings of the winner that lie on an edge of what was tried, in the order of the space.

    Args:
        search: The search; values that its space has still to try count as tried.
        winner: The best point's recipe.
        tried: The recipes of all trials that have a score.
    """
    recipes = [winner, *tried]
    shortest = min(recipes, key=lambda recipe: recipe.epochs)  # which has the least room, as for a warm-up
    edges = []
    for parameter in search.space.parameters:
        if parameter.searched and parameter.name not in REPEATED:
            values = [getattr(recipe, parameter.name) for recipe in recipes]
            fits = partial(_fits, [winner, shortest], parameter.name)
            edge = _edge_of(parameter, getattr(winner, parameter.name), values, fits)
            edges += [] if edge is None else [edge]
    return edges


def edge_to_json(search: Extendable, edge: Edge) -> dict[str, Any]:
    """A setting whose best value lies on an edge of what was tried, and the command that goes beyond it."""
    return {
        "setting": edge.name,
        "value": edge.value,
        "side": edge.side,
        "beyond": edge.beyond,
        "command": edge.way_out(search),
    }


def _fits(recipes: Sequence[Recipe], name: str, value: Any) -> bool:
    """Whether recipes could have a value of a setting: some bounds are other settings."""
    try:
        changed = [dataclasses.replace(recipe, **{name: value}) for recipe in recipes]
        for recipe in changed:
            if name == "image_size":
                find_backbone(recipe.backbone).check(size_px=value, freeze=recipe.freeze, where=name)
    except (RecipeError, ValueError):
        return False
    return True


def _edge_of(parameter: Parameter, value: Any, tried: Sequence[Any], fits: Fits) -> Edge | None:
    if parameter.name in ORDERED:
        return _edge_of_words(parameter, value, tried, fits)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if parameter.kind in ("value", "values"):
        return _edge_of_values(parameter, value, tried, fits)
    return _edge_of_range(parameter, value, fits)


def _edge_of_words(parameter: Parameter, value: str, tried: Sequence[str], fits: Fits) -> Edge | None:
    order = ORDERED[parameter.name]
    places = sorted({order.index(word) for word in (*parameter.values, *tried)})
    place = order.index(value)
    sides: list[tuple[Side, int, int]] = [("lowest", places[0], place - 1), ("highest", places[-1], place + 1)]
    for side, end, beyond in sides:
        if len(places) > 1 and place == end and 0 <= beyond < len(order) and fits(order[beyond]):
            words = [order[one] for one in sorted({*places, beyond})]
            return _make_edge(parameter.name, value, side, order[beyond], words)
    return None


def _edge_of_values(parameter: Parameter, value: float, tried: Sequence[Any], fits: Fits) -> Edge | None:
    both = {*parameter.values, *tried}
    numbers = sorted(one for one in both if isinstance(one, int | float) and not isinstance(one, bool))
    if len(numbers) < 2:
        return None
    # A run of fewer epochs cannot be better: the score is that of its best epoch.
    sides: list[tuple[Side, list[float]]] = [("highest", numbers[-2:])]
    sides += [] if parameter.name == "epochs" else [("lowest", numbers[1::-1])]
    for side, (neighbor, end) in sides:
        if value == end and (beyond := _next_value(parameter.name, neighbor, end, fits)) is not None:
            others = [one for one in both if not isinstance(one, int | float)]
            return _make_edge(parameter.name, value, side, beyond, [*sorted([*numbers, beyond]), *others])
    return None


def _make_edge(name: str, value: Any, side: Side, beyond: Any, values: Sequence[Any]) -> Edge:
    setting = f"{name}=[{','.join(_text(name, one) for one in values)}]"
    return Edge(name=name, value=value, side=side, num_values=len(values) - 1, beyond=beyond, setting=setting)


def _edge_of_range(parameter: Parameter, value: float, fits: Fits) -> Edge | None:
    low, high = parameter.low, parameter.high
    if low is None or high is None or parameter.shape is not None or low >= high:
        return None
    place = _place(value, low, high, is_log=parameter.log)
    sides: list[tuple[Side, bool, float, float]] = [("highest", place > 1 - NEAR, low, high)]
    sides += [] if parameter.name == "epochs" else [("lowest", place < NEAR, high, low)]
    for side, is_near, far, end in sides:
        if is_near and (beyond := _wider_end(parameter, far, end, fits)) is not None:
            ends = [_text(parameter.name, one) for one in sorted([beyond, far])]
            setting = f"{parameter.name}={{{_distribution(parameter)}, min: {ends[0]}, max: {ends[1]}}}"
            return Edge(name=parameter.name, value=value, side=side, num_values=0, beyond=beyond, setting=setting)
    return None


def _place(value: float, low: float, high: float, *, is_log: bool) -> float:
    """Position of a value in a range: 0 at its lower end, 1 at its upper one."""
    if is_log and low > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _wider_end(parameter: Parameter, far: float, end: float, fits: Fits) -> Any:
    """The end of a range that is half as wide again, in its own scale; None where the recipe ends there."""
    if parameter.log and min(far, end) > 0:
        return _allowed(parameter.name, end, lambda share: end * (end / far) ** (share / 2), fits, parameter.step)
    return _allowed(parameter.name, end, lambda share: end + share / 2 * (end - far), fits, parameter.step)


def _next_value(name: str, neighbor: float, end: float, fits: Fits) -> Any:
    """The value that continues a list beyond its end; None where the recipe ends there."""
    if min(neighbor, end) > 0 and max(neighbor, end) >= _GEOMETRIC * min(neighbor, end):
        return _allowed(name, end, lambda share: end * (end / neighbor) ** share, fits)
    return _allowed(name, end, lambda share: end + share * (end - neighbor), fits)


def _allowed(name: str, end: float, step: Callable[[float], float], fits: Fits, multiple: float | None = None) -> Any:
    """The first of ever smaller steps beyond an end that the recipe accepts; None for none."""
    for share in (1.0, 0.5, 0.25):
        value: Any = step(share)
        if multiple is not None:
            value = float(f"{round(value / multiple) * multiple:.12g}")
        value = round(value) if is_integer_field(name) else float(f"{value:.3g}")
        try:
            value = check_value(name, value, where=name)
        except RecipeError:
            continue
        if value != end and fits(value):
            return value
    return None


def _distribution(parameter: Parameter) -> str:
    """The range's distribution, in the form whose ends are values and not exponents."""
    name = parameter.distribution
    if parameter.log:
        name = "q_log_uniform_values" if parameter.step is not None else "log_uniform_values"
    step = (
        "" if parameter.step is None or not name.startswith("q_") else f", q: {_text(parameter.name, parameter.step)}"
    )
    return f"distribution: {name}{step}"


def _text(name: str, value: Any) -> str:
    """A value as YAML reads it back, as people write it unless that has too few digits."""
    if not isinstance(value, float):
        return "null" if value is None else str(value)
    text = setting_text(name, value)
    return text if float(text) == value else f"{value:.12g}"
