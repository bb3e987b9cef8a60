"""What a running search shows."""

import dataclasses
import threading

import pytest

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search import live
from ferray.search.live import LiveView
from ferray.space import find_space, read_space


def test_in_a_log_every_trial_that_ends_is_one_line_with_its_settings_and_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    space = read_space(find_space("grid"))
    record = TrialRecord(trial_id="a", number=3, recipe=Recipe(dropout=0.0, epochs=2), state="running")
    row = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.25))
    with LiveView(space, columns=space.searched, total=24, ended=2, activities=dict) as view:
        view.trial_started(record)
        view.epoch_ended("a", row)
        view.trial_ended(dataclasses.replace(record, state="done", epochs=(row,)))
        failed = dataclasses.replace(record, number=4, state="failed", reason="loss is nan\n  lower it")
        view.trial_ended(failed)
    lines = capsys.readouterr().err.splitlines()
    settings = "(augmentation none, dropout 0, batch_size 32, learning_rate 0.001)"
    assert lines[0] == f"3/24: trial 3 done {settings}: val_accuracy 0.2500 in epoch 1 of 1, 0.2 s"
    assert lines[1] == f"4/24: trial 4 failed {settings}: loss is nan"
    assert "live" not in {thread.name for thread in threading.enumerate()}


def test_a_log_says_within_seconds_what_is_done_and_then_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    space = read_space(find_space("grid"))
    view = LiveView(space, columns=[], total=24, ended=0, activities=lambda: {"a": "features: 256 of 900 faces"})
    times = []
    for now in (1.0, 2.0, 4.0, 5.0, 33.0, 35.0):
        view.refresh()
        times += [now] if capsys.readouterr().err else []
    assert times == [4.0, 35.0]
