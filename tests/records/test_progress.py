"""The best epoch of a run, and when the run is complete."""

import dataclasses

from fixtures.records import RECIPE, trial


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    best = trial(0.3, 0.7, 0.7, 0.5).best()
    assert best is not None
    assert best.epoch == 2

    best = trial(0.7, 0.3, 0.3, 0.5, monitor="val_loss").best()
    assert best is not None
    assert best.epoch == 2

    assert trial().best() is None
    assert trial().score() is None


def test_a_trial_is_complete_after_its_epochs_or_its_patience() -> None:
    patient = dataclasses.replace(RECIPE, patience=2)

    assert not trial().complete
    assert not trial(0.1, 0.2).complete
    assert trial(0.1, 0.2, 0.3, 0.4, 0.5).complete
    assert not trial(0.3, 0.2, recipe=patient).complete
    assert trial(0.3, 0.2, 0.3, recipe=patient).complete
