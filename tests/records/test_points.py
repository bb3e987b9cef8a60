"""The order of trials and of points."""

import math

import pytest
from fixtures.records import seeded, trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.recipe import METRICS
from ferray.records.points import rank_points, rank_trials


@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=3), max_size=6), st.sampled_from(METRICS))
def test_the_first_in_rank_is_better_sooner_or_earlier(scores: list[list[float]], monitor: str) -> None:
    ranked = rank_trials(trial(*row, number=number, monitor=monitor) for number, row in enumerate(scores))

    keys = []
    for record in ranked:
        best = record.best()
        score = record.score()
        assert best is not None
        assert score is not None
        keys.append((score if monitor == "val_loss" else -score, best.epoch, record.number))
    assert keys == sorted(keys)
    assert len(ranked) == sum(bool(row) for row in scores)


def test_failed_trials_have_no_rank() -> None:
    assert rank_trials([trial(0.9, state="failed"), trial(0.1, number=1, state="stopped")]) == [
        trial(0.1, number=1, state="stopped")
    ]


def test_trials_that_differ_in_seed_and_fold_alone_are_one_point_ranked_by_their_mean() -> None:
    lucky = trial(0.9, number=0)
    others = [trial(score, number=number, recipe=seeded(number)) for number, score in ((1, 0.2), (2, 0.4))]
    steady = [trial(0.6, number=number, recipe=seeded(number, dropout=0.1)) for number in (3, 4)]
    ranked = rank_points([*steady, lucky, *others])
    assert [[record.number for record in point.records] for point in ranked] == [[3, 4], [0, 1, 2]]
    assert [point.mean for point in ranked] == [pytest.approx(0.6), pytest.approx(0.5)]
    assert ranked[1].spread == pytest.approx(math.sqrt(0.13))
    assert ranked[1].best_trial() == lucky


def test_a_point_with_too_few_trials_comes_after_those_that_have_them() -> None:
    lucky, steady = trial(0.9), [trial(0.5, number=n, recipe=seeded(n, dropout=0.1)) for n in (1, 2)]
    assert [point.number for point in rank_points([lucky, *steady], wanted=2)] == [1, 0]
    assert [point.number for point in rank_points([lucky, *steady])] == [0, 1]


def test_a_failed_trial_counts_for_no_point() -> None:
    assert rank_points([trial(0.9, state="failed"), trial()]) == []
