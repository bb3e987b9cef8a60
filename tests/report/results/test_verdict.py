"""Promises of the sentences on how sure the winner is: each follows from its numbers."""

import pytest

from ferray.metrics.compare import Comparison, SelectionBias
from ferray.report.results.verdict import Significance


def make_verdict(difference: float = 0.01, *, num_points: int | None = 24) -> Significance:
    interval = (difference - 0.02, difference + 0.02)
    return Significance(
        winner=3,
        trials=1,
        mean=0.42,
        spread=None,
        runner_up=None if num_points == 1 else 5,
        comparison=None
        if num_points == 1
        else Comparison(difference=difference, interval=interval, p=0.5, seeds=1, groups=100),
        luck=SelectionBias(best=0.42, corrected=0.41, interval=(0.38, 0.44)),
        num_points=num_points,
    )


@pytest.mark.parametrize(
    "difference, words",
    [
        (0.01, "trial 3 is ahead of trial 5 in validation accuracy by +0.0100 [-0.0100, +0.0300]"),
        (-0.01, "trial 3 is behind trial 5 in validation accuracy: -0.0100 [-0.0300, +0.0100]"),
        (-0.00004, "trial 3 is level with trial 5 in validation accuracy: +0.0000 [-0.0200, +0.0200]"),
    ],
)
def test_a_winner_by_another_metric_is_called_ahead_in_accuracy_only_where_it_is(difference: float, words: str) -> None:
    (line, _) = make_verdict(difference).lines("macro F1")

    assert line.startswith(words)


def test_a_winner_is_the_best_of_as_many_points_as_there_were() -> None:
    assert "0.4200 is the best of 24; without" in make_verdict().lines("accuracy")[-1]
    assert "is the best of many; without" in make_verdict(num_points=None).lines("accuracy")[-1]
    (only,) = make_verdict(num_points=1).lines("accuracy")
    assert "best of" not in only
    assert "no other point" in only
