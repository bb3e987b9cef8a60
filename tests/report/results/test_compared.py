"""Promises of a comparison: equal budgets are equal, points that coincide are paired, chance makes nothing better."""

import dataclasses
import itertools
import math
from typing import Any

import pytest
from fixtures.compared import compared
from fixtures.records import RECIPE, trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.metrics.compare import SelectionBias
from ferray.metrics.intervals import student_interval, unpaired_difference
from ferray.records.trial import TrialRecord
from ferray.report.results.compared.budgets import UNITS, find_budgets, find_milestones, spent_of
from ferray.report.results.compared.coinciding import find_coinciding
from ferray.report.results.compared.comparison import compare_searches
from ferray.report.results.compared.differences import find_differences
from ferray.report.results.compared.searches import ComparedSearch
from ferray.report.results.compared.sentences import (
    coinciding_sentence,
    contrast_sentences,
    luck_sentences,
    verdict_sentences,
)
from ferray.report.results.compared.winners import compare_winners
from ferray.report.results.verdict import Significance

COUNT = itertools.count()

trials = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=6)


def made(*scores: float, number: int = 0, name: str = "", **settings: Any) -> TrialRecord:
    """A trial with an id of its own, which began after those of smaller numbers."""
    recipe = dataclasses.replace(RECIPE, **settings)
    monitor = settings.get("monitor", "val_accuracy")
    record = trial(*scores, number=number, recipe=recipe, monitor=monitor, state="done")
    return dataclasses.replace(record, trial_id=name or f"made{next(COUNT)}", began=f"2026-01-01T{number:02}:00:00")


def search_of(letter: str, lists: list[list[float]]) -> ComparedSearch:
    return compared(letter, [made(*scores, number=number) for number, scores in enumerate(lists)])


def judged(search: ComparedSearch, *, half_width: float, luck: float = 0.0) -> ComparedSearch:
    """With an interval of the winner on record."""
    point = search.results.points[0]
    corrected = point.mean - luck
    bias = SelectionBias(
        best=point.mean, corrected=corrected, interval=(corrected - half_width, corrected + half_width)
    )
    verdict = Significance(
        winner=point.number, trials=1, mean=point.mean, spread=None, runner_up=None, comparison=None, luck=bias
    )
    return dataclasses.replace(search, results=dataclasses.replace(search.results, verdict=verdict))


@given(trials, trials)
def test_at_equal_budget_no_search_is_credited_with_more_than_the_one_that_spent_least(
    ours: list[list[float]], theirs: list[list[float]]
) -> None:
    searches = [search_of("A", ours), search_of("B", theirs)]
    budgets = find_budgets(searches)

    assert [one.unit for one in budgets] == list(UNITS)
    for budget in budgets:
        assert budget.equal == min(spent_of(one.steps[-1], budget.unit) for one in searches)
        for search, step in zip(searches, budget.reached, strict=True):
            within = [one for one in search.steps if spent_of(one, budget.unit) <= budget.equal]
            assert step == (within[-1] if within else None)
        poorest = budget.spent.index(budget.equal)
        reached = budget.reached[poorest]
        assert reached is not None
        assert reached.score == searches[poorest].steps[-1].score


def test_a_better_score_beyond_the_equal_budget_does_not_count() -> None:
    short, long = search_of("A", [[0.5], [0.6]]), search_of("B", [[0.4], [0.55], [0.9]])
    by_trials = find_budgets([short, long])[0]

    assert by_trials.equal == 2
    assert [step and step.score for step in by_trials.reached] == [0.6, 0.55]


def test_without_a_score_in_one_search_there_is_no_equal_budget() -> None:
    searches = [search_of("A", [[0.5]]), search_of("B", [[]])]

    assert find_budgets(searches) == []
    assert find_milestones(searches) == []


@given(trials, trials)
def test_until_a_milestone_a_search_was_never_as_good(ours: list[list[float]], theirs: list[list[float]]) -> None:
    searches = [search_of("A", ours), search_of("B", theirs)]
    worst = min(search.steps[-1].score for search in searches)
    for search, found in zip(searches, find_milestones(searches), strict=True):
        for score, step in ((search.steps[-1].score, found.best), (worst, found.common)):
            assert step.score >= score
            assert all(one.score < score for one in search.steps if one.epochs < step.epochs)


def test_a_comparison_begins_with_which_is_better_and_what_it_took() -> None:
    first = [made(0.4, 0.5, number=0), made(0.6, number=1, dropout=0.1)]
    searches = [compared("A", first), search_of("B", [[0.7]])]
    better, took = verdict_sentences(compare_searches([judged(one, half_width=0.01) for one in searches]))

    assert better.startswith("B (search-B) is better than A (search-A) by 10.0 +- 1.4 points")
    assert took.startswith("To reach validation accuracy 0.6000, as all did, it took A 3 epochs and 2 s and B 1 epoch")


@pytest.mark.parametrize("lucks, num", [((0.01, 0.02), 1), ((0.01, 0.01), 0)])
def test_corrected_scores_of_one_winner_that_differ_are_explained(lucks: tuple[float, float], num: int) -> None:
    searches = [
        judged(compared(letter, [made(0.5, name="one"), made(0.4, number=1, dropout=0.1)]), half_width=0.1, luck=luck)
        for letter, luck in zip("AB", lucks, strict=True)
    ]
    sentences = luck_sentences(compare_searches(searches))

    assert len(sentences) == num
    assert all("of 2 points in A and 2 in B" in text for text in sentences)


def test_points_of_equal_settings_are_paired_after_equally_many_epochs() -> None:
    ours = [made(0.3, 0.4, 0.9, number=0, learning_rate=0.01), made(0.5, number=1, learning_rate=0.02)]
    theirs = [made(0.3, 0.5, number=7, learning_rate=0.01, seed=5), made(0.5, number=8, learning_rate=0.03)]
    (found,) = find_coinciding([compared("A", ours), compared("B", theirs)])
    (point,) = found.points

    assert (found.repetition, point.one, point.other, point.epochs) == ("other runs", 0, 7, 2)
    assert point.difference == pytest.approx(0.1)
    assert found.interval is None
    assert "B is better than A by 10.0 points on average; one point has no interval" in coinciding_sentence(
        found, "val_accuracy"
    )


def test_the_same_trials_are_apart_from_other_runs_of_the_same_settings() -> None:
    ours = [made(0.4, number=0, name="same", learning_rate=0.01), made(0.4, number=1, learning_rate=0.02)]
    theirs = [made(0.4, number=3, name="same", learning_rate=0.01), made(0.6, number=4, learning_rate=0.02, seed=1)]
    same, other = find_coinciding([compared("A", ours), compared("B", theirs)])

    assert (same.repetition, same.largest, len(same.points)) == ("the same trials", 0, 1)
    assert (other.repetition, len(other.points)) == ("other runs", 1)
    assert coinciding_sentence(same, "val_accuracy").endswith("are the same trials, with equal scores.")


def test_of_several_seeds_those_that_both_have_are_compared() -> None:
    ours = [made(0.4, number=0, seed=0), made(0.8, number=1, seed=1)]
    theirs = [made(0.5, number=0, seed=1), made(0.1, number=1, seed=2)]
    (found,) = find_coinciding([compared("A", ours), compared("B", theirs)])

    assert found.points[0].difference == pytest.approx(0.5 - 0.8)


def test_the_mean_difference_has_students_interval() -> None:
    ours = [made(0.5, number=place, dropout=place / 10) for place in range(3)]
    theirs = [made(0.5 + place / 10, number=place, dropout=place / 10, seed=1) for place in range(3)]
    (found,) = find_coinciding([compared("A", ours), compared("B", theirs)])
    low, high = found.interval or (math.nan, math.nan)

    assert found.mean == pytest.approx(0.1)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 / math.sqrt(3))  # the 97.5 % point with two degrees
    assert coinciding_sentence(found, "val_accuracy").endswith("within noise.")


def test_a_failed_trial_coincides_with_nothing() -> None:
    failed = dataclasses.replace(made(0.4, number=0), state="failed")

    assert find_coinciding([compared("A", [failed]), compared("B", [made(0.4, number=0, seed=1)])]) == []


@pytest.mark.parametrize(
    "half_width, outcome, text",
    [
        (0.01, "better", "B (search-B) is better than A (search-A) by 10.0 +- 1.4 points of validation accuracy"),
        (0.2, "not distinguishable", "not distinguishable: B (search-B) is ahead by 10.0 points"),
    ],
)
def test_a_winner_is_better_only_where_the_interval_of_the_difference_excludes_0(
    half_width: float, outcome: str, text: str
) -> None:
    searches = [
        judged(search_of(letter, [[score]]), half_width=half_width) for letter, score in (("A", 0.5), ("B", 0.6))
    ]
    (contrast,) = compare_winners(searches)
    (sentence,) = contrast_sentences(compare_searches(searches))

    assert (contrast.better, contrast.outcome, contrast.basis) == ("B", outcome, "separate intervals")
    assert text in sentence
    assert "Only approximate" in sentence


def test_a_lower_loss_is_better_and_has_no_points() -> None:
    ours, theirs = (
        compared(letter, [made(loss, monitor="val_loss")], metric="val_loss")
        for letter, loss in (("A", 1.5), ("B", 1.2))
    )
    searches = [judged(ours, half_width=0.01), judged(theirs, half_width=0.01)]
    (contrast,) = compare_winners(searches)

    assert (contrast.better, contrast.outcome) == ("B", "better")
    assert contrast.difference == pytest.approx(0.3)
    assert contrast.interval is not None
    assert contrast.interval[0] > 0
    assert "by 0.3000 +- 0.0141 validation loss" in contrast_sentences(compare_searches(searches))[0]


def test_where_no_interval_is_known_nothing_is_called_better() -> None:
    searches = [search_of("A", [[0.2]]), search_of("B", [[0.9]])]

    assert compare_winners(searches)[0].outcome == "not known"
    assert "whether that is more than chance is not known" in contrast_sentences(compare_searches(searches))[0]


@pytest.mark.parametrize("apart", [{"data": {"folder": "faces", "fingerprint": "g", "size_px": 32}}])
def test_winners_of_different_pictures_are_not_compared(apart: dict[str, Any]) -> None:
    ours, theirs = compared("A", [made(0.2)]), compared("B", [made(0.9)], **apart)
    comparison = compare_searches([judged(ours, half_width=0.01), judged(theirs, half_width=0.01)])

    assert comparison.contrasts[0].outcome == "not comparable"
    assert "do not compare" in comparison.warnings[0]


def test_one_trial_that_won_both_searches_is_the_same_winner() -> None:
    ours, theirs = compared("A", [made(0.5, name="one")]), compared("B", [made(0.5, name="one")])

    assert compare_winners([ours, theirs])[0].outcome == "the same trials"


def test_of_three_searches_the_best_is_compared_with_each() -> None:
    searches = [search_of(letter, [[score]]) for letter, score in (("A", 0.5), ("B", 0.7), ("C", 0.6))]

    assert [(one.better, one.other) for one in compare_winners(searches)] == [("B", "A"), ("B", "C")]


def test_what_differs_is_apart_from_what_is_equal() -> None:
    options = {"space": "grid", "data": None, "weights": "none", "set": [], "seed": 7}  # a default set is no difference
    ours = compared("A", [made(0.5)], versions={"ferray": "0.9", "torch": "2.10"}, precision="float32")
    theirs = compared("B", [made(0.5)], versions={"ferray": "1.0", "torch": "2.10"}, options=options)
    found = find_differences([ours, theirs])

    assert {one.name: one.values for one in found.differing} == {
        "ferray": ("0.9", "1.0"),
        "precision": ("float32", "not known"),
        "seed of the search": ("0", "7"),
    }
    assert {"data fingerprint", "learning rate", "metric", "torch", "version of numbers"} <= {
        one.name for one in found.equal
    }


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_an_unpaired_difference_is_wider_than_either_interval(a: float, b: float, one: float, other: float) -> None:
    low, high = unpaired_difference(a, (a - one, a + one), b, (b - other, b + other))

    assert high - low >= 2 * max(one, other) - 1e-9
    assert (low + high) / 2 == pytest.approx(a - b, abs=1e-9)


def test_an_interval_that_ends_at_1_makes_a_difference_no_surer() -> None:
    low, high = unpaired_difference(0.99, (0.95, 1.0), 0.95, (0.91, 0.99))  # the first would reach 1.03

    assert low == pytest.approx(0.04 - math.hypot(0.04, 0.04))
    assert high == pytest.approx(0.04 + math.hypot(0.01, 0.04))


def test_students_interval_of_equal_values_has_no_width() -> None:
    assert student_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
