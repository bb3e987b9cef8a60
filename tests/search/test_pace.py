"""Estimates of the time that is left, by what was measured."""

import dataclasses

import pytest

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.pace import Pace
from ferray.train.features.key import keys_of_run


def trial(number: int, *seconds: float, **settings: object) -> TrialRecord:
    recipe = dataclasses.replace(Recipe(image_size=48, precision="float32"), **settings)
    rows = [
        EpochResult(epoch=epoch, **{**dict.fromkeys(METRIC_FIELDS, 0.5), "seconds": one})
        for epoch, one in enumerate(seconds, start=1)
    ]
    return TrialRecord(trial_id=f"t{number}", number=number, recipe=recipe, state="running", epochs=tuple(rows))


def measure(pace: Pace, *records: TrialRecord) -> None:
    for record in records:
        for row in record.epochs:
            pace.note_epoch(record.recipe, row)


def test_the_epoch_that_computed_the_features_says_nothing_about_those_that_share_them() -> None:
    pace = Pace(1)
    first = trial(0, 160.0)
    measure(pace, first)
    assert pace.left_of_trial(first) is None  # not 9 x 160 s

    second = trial(0, 160.0, 1.5)
    measure(pace, second)
    assert pace.left_of_trial(second) == pytest.approx(8 * 1.5)
    assert pace.left_of_trial(trial(1, 150.0)) == pytest.approx(9 * 1.5)  # by the epochs of the other trial


def test_each_altered_copy_of_the_faces_takes_as_long_as_the_first() -> None:
    pace = Pace(1)
    altered = {"augmentation": "light", "augmentation_views": 3}
    measure(pace, trial(0, 100.0, 2.0))
    assert pace.left_of_trial(trial(1, 100.0, **altered)) == pytest.approx(2 * 100.0 + 7 * 2.0)
    every = {"augmentation": "light"}
    assert pace.left_of_trial(trial(1, 100.0, **every)) == pytest.approx(9 * 100.0)


def test_epochs_with_free_layers_cost_the_same_every_time() -> None:
    free = trial(0, 30.0, 32.0, freeze="none", epochs=4)
    assert Pace(1).left_of_trial(free) == pytest.approx(2 * 31.0)


def test_a_trial_that_has_not_begun_has_no_estimate() -> None:
    assert Pace(1).left_of_trial(trial(0)) is None


def test_the_searchs_estimate_counts_views_and_epochs_apart() -> None:
    """Four trials, two views: the first view took 160 s, and an epoch takes 1 s of the search."""
    plain = trial(0, 161.0, *[1.0] * 9)
    altered = trial(1, augmentation="light", augmentation_views=1)
    views = keys_of_run(plain.recipe, weights="") | keys_of_run(altered.recipe, weights="")
    pace = Pace(4, views)
    assert pace.left(0, [plain]) is None  # before a trial has ended, nobody knows how long one is
    pace.note_time(160, on_features=True)
    pace.note_epoch(plain.recipe, plain.epochs[0])  # its view is ready
    pace.note_time(9, on_features=False)
    for row in plain.epochs[1:]:
        pace.note_epoch(plain.recipe, row)
    pace.note_end(plain)
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0 + 160)
    pace.note_time(60, on_features=True)  # of the second view
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0 + 100)
    pace.note_time(130, on_features=True)
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0)
    begun = dataclasses.replace(altered, epochs=plain.epochs[:1])
    measure(pace, begun)
    assert pace.left(1, [begun]) == pytest.approx(29 * 1.0)


def test_a_search_without_end_has_no_estimate() -> None:
    pace = Pace(None)
    done = trial(0, *[1.0] * 10)
    measure(pace, done)
    pace.note_end(done)
    assert pace.left(1, []) is None
