"""Which trial a longer one may go on from."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ferray.recipe import Recipe
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.history.shared_epochs import Prefixes

RECIPE = Recipe(image_size=64, precision="float32", epochs=10)


def record(trial_id: str, *, epochs: int, **changes: Any) -> TrialRecord:
    rows = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)) for epoch in range(1, epochs + 1))
    recipe = dataclasses.replace(RECIPE, epochs=epochs, **changes)
    return TrialRecord(trial_id=trial_id, number=0, recipe=recipe, state="done", epochs=rows)


def test_the_shorter_trials_are_named_longest_first_whether_they_run_now_or_are_on_record(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_trial(record("five", epochs=5))
    prefixes = Prefixes(run, decides=False)
    assert prefixes.shorter(RECIPE) == ("five",)
    for other in (record("three", epochs=3), record("seven", epochs=7), record("twelve", epochs=12)):
        prefixes.trial_started(other)

    assert prefixes.shorter(RECIPE) == ("seven", "five", "three")


def test_a_trial_that_is_not_equal_in_all_else_is_not_gone_on_from(tmp_path: Path) -> None:
    prefixes = Prefixes(Run(tmp_path), decides=False)
    for other in (
        record("seed", epochs=5, seed=1),
        record("monitor", epochs=5, monitor="val_loss"),
        record("equal", epochs=10),
    ):
        prefixes.trial_started(other)

    assert prefixes.shorter(RECIPE) == ()


def test_a_schedule_that_depends_on_the_number_of_epochs_is_not_gone_on_from(tmp_path: Path) -> None:
    prefixes = Prefixes(Run(tmp_path), decides=False)
    prefixes.trial_started(record("cosine", epochs=5, schedule="cosine"))

    assert prefixes.shorter(dataclasses.replace(RECIPE, schedule="cosine")) == ()


def test_a_trial_that_may_be_stopped_early_goes_on_from_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prefixes = Prefixes(Run(tmp_path), decides=True)
    prefixes.trial_started(record("five", epochs=5))

    assert prefixes.shorter(RECIPE) == ()
    assert "trial five has fewer epochs, but a longer run may be stopped before its last one" in caplog.text
