"""Ray Tune: its loop, its proxies, and how it reaches the decisions of a search.

Tune's trials are proxies: objects of this process that request epochs from the dispatcher and return them to Tune as
results (`ferray.search.tune.proxies`). When Tune then asks its searcher for a point, or its scheduler whether to stop a
trial, `Decisions` answers, or `Finals` after the search proper.

Begin at `tune_until_done`.
"""

import dataclasses
import gc
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import ray
from ray import tune
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ferray.records.events import EndState
from ferray.records.trial import ENDED, EpochResult, TrialRecord
from ferray.search.fleet.messages import NAMESPACE, TrialJob, TrialUpdate
from ferray.search.fleet.ray_patches import patched_tune
from ferray.search.history.points import Suggestion
from ferray.search.tune.proxies import Proxies

log = logging.getLogger(__name__)

Result = TypeVar("Result")

TRIALS_PER_ROUND = 2000
"""Trials in one run of Tune, which keeps every trial until the run ends, 36 kB each, and iterates over all at times."""


class Decider(Protocol):
    """Decides which trial comes next and which is stopped: `ferray.search.tune.decisions.Decisions`, or the finals."""

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        """An epoch of a trial has ended; returns whether to stop the trial."""

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """A trial has ended."""


class Observer(Protocol):
    """Is informed of the progress of a search: the live table, W&B."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial is handed to Tune; it may have epochs already."""

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial was trained for one more epoch."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """What all runs of Tune in a search have in common."""

    make_job: Callable[[Suggestion], TrialJob]
    """Makes a job of a suggestion, with what is on record of the trial."""
    dispatcher_name: str
    """Name of the dispatcher actor."""
    num_proxies: int
    """Trials that Tune has at a time."""
    stop: threading.Event
    """Set from outside to end early, and here when no worker group is left."""
    recorders: Sequence[Observer]
    """Called in Tune's loop, must not block, and must not fail: the search ends with their error."""
    observers: Sequence[Observer]
    """Called after the recorders, must not block; one that fails is reported once and not called any more."""


def tune_until_done(decider: Decider, settings: TuneSettings, *, scratch: Path) -> None:
    """Run Tune until every trial has ended or `settings.stop` is set.

    Args:
        decider: Decides on trials and stops.
        settings: The search's.
        scratch: Folder for Tune's own files, which nobody reads.

    Raises:
        FerrayError: A decision could not be written to the journal.
        RayError: The dispatcher does not answer any more.
    """
    bridge = _TuneBridge(decider, settings)
    with patched_tune(lambda: Proxies(bridge.ask, bridge.fail)):
        while not bridge.none_left and not settings.stop.is_set():
            bridge.begin_round()
            _run_tune(bridge, scratch / f"round-{bridge.num_rounds}")
    if bridge.error is not None:
        raise bridge.error


def _run_tune(bridge: "_TuneBridge", scratch: Path) -> None:
    """One run of Tune, with some of the trials."""
    tuner = tune.Tuner(
        _NoProcess,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(bridge),
            scheduler=_Scheduler(bridge),
            num_samples=-1,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            stop=_Stop(bridge.stop),
            verbose=0,
            progress_reporter=_Silent(),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    tuner.fit()


class _Silent(tune.ProgressReporter):  # type: ignore[misc]  # ray has no complete annotations
    """Reports nothing. In a notebook Tune's own clears what the cell has shown, however quiet Tune was asked to be."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        pass


class _NoProcess(tune.Trainable):  # type: ignore[misc]
    """What Tune's trials run, as Tune sees it; none is ever made: see `ferray.search.tune.proxies`."""


class _TuneBridge:
    """Turns the calls that Tune makes into calls of the decider, the dispatcher and the observers."""

    def __init__(self, decider: Decider, settings: TuneSettings) -> None:
        self.stop = settings.stop
        self._decider = decider
        self._settings = settings
        self._dispatcher = ray.get_actor(settings.dispatcher_name, namespace=NAMESPACE)
        self._records: dict[int, TrialRecord] = {}  # of the trials that Tune has now
        self._left_in_round = 0
        self.num_rounds = 0
        self.none_left = False
        self.error: Exception | None = None
        self._failed_observers: list[Observer] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles all it is given, and nothing reads that

    def guarded(self, call: Callable[[], Result]) -> Result | None:
        """Make a call unless one has failed before; a failure ends the search after this turn of Tune's loop.

        Whatever it is, Tune does not get it: it would be raised out of its loop, wrapped in its own words.
        """
        try:
            return call() if self.error is None else None
        except Exception as error:  # noqa: BLE001  `tune_until_done` raises it
            self.fail(error)
            return None

    def fail(self, error: Exception) -> None:
        """End the search with an error, after this turn of Tune's loop."""
        self.error = self.error or error
        self.stop.set()

    def ask(self, trial_id: str, epoch: int) -> "Future[TrialUpdate]":
        """Ask the dispatcher for the epochs of a trial after a given one."""
        answer: Future[TrialUpdate] = self._dispatcher.epochs_after.remote(trial_id, epoch).future()
        return answer

    def begin_round(self) -> None:
        """Prepare for a run of Tune."""
        gc.collect()  # the trials of the last run refer to each other
        self.num_rounds += 1
        self._left_in_round = TRIALS_PER_ROUND

    def suggest(self) -> dict[str, Any] | str | None:
        """Configuration of the next proxy; None for not now, FINISHED for no more in this round."""
        if len(self._records) >= self._settings.num_proxies:
            return None
        suggestion = self._decider.suggest() if self._left_in_round else None
        if not isinstance(suggestion, Suggestion):
            self.none_left = suggestion is not None
            return str(Searcher.FINISHED)
        self._left_in_round -= 1
        job = self._settings.make_job(suggestion)
        self._dispatcher.open_trial.remote(job)
        known = job.epochs[: suggestion.num_reported]
        record = TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe, epochs=known, state="running")
        self._records[suggestion.number] = record
        self._inform(lambda observer: observer.trial_started(record))
        return {"number": suggestion.number, "trial_id": job.trial_id, "after": len(known)}

    def report_epochs(self, result: dict[str, Any]) -> bool:
        """New epochs of a trial that has not ended; returns whether to stop it."""
        if result["state"] == "interrupted":
            self.stop.set()
            return False
        record = self._add_rows(result)
        score = record.score()
        assert score is not None
        return self._decider.report_epoch(result["number"], len(record.epochs), score)

    def end(self, number: int, result: dict[str, Any]) -> None:
        """A trial has ended: by itself (`result["state"]` says how) or because the scheduler stopped it."""
        record = self._add_rows(result)
        state: EndState = result["state"] if result["state"] in ENDED else "stopped"  # Tune calls that done, too
        record = dataclasses.replace(record, state=state, reason=result["reason"])
        self._records.pop(number)
        self._decider.end(number, state, len(record.epochs), record.score())
        self._dispatcher.close_trial.remote(record.trial_id)
        self._inform(lambda observer: observer.trial_ended(record))

    def _inform(self, call: Callable[[Observer], None]) -> None:
        """Inform recorders and observers; of these, one that fails is left out from then on.

        Raises:
            Exception: Of a recorder.
        """
        for recorder in self._settings.recorders:
            call(recorder)
        for observer in self._settings.observers:
            if observer in self._failed_observers:
                continue
            try:
                call(observer)
            except Exception:  # the search is worth more than what shows it
                self._failed_observers.append(observer)
                log.warning("%s failed; the search goes on without it", type(observer).__name__, exc_info=True)

    def _add_rows(self, result: dict[str, Any]) -> TrialRecord:
        record = self._records[result["number"]]
        for row in result["rows"]:
            if row.epoch == len(record.epochs) + 1:  # Tune passes the result by which it stops a trial a second time
                record = dataclasses.replace(record, epochs=(*record.epochs, row))
                self._inform(partial(_inform_of_epoch, record.trial_id, row))
        # By the suggestion's number: two suggestions of one identity share the record's number.
        self._records[result["number"]] = record
        return record


class _Searcher(Searcher):  # type: ignore[misc]
    """Answers Tune when it asks for points."""

    def __init__(self, bridge: _TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._numbers: dict[str, int] = {}  # by Tune's trial id

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._bridge.guarded(self._bridge.suggest)
        if isinstance(config, dict):
            self._numbers[trial_id] = config["number"]
        elif config is None and self._bridge.stop.is_set():
            return str(Searcher.FINISHED)  # with no trial alive, Tune would ask again for ten minutes
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        assert result is not None, "no proxy fails without the search"
        self._bridge.guarded(lambda: self._bridge.end(number, result))


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Answers Tune when it asks whether to stop a trial."""

    def __init__(self, bridge: _TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The one that is pending; the inherited method iterates over all trials of the run at every turn."""
        return next((trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING), None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._bridge.guarded(lambda: self._bridge.report_epochs(result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class _Stop(Stopper):  # type: ignore[misc]
    """Ends Tune's loop when the event is set."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._event.is_set()


def _inform_of_epoch(trial_id: str, row: EpochResult, observer: Observer) -> None:
    observer.epoch_ended(trial_id, row)


def _dirname(trial: Trial) -> str:
    return str(trial.trial_id)
