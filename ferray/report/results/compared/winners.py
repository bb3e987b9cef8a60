"""The winners of several searches: how good each is, and which is better than which, as far as chance lets one say.

Where checkpoints, store and cached features are there, the winners are compared picture by picture with the pictures of
validation, by the same rule as the best two points of one search. Elsewhere the intervals on record are compared, which
is cautious, since the errors of two models on the same pictures have much in common. The test split is never read.

Begin at `compare_winners`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ferray.errors import FerrayError
from ferray.metrics.compare import SelectionBias, compare_paired
from ferray.metrics.intervals import Interval, unpaired_difference
from ferray.recipe import MetricName
from ferray.records.points import Point, is_whole
from ferray.report.results.compared.searches import ComparedSearch, share_validation
from ferray.report.results.noise import Noise, find_noise
from ferray.report.results.sentences import settings_in_words

Basis = Literal["paired", "separate intervals", "none"]
"""What a difference is judged by: predictions picture by picture, the interval of each winner, or nothing."""

Outcome = Literal["better", "not distinguishable", "the same trials", "not known", "not comparable"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The winner of a search."""

    letter: str
    """Of the search."""
    number: int
    """Of its first trial."""
    settings: str
    """The searched ones, in words."""
    score: float
    """Mean of its trials, as measured."""
    num_trials: int
    interval: Interval | None
    """95 %, of the score by the choice of validation pictures; None where it is not known."""
    is_rough: bool
    """Whether the interval is a binomial one."""
    corrected: SelectionBias | None
    """The score without the luck of having been chosen; None where that is not on record."""
    test_accuracy: float | None
    """On record; None where the test split was not read for this model."""
    test_interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One winner against another."""

    better: str
    """Letter of the search with the better winner, by the difference."""
    other: str
    measure: MetricName
    """The metric in which they differ: that of the searches, or `val_accuracy` for a paired comparison."""
    difference: float
    """By how much the better one is better."""
    interval: Interval | None
    """95 %, of the difference; None where it is not known."""
    basis: Basis
    outcome: Outcome
    seeds: int
    """Of each in a paired comparison; else 0."""
    groups: int
    """Photographs in a paired comparison; else 0."""
    note: str
    """Why it is not a paired comparison; empty where it is one."""

    @property
    def is_approximate(self) -> bool:
        """Whether the interval is wider than a paired comparison's would be, or rough."""
        return self.basis == "separate intervals"


def standing_of(search: ComparedSearch) -> Standing | None:
    """The winner of a search; None where no trial has a score."""
    point, results = search.winner, search.results
    if point is None:
        return None
    noise, verdict, test = find_noise(results), results.verdict, results.test_score
    return Standing(
        letter=search.letter,
        number=point.number,
        settings=settings_in_words(results),
        score=point.mean,
        num_trials=len(point.records),
        interval=None if noise is None else noise.interval,
        is_rough=noise is not None and noise.is_rough,
        corrected=None if verdict is None else verdict.luck,
        test_accuracy=None if test is None else test.scores.accuracy,
        test_interval=None if test is None else test.scores.intervals["accuracy"],
    )


def compare_winners(searches: Sequence[ComparedSearch]) -> list[Contrast]:
    """The search with the best winner against each other one that has a score, in their order."""
    scored = [(search, search.winner) for search in searches if search.winner is not None]
    if len(scored) < 2:
        return []
    leader, best = min(scored, key=lambda one: one[1].recipe.cost(one[1].mean))
    return [_contrast(leader, best, search, point) for search, point in scored if search is not leader]


def _contrast(leader: ComparedSearch, best: Point, search: ComparedSearch, point: Point) -> Contrast:
    ours, theirs = leader.results, search.results
    difference = abs(best.mean - point.mean)
    if not share_validation(ours, theirs):
        note = "they were validated with different pictures, so their scores do not compare"
        return _judged(leader, search, ours.metric, difference, None, outcome="not comparable", note=note)
    if {one.trial_id for one in best.records} == {one.trial_id for one in point.records}:
        return _judged(leader, search, ours.metric, difference, None, outcome="the same trials")
    paired, note = _paired(leader, best, search, point)
    if paired is not None:
        return paired
    noises = find_noise(ours), find_noise(theirs)
    return _by_intervals(leader, search, (best.mean, point.mean), noises, note=note)


def _by_intervals(
    leader: ComparedSearch,
    search: ComparedSearch,
    scores: tuple[float, float],
    noises: tuple[Noise | None, Noise | None],
    *,
    note: str,
) -> Contrast:
    """From the interval of each winner's score."""
    ours, theirs = noises
    metric, difference = leader.results.metric, abs(scores[0] - scores[1])
    if ours is None or theirs is None:
        note = f"how far chance moves their scores is not known; {note}"
        return _judged(leader, search, metric, difference, None, outcome="not known", note=note)
    low, high = unpaired_difference(scores[0], ours.interval, scores[1], theirs.interval)
    interval = (low, high) if leader.results.maximize else (-high, -low)
    return _judged(leader, search, metric, difference, interval, basis="separate intervals", note=note)


def _judged(
    leader: ComparedSearch,
    search: ComparedSearch,
    measure: MetricName,
    difference: float,
    interval: Interval | None,
    *,
    basis: Basis = "none",
    outcome: Outcome | None = None,
    seeds: int = 0,
    groups: int = 0,
    note: str = "",
) -> Contrast:
    """With the one in front that the difference is in favor of."""
    ahead, behind = (leader, search) if difference >= 0 else (search, leader)
    if interval is not None and difference < 0:
        interval = (-interval[1], -interval[0])
    if outcome is None:
        assert interval is not None
        outcome = "not distinguishable" if interval[0] <= 0 <= interval[1] else "better"
    return Contrast(
        better=ahead.letter,
        other=behind.letter,
        measure=measure,
        difference=abs(difference),
        interval=interval,
        basis=basis,
        outcome=outcome,
        seeds=seeds,
        groups=groups,
        note=note,
    )


def _paired(leader: ComparedSearch, best: Point, search: ComparedSearch, point: Point) -> tuple[Contrast | None, str]:
    """A comparison picture by picture; where there is none, why."""
    seeds = [len({record.recipe.seed for record in one.records}) for one in (best, point)]
    if any(one.own_metric != one.results.metric for one in (leader, search)):
        return None, "their checkpoints are those of the best epochs by different metrics"
    if seeds[0] != seeds[1]:
        return None, f"they were trained with {seeds[0]} and {seeds[1]} seeds"
    if not (is_whole(best) and is_whole(point)):
        return None, "a fold of one of them is missing"
    if best.recipe.freeze != "trunk" or point.recipe.freeze != "trunk":
        return None, "a trunk was trained, so that predictions would need passes of the whole model"
    try:
        return _compare_predictions(leader, best, search, point)
    except FerrayError as error:
        return None, f"predictions cannot be computed: {error.args[1]}"


def _compare_predictions(
    leader: ComparedSearch, best: Point, search: ComparedSearch, point: Point
) -> tuple[Contrast | None, str]:
    from ferray.model.weights import unloaded_weights
    from ferray.report.results.answers import PointAnswers

    correct = []
    for results, one in ((leader.results, best), (search.results, point)):
        store = results.open_store()
        if store is None:
            return None, "the store of the pictures is not there"
        answers = PointAnswers(results.run, store, unloaded_weights(results.search.weights))
        if not answers.are_cached(one):
            return None, "the features of the frozen trunk are not in the cache of this machine"
        correct.append(answers.correct(one))
    comparison = compare_paired(correct[0], correct[1], answers.groups)
    contrast = _judged(
        leader,
        search,
        "val_accuracy",
        comparison.difference,
        comparison.interval,
        basis="paired",
        seeds=comparison.seeds,
        groups=comparison.groups,
    )
    return contrast, ""
