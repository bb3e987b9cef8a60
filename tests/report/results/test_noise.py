"""Promises of what is called noise, and of the tables of pairs that mark it."""

import dataclasses
from typing import Any

import pytest
from fixtures.records import RECIPE, trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.metrics.compare import SelectionBias
from ferray.records.points import Point, rank_points
from ferray.report.results.early import cut_in_words
from ferray.report.results.importance import measure_importance
from ferray.report.results.noise import Noise, indifferent_settings
from ferray.report.results.pairs import make_pairs
from ferray.report.results.scales import make_scales
from ferray.report.results.verdict import Significance

NOISE = Noise(interval=(0.45, 0.55), is_rough=False, maximize=True)


def grid(scores: dict[tuple[float, int], float], **settings: Any) -> list[Point]:
    """Points of dropout and batch size, best first."""
    records = [
        trial(score, number=number, recipe=dataclasses.replace(RECIPE, dropout=dropout, batch_size=size, **settings))
        for number, ((dropout, size), score) in enumerate(scores.items())
    ]
    return rank_points(records)


def test_a_setting_of_which_each_value_reaches_the_winners_interval_makes_no_difference() -> None:
    points = grid({(0.0, 32): 0.5, (0.0, 64): 0.2, (0.5, 32): 0.46, (0.5, 64): 0.3})
    scales = make_scales(points, ["dropout", "batch_size"])

    assert [scale.name for scale in indifferent_settings(points, scales, NOISE)] == ["dropout"]


def test_of_losses_the_lower_ones_are_within_noise() -> None:
    noise = dataclasses.replace(NOISE, maximize=False)

    assert noise.covers(0.5)
    assert noise.covers(0.1)
    assert not noise.covers(0.6)


@given(
    st.dictionaries(st.tuples(st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([16, 32])), st.floats(0, 1), min_size=2)
)
def test_every_point_is_in_one_cell_and_the_winner_in_the_best(scores: dict[tuple[float, int], float]) -> None:
    points = grid(scores)
    pairs = make_pairs(points, make_scales(points, ["dropout", "batch_size"]), NOISE)
    for pair in pairs:
        cells = [cell for row in pair.rows for cell in row if cell is not None]
        (winner,) = [cell for cell in cells if cell.has_winner]

        assert sum(cell.num for cell in cells) == len(points)
        assert winner.best == max(cell.best for cell in cells) == points[0].mean
        assert all(cell.is_near == (cell.best >= 0.45) for cell in cells)
        assert all(cell.mean <= cell.best + 1e-12 for cell in cells)


def test_a_cell_says_which_of_its_points_have_fewer_epochs() -> None:
    points = grid({(0.0, 32): 0.5, (0.5, 32): 0.4, (0.0, 64): 0.3, (0.5, 64): 0.2}, epochs=1)
    states = ("done", "stopped", "done", "running")
    points = [
        dataclasses.replace(point, records=(dataclasses.replace(point.records[0], state=state),))
        for point, state in zip(points, states, strict=True)
    ]
    (pair,) = make_pairs(points, make_scales(points, ["dropout", "batch_size"]), NOISE)
    cells = {cell.best: (cell.is_cut, cell.num_cut) for row in pair.rows for cell in row if cell is not None}

    assert cells == {0.5: (False, 0), 0.4: (True, 1), 0.3: (False, 0), 0.2: (True, 1)}
    assert cut_in_words(points) == "stopped early or not ended"
    assert cut_in_words(points[:1]) == ""


def test_the_setting_that_moves_the_score_is_the_important_one() -> None:
    sizes, dropouts = (16, 32, 64, 128), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    points = grid({(dropout, size): 0.2 + dropout for size in sizes for dropout in dropouts})
    importance = measure_importance(points, ["batch_size", "dropout", "augmentation"])

    assert importance is not None
    assert list(importance.shares) == ["dropout", "batch_size"]
    assert importance.shares["dropout"] > 0.9
    assert not importance.is_uncertain
    assert importance == measure_importance(points, ["batch_size", "dropout", "augmentation"])


def test_too_few_points_have_no_importance_or_an_uncertain_one() -> None:
    points = grid({(0.1 * number, 16 * (1 + number % 2)): 0.1 * number for number in range(5)})
    few = measure_importance(points, ["dropout", "batch_size"])

    assert few is not None
    assert few.is_uncertain
    assert measure_importance(points[:3], ["dropout"]) is None
    assert measure_importance(grid({(0.1 * number, 16): 0.5 for number in range(9)}), ["dropout"]) is None


def test_the_interval_of_a_winner_near_1_ends_at_1_and_is_no_narrower_below() -> None:
    luck = SelectionBias(best=0.99, corrected=0.98, interval=(0.94, 1.0))  # it would reach 1.02
    verdict = Significance(winner=0, trials=1, mean=0.99, spread=None, runner_up=None, comparison=None, luck=luck)

    assert verdict.interval == pytest.approx((0.95, 1.0))
