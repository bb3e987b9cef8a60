"""Estimates of the time that is left, by what was measured."""

import dataclasses
from typing import Any

import pytest

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.expected import epochs_to_come
from ferray.search.pace import Pace, Planned, Prior
from ferray.search.work import epoch_kind
from ferray.space import Hyperband
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
            pace.note_epoch(record, row)


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
    pace.note_epoch(plain, plain.epochs[0])  # its view is ready
    pace.note_time(9, on_features=False)
    for row in plain.epochs[1:]:
        pace.note_epoch(plain, row)
    pace.note_end(plain)
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0 + 160)
    pace.note_time(60, on_features=True)  # of the second view
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0 + 100)
    pace.note_time(130, on_features=True)
    assert pace.left(1, []) == pytest.approx(3 * 10 * 1.0)
    begun = dataclasses.replace(altered, epochs=plain.epochs[:1])
    measure(pace, begun)
    assert pace.left(1, [begun]) == pytest.approx(29 * 1.0)


def trained(pace: Pace, record: TrialRecord, *, features_s: float, epochs_s: float) -> TrialRecord:
    """A trial that is trained from its start to its end; its time is that of the search."""
    pace.note_start(dataclasses.replace(record, epochs=()))
    for seconds, on_features in ((features_s, True), (epochs_s, False)):
        if seconds:
            pace.note_time(seconds, on_features=on_features)
    measure(pace, record)
    pace.note_end(record)
    return record


@pytest.mark.parametrize("settings", [{"epochs": 1}, {"epochs": 4, "augmentation": "light"}])
def test_where_every_epoch_may_read_a_new_view_the_time_is_known_once_views_are_shared(
    settings: dict[str, Any],
) -> None:
    """The first trial computes the views, the second reads them: before it, nothing is known of an epoch."""
    num_epochs = settings["epochs"]
    recipe = trial(0, **settings).recipe
    pace = Pace(10, keys_of_run(recipe, weights=""))
    trained(pace, trial(0, *[100.0] * num_epochs, **settings), features_s=100.0 * num_epochs, epochs_s=0)
    assert pace.left(1, []) is None
    assert pace.rates()[0] is None
    trained(pace, trial(1, *[2.0] * num_epochs, **settings), features_s=0, epochs_s=2.0 * num_epochs)
    assert pace.left(2, []) == pytest.approx(8 * num_epochs * 2.0)
    assert pace.rates()[0] == pytest.approx(2.0)


def test_time_without_an_epoch_is_not_taken_for_that_of_an_epoch() -> None:
    """Trials that share no view: the seconds between them, in which no group was busy, are no epochs."""
    pace = Pace(100)
    trained(pace, trial(0, 50.0, epochs=1), features_s=50, epochs_s=3)
    assert pace.left(1, []) is None


def test_a_trial_that_waited_for_the_view_of_another_says_nothing_about_epochs() -> None:
    pace = Pace(3)
    both = [trial(number, 160.0, epochs=4) for number in (0, 1)]
    for record in both:
        pace.note_start(dataclasses.replace(record, epochs=()))
    measure(pace, *both)
    assert pace.left_of_trial(both[1]) is None  # not 3 x 160 s
    third = trial(2, 1.0, epochs=4)
    pace.note_start(dataclasses.replace(third, epochs=()))
    measure(pace, third)
    assert pace.left_of_trial(both[1]) == pytest.approx(3 * 1.0)


def test_epochs_that_end_while_another_trial_computes_features_are_not_divided_into_other_time() -> None:
    pace = Pace(3)
    free = trial(0, 2.0, 2.0, freeze="none", epochs=2)
    pace.note_time(4, on_features=True)
    measure(pace, free)
    pace.note_end(free)
    assert pace.left(1, []) is None
    pace.note_time(4, on_features=False)
    measure(pace, free)
    assert pace.left(1, []) == pytest.approx(2 * 2 * 2.0)


def test_a_resumed_trial_may_have_computed_views_in_its_earlier_epochs() -> None:
    resumed = trial(0, 160.0, 1.0, epochs=4)
    pace = Pace(1, known=[resumed])
    pace.note_start(resumed)
    assert pace.left_of_trial(resumed) == pytest.approx(2 * 1.0)
    assert not pace.waits_for_view(resumed.recipe, 3)
    assert not pace.waits_for_view(dataclasses.replace(resumed.recipe, augmentation="light"), 5)  # after its last


def test_a_search_without_end_has_no_estimate() -> None:
    pace = Pace(None)
    done = trial(0, *[1.0] * 10)
    measure(pace, done)
    pace.note_end(done)
    assert pace.left(1, []) is None


def test_views_that_are_in_the_cache_are_neither_waited_for_nor_counted_as_work_that_is_left() -> None:
    """All views are ready before the search begins: the first epoch of the first trial says how long an epoch takes."""
    recipe = trial(0, epochs=1).recipe
    keys = keys_of_run(recipe, weights="")
    pace = Pace(10, keys, find_ready=lambda views: views)
    assert not pace.waits_for_view(recipe, 1)
    trained(pace, trial(0, 2.0, epochs=1), features_s=0, epochs_s=2.0)
    assert pace.left(1, []) == pytest.approx(9 * 2.0)
    assert pace.rates() == (pytest.approx(2.0), None)


def trained_one_after_the_other(pace: Pace, num_trials: int, **settings: Any) -> None:
    """Trials that a searcher suggests one after the other: a view takes 100 s, an epoch 1 s."""
    views: set[Any] = set()
    for number in range(num_trials):
        changes = {name: value(number) if callable(value) else value for name, value in settings.items()}
        record = trial(number, *[1.0] * 4, epochs=4, **changes)
        new = keys_of_run(record.recipe, weights="") - views
        views |= new
        rows = tuple(
            dataclasses.replace(row, seconds=101.0 if new and row.epoch == 1 else 1.0) for row in record.epochs
        )
        record = dataclasses.replace(record, epochs=rows)
        pace.note_start(dataclasses.replace(record, epochs=()))
        for row in record.epochs:
            if new and row.epoch == 1:
                pace.note_time(100.0 * len(new), on_features=True)
            pace.note_epoch(record, row)
            pace.note_time(1.0, on_features=False)
        pace.note_end(record)


@pytest.mark.parametrize(
    "settings, views_per_trial",
    [
        ({}, 0),
        ({"learning_rate": lambda number: 0.001 * (number + 1)}, 0),
        ({"augmentation": "light", "augmentation_views": 1, "seed": lambda number: number}, 1),
    ],
    ids=["all share one view", "a setting that no view depends on", "each trial has its own"],
)
def test_views_that_are_not_known_in_advance_are_expected_as_the_trials_so_far_had_them(
    settings: dict[str, Any], views_per_trial: int
) -> None:
    pace = Pace(20, None)
    trained_one_after_the_other(pace, 5, **settings)
    left = pace.left(5, [])
    assert left is not None
    epoch_s, view_s = pace.rates()
    assert epoch_s is not None
    assert view_s == pytest.approx(100.0)
    assert left - 15 * 4 * epoch_s == pytest.approx(15 * views_per_trial * 100.0)


def test_one_trial_alone_does_not_say_how_many_views_the_others_need() -> None:
    pace = Pace(20, None)
    trained_one_after_the_other(pace, 1)
    assert pace.left(1, []) is None


def test_views_of_a_trial_that_was_stopped_before_it_needed_them_are_no_work_that_is_left() -> None:
    pace = Pace(3, None)
    trained_one_after_the_other(pace, 2)
    before = pace.left(2, [])
    stopped = trial(9, 1.0, epochs=4, augmentation="light")  # three more views, had it gone on
    pace.note_start(dataclasses.replace(stopped, epochs=()))
    during = pace.left(2, [dataclasses.replace(stopped, epochs=())])
    assert before is not None
    assert during is not None
    assert during > before + 300
    pace.note_end(stopped)
    assert pace.left(3, []) == pytest.approx(0.0)


def test_a_cached_view_of_a_point_that_was_not_known_in_advance_costs_no_time() -> None:
    pace = Pace(4, None, find_ready=lambda views: views)
    for number in range(2):
        trained(pace, trial(number, 2.0, epochs=1, augmentation="light", seed=number), features_s=0, epochs_s=2.0)
    assert pace.left(2, []) == pytest.approx(2 * 2.0)


def planned_for(num_trials: int, **settings: Any) -> Planned:
    recipe = trial(0, **{"epochs": 4, **settings}).recipe
    return Planned(epochs={epoch_kind(recipe): num_trials * recipe.epochs}, max_epochs=recipe.epochs)


def test_before_anything_is_measured_an_earlier_search_says_how_long_it_takes() -> None:
    recipe = trial(0, epochs=4).recipe
    prior = Prior(epoch_s=2.0, view_s=100.0, end_s=10.0)
    pace = Pace(5, keys_of_run(recipe, weights=""), planned=planned_for(5), prior=prior)
    begun = trial(0, epochs=4)
    pace.note_start(begun)
    assert pace.left(0, [begun]) == pytest.approx(5 * 4 * 2.0 + 100.0 + 10.0)
    pace.note_time(30, on_features=True)
    assert pace.left(0, [begun]) == pytest.approx(5 * 4 * 2.0 + 70.0 + 10.0)


def test_what_is_measured_outweighs_an_earlier_search_after_two_trials() -> None:
    prior = Prior(epoch_s=2.0)
    pace = Pace(12, (), planned=planned_for(12, freeze="none"), prior=prior)
    for number in range(2):
        trained(pace, trial(number, *[1.0] * 4, epochs=4, freeze="none"), features_s=0, epochs_s=4.0)
    assert pace.left(2, []) == pytest.approx(10 * 4 * (1.0 + 2.0) / 2)


def test_a_search_that_differs_in_halving_is_believed_until_the_first_epoch() -> None:
    pace = Pace(12, (), planned=planned_for(12, freeze="none"), prior=Prior(epoch_s=2.0, is_like=False))
    assert pace.left(0, []) == pytest.approx(12 * 4 * 2.0)
    trained(pace, trial(0, *[1.0] * 4, epochs=4, freeze="none"), features_s=0, epochs_s=4.0)
    assert pace.left(1, []) == pytest.approx(11 * 4 * 1.0)


def test_where_the_points_are_known_the_epochs_of_the_first_trial_say_how_long_it_takes() -> None:
    pace = Pace(3, (), planned=planned_for(3, freeze="none"))
    first = trial(0, 5.0, epochs=4, freeze="none")
    pace.note_start(dataclasses.replace(first, epochs=()))
    pace.note_time(5, on_features=False)
    measure(pace, first)
    assert pace.left(0, [first]) == pytest.approx((3 * 4 - 1) * 5.0)


def test_worker_groups_that_are_not_up_when_the_first_trial_ends_are_counted_on() -> None:
    """Two groups; the second one was starting while the first trained a trial alone."""
    pace = Pace(9, (), planned=planned_for(9, freeze="none"), num_groups=2)
    trained(pace, trial(0, *[1.0] * 4, epochs=4, freeze="none"), features_s=0, epochs_s=5.0)
    assert pace.left(1, []) == pytest.approx(8 * 4 * 1.0 * 1.25 / 2)


def test_the_last_trial_takes_its_own_time_however_many_worker_groups_are_idle() -> None:
    pace = Pace(2, (), planned=planned_for(2, freeze="none"), num_groups=8)
    trained(pace, trial(0, *[1.0] * 4, epochs=4, freeze="none"), features_s=0, epochs_s=4.0)
    last = trial(1, 1.0, epochs=4, freeze="none")
    pace.note_start(dataclasses.replace(last, epochs=()))
    measure(pace, last)
    assert pace.left(1, [last]) == pytest.approx(3 * 1.0)


def test_epochs_with_smaller_batches_are_counted_with_their_own_time() -> None:
    small, large = ({"freeze": "none", "batch_size": size, "epochs": 4} for size in (16, 128))
    epochs = {epoch_kind(trial(0, **small).recipe): 8, epoch_kind(trial(0, **large).recipe): 32}
    pace = Pace(10, (), planned=Planned(epochs=epochs, max_epochs=4))
    trained(pace, trial(0, *[8.0] * 4, **small), features_s=0, epochs_s=32.0)
    assert pace.left(1, []) == pytest.approx(9 * 4 * 8.0), "nothing is known of the other batches"
    trained(pace, trial(1, *[1.0] * 4, **large), features_s=0, epochs_s=4.0)
    assert pace.left(2, []) == pytest.approx(4 * 8.0 + 28 * 1.0)


def test_where_patience_ends_trials_those_to_come_are_expected_to_be_as_short_the_more_so_the_more_have_ended() -> None:
    settings = {"freeze": "none", "epochs": 10, "patience": 2}
    pace = Pace(40, (), planned=planned_for(40, **settings))
    for number, share in ((0, (5 + 10) / (10 + 10)), (1, (10 + 10) / (20 + 10)), (2, (15 + 10) / (30 + 10))):
        short = trial(number, *[1.0] * 5, **settings)
        pace.note_start(dataclasses.replace(short, epochs=()))
        pace.note_time(5, on_features=False)
        measure(pace, short)
        pace.note_end(dataclasses.replace(short, state="done"))
        assert pace.left(number + 1, []) == pytest.approx((39 - number) * 10 * share)


def test_successive_halving_is_expected_to_stop_trials_whatever_became_of_the_first() -> None:
    halving = Hyperband(rungs=(2, 6), max_epochs=18, eta=3.0)
    planned = dataclasses.replace(planned_for(30, epochs=18, freeze="none"), halving=halving, num_final=2)
    pace = Pace(30, (), planned=planned)
    first = trial(0, *[1.0] * 18, epochs=18, freeze="none")
    trained(pace, first, features_s=0, epochs_s=18.0)
    expected = epochs_to_come(27, 18, halving, ended=[18]) + 2 * 18
    assert pace.left(1, []) == pytest.approx(expected)
    assert expected < 29 * 18 / 2


def test_heads_with_batches_that_were_not_measured_are_taken_for_half_as_dependent_on_the_number_of_steps() -> None:
    small, large = ({"batch_size": size, "epochs": 4} for size in (32, 128))
    keys = keys_of_run(trial(0, **small).recipe, weights="")
    epochs = {epoch_kind(trial(0, **small).recipe): 4, epoch_kind(trial(0, **large).recipe): 4}
    pace = Pace(2, keys, planned=Planned(epochs=epochs, max_epochs=4), find_ready=lambda views: views)
    trained(pace, trial(0, *[8.0] * 4, **small), features_s=0, epochs_s=32.0)
    assert pace.left(1, []) == pytest.approx(4 * 8.0 * (1 + 1 / 4) / 2)
