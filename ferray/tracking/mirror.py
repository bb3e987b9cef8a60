"""The part of tracking that calls wandb, all of it in one thread, with one process wandb-core for all runs.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray import recipe as recipes
from ferray.records.run import Run
from ferray.records.tables import best_columns, plain_frame, trials_frame
from ferray.records.trial import FINISHED, EpochResult, State, TrialRecord, record_to_json
from ferray.tracking.mode import Destination, Mode, has_key
from ferray.tracking.sent_log import SentLog

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

EXIT_S = 30.0
"""Longest wait for W&B when a search is over."""

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
        run: The search's folder.
        mode: Not `disabled`.
        search_id: First part of all run ids.
        config: The configuration of the search's own run.
        trial_config: What the configuration of each trial's run has beside its recipe.
        destination: W&B project and entity; the variables `WANDB_PROJECT` and `WANDB_ENTITY` win.
    """

    def __init__(
        self,
        run: Run,
        mode: Mode,
        search_id: str,
        *,
        config: dict[str, Any],
        trial_config: dict[str, Any],
        destination: Destination,
    ) -> None:
        self._run = run
        self._mode: Mode = mode
        self._search_id = search_id
        self._config = config
        self._trial_config = trial_config
        self._destination = destination.settled()
        self._sent_log = SentLog(run.folder)
        self._trials: dict[str, _Trial] = {}
        self._faults = 0
        self.deadline = math.inf
        """By `time.monotonic`: nothing more is sent after it, but open runs are closed."""
        self.is_incomplete = False
        """Whether the deadline came before everything was sent."""

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

    def note_flushed(self) -> None:
        """Record in the log what is on disk; to be called after `FLUSH_S` without anything to do."""
        for trial_id, trial in self._trials.items():
            if trial.run is not None and time.monotonic() - trial.sent_at > 2 * FLUSH_S:
                self._sent_log.write(self._id(trial_id), trial.sent, None)

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
        logged = self._sent_log.logged(self._id(trial.record.trial_id))
        if trial.run is not None or logged.state not in FINISHED or len(trial.record.epochs) > logged.rows:
            self._guard(partial(self._send_epochs, trial), trial)

    def _guard(self, act: Callable[[], None], trial: _Trial | None) -> None:
        """Call wandb; after an error a second time, with the run opened again."""
        for _ in range(2):
            if self._faults >= MAX_FAULTS or time.monotonic() > self.deadline:
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
            import wandb

            with contextlib.suppress(Exception):  # it raises the same error again; then a new process can start
                wandb.teardown()
        elif trial is not None and trial.run is not None:
            with contextlib.suppress(Exception):
                trial.run.finish(exit_code=EXIT_CODES["interrupted"])
            trial.run = None

    def _send_epochs(self, trial: _Trial) -> None:
        """Open the trial's run if it is not open, and send the epochs that W&B lacks."""
        if trial.run is None:
            record = trial.record
            run_id = self._id(record.trial_id)
            sent = self._sent_log.sent(run_id)
            trial.run = self._init(
                run_id,
                name=f"{self._run.name}-{record.number}",
                job_type="trial",
                tags=_tags(record),
                config={**recipes.to_values(record.recipe), **self._trial_config, "number": record.number},
            )
            trial.sent = sent.rows
            if sent.state is not None:
                self._sent_log.write(run_id, sent.rows, None)
            trial.run.define_metric("epoch")
            trial.run.define_metric("*", step_metric="epoch")
        for row in trial.record.epochs[trial.sent :]:
            trial.run.log(dataclasses.asdict(row))  # without step=: W&B drops a row whose step it takes for an old one
            trial.sent, trial.sent_at = row.epoch, time.monotonic()

    def _finish(self, trial: _Trial) -> None:
        """Close the trial's run with its state and best epoch, unless it was closed so before."""
        record = trial.record
        run_id = self._id(record.trial_id)
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
        run_id = self._id("search")
        sent = self._sent_log.sent(run_id)
        if sent.state == state:
            return
        import wandb

        tags = ("ferray", "search")
        opened = self._init(run_id, name=self._run.name, job_type="search", tags=tags, config=self._config)
        with opened as run:
            content: dict[str, Any] = (
                {"trials": wandb.Table(dataframe=plain_frame(trials_frame(records)))} if records else {}
            )
            content |= {file.stem: wandb.Image(str(file)) for file in files if file.suffix == ".png"}
            run.log(content)
            if best is not None:
                run.summary.update({f"best_{name}": getattr(best, name) for name in ("trial_id", "number")})
                run.summary.update({"best_score": best.score()})
            run.summary.update(_flat(summary))
            for folder in filter(Path.is_dir, files):
                artifact = wandb.Artifact(f"{self._run.name}-{folder.name}", type="model", metadata=_flat(summary))
                for file in sorted(filter(Path.is_file, folder.rglob("*"))):
                    # No copy to the user's cache: a search writes to its own folder alone.
                    name = file.relative_to(folder).as_posix()
                    artifact.add_file(str(file), name=name, policy="immutable", skip_cache=True)
                run.log_artifact(artifact)
        self._sent_log.write(run_id, sent.rows + 1, state)

    def _init(
        self, run_id: str, *, name: str, job_type: str, tags: Sequence[str], config: dict[str, Any]
    ) -> "wandb.Run":
        import wandb

        if self._mode == "online" and not has_key():  # wandb would ask for one
            self._mode = "offline"
            log.warning("W&B: no key; the runs go to files, for `wandb sync`")
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=FLUSH_S,
            init_timeout=20,
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
                group=f"{self._run.name}-{self._search_id}",  # searches of one name in two folders are two groups
                job_type=job_type,
                tags=list(tags),
                config=config,
                dir=str(self._run.folder),
                mode="online" if self._mode == "online" else "offline",
                reinit="create_new",
                resume="allow",
                settings=settings,
            )
        except Exception as error:
            if self._mode == "online" and not _core_is_gone(error):
                self._mode = "offline"
                log.warning("W&B: run %s could not be opened online; the runs go to files, for `wandb sync`", run_id)
            raise
        os.environ.pop("WANDB_SERVICE", None)  # or processes that start later would log through this wandb-core
        return run

    def _id(self, name: str) -> str:
        return f"{self._search_id}-{name}"


def _core_is_gone(error: Exception) -> bool:
    """Whether an error in wandb means that its process wandb-core has died, before the call or during it."""
    return isinstance(error, ConnectionError) or type(error).__name__ in ("MailboxClosedError", "HandleAbandonedError")


def _tags(record: TrialRecord) -> tuple[str, ...]:
    return ("ferray", record.recipe.backbone)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, texts and lists of numbers among values, with `outer.inner` for keys of inner dictionaries."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": number for inner, number in _flat(value).items()}
        elif value is None or isinstance(value, str | int | float):
            flat[key] = value
        elif isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
            flat[key] = list(value)
    return flat
