"""What a worker of a group does: it trains one trial after the other until the dispatcher has no more.

Rank 0 takes a trial from the dispatcher and sends it to the other ranks; all of them train it. After each epoch rank 0
writes the checkpoint, then the record, reports to the dispatcher, and sends the reply to the other ranks. Without a
scheduler, short epochs share a checkpoint and a report. `ray.train.report` is not used here: each call of it waits for
the controller's poll, every 2 s.

An error of a trial fails the trial. An error of the environment, such as a full disk or a folder that a node does not
see, ends the search, since every later trial would fail, too.

Ranks act together: after `ranks.together()` all raise if one did; `ranks.from_first(value)` is rank 0's on all.
Begin at `run_worker`, the loop of every rank, which `ferray.search.fleet.groups` starts.
"""

import dataclasses
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

import ray
import torch
import torch._dynamo  # the first optimizer imports it, 1.2 s, and by then other groups start on the same cores

from ferray.data.store.reader import Store
from ferray.errors import (
    BucketError,
    CheckpointError,
    FencedError,
    FerrayError,
    LockedError,
    SearchError,
    StorageError,
    WeightsError,
)
from ferray.files import outage
from ferray.files.storage import cache_dir
from ferray.model.weights import Weights, load_weights
from ferray.records.bucket.writer import make_writer
from ferray.records.run import Run
from ferray.records.trial import State, TrialRecord
from ferray.records.writer import TrialWriter
from ferray.search.fleet.messages import GroupConfig, GroupId, GroupInfo, NoTrial, ReportReply, TrialJob, TrialUpdate
from ferray.search.fleet.probe import open_places, weights_here
from ferray.train.checkpoints.checkpoint import LAST, CheckpointFolder
from ferray.train.checkpoints.writer import Checkpointing, Epochs
from ferray.train.device import device_of_worker
from ferray.train.environment import Environment
from ferray.train.features import view as features
from ferray.train.fit import fit
from ferray.train.interruption import Interrupted
from ferray.train.ranks import current_ranks
from ferray.train.settle import measure_precision
from ferray.wording import utc_now

log = logging.getLogger(__name__)

SAVE_EVERY_S = 0.5
"""Epochs that end sooner after the last checkpoint share the next one, where no scheduler waits for each."""

SAVE_EVERY_S_IN_BUCKET = 3.0
"""The same, where each report sends the record."""

NOTE_PROGRESS_S = 10.0
"""How often a group that is training says so between its epochs."""


def run_worker(config: GroupConfig, group: str, dispatcher: Any) -> None:
    """The loop of one rank: trial after trial until the dispatcher has no more.

    Args:
        config: What the group needs of its search.
        group: Name of this rank's group.
        dispatcher: Handle of the dispatcher actor.
    """
    torch.set_num_threads(config.cpus_per_worker)
    cache = config.cache or cache_dir()
    ranks = current_ranks()
    ray.get(dispatcher.register_worker.remote(group, ranks.rank, ray.get_runtime_context().get_node_id()))
    client = DispatcherClient(dispatcher, make_writer(config.run_dir, config.address)) if ranks.is_first else None
    try:
        with ranks.together():
            device = device_of_worker(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))
            store = open_places(config)
            if client is not None:
                precision = measure_precision(device=device, cache=cache)
                client.register(group, GroupInfo(device=_device_name(device), precision=precision))
                _forward_what_takes_long(client)
        interruption = dispatcher.wait_for_interruption.remote(ranks.from_first(client.group if client else None))

        def is_interrupted() -> bool:
            """Whether to leave the trial at once, within an epoch too; asked about once a second in training."""
            if client is not None:
                client.note_progress()
            return bool(ray.wait([interruption], timeout=0)[0])

        environment = Environment(ranks=ranks, device=device, cache=cache)
        run = make_writer(config.run_dir, config.address).run
        trainer = TrialTrainer(config, store, environment, client, is_interrupted, run)
        while (job := ranks.from_first(client.take_trial() if client is not None else None)) != "exit":
            if isinstance(job, TrialJob):
                trainer.train(job)
    except FerrayError as error:
        if client is not None:
            client.abort(error)


@dataclass
class TrialTrainer:
    """Trains trials on one rank; all ranks of a group are given the same trials in the same order."""

    config: GroupConfig
    store: Store
    environment: Environment
    client: "DispatcherClient | None"
    """Rank 0's; the other ranks neither write nor report."""
    is_interrupted: Callable[[], bool]
    run: Run
    """The search, in whose folder its group writes checkpoints."""
    weights: dict[str, Weights] = field(default_factory=dict)
    """The pretrained weights that were needed so far, by backbone."""
    _record: TrialRecord = field(init=False)
    """The trial in training."""

    def train(self, job: TrialJob) -> None:
        """Train one trial until it is complete, stopped, interrupted or failed, and release it.

        Raises:
            StorageError: The trial's folder cannot be written.
        """
        with self.environment.ranks.together():
            weights = self._weights(job.recipe.backbone)
        with self.environment.ranks.together():
            found = self.client.open_trial(job) if self.client is not None else None
        record = self.environment.ranks.from_first(found)
        if record is None:  # another group has taken it since, or it has failed
            return
        self._record = dataclasses.replace(
            record,
            state="running",
            reason="",
            device=_device_name(self.environment.device),
            began=record.began if record.epochs else record.began or utc_now(),
        )
        checkpointing = Checkpointing(
            self.run.trial_dir(job.trial_id),
            lease=self.client.writer.lease if self.client is not None else None,
            min_interval_s=0.0 if self.config.has_scheduler else self._save_every_s,
            recorded_epochs=len(record.epochs),
        )
        rows = fit(
            job.recipe,
            self.store,
            weights,
            checkpointing=checkpointing,
            environment=self.environment,
            is_interrupted=self.is_interrupted,
        )
        state, reason = self._train_to_end(rows)
        if state != "fenced":
            with self.environment.ranks.together():
                if self.client is not None:
                    self.client.release(dataclasses.replace(self._record, state=state, reason=reason))

    @property
    def _save_every_s(self) -> float:
        return SAVE_EVERY_S if self.config.address is None else SAVE_EVERY_S_IN_BUCKET

    def _weights(self, backbone: str) -> Weights:
        if backbone not in self.weights:
            loaded = load_weights(weights_here(self.config), backbone)
            if loaded.fingerprint != self.config.weights_fingerprints.get(backbone, loaded.fingerprint):
                way_out = "Put the weights back that the search was started with, or begin another search"
                raise WeightsError(self.config.weights, "holds other weights than when the search was started", way_out)
            self.weights[backbone] = loaded
        return self.weights[backbone]

    def _train_to_end(self, rows: Epochs) -> tuple[State | Literal["fenced"], str]:
        """Train the epochs; returns the state that the trial has then, and the reason if it failed."""
        try:
            return self._train_epochs(rows), ""
        except Interrupted:
            return "interrupted", ""
        except FencedError as error:
            with self.environment.ranks.together():
                if self.client is not None:
                    self.client.check_fenced(error)
            return "fenced", ""
        except LockedError as error:
            return "failed", str(error)
        except (StorageError, BucketError):
            raise
        except FerrayError as error:
            return "failed", str(error)
        except torch.AcceleratorError:  # this process cannot use the device any more
            raise
        except (RuntimeError, ValueError, MemoryError) as error:
            if (
                self.environment.ranks.world > 1
            ):  # the other ranks may be waiting in a collective: only a restart ends that
                raise
            log.exception("trial %s failed", self._record.trial_id)
            return "failed", f"{type(error).__name__}: {error}"
        finally:
            rows.close()

    def _train_epochs(self, rows: Epochs) -> State | Literal["fenced"]:
        """Add each epoch to the record and report it, until the trial is complete or is not to be continued."""
        for row in rows:
            if row.epoch == len(self._record.epochs) + 1:
                self._record = dataclasses.replace(self._record, epochs=(*self._record.epochs, row))
            if self._record.complete:
                break
            if rows.has_more and not self.config.has_scheduler:  # more epochs of the same checkpoint
                continue
            reply = self._report()
            if reply != "continue":
                return reply  # `stopped`, `interrupted` or `fenced`, which is the trial's state
        return "done"

    def _report(self) -> ReportReply:
        reply: ReportReply = "continue"
        with self.environment.ranks.together():
            if self.client is not None:
                reply = self.client.report(self._record)
        return self.environment.ranks.from_first(reply)


class DispatcherClient:
    """Rank 0's access to the dispatcher and to the folder of the trial that its group holds.

    Args:
        dispatcher: Handle of the dispatcher actor.
        writer: Of the search.

    Attributes:
        group: This group's incarnation; set by `register`.
    """

    group: GroupId

    def __init__(self, dispatcher: Any, writer: TrialWriter) -> None:
        self._dispatcher = dispatcher
        self.writer = writer
        self._trial_id = ""
        self._num_reported = 0
        self._noted_at = monotonic()

    def register(self, group: str, info: GroupInfo) -> None:
        """Report that the group is ready."""
        self.group = ray.get(self._dispatcher.register_group.remote(group, info))

    def take_trial(self) -> TrialJob | NoTrial:
        """The next trial for the group."""
        job: TrialJob | NoTrial = ray.get(self._dispatcher.take_trial.remote(self.group))
        if isinstance(job, TrialJob):
            ray.get(self._dispatcher.begin_trial.remote(self.group, job.trial_id))
            self._trial_id, self._num_reported = job.trial_id, 0
        return job

    def note_progress(self) -> None:
        """Report that the group is training, from time to time, without waiting for an answer."""
        now = monotonic()
        if now - self._noted_at > NOTE_PROGRESS_S:
            self._noted_at = now
            self._dispatcher.note_progress.remote(self.group)

    def open_trial(self, job: TrialJob) -> TrialRecord | None:
        """Take the lease of a trial's folder; returns the trial's record, or None if another group has a later lease.

        A trial whose folder a former writer holds locked fails, with None; the others can be trained.

        Raises:
            StorageError: The folder cannot be written.
        """
        try:
            record = self.writer.take(job.trial_id, job.lease)
        except FencedError as error:
            self.check_fenced(error)
            return None
        except LockedError as error:
            update = TrialUpdate(rows=(), state="failed", reason=str(error))
            ray.get(self._dispatcher.release_trial.remote(self.group, job.trial_id, update))
            return None
        if record is None or not record.epochs:
            _adopt_shorter_trial(job, self.writer)
        return record or TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe)

    def check_fenced(self, error: FencedError) -> None:
        """Check that the trial was given to another group, which is no error.

        Raises:
            StorageError: It was not: another search writes into the folder.
        """
        if ray.get(self._dispatcher.holds_trial.remote(self.group, self._trial_id)):
            where, what, _ = error.args
            raise StorageError(where, what, "Another search writes into this folder: end it, then resume") from error
        log.warning("%s", error)

    def report(self, record: TrialRecord) -> ReportReply:
        """Write the record and report its new epochs.

        Raises:
            FencedError: Another group has the trial.
            StorageError: The record cannot be written.
        """
        # The record comes before the report: a reported epoch must be on record.
        self.writer.write(record, note=self.note_progress)
        rows = record.epochs[self._num_reported :]
        reply: ReportReply = ray.get(self._dispatcher.report_epochs.remote(self.group, record.trial_id, rows))
        self._num_reported = len(record.epochs)
        return reply

    def release(self, record: TrialRecord) -> None:
        """Write the record of a trial that has ended or is interrupted, and report it with its new epochs.

        Where a former writer holds the folder locked, the report has to do.

        Raises:
            StorageError: The record cannot be written.
        """
        try:
            self.writer.release(record, note=self.note_progress)
        except FencedError as error:
            self.check_fenced(error)
            return
        except LockedError as error:
            log.warning("%s", error)
        rows = record.epochs[self._num_reported :]
        update = TrialUpdate(rows=rows, state=record.state, reason=record.reason)
        ray.get(self._dispatcher.release_trial.remote(self.group, record.trial_id, update))

    def set_activity(self, text: str) -> None:
        """Report what the group is doing, without waiting for an answer."""
        self._dispatcher.set_activity.remote(self.group, self._trial_id, text)

    def abort(self, error: FerrayError) -> None:
        """End the search: no trial can be trained on this node."""
        where, what, way_out = error.args
        ray.get(self._dispatcher.abort.remote(SearchError(f"{where} on {socket.gethostname()}", what, way_out)))


def _adopt_shorter_trial(job: TrialJob, writer: TrialWriter) -> None:
    """Copy the checkpoints of a shorter trial that is done, unless the trial has some of its own."""
    own = CheckpointFolder(writer.run.trial_dir(job.trial_id), job.trial_id, writer.lease)
    for donor in () if (own.path / LAST).exists() else job.shorter:
        if (folder := writer.find_done(donor)) is not None:
            try:
                own.copy_from(CheckpointFolder(folder, donor))
            except CheckpointError as error:
                log.warning("trial %s does not go on from trial %s: %s", job.trial_id, donor, error)
            else:
                return


class _ActivityHandler(logging.Handler):
    """Reports log records as what the group is doing."""

    def __init__(self, client: DispatcherClient) -> None:
        super().__init__(logging.INFO)
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        self._client.set_activity(record.getMessage())


def _forward_what_takes_long(client: DispatcherClient) -> None:
    """Report how far the computation of features is, and that a bucket is down: both take long without an epoch."""
    for source in (features.log, outage.log):
        source.addHandler(_ActivityHandler(client))
        source.setLevel(logging.INFO)


def _device_name(device: str) -> str:
    return (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu, {torch.get_num_threads()} threads"
    )
