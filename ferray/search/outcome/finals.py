"""After the search proper: the best points once more with other seeds, then the winner of folds on the whole split.

The best of many validation scores is partly luck. So the best few points are trained with other seeds, and the best
mean wins. With folds no trial has seen the whole training split: the winner is trained once more, without folds.

What is still to be done follows from the records, so that a resumed search goes on with it; `finals.jsonl` has a line
for each trial that has ended, and for each that had failed and is run again. Begin at `lacking`, which says what is to
be trained; `standing` names the winner.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ferray import recipe as recipes
from ferray.errors import SearchError
from ferray.recipe import Recipe
from ferray.records.points import Point, rank_points
from ferray.records.run import Run
from ferray.records.trial import FINISHED, State, TrialRecord
from ferray.search.history.points import Identify, Suggestion, ended_trials
from ferray.search.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The points of a search that may win, and what wins."""

    points: Sequence[Point]
    """Best first, those of the finals before all others."""
    kept: TrialRecord
    """The trial whose best epoch becomes the best model."""

    @property
    def winner(self) -> Point:
        """The best point."""
        return self.points[0]


def standing(plan: Plan, records: Sequence[TrialRecord]) -> Standing:
    """Rank the points and name the model that is kept.

    Args:
        plan: The search.
        records: All of it.

    Raises:
        SearchError: No trial has an epoch.
    """
    space = plan.space
    ranked = rank_points(_of_the_search(plan, records), wanted=space.folds * plan.replicates)
    if not ranked:
        reasons = sorted({record.reason.splitlines()[0] for record in records if record.reason})
        what = "no trial came to an epoch"
        raise SearchError(str(plan.run.folder), what, "; ".join(reasons) or "See the trials' records")
    kept = ranked[0].best_trial()
    if plan.refits:
        whole = _without_folds(ranked[0].recipe)
        kept = next((record for record in records if record.recipe == whole and record.epochs), kept)
    return Standing(points=ranked, kept=kept)


def lacking(plan: Plan, identify: Identify) -> list[Recipe]:
    """What the finals still have to train, now that the search proper is done: other seeds first, then the refit.

    Args:
        plan: The search; its records are read.
        identify: As for `Finals`.
    """
    if plan.replicates == 1 and not plan.refits:
        return []
    records = plan.run.read_trials()
    ended = {record.trial_id for record in records if record.state in FINISHED}
    on_record = {record.trial_id for record in records}
    ended |= {
        event["trial_id"]
        for event in ended_trials(plan.run.finals_journal().read())
        if event["state"] == "failed" or event["trial_id"] in on_record
    }

    def not_yet(wanted: list[Recipe]) -> list[Recipe]:
        return [recipe for recipe in wanted if identify(recipes.to_values(recipe)) not in ended]

    missing = not_yet([recipe for point in finalists(plan, records) for recipe in _other_seeds(point, plan.replicates)])
    if missing or not plan.refits or not rank_points(_of_the_search(plan, records)):
        return missing
    return not_yet([_without_folds(standing(plan, records).winner.recipe)])


def finalists(plan: Plan, records: Sequence[TrialRecord]) -> list[Point]:
    """The best points of the search proper, by the trials that it asked for."""
    if plan.replicates == 1:
        return []
    asked = {event["trial_id"] for event in plan.run.journal().read() if event["event"] == "suggest"}
    proper = [record for record in _of_the_search(plan, records) if record.trial_id in asked]
    return rank_points(proper, wanted=plan.space.folds)[: plan.finalists]


class Finals:
    """The trials of the finals, as the tuner asks for them; nothing is stopped early.

    Args:
        wanted: Recipes, settled.
        run: The search's folder.
        identify: The trial id of a recipe's values.
        first_number: Of the first of them, where it is not on record.
    """

    def __init__(self, wanted: Sequence[Recipe], run: Run, *, identify: Identify, first_number: int) -> None:
        self._journal = run.finals_journal()
        self._journal.repair()
        self._left: list[Suggestion] = []
        numbers = {event["trial_id"]: event["number"] for event in self._journal.read()}
        first_number = max([first_number, *(number + 1 for number in numbers.values())])
        for place, recipe in enumerate(wanted):
            point = recipes.to_values(recipe)
            trial_id = identify(point)
            known = run.read_trial(trial_id)
            number = numbers.get(trial_id, first_number + place) if known is None else known.number
            self._left.append(Suggestion(number, trial_id, point))
        self._ids = {suggestion.number: suggestion.trial_id for suggestion in self._left}

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""
        return self._left.pop(0) if self._left else "none left"

    def hear(self, number: int, epoch: int, score: float) -> bool:
        """No trial of the finals is stopped."""
        return False

    def end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        """A trial has ended."""
        self._journal.append(
            {"event": "end", "number": number, "trial_id": self._ids[number], "state": state, "epoch": epoch}
        )


def _of_the_search(plan: Plan, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """All but the refit, which no point is ranked by."""
    if plan.space.folds == 1:
        return list(records)
    return [record for record in records if record.recipe.folds is not None]


def _other_seeds(point: Point, replicates: int) -> list[Recipe]:
    """A finalist's recipes with seeds that it was not trained with, for each of its folds."""
    known = [record.recipe for record in point.records]
    last = max(recipe.seed for recipe in known)
    folds = sorted({recipe.fold for recipe in known}, key=lambda fold: fold or 0)
    return [
        dataclasses.replace(known[0], seed=last + extra, fold=fold) for extra in range(1, replicates) for fold in folds
    ]


def _without_folds(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, folds=None, fold=None)
