"""After the search proper: the best points once more with other seeds, then the winner of folds on the whole split.

The best of many validation scores is partly luck. So the best few points are trained with other seeds, and the best
mean wins. A finalist whose first trial was stopped early has that trial trained to its end, from its last checkpoint:
a mean over fewer epochs would count against it. With folds no trial was trained on the whole training split: the winner
is trained once more, without folds.

What is still to be done follows from the records, so that a resumed search goes on with it; `finals.jsonl` has an event
for each trial that has ended, and for each that had failed and is run again. Begin at `missing_finals`, which says what
is to be trained; `rank_search` names the winner.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ferray import recipe as recipes
from ferray.errors import SearchError
from ferray.recipe import Recipe
from ferray.records.events import EndEvent, EndState, SuggestEvent
from ferray.records.points import Point, rank_points, without_refit
from ferray.records.trial import FINISHED, TrialRecord
from ferray.report.results.edges import Edge, find_edges
from ferray.search.history.points import Identify, Suggestion
from ferray.search.history.recorded import History
from ferray.search.plan import Plan
from ferray.wording import first_line


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The points of a search that may win, and what wins."""

    points: Sequence[Point]
    """Best first, those of the finals before all others."""
    kept: TrialRecord
    """The trial whose best epoch becomes the best model."""
    edges: Sequence[Edge]
    """Settings whose best value lies on an edge of what was tried."""

    @property
    def winner(self) -> Point:
        """The best point."""
        return self.points[0]


def rank_search(plan: Plan, records: Sequence[TrialRecord]) -> Ranking:
    """Rank the points and name the model that is kept.

    Args:
        plan: The search.
        records: All of it.

    Raises:
        SearchError: No trial has an epoch.
    """
    space = plan.space
    ranked = rank_points(without_refit(records, folds=plan.space.folds), wanted=space.folds * plan.replicates)
    if not ranked:
        reasons = sorted({first_line(record.reason) for record in records if record.reason})
        what = "no trial came to an epoch"
        raise SearchError(str(plan.run.folder), what, "; ".join(reasons) or "See the trials' records")
    kept = ranked[0].best_trial()
    if plan.refits:
        whole = _on_whole_split(ranked[0].recipe)
        kept = next((record for record in records if record.recipe == whole and record.epochs), kept)
    edges = find_edges(plan, ranked[0].recipe, [point.recipe for point in ranked])
    return Ranking(points=ranked, kept=kept, edges=edges)


def missing_finals(plan: Plan, history: History, identify: Identify) -> list[Recipe]:
    """What the finals still have to train, now that the search proper is done.

    First come the trials of finalists that were stopped early, then other seeds, then the refit.

    Args:
        plan: The search.
        history: Its records.
        identify: As for `Finals`.
    """
    if plan.replicates == 1 and not plan.refits:
        return []
    records = history.records
    on_record = {record.trial_id for record in records}
    failed = {event.trial_id for event in history.finals.ended() if event.state == "failed"}
    ended = failed | {record.trial_id for record in records if record.state in FINISHED}
    ended |= {event.trial_id for event in history.finals.ended() if event.trial_id in on_record}

    def not_ended(wanted: list[Recipe]) -> list[Recipe]:
        return [recipe for recipe in wanted if identify(recipes.to_values(recipe)) not in ended]

    finalists = find_finalists(plan, history)
    missing = [
        record.recipe for point in finalists for record in _stopped_early(point) if record.trial_id not in failed
    ]
    missing += not_ended([recipe for point in finalists for recipe in _other_seeds(point, plan.replicates)])
    if missing or not plan.refits or not rank_points(without_refit(records, folds=plan.space.folds)):
        return missing
    return not_ended([_on_whole_split(rank_search(plan, records).winner.recipe)])


def find_finalists(plan: Plan, history: History) -> list[Point]:
    """The best points of the search proper, by the trials that it asked for."""
    if plan.replicates == 1:
        return []
    asked = {event.trial_id for event in history.decisions.of_kind(SuggestEvent)}
    proper = [record for record in without_refit(history.records, folds=plan.space.folds) if record.trial_id in asked]
    return rank_points(proper, wanted=plan.space.folds)[: plan.finalists]


class Finals:
    """The trials of the finals, as `ferray.search.tune.loop` asks for them; nothing is stopped early.

    Args:
        wanted: Recipes, settled.
        history: The search's records, to which the ends of these trials are added.
        identify: The trial id of a recipe's values.
    """

    def __init__(self, wanted: Sequence[Recipe], history: History, *, identify: Identify) -> None:
        self._history = history
        self._log = history.finals
        self._left: list[Suggestion] = []
        numbers = {event.trial_id: event.number for event in self._log.events if isinstance(event, EndEvent)}
        taken = [*numbers.values(), *(record.number for record in history.records)]
        first_number = 1 + max(taken, default=-1)
        for place, recipe in enumerate(wanted):
            point = recipes.to_values(recipe)
            trial_id = identify(point)
            known = history.record(trial_id)
            number = numbers.get(trial_id, first_number + place) if known is None else known.number
            self._left.append(Suggestion(number, trial_id, point))
        self._ids = {suggestion.number: suggestion.trial_id for suggestion in self._left}

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial; one that was stopped early is opened again."""
        if not self._left:
            return "none left"
        suggestion = self._left.pop(0)
        record = self._history.record(suggestion.trial_id)
        if record is None or record.state != "stopped":
            return suggestion
        self._history.write_record(dataclasses.replace(record, state="queued", reason=""))
        return dataclasses.replace(suggestion, num_reported=len(record.epochs))

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        """No trial of the finals is stopped."""
        return False

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """A trial has ended."""
        self._log.append(EndEvent(number=number, trial_id=self._ids[number], state=state, epoch=epoch))


def _stopped_early(point: Point) -> list[TrialRecord]:
    """A finalist's trials that lack epochs: the scheduler stopped them, or a crash ended the finals on the way."""
    return [record for record in point.records if not record.complete]


def _other_seeds(point: Point, replicates: int) -> list[Recipe]:
    """A finalist's recipes with seeds that it was not trained with, for each of its folds."""
    known = [record.recipe for record in point.records]
    last = max(recipe.seed for recipe in known)
    folds = sorted({recipe.fold for recipe in known}, key=lambda fold: fold or 0)
    return [
        dataclasses.replace(known[0], seed=last + extra, fold=fold) for extra in range(1, replicates) for fold in folds
    ]


def _on_whole_split(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, folds=None, fold=None)
