"""What a worker group does with a trial, without Ray."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.errors import DivergedError, StorageError
from ferray.files import storage
from ferray.files.storage import Lease
from ferray.recipe import trial_id
from ferray.records.run import Run
from ferray.records.trial import EpochResult, State, TrialRecord
from ferray.records.writer import TrialWriter
from ferray.search.fleet import worker
from ferray.search.fleet.messages import GroupConfig, GroupId, ReportReply, TrialJob
from ferray.search.fleet.worker import (
    TrialTrainer,
    _adopt_shorter_trial,
    _forward_what_takes_long,
)
from ferray.train.checkpoints.checked_safetensors import read_checked
from ferray.train.checkpoints.checkpoint import BEST, LAST
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.features import view as features
from ferray.train.fit import fit
from ferray.train.ranks import ALONE

SHORT, LONG = small_recipe(epochs=1), small_recipe(epochs=2)


def write_short_trial(run: Run, state: State) -> str:
    """A trial of one epoch with its checkpoints, on record; returns its id."""
    store, weights = SmallStore(), small_weights()
    name = trial_id(SHORT, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    rows = tuple(fit(SHORT, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))
    run.write_trial(TrialRecord(trial_id=name, number=0, recipe=SHORT, state=state, epochs=rows))
    return name


def take(run: Run) -> TrialWriter:
    writer = TrialWriter(run)
    writer.take("long", (1, 1))
    return writer


@pytest.mark.parametrize("state,goes_on", [("done", True), ("running", False), ("failed", False)])
def test_a_trial_goes_on_from_a_shorter_one_that_is_done(
    state: State, goes_on: bool, small_rows: None, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    job = TrialJob(trial_id="long", number=1, recipe=LONG, shorter=(write_short_trial(run, state),))
    _adopt_shorter_trial(job, take(run))

    assert [(run.trial_dir("long") / name).exists() for name in (BEST, LAST)] == [goes_on] * 2


def test_a_broken_checkpoint_of_a_shorter_trial_is_logged_and_not_used(
    small_rows: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path)
    short = write_short_trial(run, "done")
    (run.trial_dir(short) / LAST).write_bytes(b"torn")
    job = TrialJob(trial_id="long", number=1, recipe=LONG, shorter=(short,))
    _adopt_shorter_trial(job, take(run))

    assert "does not go on from trial" in caplog.text
    assert not (run.trial_dir("long") / LAST).exists()


def test_a_trial_with_epochs_of_its_own_keeps_them(small_rows: None, tmp_path: Path) -> None:
    run = Run(tmp_path)
    own = run.trial_dir("long") / LAST
    own.parent.mkdir(parents=True)
    own.write_bytes(b"its own")
    _adopt_shorter_trial(TrialJob(trial_id="long", number=1, recipe=LONG, shorter=("short",)), take(run))

    assert own.read_bytes() == b"its own"


class FakeClient:
    """Rank 0's client without a dispatcher: it keeps what is reported.

    Args:
        run: The search's folder.
        replies: To the reports, in order; the last one to all further ones.
    """

    def __init__(self, run: Run, *replies: ReportReply) -> None:
        self.writer, self._replies = TrialWriter(run), replies
        self.reported: list[int] = []
        """Number of epochs in each record that was reported."""
        self.activities: list[str] = []
        self.released: TrialRecord | None = None

    def open_trial(self, job: TrialJob) -> TrialRecord:
        self.writer.take(job.trial_id, (1, 1))
        return TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe)

    def report(self, record: TrialRecord) -> ReportReply:
        self.reported.append(len(record.epochs))
        return self._replies[min(len(self.reported), len(self._replies)) - 1]

    def release(self, record: TrialRecord) -> None:
        self.released = record

    def set_activity(self, text: str) -> None:
        self.activities.append(text)


def train(job: TrialJob, config: GroupConfig, client: FakeClient) -> TrialRecord:
    """Train a trial as a group of one rank does; returns the record that it is released with."""
    environment = Environment(ranks=ALONE, cache=config.cache)
    trainer = TrialTrainer(
        config,
        SmallStore(),
        environment,
        client,
        lambda: False,
        client.writer.run,
        {"vgg16": small_weights()},  # type: ignore[arg-type]
    )
    trainer.train(job)
    assert client.released is not None
    return client.released


def config_of(run: Run, cache: Path) -> GroupConfig:
    return GroupConfig(
        run_dir=run.folder,
        search_id="ffffffff",
        data_dir=Path("faces"),
        fingerprint="of the faces",
        weights="none",
        cache=cache,
        cpus_per_worker=1,
        has_scheduler=False,
    )


@pytest.mark.parametrize("reply, epochs, state", [("continue", 6, "done"), ("interrupted", 3, "interrupted")])
def test_epochs_that_share_a_checkpoint_are_reported_together_and_all_are_on_record(
    reply: ReportReply, epochs: int, state: State, small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # a second an epoch, or a write
    monkeypatch.setattr("ferray.train.checkpoints.writer.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 3.0)
    store, weights = SmallStore(), small_weights()
    recipe = small_recipe(epochs=6)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    client = FakeClient(run, reply)
    record = train(TrialJob(trial_id=name, number=0, recipe=recipe), config_of(run, tmp_path), client)

    assert client.reported == [3]
    assert (len(record.epochs), record.state) == (epochs, state)
    assert len(read_checked(run.trial_dir(name) / LAST)[0]["epochs"]) == epochs


def test_with_a_scheduler_each_epoch_is_reported_alone_though_a_checkpoint_holds_several(
    small_rows: None, tmp_path: Path
) -> None:
    store, weights = SmallStore(), small_weights()
    recipe = small_recipe(epochs=6)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    list(fit(recipe, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))  # the record of it was lost
    client = FakeClient(run, "continue", "stopped")
    config = dataclasses.replace(config_of(run, tmp_path), has_scheduler=True)
    record = train(TrialJob(trial_id=name, number=0, recipe=recipe), config, client)

    assert client.reported == [1, 2]
    assert (len(record.epochs), record.state) == (2, "stopped")


class ResumedClient(FakeClient):
    """A client of a trial that has epochs on record."""

    def __init__(self, run: Run, epochs: Sequence[EpochResult], *, began: str) -> None:
        super().__init__(run, "continue")
        self._epochs, self._began = tuple(epochs), began

    def open_trial(self, job: TrialJob) -> TrialRecord:
        return dataclasses.replace(super().open_trial(job), epochs=self._epochs, began=self._began)


@pytest.mark.parametrize("began", ["", "2026-01-01T00:00:00+00:00"])
def test_a_trial_that_is_resumed_began_when_its_first_epoch_did_or_nobody_knows_when(
    began: str, small_rows: None, tmp_path: Path
) -> None:
    store, weights = SmallStore(), small_weights()
    recipe = small_recipe(epochs=3)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    rows = list(fit(recipe, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))
    client = ResumedClient(run, rows[:2], began=began)
    assert train(TrialJob(trial_id=name, number=0, recipe=recipe), config_of(run, tmp_path), client).began == began


class FailingClient(FakeClient):
    """A client whose reports fail."""

    def __init__(self, run: Run, error: Exception) -> None:
        super().__init__(run)
        self._error = error

    def report(self, record: TrialRecord) -> ReportReply:
        raise self._error


@pytest.mark.parametrize(
    "error, state",
    [
        (DivergedError("epoch 1", "loss is nan", "Lower the learning rate"), "failed"),
        (RuntimeError("out of memory"), "failed"),
        (StorageError("runs", "No space left on device", "Free space"), "raised"),
    ],
)
def test_an_error_of_a_trial_fails_the_trial_and_one_of_the_environment_is_raised(
    error: Exception, state: str, small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 0.0)
    run = Run(tmp_path)
    job, client = TrialJob(trial_id="a", number=0, recipe=LONG), FailingClient(run, error)
    if state == "raised":
        with pytest.raises(StorageError, match="No space left"):
            train(job, config_of(run, tmp_path), client)
    else:
        record = train(job, config_of(run, tmp_path), client)
        assert (record.state, len(record.epochs)) == ("failed", 1)
        assert str(error) in record.reason


def test_progress_on_features_is_reported_as_an_activity(
    small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PROGRESS_INTERVAL_S", 0.0)
    monkeypatch.setattr(features.log, "handlers", [])
    client = FakeClient(Run(tmp_path), "continue")
    _forward_what_takes_long(client)  # type: ignore[arg-type]
    list(fit(SHORT, SmallStore(), small_weights(), environment=Environment(cache=tmp_path)))

    assert [activity.partition(",")[0] for activity in client.activities] == [
        "features: 12 of 12 pictures",
        "features: 24 of 24 pictures",
    ]


class NotedCalls:
    """A dispatcher that notes its calls and answers nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self.calls.append((name, *given)))


def test_a_trial_whose_folder_a_stopped_writer_holds_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferray.files.storage.LEASE_WAIT_S", 0.0)
    monkeypatch.setattr("ray.get", lambda answer: answer)
    run, dispatcher = Run(tmp_path), NotedCalls()
    client = worker.DispatcherClient(dispatcher, TrialWriter(Run(tmp_path)))
    client.group = GroupId("g", 1)
    Lease.take(run.trial_dir("a"), (1, 1))
    with storage.lock(run.trial_dir("a") / ".lease.lock"):
        assert client.open_trial(TrialJob(trial_id="a", number=0, recipe=SHORT, lease=(1, 2))) is None
        other = TrialJob(trial_id="b", number=1, recipe=SHORT, lease=(1, 3))
        assert client.open_trial(other) is not None, "the others are trained"
    ((name, _, trial, update),) = dispatcher.calls
    assert (name, trial, update.state) == ("release_trial", "a", "failed")
    assert "a writer that is stopped or does not answer" in update.reason
