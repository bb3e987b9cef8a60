"""What is done when Tune asks for points and reports results; neither Ray nor Tune is started."""

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import ray
from ray.tune.search import Searcher

from ferray.errors import RecordError, TrackingError
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.fleet.messages import TrialJob
from ferray.search.history.points import Suggestion
from ferray.search.tune.loop import TuneSettings, _Searcher, _TuneBridge

ROWS = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)) for epoch in (1, 2))


class FakeDecider:
    """Has three trials and stops each after its second epoch; keeps the calls."""

    def __init__(self) -> None:
        self.left = [Suggestion(number, f"trial-{number}", {}) for number in range(3)]
        self.calls: list[tuple[Any, ...]] = []

    def suggest(self) -> Suggestion | Literal["none left"]:
        return self.left.pop(0) if self.left else "none left"

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        self.calls.append(("epoch", number, epoch))
        return epoch == 2

    def end(self, number: int, state: str, epoch: int, score: float | None) -> None:
        self.calls.append(("end", number, state, epoch))


class ListObserver:
    """Keeps what it is informed of."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def trial_started(self, record: TrialRecord) -> None:
        self.events.append(("started", record.trial_id))

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        self.events.append((trial_id, row.epoch))

    def trial_ended(self, record: TrialRecord) -> None:
        self.events.append((record.state, record.trial_id))


@pytest.fixture
def decider() -> FakeDecider:
    return FakeDecider()


@pytest.fixture
def observer() -> ListObserver:
    return ListObserver()


@pytest.fixture
def bridge(decider: FakeDecider, observer: ListObserver, monkeypatch: pytest.MonkeyPatch) -> _TuneBridge:
    """In a round of two proxies, with a dispatcher that does nothing."""
    method = SimpleNamespace(remote=lambda *_: None)
    dispatcher = SimpleNamespace(open_trial=method, close_trial=method)
    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: dispatcher)
    settings = TuneSettings(
        make_job=lambda one: TrialJob(trial_id=one.trial_id, number=one.number, recipe=Recipe(epochs=2)),
        dispatcher_name="dispatcher",
        num_proxies=2,
        stop=threading.Event(),
        recorders=[],
        observers=[observer],
    )
    made = _TuneBridge(decider, settings)  # type: ignore[arg-type]
    made.begin_round()
    return made


def result(number: int, *rows: EpochResult, state: str = "running") -> dict[str, Any]:
    return {"number": number, "rows": rows, "state": state, "reason": ""}


def test_tune_has_no_more_trials_at_a_time_than_proxies(bridge: _TuneBridge) -> None:
    assert [isinstance(bridge.suggest(), dict) for _ in range(2)] == [True, True]
    assert bridge.suggest() is None, "not now"
    bridge.end(0, result(0, *ROWS, state="done"))
    assert isinstance(bridge.suggest(), dict)
    bridge.end(1, result(1, *ROWS, state="done"))
    assert bridge.suggest() == Searcher.FINISHED
    assert bridge.none_left


def test_a_result_that_tune_passes_a_second_time_counts_once(
    bridge: _TuneBridge, decider: FakeDecider, observer: ListObserver
) -> None:
    bridge.suggest()
    assert not bridge.report_epochs(result(0, ROWS[0]))
    assert bridge.report_epochs(result(0, ROWS[1]))
    bridge.end(0, result(0, ROWS[1]))  # as Tune ends a trial that its scheduler has stopped
    assert decider.calls == [("epoch", 0, 1), ("epoch", 0, 2), ("end", 0, "stopped", 2)]
    assert observer.events == [("started", "trial-0"), ("trial-0", 1), ("trial-0", 2), ("stopped", "trial-0")]


def test_a_decision_that_cannot_be_recorded_ends_the_search(bridge: _TuneBridge, decider: FakeDecider) -> None:
    error = RecordError("journal.jsonl", "No space left on device", "Free space")

    def fail(*_: object) -> bool:
        raise error

    bridge.suggest()
    decider.report_epoch = fail  # type: ignore[method-assign]
    assert bridge.guarded(lambda: bridge.report_epochs(result(0, ROWS[0]))) is None
    assert bridge.stop.is_set()
    assert bridge.error is error
    assert bridge.guarded(bridge.suggest) is None, "no further decisions"


def test_a_point_that_cannot_be_decided_ends_tune_at_once(bridge: _TuneBridge, decider: FakeDecider) -> None:
    def fail() -> Suggestion:
        raise RecordError("journal.jsonl", "No space left on device", "Free space")

    decider.suggest = fail  # type: ignore[method-assign]
    assert _Searcher(bridge).suggest("0") == Searcher.FINISHED, "not None, after which Tune asks again"


def test_an_interrupted_trial_stays_unfinished(
    bridge: _TuneBridge, decider: FakeDecider, observer: ListObserver
) -> None:
    bridge.suggest()
    assert not bridge.report_epochs(result(0, state="interrupted"))
    assert bridge.stop.is_set()
    assert decider.calls == []
    assert observer.events == [("started", "trial-0")]


class FailingObserver(ListObserver):
    """A tracker with a fault."""

    error: Exception = AttributeError("its server's answer has no attribute 'url'")

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        super().epoch_ended(trial_id, row)
        raise self.error


def with_observers(bridge: _TuneBridge, **observers: Any) -> None:
    bridge._settings = dataclasses.replace(bridge._settings, **observers)


@pytest.mark.parametrize("error", [FailingObserver.error, TrackingError("W&B", "is full", "Free space")])
def test_a_tracker_that_fails_is_reported_once_and_does_not_end_the_search(
    error: Exception,
    bridge: _TuneBridge,
    decider: FakeDecider,
    observer: ListObserver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = FailingObserver()
    failing.error = error
    with_observers(bridge, observers=[failing, observer])
    bridge.suggest()
    for row in ROWS:
        bridge.guarded(lambda row=row: bridge.report_epochs(result(0, row)))
    assert decider.calls == [("epoch", 0, 1), ("epoch", 0, 2)]
    assert observer.events == [("started", "trial-0"), ("trial-0", 1), ("trial-0", 2)]
    assert failing.events == [("started", "trial-0"), ("trial-0", 1)]
    assert caplog.messages == ["FailingObserver failed; the search goes on without it"]


def test_whatever_a_record_fails_with_ends_the_search_with_that_and_not_in_tunes_loop(bridge: _TuneBridge) -> None:
    with_observers(bridge, recorders=[FailingObserver()])
    bridge.suggest()
    assert bridge.guarded(lambda: bridge.report_epochs(result(0, ROWS[0]))) is None
    assert isinstance(bridge.error, AttributeError)
    assert bridge.stop.is_set()
