"""What is counted of trials, and which of them are kept."""

import dataclasses

from fixtures.report import make_trial

from ferray.report.watch.tally import MAX_BEST, MAX_LISTED, Tally
from ferray.space import find_space, read_space


def tally_of(*known: object) -> Tally:
    space = read_space(find_space("asha"))
    return Tally("first", space, columns=space.searched, known=known)  # type: ignore[arg-type]


def test_of_many_trials_the_best_and_the_last_are_kept_and_all_are_counted() -> None:
    tally = tally_of()
    states = ("done", "stopped", "failed")
    for number in range(300):
        tally.end(make_trial(number, state=states[number % 3]))  # type: ignore[arg-type]
    view = tally.view()
    assert (view.num_ended, view.num_stopped, view.num_failed) == (300, 100, 100)
    assert len(view.best) == MAX_BEST
    assert [trial.score for trial in view.best] == sorted((trial.score or 0 for trial in view.best), reverse=True)
    assert "failed" not in {trial.state for trial in view.best}
    assert [trial.number for trial in view.failed] == [299, 296, 293, 290, 287][:MAX_LISTED]
    assert view.stopped[0].reason == "not in the best 1/3 there"


def test_a_trial_that_was_stopped_says_at_which_rung() -> None:
    view = tally_of(make_trial(0, state="stopped", epochs=2), make_trial(1, state="stopped", epochs=6)).view()

    assert [trial.reason for trial in view.stopped] == [
        f"not in the best 1/3 at rung {number} of 2" for number in (2, 1)
    ]


def test_a_failed_trial_that_is_run_again_counts_once() -> None:
    failed = dataclasses.replace(make_trial(0, state="failed"), reason="loss is nan\nmore")
    tally = tally_of(failed)
    assert tally.view().failed[0].reason == "loss is nan"
    tally.begin(dataclasses.replace(failed, state="running", epochs=()))
    assert (tally.view().num_failed, tally.view().failed) == (0, ())
    tally.end(make_trial(0))
    assert [trial.state for trial in tally.view().best] == ["done"]


def test_a_stopped_trial_that_is_trained_to_its_end_is_no_longer_a_stopped_one() -> None:
    stopped = make_trial(0, state="stopped", epochs=2)
    tally = tally_of(stopped)
    tally.begin(dataclasses.replace(stopped, state="running"))
    tally.end(make_trial(0, epochs=9))
    view = tally.view()
    assert (view.num_stopped, view.stopped, len(view.best)) == (0, (), 1)


def test_two_points_of_one_identity_have_an_epoch_each() -> None:
    tally = tally_of()
    first = dataclasses.replace(make_trial(0, epochs=0), state="running")
    tally.begin(first)
    tally.begin(dataclasses.replace(first, number=1))
    (row,) = make_trial(0, epochs=1).epochs
    assert len(tally.add_epoch(first.trial_id, row)) == 2
    assert [trial.num_epochs for trial in tally.view().running] == [1, 1]
    assert tally.add_epoch(first.trial_id, row) == [], "a second report of one epoch"
