"""How good searches were at equal budget, and what each had to spend for equal scores.

Equal budget is the largest number of trials, epochs and seconds that all of them reached. Begin at `find_budgets`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ferray.report.results.compared.searches import ComparedSearch
from ferray.report.results.series import Step

Unit = Literal["trials", "epochs", "seconds"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each search had found when it had spent as much as the one that spent least."""

    unit: Unit
    """Trials that had begun; epochs; seconds of training, where trials that ran side by side count each."""
    spent: tuple[float, ...]
    """By each search in all."""
    reached: tuple[Step | None, ...]
    """The best score of each within `equal`; None before its first epoch was over."""

    @property
    def equal(self) -> float:
        """The largest budget that all have reached."""
        return min(self.spent)


def find_budgets(searches: Sequence[ComparedSearch]) -> list[Budget]:
    """By trials, epochs and seconds; nothing where a search has no score."""
    if not all(search.steps for search in searches):
        return []
    budgets = []
    for unit in UNITS:
        spent = tuple(spent_of(search.steps[-1], unit) for search in searches)
        reached = tuple(step_within(search.steps, unit, min(spent)) for search in searches)
        budgets.append(Budget(unit=unit, spent=spent, reached=reached))
    return budgets


@dataclass(frozen=True, kw_only=True)
class Milestones:
    """What a search had spent when it had its best score, and when it had a score that all searches reached."""

    letter: str
    """Of the search."""
    best: Step
    """When it first had its best score."""
    common: Step
    """When it was first as good as the worst of the searches' best scores."""


def find_milestones(searches: Sequence[ComparedSearch]) -> list[Milestones]:
    """By search, in their order; nothing where a search has no score, and for the stages of one search."""
    if searches[0].is_stage or not all(search.steps for search in searches):
        return []
    lowest = max((search.steps[-1].score for search in searches), key=searches[0].cost)
    return [
        Milestones(
            letter=search.letter,
            best=_first_as_good(search, search.steps[-1].score),
            common=_first_as_good(search, lowest),
        )
        for search in searches
    ]


def _first_as_good(search: ComparedSearch, score: float) -> Step:
    return next(step for step in search.steps if search.cost(step.score) <= search.cost(score))


def step_within(steps: Sequence[Step], unit: Unit, budget: float) -> Step | None:
    """The last improvement within a budget.

    Args:
        steps: From `best_so_far`.
        unit: Of the budget.
        budget: The most that may be spent.
    """
    return next((step for step in reversed(steps) if spent_of(step, unit) <= budget), None)


def spent_of(step: Step, unit: Unit) -> float:
    """What a search had spent by a step."""
    return float(getattr(step, unit))
