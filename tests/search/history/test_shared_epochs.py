"""Which trial a longer one may go on from."""

import dataclasses
from typing import Any

import pytest

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.history.shared_epochs import SharedEpochs

RECIPE = Recipe(image_size=64, precision="float32", epochs=10)


def record(trial_id: str, *, epochs: int, **changes: Any) -> TrialRecord:
    rows = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)) for epoch in range(1, epochs + 1))
    recipe = dataclasses.replace(RECIPE, epochs=epochs, **changes)
    return TrialRecord(trial_id=trial_id, number=0, recipe=recipe, state="done", epochs=rows)


def test_the_shorter_trials_are_named_longest_first_whether_they_run_now_or_are_on_record() -> None:
    shared = SharedEpochs([record("five", epochs=5)], has_scheduler=False)
    assert shared.shorter_trials(RECIPE) == ("five",)
    for other in (record("three", epochs=3), record("seven", epochs=7), record("twelve", epochs=12)):
        shared.trial_started(other)

    assert shared.shorter_trials(RECIPE) == ("seven", "five", "three")


def test_a_trial_that_is_not_equal_in_all_else_is_not_gone_on_from() -> None:
    shared = SharedEpochs([], has_scheduler=False)
    for other in (
        record("seed", epochs=5, seed=1),
        record("monitor", epochs=5, monitor="val_loss"),
        record("equal", epochs=10),
    ):
        shared.trial_started(other)

    assert shared.shorter_trials(RECIPE) == ()


def test_a_schedule_that_depends_on_the_number_of_epochs_is_not_gone_on_from() -> None:
    shared = SharedEpochs([], has_scheduler=False)
    shared.trial_started(record("cosine", epochs=5, schedule="cosine"))

    assert shared.shorter_trials(dataclasses.replace(RECIPE, schedule="cosine")) == ()


def test_a_trial_that_may_be_stopped_early_goes_on_from_none(caplog: pytest.LogCaptureFixture) -> None:
    shared = SharedEpochs([], has_scheduler=True)
    shared.trial_started(record("five", epochs=5))

    assert shared.shorter_trials(RECIPE) == ()
    assert "the epochs of trial five are trained again for a longer trial: a longer trial may be stopped" in caplog.text
