"""The part of tracking that sends runs to wandb, all of it in one thread, with one process wandb-core for all runs.

A trial costs about 60 ms of the thread and 0.5 MB. After an error in wandb its runs are opened again; after
`MAX_FAULTS` errors nothing more is sent.

The mirror compares states and does not repeat events: it sends the epochs of a trial that W&B lacks. What W&B has is
read from its own files and from `runs/NAME/wandb.jsonl` (see `sent_log`) whenever a run is opened. `end_search` does so
for every trial on record. So each epoch is sent exactly once, also after a kill, in a resumed search, and in a search
that was not mirrored from the start.

Begin at `Mirror`.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray import recipe as recipes
from ferray.records.run import Run
from ferray.records.tables import best_columns
from ferray.records.trial import FINISHED, EpochResult, State, TrialRecord, record_to_json
from ferray.tracking.mode import Destination, Mode, has_key
from ferray.tracking.names import RunNames
from ferray.tracking.sent_log import SentLog
from ferray.tracking.sweep import RunSweep

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

EXIT_S = 30.0
"""Longest wait for W&B when a search is over."""

INIT_S = 20
"""Longest wait for W&B when a run is opened."""

FLUSH_S = 2
"""Seconds after which wandb-core has written to disk what it was sent."""

MAX_FAULTS = 3
"""Errors in wandb after which a search is no longer mirrored."""

EXIT_CODES: dict[State, int] = {"done": 0, "stopped": 0, "failed": 1, "interrupted": 254}
"""W&B shows these as finished, finished, failed, crashed."""


@dataclass
class _Trial:
    """The mirror's state of one trial."""

    record: TrialRecord
    """The record with all epochs reported so far."""
    started: int = 0
    """Points of the search that are training this trial now: two points may be the same trial."""
    run: "wandb.Run | None" = None
    sent: int = 0
    """Epochs that W&B's run has."""
    sent_at: float = 0.0
    final: State | None = None
    """The state in which the point with most epochs ended."""


class Mirror:
    """A search's runs at W&B. All methods must be called from one thread; none raises because of wandb.

    Args:
        run: The search's folder, or another one for the runs' files and the log of what was sent.
        mode: Not `disabled`.
        names: How the runs are called.
        sweep: What the trials' runs belong to.
        sent_log: Of the same folder.
        config: The configuration of the search's own run.
        trial_config: What the configuration of each trial's run has beside its recipe.
        destination: W&B project and entity, settled.
        has_original_times: Whether epochs get the times of the records, not those at which they are sent.
    """

    def __init__(
        self,
        run: Run,
        mode: Mode,
        *,
        names: RunNames,
        sweep: RunSweep,
        sent_log: SentLog,
        config: dict[str, Any],
        trial_config: dict[str, Any],
        destination: Destination,
        has_original_times: bool = False,
    ) -> None:
        self._run = run
        self._mode: Mode = mode
        self._names = names
        self._sweep = sweep
        self._sent_log = sent_log
        self._config = config
        self._trial_config = trial_config
        self._destination = destination
        self._has_original_times = has_original_times
        self._trials: dict[str, _Trial] = {}
        self._faults = 0
        self._has_stuck_run = False
        """Whether wandb-core has a run that could not be opened, and refuses to open it again."""
        self.deadline = math.inf
        """By `time.monotonic`: nothing more is sent after it, but open runs are closed."""
        self.is_incomplete = False
        """Whether the deadline came before everything was sent."""

    @property
    def has_given_up(self) -> bool:
        """Whether wandb had so many errors that nothing more is sent."""
        return self._faults >= MAX_FAULTS

    def start(self, record: TrialRecord) -> None:
        """A trial begins or continues."""
        trial = self._trial_of(record)
        if trial.started == 0:
            trial.final = None
        trial.started += 1
        self._update(trial)

    def add(self, trial_id: str, row: EpochResult) -> None:
        """A trial has one epoch more."""
        trial = self._trials[trial_id]
        epochs = trial.record.epochs
        if row.epoch != len(epochs) + 1:
            return  # another point of the same trial has reported it
        trial.record = dataclasses.replace(trial.record, epochs=(*epochs, row))
        self._update(trial)

    def end(self, record: TrialRecord) -> None:
        """A point has ended; its trial's run ends with the last point that trains this trial."""
        trial = self._trial_of(record)
        trial.started = max(0, trial.started - 1)
        if trial.final is None or len(record.epochs) >= len(trial.record.epochs):
            trial.final = record.state
            trial.record = dataclasses.replace(trial.record, state=record.state, reason=record.reason)
        if trial.started == 0:
            self._guard(partial(self._finish, trial), trial)

    def end_search(
        self,
        records: Sequence[TrialRecord],
        best: TrialRecord | None,
        files: tuple[Path, ...],
        summary: dict[str, Any],
    ) -> None:
        """Send the search's own run, and bring every trial on record up to date."""
        self._guard(partial(self._send_search, records, best, files, summary), None)
        for record in records:
            if record.state in EXIT_CODES:
                trial = self._trial_of(record)
                trial.record = dataclasses.replace(trial.record, state=record.state, reason=record.reason)
                self._guard(partial(self._finish, trial), trial)
        if self._is_online():
            self._guard(self._sweep.finish, None)

    def note_flushed(self) -> None:
        """Record in the log what is on disk; to be called after `FLUSH_S` without anything to do."""
        for trial_id, trial in self._trials.items():
            if trial.run is not None and time.monotonic() - trial.sent_at > 2 * FLUSH_S:
                self._sent_log.write(self._names.run_id(trial_id), trial.sent, None)

    def close(self) -> None:
        """Close the runs that are still open, with their trial's state or as interrupted; then end wandb-core."""
        self.is_incomplete = time.monotonic() > self.deadline
        self.deadline = math.inf
        for trial in self._trials.values():
            if trial.run is not None:
                trial.record = dataclasses.replace(trial.record, state=trial.final or "interrupted")
                self._guard(partial(self._finish, trial), trial)
        if "wandb" in sys.modules:
            # A run's `finish` may return some moments before its last rows are on disk; the end of wandb-core does not.
            self._guard(sys.modules["wandb"].teardown, None)

    def _trial_of(self, record: TrialRecord) -> _Trial:
        """The state of a record's trial, updated to have at least the record's epochs."""
        trial = self._trials.setdefault(record.trial_id, _Trial(record))
        if len(record.epochs) > len(trial.record.epochs):
            trial.record = dataclasses.replace(trial.record, epochs=record.epochs)
        return trial

    def _update(self, trial: _Trial) -> None:
        """Send the epochs that W&B lacks; a run that is finished is opened again only if there are any."""
        logged = self._sent_log.logged(self._names.run_id(trial.record.trial_id))
        if trial.run is not None or logged.state not in FINISHED or len(trial.record.epochs) > logged.rows:
            self._guard(partial(self._send_epochs, trial), trial)

    def _guard(self, act: Callable[[], None], trial: _Trial | None) -> None:
        """Call wandb; after an error a second time, with the run opened again."""
        for _ in range(2):
            if self.has_given_up or time.monotonic() > self.deadline:
                return
            try:
                act()
                return
            except Exception as error:  # noqa: BLE001 - whatever wandb raises, the search continues
                self._recover(error, trial)

    def _recover(self, error: Exception, trial: _Trial | None) -> None:
        self._faults += 1
        if self._faults == 1:
            log.warning("W&B: %s: %s; the search continues, its records are complete", type(error).__name__, error)
        else:
            log.debug("W&B: error %d", self._faults, exc_info=error)
        if self._faults == MAX_FAULTS:
            log.warning("W&B: %d errors; this search is not mirrored any further", self._faults)
        if _core_is_gone(error):
            for other in self._trials.values():
                other.run = None
            self._restart_core()
        elif self._has_stuck_run:
            with ThreadPoolExecutor() as pool:  # each may wait for the server as long as it is allowed to
                list(pool.map(_abandon, self._trials.values()))
            self._restart_core()
        elif trial is not None:
            _abandon(trial)

    def _restart_core(self) -> None:
        """End wandb-core, in which no run is open; the next run starts another."""
        import wandb

        with contextlib.suppress(Exception):  # of one that is gone it raises the same error again
            wandb.teardown()
        self._has_stuck_run = False

    def _send_epochs(self, trial: _Trial) -> None:
        """Open the trial's run if it is not open, and send the epochs that W&B lacks."""
        if trial.run is None:
            record = trial.record
            run_id = self._names.run_id(record.trial_id)
            sent = self._sent_log.sent(run_id)
            trial.run = self._init(
                run_id,
                name=self._names.title(record),
                job_type="trial",
                tags=_tags(record),
                config={
                    **recipes.to_values(record.recipe),
                    **self._trial_config,
                    "number": record.number,
                    "trial_id": record.trial_id,
                },
                sweep=self._sweep.open(is_online=self._is_online()),
            )
            trial.sent = sent.rows
            if sent.state is not None:
                self._sent_log.write(run_id, sent.rows, None)
            trial.run.define_metric("epoch")
            trial.run.define_metric("*", step_metric="epoch")
        times = _epoch_times(trial.record) if self._has_original_times else {}
        for row in trial.record.epochs[trial.sent :]:
            time_of_row = {"_timestamp": times[row.epoch]} if times else {}
            # Without step=: W&B drops a row whose step it takes for an old one.
            trial.run.log({**dataclasses.asdict(row), **time_of_row})
            trial.sent, trial.sent_at = row.epoch, time.monotonic()

    def _finish(self, trial: _Trial) -> None:
        """Close the trial's run with its state and best epoch, unless it was closed so before."""
        record = trial.record
        run_id = self._names.run_id(record.trial_id)
        logged = self._sent_log.logged(run_id)
        if trial.run is None and logged.state == record.state and logged.rows >= len(record.epochs):
            return
        self._send_epochs(trial)
        assert trial.run is not None
        summary: dict[str, Any] = {"state": record.state, "stop_reason": record.reason}
        if record.epochs:
            summary |= best_columns(record)
        trial.run.summary.update(summary)
        trial.run.tags = (*_tags(record), *(() if record.state == "done" else (record.state,)))
        trial.run.finish(exit_code=EXIT_CODES[record.state])
        trial.run = None
        self._sent_log.write(run_id, trial.sent, record.state)

    def _send_search(
        self, records: Sequence[TrialRecord], best: TrialRecord | None, files: tuple[Path, ...], summary: dict[str, Any]
    ) -> None:
        """The search's own run, unless it was sent with this same content before."""
        text = json.dumps([list(map(record_to_json, records)), summary], sort_keys=True, default=str)
        state = hashlib.sha256(text.encode()).hexdigest()[:16]
        run_id = self._names.run_id("search")
        sent = self._sent_log.sent(run_id)
        if sent.state == state:
            return
        from ferray.tracking.search_run import log_search

        tags = ("ferray", "search")
        opened = self._init(run_id, name=self._run.name, job_type="search", tags=tags, config=self._config)
        with opened as run:
            log_search(run, self._run.name, records, best, files, summary, num_sent=sent.rows)
        self._sent_log.write(run_id, len(records), state)

    def _init(
        self,
        run_id: str,
        *,
        name: str | None,
        job_type: str,
        tags: Sequence[str],
        config: dict[str, Any],
        sweep: str | None = None,
    ) -> "wandb.Run":
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # it prints which key it has found
        settings = wandb.Settings(
            sweep_id=sweep,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=FLUSH_S,
            init_timeout=INIT_S,
            finish_timeout=EXIT_S,
            stop_fn=lambda: log.warning("W&B: asked to stop run %s; stop the search with Ctrl-C instead", run_id),
        )
        self._run.folder.mkdir(parents=True, exist_ok=True)
        try:
            run = wandb.init(
                project=self._destination.project,
                entity=self._destination.entity,
                id=run_id,
                name=name,
                group=self._names.group,
                job_type=job_type,
                tags=list(tags),
                config=config,
                dir=str(self._run.folder),
                mode="online" if self._is_online() else "offline",
                reinit="create_new",
                resume="allow",
                settings=settings,
            )
        except Exception as error:
            self._has_stuck_run = True
            is_about_sweep = sweep is not None and self._sweep.leave(error)
            if self._mode == "online" and not _core_is_gone(error) and not is_about_sweep:
                self._mode = "offline"
                log.warning("W&B: run %s could not be opened online; the runs go to files, for `wandb sync`", run_id)
            raise
        os.environ.pop("WANDB_SERVICE", None)  # or processes that start later would log through this wandb-core
        return run

    def _is_online(self) -> bool:
        """Whether runs go to the server; without a key no longer, since wandb would ask for one."""
        if self._mode == "online" and not has_key():
            self._mode = "offline"
            log.warning("W&B: no key; the runs go to files, for `wandb sync`")
        return self._mode == "online"


def _abandon(trial: _Trial) -> None:
    """Close a trial's run, to be opened again when there is something to send."""
    if trial.run is not None:
        with contextlib.suppress(Exception):
            trial.run.finish(exit_code=EXIT_CODES["interrupted"])
    trial.run = None


def _core_is_gone(error: Exception) -> bool:
    """Whether an error in wandb means that its process wandb-core has died, before the call or during it."""
    return isinstance(error, ConnectionError) or type(error).__name__ in ("MailboxClosedError", "HandleAbandonedError")


def _epoch_times(record: TrialRecord) -> dict[int, float]:
    """When each epoch ended, in seconds since 1970, as if nothing had been between them; empty if that is not known."""
    began = record.began_s()
    if began is None:
        return {}
    return {row.epoch: began + sum(one.seconds for one in record.epochs[: row.epoch]) for row in record.epochs}


def _tags(record: TrialRecord) -> tuple[str, ...]:
    return ("ferray", record.recipe.backbone)
