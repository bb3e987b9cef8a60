"""How much work a plan is: the passes of the frozen trunk, which are the largest part, and the epochs.

Begin at `count_work`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ferray.recipe import Recipe
from ferray.search.history.points import MAX_LISTED, draw_points, next_new, recipe_of_point
from ferray.search.plan import Plan
from ferray.search.rates import Kind, kinds_of
from ferray.space import num_existing_points
from ferray.train.features.key import ViewKey, keys_of_run, reads_views

MAX_COUNTED = 100_000
"""Epochs of a plan whose passes of the trunk are counted, which takes 2 s."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of the points that are known in advance; seeds of finals and refits are not counted."""

    views: frozenset[ViewKey]
    """Passes of the frozen trunk over all faces: each view is computed once and shared by all trials."""
    trains_unaltered: bool
    """Whether a trial trains on a view of unaltered pictures, of which the others need the validation faces alone."""
    free_epochs: int
    """Epochs in which layers of the trunk are trained, too."""
    settings: frozenset[tuple[str, str, int | None, int]]
    """Backbone, frozen layers, size of the picture, None for that of the store, and batch size of all points."""

    def kinds(self, size_px: int) -> set[Kind]:
        """What the rate of its trials depends on.

        Args:
            size_px: That of the store.
        """
        return kinds_of((backbone, freeze, size or size_px, batch) for backbone, freeze, size, batch in self.settings)


def count_work(
    plan: Plan, num_points: int | None, *, recipe_of: Callable[[dict[str, Any]], Recipe] | None = None
) -> Work | None:
    """Count what a plan has to do; None where its points are not known in advance, or are too many to be listed.

    Args:
        plan: What was asked for.
        num_points: Points to train; None for no limit.
        recipe_of: The recipe of a point; None for one that is not settled.
    """
    if num_points is None or plan.space.is_adaptive:
        return None
    # The last points of a random space take many draws each.
    is_whole = plan.space.method == "random" and num_points == num_existing_points(plan.space)
    max_points = MAX_LISTED if is_whole or plan.additions is not None else MAX_COUNTED // max_epochs(plan)
    if num_points > max_points:
        return None
    views: set[ViewKey] = set()
    kinds: set[tuple[str, str, int | None, int]] = set()
    free, trains_unaltered = 0, False
    for point in islice(new_points(plan), num_points):
        recipe = recipe_of_point(plan.space, point, seed=plan.seed) if recipe_of is None else recipe_of(point)
        views |= keys_of_run(recipe, weights="")
        trains_unaltered |= reads_views(recipe) and not recipe.alters_pictures
        kinds.add((recipe.backbone, recipe.freeze, recipe.image_size, recipe.batch_size))
        free += recipe.epochs if recipe.freeze != "trunk" else 0
    return Work(views=frozenset(views), trains_unaltered=trains_unaltered, free_epochs=free, settings=frozenset(kinds))


def new_points(plan: Plan) -> Iterator[dict[str, Any]]:
    """The points that the search will ask for, in order; of a resumed one the new ones, `MAX_LISTED` at most."""
    if plan.additions is not None:
        yield from plan.additions.points or ()
        return
    seen: set[str] = set()
    draws = draw_points(plan.space, seed=plan.seed)
    while (point := next_new(draws, seen, repr)) is not None:
        seen.add(repr(point))
        yield point


def max_epochs(plan: Plan) -> int:
    """Epochs of the longest trial."""
    largest = [one.largest for one in plan.space.parameters if one.name == "epochs"]
    return int(largest[0]) if largest else Recipe().epochs
