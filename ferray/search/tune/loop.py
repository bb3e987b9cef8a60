"""Ray Tune: its loop, its proxies, and how our decisions reach it.

Tune's trials are proxies: class trainables without a resource share, reused for one point after the other, that ask the
dispatcher for epochs and hand them to Tune. What Tune then asks of searcher and scheduler, `Decisions` answers, or
`Finals` after the search proper.

Begin at `tune_until_done`.
"""

import dataclasses
import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import ray
from ray import tune
from ray.tune import Stopper
from ray.tune import registry as tune_registry
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ferray.errors import FerrayError
from ferray.records.trial import ENDED, EpochResult, State, TrialRecord
from ferray.search.fleet.dispatcher import NAMESPACE, Job, Outcome
from ferray.search.history.points import Suggestion

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

ROUND = 2000
"""Points of one run of Tune, which keeps every trial for its whole run, 36 kB each, and looks through them at times."""


# Tune hands cloud keys to its actors by a runtime environment, which Ray writes to its logs; proxies need none of them.
class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}


def _remember_what_is_registered() -> None:
    """Ask the cluster's store once for what Tune's registry holds: for each trial it asks three times, 2 ms in all."""
    registry, known = tune_registry._global_registry, dict[tuple[str, str], Any]()
    ask, has, register, unregister = registry.get, registry.contains, registry.register, registry.unregister

    def get(category: str, key: str) -> Any:
        if (category, key) not in known:
            known[category, key] = ask(category, key)
        return known[category, key]

    def register_anew(category: str, key: str, value: Any) -> None:
        register(category, key, value)
        known.pop((category, key), None)

    def forget(category: str, key: str) -> None:
        unregister(category, key)
        known.pop((category, key), None)

    registry.get, registry.register, registry.unregister = get, register_anew, forget
    registry.contains = lambda *name: name in known or has(*name)


_remember_what_is_registered()

# A snapshot of all trials at the end of a run of Tune, which nobody reads: a millisecond a trial, and texts for ever.
TuneController._mark_trial_to_checkpoint = lambda self, trial: None


class Decider(Protocol):
    """Who says which trial comes next and which is to stop: `ferray.search.tune.decisions.Decisions`, or the finals."""

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""

    def hear(self, number: int, epoch: int, score: float) -> bool:
        """A trial has come to an epoch; True if it is to stop."""

    def end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        """A trial has ended."""


class Observer(Protocol):
    """Whoever wants to hear how the search goes: the live table, W&B."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial is handed to Tune; it may have epochs already."""

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """A trial has come one epoch further."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""


def tune_until_done(
    decisions: Decider,
    *,
    make_job: Callable[[Suggestion], Job],
    dispatcher_name: str,
    concurrent: int,
    stop: threading.Event,
    observers: list[Observer],
    scratch: Path,
) -> None:
    """Run Tune until every point has ended or `stop` is set.

    Args:
        decisions: Which points, which stops.
        make_job: A suggestion as the groups want it, with what is on record of it.
        dispatcher_name: Of the dispatcher actor.
        concurrent: Proxies at a time.
        stop: Set from outside to end early, set here when all worker groups are lost.
        observers: Called in Tune's loop; must not block.
        scratch: Folder for Tune's own files, which nobody reads.

    Raises:
        FerrayError: A decision could not be put on record.
    """
    desk = _Desk(decisions, make_job, dispatcher_name, concurrent, stop, observers)
    while not desk.none_left and not stop.is_set():
        desk.begin_round()
        _tune(desk, scratch / f"round-{desk.num_rounds}")
    if desk.error is not None:
        raise desk.error


def _tune(desk: "_Desk", scratch: Path) -> None:
    """One run of Tune, with some of the points."""
    resources = {"cpu": 0, "node:__internal_head__": 1e-4}  # a fraction of a CPU would wait for ever for a full one
    tuner = tune.Tuner(
        tune.with_resources(Proxy, resources),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(desk),
            scheduler=_Scheduler(desk),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            stop=_Stop(desk.stop),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    tuner.fit()


class Proxy(tune.Trainable):  # type: ignore[misc]  # ray has no complete annotations
    """A Tune trial without training: one step fetches the epochs that came from the dispatcher, mostly one."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a point."""
        self._number: int = config["number"]
        self._trial_id: str = config["trial_id"]
        self._epoch: int = config["after"]
        self._begins = True
        self._dispatcher = ray.get_actor(config["dispatcher"], namespace=NAMESPACE)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next point in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next epochs, and how the trial ended if they were the last."""
        outcome: Outcome = ray.get(
            self._dispatcher.epochs_after.remote(self._trial_id, self._epoch, begins=self._begins)
        )
        self._begins = False
        self._epoch += len(outcome.rows)
        return {
            "number": self._number,
            "rows": outcome.rows,
            "state": outcome.state,
            "reason": outcome.reason,
            "done": outcome.state in ENDED,
        }


class _Desk:
    """Where Tune's questions become calls of `Decisions`, and observers hear of it."""

    def __init__(
        self,
        decisions: Decider,
        make_job: Callable[[Suggestion], Job],
        dispatcher_name: str,
        concurrent: int,
        stop: threading.Event,
        observers: list[Observer],
    ) -> None:
        self.decisions = decisions
        self.stop = stop
        self._make_job = make_job
        self._dispatcher_name = dispatcher_name
        self._dispatcher = ray.get_actor(dispatcher_name, namespace=NAMESPACE)
        self._concurrent = concurrent
        self._observers = observers
        self._records: dict[int, TrialRecord] = {}
        self._left_in_round = 0
        self.num_rounds = 0
        self.none_left = False
        self.error: FerrayError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles all it is given; nothing is ever read back from there

    def guarded(self, act: Callable[[], Answer]) -> Answer | None:
        """Do it, unless something failed before; a failure ends the search after this turn of Tune's loop."""
        try:
            return act() if self.error is None else None
        except FerrayError as error:
            self.error = error
            self.stop.set()
            return None

    def begin_round(self) -> None:
        """Tune starts anew, with new proxies."""
        gc.collect()  # the trials of its last run refer to each other
        self.num_rounds += 1
        self._left_in_round = ROUND
        ray.get(self._dispatcher.await_proxies.remote(self._concurrent))

    def suggest(self) -> dict[str, Any] | str | None:
        """Configuration of the next proxy; None for not now, FINISHED for never in this round."""
        if len(self._records) >= self._concurrent:
            return None
        suggestion = self.decisions.suggest() if self._left_in_round else None
        if not isinstance(suggestion, Suggestion):
            self.none_left = suggestion is not None
            self._dispatcher.await_proxies.remote(0)
            return str(Searcher.FINISHED)
        self._left_in_round -= 1
        job = self._make_job(suggestion)
        self._dispatcher.open_trial.remote(job)
        heard = job.epochs[: suggestion.after]
        record = TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe, epochs=heard, state="running")
        self._records[suggestion.number] = record
        for observer in self._observers:
            observer.trial_started(record)
        return {
            "number": suggestion.number,
            "trial_id": job.trial_id,
            "after": len(heard),
            "dispatcher": self._dispatcher_name,
        }

    def hear(self, result: dict[str, Any]) -> bool:
        """Epochs of a trial that goes on; True if it is to stop."""
        if result["state"] == "interrupted":
            self.stop.set()
            return False
        record = self._add_rows(result)
        score = record.score()
        assert score is not None
        return self.decisions.hear(result["number"], len(record.epochs), score)

    def end(self, number: int, result: dict[str, Any] | None) -> None:
        """A trial has ended: by itself (`result["state"]` says how) or because the scheduler stopped it."""
        if result is None:  # the proxy itself broke: no word on the trial, which stays unfinished
            log.error("a proxy of Tune's broke; the search stops")
            self.stop.set()
            return
        record = self._add_rows(result)
        state: State = result["state"] if result["state"] in ENDED else "stopped"  # Tune calls that done, too
        record = dataclasses.replace(record, state=state, reason=result["reason"])
        self._records.pop(number)
        self.decisions.end(number, record.state, len(record.epochs), record.score())
        self._dispatcher.close_trial.remote(record.trial_id)
        for observer in self._observers:
            observer.trial_ended(record)

    def _add_rows(self, result: dict[str, Any]) -> TrialRecord:
        record = self._records[result["number"]]
        for row in result["rows"]:
            if row.epoch == len(record.epochs) + 1:  # Tune shows the result that it stops a trial on a second time
                record = dataclasses.replace(record, epochs=(*record.epochs, row))
                for observer in self._observers:
                    observer.epoch(record.trial_id, row)
        self._records[result["number"]] = record  # that of the suggestion: two of one identity share a record's number
        return record


class _Searcher(Searcher):  # type: ignore[misc]
    """Tune's questions on points."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk
        self._numbers: dict[str, int] = {}  # Tune's trial id -> our number

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._desk.guarded(self._desk.suggest)
        if isinstance(config, dict):
            self._numbers[trial_id] = config["number"]
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        self._desk.guarded(lambda: self._desk.end(number, None if error else result))


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's questions on stops."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The one that waits; the inherited method looks through all trials of the run at every turn."""
        return next((trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING), None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._desk.guarded(lambda: self._desk.hear(result))
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


def _dirname(trial: Trial) -> str:
    return str(trial.trial_id)
