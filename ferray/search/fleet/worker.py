"""What a worker group does: it trains one trial after the other until the dispatcher says leave.

Rank 0 takes a trial from the dispatcher and shares it with its ranks; all train it; after each epoch rank 0 writes the
checkpoint, tells record and dispatcher, and shares the answer. Where nobody decides after each epoch, short epochs
share a checkpoint and are told together. `ray.train.report` is not on this path: each call waits for a 2 s poll.

What is wrong with a trial fails the trial. What is wrong with the place, such as a full disk or a folder that a node
does not see, ends the search, since it would fail one trial after the other.

Begin at `serve`, the loop of every rank, which `ferray.search.fleet.groups` starts.
"""

import dataclasses
import logging
import socket
from collections.abc import Callable
from typing import Any

import ray
import torch
import torch._dynamo  # the first optimizer reads it, 1.2 s, and by then other groups start on the same cores

from ferray.data.store.reader import Store, open_store
from ferray.errors import CheckpointError, FencedError, FerrayError, SearchError, StorageError
from ferray.files.storage import Lease
from ferray.model.weights import Weights, load_weights
from ferray.records.run import Run
from ferray.records.trial import State, TrialRecord
from ferray.search.fleet.dispatcher import Answer, Hello, Job, Task
from ferray.train.checkpoints.checkpoint import LAST, CheckpointFolder
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.features import view as features
from ferray.train.fit import fit
from ferray.train.interruption import Interrupted
from ferray.train.ranks import Ranks, current_ranks
from ferray.train.settle import measure_precision

log = logging.getLogger(__name__)

SAVE_EVERY_S = 0.5
"""Epochs that end sooner after the last checkpoint share the next one, where no scheduler waits for each."""


def serve(task: Task, group: str, dispatcher: Any) -> None:
    """The loop of one rank: trial after trial until the dispatcher says leave.

    Args:
        task: The search's.
        group: Name of this rank's group.
        dispatcher: Handle of the dispatcher actor.
    """
    torch.set_num_threads(task.cpus_per_worker)
    ranks = current_ranks()
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    ray.get(dispatcher.place.remote(group, ranks.rank, ray.get_runtime_context().get_node_id()))
    desk = _Desk(dispatcher, group, task) if ranks.is_first else None
    try:
        with ranks.together():
            _check_device()
            store = _open_data(task)
            if desk is not None:
                precision = measure_precision(device=device, cache=task.cache)
                desk.join(Hello(device=_device_name(device), precision=precision))
                _note_features(desk)
        incarnation = ranks.from_first(desk.incarnation if desk is not None else 0)
        interruption = dispatcher.interruption.remote(group, incarnation)

        def is_interrupted() -> bool:
            """Whether the trial is to be left at once, in the middle of an epoch too."""
            return bool(ray.wait([interruption], timeout=0)[0])

        weights: dict[str, Weights] = {}
        while (job := ranks.from_first(desk.take() if desk is not None else None)) != "leave":
            if isinstance(job, Job):
                name = job.recipe.backbone
                with ranks.together():
                    weights[name] = weights.get(name) or load_weights(task.weights, name)
                _train(job, task, store, weights[name], ranks, device, desk, is_interrupted)
    except FerrayError as error:
        if desk is None:
            return
        desk.halt(error)


def _check_device() -> None:
    """Refuse to train on the CPU, many times slower, where Ray gave a GPU.

    Raises:
        SearchError: Torch does not see it.
    """
    if ray.get_runtime_context().get_accelerator_ids().get("GPU") and not torch.cuda.is_available():
        raise SearchError(
            "a worker",
            "has a GPU from Ray, but its torch sees none",
            "Install the build of torch for its driver, or train on CPUs: --gpus-per-worker 0",
        )


def _open_data(task: Task) -> Store:
    """The store, if this node has what the search counts on.

    Raises:
        SearchError: It has another disk under the same name.
        FerrayError: The store cannot be opened.
    """
    run = Run(task.run_dir)
    if not run.exists() or run.read_search()["id"] != task.search_id:
        raise SearchError(
            str(task.run_dir),
            "not the folder of this search: this node has a disk of its own, and checkpoints there would die with it",
            "Give a folder that all nodes share: --out /shared/runs",
        )
    return open_store(task.data_dir)


def _train(
    job: Job,
    task: Task,
    store: Store,
    weights: Weights,
    ranks: Ranks,
    device: str,
    desk: "_Desk | None",
    is_interrupted: Callable[[], bool],
) -> None:
    """Train one trial until it is complete, stopped or broken; only rank 0, which has a desk, writes and reports.

    Raises:
        StorageError: The trial's folder cannot be written.
    """
    with ranks.together():
        found = desk.open(job) if desk is not None else None
    record = ranks.from_first(found)
    if record is None:  # taken over before it was begun
        return
    record = dataclasses.replace(record, state="running", reason="", device=_device_name(device))
    state: State = "done"
    reason = ""
    checkpointing = Checkpointing(
        Run(task.run_dir).trial_dir(job.trial_id),
        lease=desk.lease if desk is not None else None,
        min_interval_s=0.0 if task.decides else SAVE_EVERY_S,
        recorded_epochs=len(record.epochs),
    )
    environment = Environment(ranks=ranks, device=device, cache=task.cache)
    rows = fit(
        job.recipe,
        store,
        weights,
        checkpointing=checkpointing,
        environment=environment,
        is_interrupted=is_interrupted,
    )
    try:
        for row in rows:
            if row.epoch == len(record.epochs) + 1:
                record = dataclasses.replace(record, epochs=(*record.epochs, row))
            if record.complete:
                break
            if rows.has_more and not task.decides:
                continue
            answer: Answer = "go on"
            with ranks.together():
                if desk is not None:
                    answer = desk.tell(record)
            answer = ranks.from_first(answer)
            if answer == "fenced":
                return
            if answer != "go on":
                state = answer
                break
    except Interrupted:
        state = "interrupted"
    except FencedError as error:
        with ranks.together():
            if desk is not None:
                desk.give_way(error)
        return
    except StorageError:
        raise
    except FerrayError as error:
        state, reason = "failed", str(error)
    except torch.AcceleratorError:  # the device is of no use to this process any more
        raise
    except (RuntimeError, ValueError, MemoryError) as error:
        if ranks.world > 1:  # the other ranks may be waiting in a collective: only a restart frees them
            raise
        log.exception("trial %s failed", job.trial_id)
        state, reason = "failed", f"{type(error).__name__}: {error}"
    finally:
        rows.close()
    with ranks.together():
        if desk is not None:
            desk.leave(dataclasses.replace(record, state=state, reason=reason))


def _go_on_from(job: Job, run: Run, lease: Lease) -> None:
    """Take the checkpoints of a shorter trial that is done for the trial's own, unless it has some."""
    folder = run.trial_dir(job.trial_id)
    for donor in () if (folder / LAST).exists() else job.shorter:
        known = run.read_trial(donor)
        if known is not None and known.state == "done":
            try:
                CheckpointFolder(folder, job.trial_id, lease).copy_from(CheckpointFolder(run.trial_dir(donor), donor))
            except CheckpointError as error:
                log.warning("trial %s does not go on from trial %s: %s", job.trial_id, donor, error)
            else:
                return


class _Desk:
    """Rank 0's dealings with the records and the dispatcher.

    Attributes:
        run: The search's folder.
        lease: On the folder of the trial at hand.
        incarnation: Of the group, from `join` on.
    """

    lease: Lease
    incarnation: int

    def __init__(self, dispatcher: Any, group: str, task: Task) -> None:
        self.run = Run(task.run_dir)
        self._dispatcher = dispatcher
        self._group = group
        self._trial_id = ""
        self._told_epochs = 0

    def join(self, hello: Hello) -> None:
        self.incarnation = ray.get(self._dispatcher.join.remote(self._group, hello))

    def take(self) -> Any:
        job = ray.get(self._dispatcher.take.remote(self._group, self.incarnation))
        if isinstance(job, Job):
            self._trial_id, self._told_epochs = job.trial_id, 0
        return job

    def open(self, job: Job) -> TrialRecord | None:
        """Take a trial's folder over, with what is on record of it; None if somebody else has taken it since.

        Raises:
            StorageError: The folder cannot be written.
        """
        try:
            self.lease = Lease.take(self.run.trial_dir(job.trial_id), job.lease)
        except FencedError as error:
            self.give_way(error)
            return None
        record = self.run.read_trial(job.trial_id)
        if record is None or not record.epochs:
            _go_on_from(job, self.run, self.lease)
        return record or TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe)

    def give_way(self, error: FencedError) -> None:
        """Somebody else writes the trial's folder: a later incarnation, or another search, which must not be.

        Raises:
            StorageError: The dispatcher knows nothing of it.
        """
        if ray.get(self._dispatcher.holds.remote(self._group, self.incarnation, self._trial_id)):
            where, what, _ = error.args
            raise StorageError(where, what, "Another search writes into this folder: end it, then resume") from error
        log.warning("%s", error)

    def halt(self, error: FerrayError) -> None:
        """End the search: no trial can be trained here."""
        where, what, way_out = error.args
        ray.get(self._dispatcher.halt.remote(SearchError(f"{where} on {socket.gethostname()}", what, way_out)))

    def note(self, text: str) -> None:
        self._dispatcher.note.remote(self._group, self.incarnation, self._trial_id, text)  # nobody waits for it

    def tell(self, record: TrialRecord) -> Answer:
        """Write the record and report its new epochs.

        Raises:
            FencedError: Somebody else has the trial.
            StorageError: The record cannot be written.
        """
        # Before the report: whoever hears of an epoch must find it on record.
        self.run.write_trial(record, lease=self.lease)
        call = self._dispatcher.report
        answer: Answer = ray.get(
            call.remote(self._group, self.incarnation, record.trial_id, record.epochs[self._told_epochs :])
        )
        self._told_epochs = len(record.epochs)
        return answer

    def leave(self, record: TrialRecord) -> None:
        """Write the record of a trial that has ended or is left, report what was not yet told, and be free.

        Raises:
            StorageError: The record cannot be written.
        """
        try:
            self.run.write_trial(record, lease=self.lease)
        except FencedError as error:
            self.give_way(error)
            return
        call, rows = self._dispatcher.leave_trial, record.epochs[self._told_epochs :]
        ray.get(call.remote(self._group, self.incarnation, record.trial_id, record.state, record.reason, rows))


class _Notes(logging.Handler):
    """Long work on features, told to the live table."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__(logging.INFO)
        self._desk = desk

    def emit(self, record: logging.LogRecord) -> None:
        self._desk.note(record.getMessage())


def _note_features(desk: _Desk) -> None:
    """Let the live table hear what features are logged to have come to."""
    features.log.addHandler(_Notes(desk))
    features.log.setLevel(logging.INFO)


def _device_name(device: str) -> str:
    return (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu, {torch.get_num_threads()} threads"
    )
