"""The points of a space, and the recipe of a point.

A point is a dict of settings, one for every parameter. A grid's points come with the last parameter changing fastest;
a random point depends on the seed and its number alone, and a parameter's draw on no other parameter.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import count
from random import Random
from typing import Any

from ferray.errors import RecipeError, SpaceError
from ferray.recipe import Recipe, make_recipe
from ferray.space.definition import Space

MAX_DRAWS = 1000
"""Draws for one point after which the search gives up: the distributions miss the bounds of the recipe."""


def points(space: Space, *, seed: int) -> Iterator[dict[str, Any]]:
    """The points of a grid or a random space, at most `run_cap`; a random space without a cap has no last point.

    Args:
        space: A space that is not adaptive.
        seed: The seed of the draws; a grid needs none.

    Raises:
        ValueError: The space is adaptive: its points are suggested while the search runs.
        SpaceError: In `MAX_DRAWS` draws the distributions gave no point that the recipe accepts.
    """
    if space.is_adaptive:
        raise ValueError(f"the points of a {space.method} space are suggested while the search runs")
    total = num_points(space) if space.method == "grid" else space.run_cap  # random points may repeat
    for index in count() if total is None else range(total):
        yield _grid_point(space, index) if space.method == "grid" else _random_point(space, seed, index)


def num_points(space: Space) -> int | None:
    """The largest number of points: those that exist, at most `run_cap`; None for no limit."""
    counts = [count for count in (num_existing_points(space), space.run_cap) if count is not None]
    return min(counts, default=None)


def num_existing_points(space: Space) -> int | None:
    """Combinations of all values that can be drawn; None where a parameter has no end of values."""
    counts = [parameter.num_possible for parameter in space.parameters]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def to_recipe(space: Space, point: Mapping[str, Any], *, seed: int) -> Recipe:
    """The recipe of a point.

    Args:
        space: Gives the settings that have one value, and the metric to monitor.
        point: May leave out parameters of one value; others that it leaves out take the recipe's default. With folds
            it may have a `fold`; without one it is the first fold.
        seed: The seed of the training run, unless the space has its own.

    Raises:
        SpaceError: The recipe refuses the point, which does not happen for one of `points`.
    """
    known = {parameter.name: parameter for parameter in space.parameters}
    fixed = {parameter.name: parameter.value_at(0) for parameter in space.parameters if parameter.num_values == 1}
    given = {name: known[name].settle(value) if name in known else value for name, value in point.items()}
    first_fold = {"fold": 0} if space.folds > 1 else {}
    values = {"seed": seed, **fixed, **first_fold, **given, "monitor": space.metric.name}
    try:
        return make_recipe(values, where=space.file)
    except RecipeError as error:
        raise SpaceError(*error.args) from error


def check_combinations(space: Space) -> None:
    """Try the rules between fields on the ends of all parameters, two at a time.

    Raises:
        SpaceError: The recipe refuses a combination.
    """
    ends = {parameter.name: parameter.ends() for parameter in space.parameters if parameter.ends()}
    first = {name: values[0] for name, values in ends.items()}
    _try(space, first)
    names = [name for name, values in ends.items() if len(values) > 1]
    for place, one in enumerate(names):
        for other in names[place:]:
            for value in ends[one]:
                for other_value in ends[other]:
                    _try(space, {**first, one: value, other: other_value})


def _try(space: Space, point: Mapping[str, Any]) -> None:
    try:
        to_recipe(space, point, seed=0)
    except SpaceError as error:
        what = error.args[1]
        named = [parameter for parameter in space.parameters if re.search(rf"\b{parameter.name}\b", what)]
        named.sort(key=lambda parameter: not parameter.is_option)  # what the user typed is named before the file
        where = named[0].where if named else space.file
        raise SpaceError(where, what, "Leave out the values that do not go together") from error


def _grid_point(space: Space, index: int) -> dict[str, Any]:
    """The point whose indices are the digits of a mixed-radix number, the last parameter's the last digit."""
    values = []
    for parameter in reversed(space.parameters):
        index, digit = divmod(index, parameter.num_values or 1)
        values.append((parameter.name, parameter.value_at(digit)))
    return dict(reversed(values))


def _random_point(space: Space, seed: int, index: int) -> dict[str, Any]:
    for attempt in range(MAX_DRAWS):
        point = {
            parameter.name: parameter.draw(Random(f"{seed}/{index}/{attempt}/{parameter.name}"))
            for parameter in space.parameters
        }
        try:
            to_recipe(space, point, seed=0)
        except SpaceError as error:
            fault = error.args[1]
        else:
            return point
    what = f"{MAX_DRAWS} draws for point {index} gave no recipe; the last one: {fault}"
    raise SpaceError(space.file, what, "Narrow the distributions")
