"""W&B: every trial one run, and one run more for the search itself, mirrored from the records while they come in.

The driver's thread only puts what it hears into a queue; one worker thread owns wandb, with one wandb-core process for all
runs. A trial costs some 60 ms of that thread and 0.5 MB. Nothing here can end, delay or change a search: after a fault
of wandb's its runs are opened anew, and after some faults the mirror stays as it is, with a warning.

Going on: the worker does not repeat what it hears but brings a run up to the trial's epochs. What W&B has already is read
from its own files and from `runs/NAME/wandb.jsonl` (see `ledger`) whenever a run is opened; epochs beyond that are sent,
first of all those of a resumed trial. `search_ended` does so for every trial on record. So a run killed in the middle,
a search that was not mirrored at first, and a resumed one all end with each epoch sent once.

Begin at `Tracker`; `_Mirror` is the worker's part.
"""

import dataclasses
import hashlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ferray import recipe as recipes
from ferray.records import METRIC_FIELDS, EpochResult, Run, State, TrialRecord, trials_frame
from ferray.tracking.ledger import Ledger
from ferray.tracking.mode import Mode, choose_mode, has_key

if TYPE_CHECKING:
    import wandb

__all__ = ["Mode", "Tracker", "choose_mode"]

log = logging.getLogger(__name__)

EXIT_S = 30.0
"""Longest wait for W&B when a search is over."""

FLUSH_S = 2
"""Seconds after which wandb-core has what it was told on disk."""

MAX_FAULTS = 3
"""Faults of wandb's after which a search is no longer mirrored."""

EXIT_CODES: dict[State, int] = {"done": 0, "stopped": 0, "failed": 1, "interrupted": 254}
"""What wandb's server shows as finished, finished, failed, crashed."""

KEPT_OUT = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID", "WANDB_SERVICE")
"""Variables of an agent or another process of wandb's above us: they would make our runs its run."""


class Tracker:
    """Mirrors a search to W&B; a context manager, and an observer of `ferray.search.tuner`.

    Nothing is imported or started before the first trial, so that Ray's processes, started in between, see nothing of it.
    Trials that are still open at the end of the block end as interrupted.

    Args:
        run: The search's folder; W&B's files come into its folder `wandb`.
        mode: From `choose_mode`; with `disabled`, every method does nothing.
        search_id: Unique to the search; run ids are `SEARCH_ID-TRIAL_ID`.
        config: What the search's own run shows as its configuration.
        project: W&B project; the variable `WANDB_PROJECT` wins.
    """

    def __init__(
        self, run: Run, *, mode: Mode, search_id: str, config: Mapping[str, Any], project: str = "ferray"
    ) -> None:
        self._mirror = _Mirror(run, mode, search_id, dict(config), project)
        self._enabled = mode != "disabled"
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._kept_out: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._enabled:
            self._kept_out = {name: os.environ.pop(name) for name in KEPT_OUT if name in os.environ}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._acts.put(self._mirror.close)
            self._acts.put(None)
            self._thread.join(EXIT_S)
            if self._thread.is_alive():
                log.warning("W&B took longer than %.0f s at the end; `wandb sync` sends what is missing", EXIT_S)
        self._enabled = False
        os.environ.update(self._kept_out)

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins or goes on; epochs it has already are sent if W&B does not have them."""
        self._tell(lambda: self._mirror.start(record))

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """A trial has come one epoch further."""
        self._tell(lambda: self._mirror.add(trial_id, row))

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed, and its run gets that state."""
        self._tell(lambda: self._mirror.end(record))

    def search_ended(self, *, best: TrialRecord | None, files: Sequence[Path], summary: Mapping[str, Any]) -> None:
        """The search's own run: the table of trials, pictures and the best model; and whatever its trials' runs lack.

        Args:
            best: The trial whose model is the best; None if there is none.
            files: Pictures (`.png`) become images, folders artifacts; other files are left out, the table has their content.
            summary: Numbers on the best model, such as its test score.
        """
        self._tell(lambda: self._mirror.end_search(best, tuple(files), dict(summary)))

    def _tell(self, act: Callable[[], None]) -> None:
        if not self._enabled:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
            self._thread.start()
        self._acts.put(act)

    def _work(self) -> None:
        while True:
            try:
                act = self._acts.get(timeout=FLUSH_S)
            except queue.Empty:
                act = self._mirror.note_flushed
            if act is None:
                return
            try:
                act()
            except Exception:  # the search goes on, whatever happened
                log.warning("W&B: an unexpected fault; the search goes on", exc_info=True)


@dataclass
class _Trial:
    """What the worker knows of one trial."""

    record: TrialRecord
    """With all epochs heard of."""
    started: int = 0
    """Points of the search that are at this trial now: two may be the same trial."""
    run: "wandb.Run | None" = None
    sent: int = 0
    """Epochs that `run` was given, or had."""
    sent_at: float = 0.0
    final: State | None = field(default=None)
    """How the point that came furthest ended."""


class _Mirror:
    """The worker's part: all that calls wandb. Only its thread calls its methods."""

    def __init__(self, run: Run, mode: Mode, search_id: str, config: dict[str, Any], project: str) -> None:
        self._run = run
        self._mode: Mode = mode
        self._search_id = search_id
        self._config = config
        self._project = os.environ.get("WANDB_PROJECT") or project
        self._ledger = Ledger(run.folder)
        self._trials: dict[str, _Trial] = {}
        self._faults = 0

    def start(self, record: TrialRecord) -> None:
        trial = self._know(record)
        trial.started += 1
        if self._ledger.state(self._id(record.trial_id)) not in ("done", "stopped"):  # else once there is something new
            self._guard(lambda: self._bring_up(trial), trial)

    def add(self, trial_id: str, row: EpochResult) -> None:
        trial = self._trials[trial_id]
        epochs = trial.record.epochs
        if row.epoch != len(epochs) + 1:
            return  # another point of the same trial has told of it
        trial.record = dataclasses.replace(trial.record, epochs=(*epochs, row))
        self._guard(lambda: self._bring_up(trial), trial)

    def end(self, record: TrialRecord) -> None:
        trial = self._know(record)
        trial.started = max(0, trial.started - 1)
        if trial.final is None or len(record.epochs) >= len(trial.record.epochs):
            trial.final = record.state
            trial.record = dataclasses.replace(trial.record, state=record.state, reason=record.reason)
        if trial.started == 0:
            self._guard(lambda: self._finish(trial), trial)

    def end_search(self, best: TrialRecord | None, files: tuple[Path, ...], summary: dict[str, Any]) -> None:
        records = self._run.read_trials()
        for record in records:
            if record.state in EXIT_CODES:
                trial = self._know(record)
                trial.record = dataclasses.replace(trial.record, state=record.state, reason=record.reason)
                self._guard(lambda trial=trial: self._finish(trial), trial)  # type: ignore[misc]
        self._guard(lambda: self._send_search(records, best, files, summary), None)

    def note_flushed(self) -> None:
        """Called when there was nothing to do for `FLUSH_S`: what was sent before is on disk."""
        for trial_id, trial in self._trials.items():
            if trial.run is not None and time.monotonic() - trial.sent_at > 2 * FLUSH_S:
                self._ledger.write(self._id(trial_id), trial.sent, None)

    def close(self) -> None:
        for trial in self._trials.values():
            if trial.run is not None:
                trial.record = dataclasses.replace(trial.record, state="interrupted", reason="")
                self._guard(lambda trial=trial: self._finish(trial), trial)  # type: ignore[misc]

    def _know(self, record: TrialRecord) -> _Trial:
        """The trial of a record, which has at least the record's epochs now."""
        trial = self._trials.setdefault(record.trial_id, _Trial(record))
        if len(record.epochs) > len(trial.record.epochs):
            trial.record = dataclasses.replace(trial.record, epochs=record.epochs)
        return trial

    def _guard(self, act: Callable[[], None], trial: _Trial | None) -> None:
        """Do something with wandb; after a fault once more, with runs opened anew."""
        for attempt in (1, 2):
            if self._faults >= MAX_FAULTS:
                return
            try:
                act()
                return
            except Exception as error:  # whatever wandb raises
                self._recover(error, trial, last=attempt == 2)

    def _recover(self, error: Exception, trial: _Trial | None, *, last: bool) -> None:
        self._faults += 1
        if self._faults == 1:
            log.warning("W&B: %s: %s; the search goes on, its records are whole", type(error).__name__, error)
        else:
            log.debug("W&B: fault %d", self._faults, exc_info=error)
        if self._faults == MAX_FAULTS:
            log.warning("W&B: %d faults; this search is not mirrored any further", self._faults)
        if trial is not None and trial.run is None and self._mode == "online":  # it could not even be opened
            self._mode = "offline"
            log.warning("W&B: no run could be opened online; the runs go to files, for `wandb sync`")
        if isinstance(error, ConnectionError) or type(error).__name__ == "MailboxClosedError":  # wandb-core is gone
            for other in self._trials.values():
                other.run = None
            import wandb

            try:
                wandb.teardown()
            except Exception as second:  # it says once more that the process is gone; the next start is a fresh one
                log.debug("W&B: teardown: %s", second)
        elif trial is not None:
            trial.run = None

    def _bring_up(self, trial: _Trial) -> None:
        """Open the trial's run if it is not open, and send the epochs that W&B does not have."""
        if trial.run is None:
            sent = self._ledger.sent(self._id(trial.record.trial_id))
            record = trial.record
            trial.run = self._init(
                self._id(record.trial_id),
                name=f"{self._run.name}-{record.number}",
                job_type="trial",
                tags=_tags(record),
                config={**recipes.to_values(record.recipe), "number": record.number},
                segments=sent.segments,
            )
            trial.sent = sent.rows
            trial.run.define_metric("epoch")
            trial.run.define_metric("*", step_metric="epoch")
        for row in trial.record.epochs[trial.sent :]:
            trial.run.log(dataclasses.asdict(row))  # without step=: a step that W&B holds for old would lose the row
            trial.sent, trial.sent_at = row.epoch, time.monotonic()

    def _finish(self, trial: _Trial) -> None:
        """Close the trial's run with its state and best epoch, unless it was left in just that way."""
        record = trial.record
        run_id = self._id(record.trial_id)
        if trial.run is None and self._ledger.state(run_id) == record.state:
            if self._ledger.sent(run_id).rows >= len(record.epochs):
                return
        self._bring_up(trial)
        assert trial.run is not None
        best = record.best()
        if best is not None:
            trial.run.summary.update({"best_epoch": best.epoch})
            trial.run.summary.update({f"best_{name}": getattr(best, name) for name in METRIC_FIELDS if name != "seconds"})
        trial.run.summary.update({"state": record.state, "stop_reason": record.reason})
        trial.run.tags = (*_tags(record), *(() if record.state == "done" else (record.state,)))
        trial.run.finish(exit_code=EXIT_CODES[record.state])
        trial.run = None
        self._ledger.write(run_id, trial.sent, record.state)

    def _send_search(
        self, records: list[TrialRecord], best: TrialRecord | None, files: tuple[Path, ...], summary: dict[str, Any]
    ) -> None:
        """The search's own run, unless it was sent with just this content."""
        told = json.dumps([[dataclasses.asdict(record) for record in records], summary], sort_keys=True, default=str)
        state = hashlib.sha256(told.encode()).hexdigest()[:16]
        run_id = self._id("search")
        sent = self._ledger.sent(run_id)
        if sent.state == state:
            return
        import wandb

        run = self._init(
            run_id, name=self._run.name, job_type="search", tags=("search",), config=self._config, segments=sent.segments
        )
        frame = trials_frame(records)
        content: dict[str, Any] = {"trials": wandb.Table(dataframe=frame)} if records else {}
        content |= {file.stem: wandb.Image(str(file)) for file in files if file.suffix == ".png" and file.is_file()}
        run.log(content)
        run.summary.update(_flat(summary))
        if best is not None:
            run.summary.update({"best_trial": best.trial_id, "best_number": best.number, "best_score": best.score()})
        for folder in files:
            if folder.is_dir():
                artifact = wandb.Artifact(f"{self._run.name}-{folder.name}", type="model", metadata=_flat(summary))
                for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                    # No copy to the user's cache: the folder of the search stays all that there is.
                    name = file.relative_to(folder).as_posix()
                    artifact.add_file(str(file), name=name, policy="immutable", skip_cache=True)
                run.log_artifact(artifact)
        run.finish(exit_code=0)
        self._ledger.write(run_id, sent.rows + 1, state)

    def _init(
        self, run_id: str, *, name: str, job_type: str, tags: Sequence[str], config: dict[str, Any], segments: int
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
            x_sync_dir_suffix=str(segments) if segments else "",  # two segments opened in one second are two folders
            init_timeout=20,
            finish_timeout=EXIT_S,
            stop_fn=lambda: log.warning("W&B: asked to stop run %s; stop the search with Ctrl-C instead", run_id),
        )
        self._run.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self._project,
            id=run_id,
            name=name,
            group=self._run.name,
            job_type=job_type,
            tags=list(tags),
            config=config,
            dir=str(self._run.folder),
            mode="online" if self._mode == "online" else "offline",
            reinit="create_new",
            resume="allow",
            settings=settings,
        )
        os.environ.pop("WANDB_SERVICE", None)  # processes that start from now on are not to log through ours
        return run

    def _id(self, name: str) -> str:
        return f"{self._search_id}-{name}"


def _tags(record: TrialRecord) -> tuple[str, ...]:
    return ("ferray", record.recipe.backbone)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and texts among values, those of inner dictionaries under `outer.inner`; lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": number for inner, number in _flat(value).items()}
        elif value is None or isinstance(value, str | int | float):
            flat[key] = value
    return flat
