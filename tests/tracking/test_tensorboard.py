"""TensorBoard's own reader finds in the event files what the records say."""

import dataclasses
from pathlib import Path

import pytest
from fixtures.tracking import make_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, State, TrialRecord
from ferray.tracking.tensorboard import STATUSES, TensorBoardLog

BEGAN = "2026-11-30T12:00:00+00:00"
STATES: tuple[State, ...] = ("done", "stopped", "failed", "interrupted")


def record_of(trial_id: str = "aa", *, number: int = 0, epochs: int = 3, state: State = "done") -> TrialRecord:
    return dataclasses.replace(make_record(trial_id, number=number, epochs=epochs, state=state), began=BEGAN)


def train(tracker: TensorBoardLog, record: TrialRecord, *, before: int = 0, ends: bool = True) -> None:
    """What a search says of a trial that has some epochs when the session begins."""
    tracker.trial_started(dataclasses.replace(record, state="running", epochs=record.epochs[:before]))
    for row in record.epochs[before:]:
        tracker.epoch_ended(record.trial_id, row)
    if ends:
        tracker.trial_ended(record)


def read(run: Run, record: TrialRecord) -> EventAccumulator:
    found = EventAccumulator(str(run.folder / "tensorboard" / f"{record.number:05}-{record.trial_id}"))
    return found.Reload()


def assert_has(run: Run, record: TrialRecord) -> None:
    """Every metric of every epoch, once, at the time when the epoch ended; and the best score."""
    events = read(run, record)
    began = record.began_s()
    assert began is not None
    for name in METRIC_FIELDS:
        rows = [(event.step, event.value) for event in events.Scalars(name)]
        assert rows == [(row.epoch, pytest.approx(getattr(row, name))) for row in record.epochs]
    times = [event.wall_time for event in events.Scalars("val_loss")]
    assert times == pytest.approx(
        [began + sum(row.seconds for row in record.epochs[: n + 1]) for n in range(len(times))]
    )
    if record.state != "running":
        assert [event.value for event in events.Scalars("best_val_accuracy")] == [pytest.approx(record.score())]


def status(run: Run, record: TrialRecord) -> int:
    content = read(run, record).SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    return int(HParamsPluginData.FromString(content).session_end_info.status)


@pytest.mark.parametrize("state", STATES)
def test_every_epoch_stands_in_the_files_with_the_end_of_its_trial(run: Run, state: State) -> None:
    record = record_of(state=state)
    with TensorBoardLog(run) as tracker:
        train(tracker, record, ends=state != "interrupted")
        tracker.search_ended([record])

    assert_has(run, record)
    assert status(run, record) == {"STATUS_UNKNOWN": 0, "STATUS_SUCCESS": 1, "STATUS_FAILURE": 2}[STATUSES[state]]


def test_an_epoch_can_be_read_as_soon_as_it_has_ended(run: Run) -> None:
    record = record_of(epochs=2, state="running")
    with TensorBoardLog(run) as tracker:
        train(tracker, record, ends=False)
        assert_has(run, record)


def test_settings_are_hyperparameters_of_tensorboard(run: Run) -> None:
    record = record_of()
    with TensorBoardLog(run) as tracker:
        train(tracker, record)

    content = read(run, record).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["learning_rate"].number_value == record.recipe.learning_rate
    assert settings["backbone"].string_value == "vgg16"
    assert "test_accuracy" not in settings


def test_a_trial_that_continues_has_every_epoch_once(run: Run) -> None:
    record = record_of(epochs=4)
    with TensorBoardLog(run) as tracker:
        train(tracker, dataclasses.replace(record, epochs=record.epochs[:3]), ends=False)  # killed: the third is lost
    with TensorBoardLog(run) as tracker:
        train(tracker, record, before=2)

    assert_has(run, record)


def test_two_points_that_are_one_trial_write_it_once(run: Run) -> None:
    record = record_of()
    with TensorBoardLog(run) as tracker:
        running = dataclasses.replace(record, state="running", epochs=())
        tracker.trial_started(running)
        tracker.trial_started(running)
        for row in record.epochs:
            tracker.epoch_ended("aa", row)
            tracker.epoch_ended("aa", row)
        tracker.trial_ended(record)
        tracker.trial_ended(record)

    assert_has(run, record)


def test_a_search_that_was_not_written_is_written_when_it_is_resumed(run: Run) -> None:
    records = [record_of(name, number=number) for number, name in enumerate(("aa", "bb"))]
    waiting = record_of("cc", number=2, epochs=0, state="queued")
    with TensorBoardLog(run) as tracker:
        tracker.search_ended([*records, waiting])

    for record in records:
        assert_has(run, record)
    assert len(list((run.folder / "tensorboard").iterdir())) == 2


def test_a_trial_that_was_written_to_its_end_is_not_written_again(run: Run) -> None:
    record = record_of()
    with TensorBoardLog(run) as tracker:
        train(tracker, record)
        (file,) = Path(run.folder / "tensorboard").rglob("events*")
        before = file.stat().st_mtime_ns, file.name
        tracker.search_ended([record])

    assert [(one.stat().st_mtime_ns, one.name) for one in (run.folder / "tensorboard").rglob("events*")] == [before]
