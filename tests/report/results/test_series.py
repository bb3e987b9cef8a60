"""Promises of series: the best so far never gets worse, and counts what was spent."""

import dataclasses

from fixtures.records import trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.records.trial import TrialRecord
from ferray.report.results.series import best_so_far, overfitting, pick_evenly

scores = st.lists(st.floats(0, 1), max_size=6)


def begun(record: TrialRecord, minute: int) -> TrialRecord:
    return dataclasses.replace(record, began=f"2026-01-01T00:{minute:02}:00+00:00")


@given(st.lists(st.tuples(scores, st.integers(0, 59), st.sampled_from(["done", "stopped", "failed"])), max_size=8))
def test_the_best_so_far_only_improves_and_ends_at_the_best_of_all(
    trials: list[tuple[list[float], int, str]],
) -> None:
    records = [
        begun(trial(*values, number=number, state=state), minute)
        for number, (values, minute, state) in enumerate(trials)
    ]
    steps = best_so_far(records)
    counted = [record.score() for record in records if record.epochs and record.state != "failed"]

    assert bool(steps) == bool(counted)
    if steps:
        assert [step.score for step in steps] == sorted(step.score for step in steps)
        assert steps[-1].score == max(one for one in counted if one is not None)
        assert steps[-1].epochs == sum(len(record.epochs) for record in records)
        assert steps[-1].trials == sum(bool(record.epochs) for record in records)
        assert abs(steps[-1].seconds - sum(record.seconds() for record in records)) < 1e-6


def test_epochs_count_in_the_order_of_time_not_of_numbers() -> None:
    late, early = begun(trial(0.5, number=0), 30), begun(trial(0.4, number=1), 10)

    assert [(step.number, step.score) for step in best_so_far([late, early])] == [(1, 0.4), (0, 0.5)]


def test_a_lower_loss_is_better() -> None:
    records = [begun(trial(2.0, number=0, monitor="val_loss"), 1), begun(trial(1.5, number=1, monitor="val_loss"), 2)]

    assert [step.score for step in best_so_far(records)] == [2.0, 1.5]


def test_overfitting_is_positive_where_training_is_better() -> None:
    by_accuracy, by_loss = trial(0.3), trial(0.9, monitor="val_loss")  # training has 0.5 of everything

    assert overfitting(by_accuracy) == 0.5 - 0.3
    assert overfitting(by_loss) == 0.9 - 0.5
    assert overfitting(trial()) is None


@given(st.integers(0, 300), st.integers(0, 20), st.integers(1, 20))
def test_of_many_trials_the_best_and_some_of_every_rank_are_picked(num: int, max_best: int, max_others: int) -> None:
    records = [trial(0.5, number=number) for number in range(num)]
    picked = [record.number for record in pick_evenly(records, max_best=max_best, max_others=max_others)]

    assert picked == sorted(set(picked))
    assert picked[:max_best] == list(range(min(num, max_best)))
    assert len(picked) == min(num, max_best) + min(max(0, num - max_best), max_others)
