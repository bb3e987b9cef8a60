"""What a worker group does: it trains one trial after the other until the dispatcher says leave.

Rank 0 takes a trial from the dispatcher and shares it with its ranks; all train it; after each epoch rank 0 writes the
checkpoint, tells record and dispatcher, and shares the answer. Where nobody decides after each epoch, short epochs are
told together. `ray.train.report` is not on this path: each call waits for a 2 s poll.

Begin at `serve`, the loop of every rank, which `ferray.search.groups` starts.
"""

import dataclasses
import logging
import time
from typing import Any

import ray
import torch

from ferray.data.store import Store, open_store
from ferray.errors import CheckpointError, FerrayError
from ferray.model.weights import Weights, load_weights
from ferray.records import Run, State, TrialRecord
from ferray.search.dispatch import Answer, Hello, Job, Task
from ferray.train.checkpoint import LAST, adopt
from ferray.train.fit import fit
from ferray.train.ranks import Ranks, current_ranks
from ferray.train.settle import measure_precision

log = logging.getLogger(__name__)

TELL_EVERY_S = 0.25
"""Epochs that end sooner after the last word are told together, where no scheduler waits for each."""


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
    store = open_store(task.data_dir)
    weights: dict[str, Weights] = {}
    desk = _Desk(dispatcher, group, task) if ranks.rank == 0 else None
    if desk is not None:
        precision = measure_precision(device=device, cache=task.cache)
        desk.join(Hello(device=_device_name(device), precision=precision))
        logging.getLogger("ferray.train.features").addHandler(_Notes(desk))
        logging.getLogger("ferray.train.features").setLevel(logging.INFO)
    while True:
        job = ranks.from_first(desk.take() if desk is not None else None)
        if job == "leave":
            return
        if isinstance(job, Job):
            name = job.recipe.backbone
            weights[name] = weights.get(name) or load_weights(task.weights, name)
            _train(job, task, store, weights[name], ranks, device, desk)


def _train(
    job: Job, task: Task, store: Store, weights: Weights, ranks: Ranks, device: str, desk: "_Desk | None"
) -> None:
    """Train one trial until it is complete, stopped or broken; only rank 0, which has a desk, writes and reports."""
    known = desk.run.read_trial(job.trial_id) if desk is not None else None
    record = ranks.from_first(known) or TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe)
    record = dataclasses.replace(record, state="running", reason="", device=_device_name(device))
    if desk is not None and not record.epochs:
        _go_on_from(job, desk.run)
    state: State = "done"
    reason = ""
    rows = fit(
        job.recipe,
        store,
        weights,
        checkpoints=Run(task.run_dir).trial_dir(job.trial_id),
        ranks=ranks,
        device=device,
        cache=task.cache,
        recorded_epochs=len(record.epochs),
    )
    try:
        for row in rows:
            if row.epoch == len(record.epochs) + 1:
                record = dataclasses.replace(record, epochs=(*record.epochs, row))
            if record.complete:
                break
            answer: Answer = "go on"
            if desk is not None:
                answer = desk.tell(record)
            answer = ranks.from_first(answer)
            if answer == "fenced":
                return
            if answer != "go on":
                state = answer
                break
    except FerrayError as error:
        state, reason = "failed", str(error)
    except (RuntimeError, ValueError, MemoryError) as error:
        if ranks.world > 1:  # the other ranks may be waiting in a collective: only a restart frees them
            raise
        log.exception("trial %s failed", job.trial_id)
        state, reason = "failed", f"{type(error).__name__}: {error}"
    finally:
        rows.close()
    if desk is not None:
        desk.leave(dataclasses.replace(record, state=state, reason=reason))


def _go_on_from(job: Job, run: Run) -> None:
    """Take the checkpoints of a shorter trial that is done for the trial's own, unless it has some."""
    folder = run.trial_dir(job.trial_id)
    for donor in () if (folder / LAST).exists() else job.shorter:
        known = run.read_trial(donor)
        if known is not None and known.state == "done":
            try:
                adopt(folder, identity=job.trial_id, donor=run.trial_dir(donor), donor_identity=donor)
            except CheckpointError as error:
                log.warning("trial %s does not go on from trial %s: %s", job.trial_id, donor, error)
            else:
                return


class _Desk:
    """Rank 0's dealings with the records and the dispatcher."""

    def __init__(self, dispatcher: Any, group: str, task: Task) -> None:
        self.run = Run(task.run_dir)
        self._dispatcher = dispatcher
        self._group = group
        self._decides = task.decides
        self._incarnation = 0
        self._trial_id = ""
        self._told_epochs = 0
        self._told_at = time.monotonic()

    def join(self, hello: Hello) -> None:
        self._incarnation = ray.get(self._dispatcher.join.remote(self._group, hello))

    def take(self) -> Any:
        job = ray.get(self._dispatcher.take.remote(self._group, self._incarnation))
        if isinstance(job, Job):
            self._trial_id, self._told_epochs = job.trial_id, 0
        return job

    def note(self, text: str) -> None:
        self._dispatcher.note.remote(self._group, self._incarnation, self._trial_id, text)  # nobody waits for it

    def tell(self, record: TrialRecord) -> Answer:
        """Write the record and report its new epochs, unless the last word is so fresh that they can wait."""
        if not self._decides and time.monotonic() - self._told_at < TELL_EVERY_S:
            return "go on"
        self.run.write_trial(record)  # before the report: whoever hears of an epoch must find it on record
        call = self._dispatcher.report
        answer: Answer = ray.get(
            call.remote(self._group, self._incarnation, record.trial_id, record.epochs[self._told_epochs :])
        )
        self._told_epochs, self._told_at = len(record.epochs), time.monotonic()
        return answer

    def leave(self, record: TrialRecord) -> None:
        """Write the record of a trial that has ended, report what was not yet told, and be free."""
        self.run.write_trial(record)
        call, rows = self._dispatcher.leave_trial, record.epochs[self._told_epochs :]
        ray.get(call.remote(self._group, self._incarnation, record.trial_id, record.state, record.reason, rows))


class _Notes(logging.Handler):
    """Long work on features, told to the live table."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk

    def emit(self, record: logging.LogRecord) -> None:
        self._desk.note(record.getMessage())


def _device_name(device: str) -> str:
    return (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu, {torch.get_num_threads()} threads"
    )
