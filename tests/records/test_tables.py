"""Records as tables."""

from fixtures.records import trial

from ferray.recipe import FIELD_NAMES
from ferray.records.tables import epochs_frame, trials_frame


def test_frames_have_a_row_for_every_trial_and_every_epoch() -> None:
    rows = [trial(0.1, 0.4, state="done"), trial(number=1, state="failed", reason="loss is nan")]

    trials, every = trials_frame(rows), epochs_frame(rows)

    assert list(trials["state"]) == ["done", "failed"]
    assert set(FIELD_NAMES) <= set(trials.columns)
    assert trials.loc[0, "best_epoch"] == 2
    assert trials.loc[0, "best_val_accuracy"] == 0.4
    assert trials.loc[0, "seconds"] == 1.0
    assert trials["best_epoch"].isna()[1]
    assert list(every["epoch"]) == [1, 2]
    assert list(every["trial_id"]) == ["000000000000"] * 2


def test_frames_of_nothing_are_empty() -> None:
    assert trials_frame([]).empty
    assert epochs_frame([]).empty
