"""How much work a plan is: the passes of the frozen trunk, which are the largest part, and the epochs.

Begin at `count_work`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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


EpochKind = tuple[str, str, int | None, int]
"""What the time of an epoch depends on most: backbone, frozen layers, size of the picture, None for that of the store,
and batch size."""


def epoch_kind(recipe: Recipe) -> EpochKind:
    """What the time of an epoch of a recipe depends on most."""
    return recipe.backbone, recipe.freeze, recipe.image_size, recipe.batch_size


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of the points that are known in advance; seeds of finals and refits are not counted."""

    views: frozenset[ViewKey]
    """Passes of the frozen trunk over all faces: each view is computed once and shared by all trials."""
    trains_unaltered: bool
    """Whether a trial trains on a view of unaltered pictures, of which the others need the validation faces alone."""
    free_epochs: int
    """Epochs in which layers of the trunk are trained, too."""
    epochs: Mapping[EpochKind, int]
    """Epochs of all points, if no trial ends early, by what their time depends on."""
    halving: bool
    """Whether the search may stop trials early."""

    @property
    def settings(self) -> frozenset[EpochKind]:
        """Backbone, frozen layers, size of the picture and batch size of all points."""
        return frozenset(self.epochs)

    def kinds(self, size_px: int) -> set[Kind]:
        """What the rate of its trials depends on.

        Args:
            size_px: That of the store.
        """
        settings = ((backbone, freeze, size or size_px, batch) for backbone, freeze, size, batch in self.settings)
        return kinds_of(settings, halving=self.halving)


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
    epochs: Counter[EpochKind] = Counter()
    free, trains_unaltered = 0, False
    for point in islice(new_points(plan), num_points):
        recipe = recipe_of_point(plan.space, point, seed=plan.seed) if recipe_of is None else recipe_of(point)
        views |= keys_of_run(recipe, weights="")
        trains_unaltered |= reads_views(recipe) and not recipe.alters_pictures
        epochs[epoch_kind(recipe)] += recipe.epochs
        free += recipe.epochs if recipe.freeze != "trunk" else 0
    return Work(
        views=frozenset(views),
        trains_unaltered=trains_unaltered,
        free_epochs=free,
        epochs=epochs,
        halving=plan.space.early_terminate is not None,
    )


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


def num_new_points(plan: Plan) -> int | None:
    """Points that are new in this session; None for no limit."""
    return plan.num_points if plan.additions is None else plan.additions.num_new


def num_new_trials(plan: Plan) -> int | None:
    """Trials of those points, and of the finals; None for no limit."""
    total = num_new_points(plan)
    return None if total is None else total * plan.space.folds + plan.num_final_trials
