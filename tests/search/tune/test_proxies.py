"""Tune's own loop with trials that are no processes: a dispatcher that answers at once, and no Ray cluster."""

import re
from concurrent.futures import Future
from inspect import getsource
from typing import Any

import pytest
from ray.tune.execution.tune_controller import TuneController

from ferray.records.trial import METRIC_FIELDS, EpochResult
from ferray.search.fleet.messages import TrialUpdate
from ferray.search.tune.proxies import Proxies

ROWS = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)) for epoch in (1, 2, 3))
CONFIG = {"config": {"number": 7, "trial_id": "a", "after": 0}}


class Controller:
    """What Tune's controller does with a proxy, and what it is informed of."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.answers: list[Future[TrialUpdate]] = []
        self.events: list[Any] = []
        self.proxies = Proxies(self.ask, self.events.append)
        self.proxy = self.proxies.add_actor(
            cls=None, resource_request=None, kwargs=CONFIG, on_error=None,
            on_start=lambda _: self.events.append("started"), on_stop=lambda _: self.events.append("stopped"),
        )  # fmt: skip

    def ask(self, trial_id: str, epoch: int) -> "Future[TrialUpdate]":
        self.asked.append((trial_id, epoch))
        self.answers.append(Future())
        return self.answers[-1]

    def train(self) -> None:
        self.proxies.schedule_actor_task(
            tracked_actor=self.proxy, method_name="train", args=(), kwargs={}, on_error=None, _return_future=False,
            on_result=lambda _, result: self.events.append(result),
        )  # fmt: skip


@pytest.fixture
def controller() -> Controller:
    return Controller()


def test_a_trial_begins_when_tune_asks_for_an_event_and_not_while_it_is_added(controller: Controller) -> None:
    assert controller.events == []
    assert controller.proxies.next(timeout=0.1)
    assert controller.events == ["started"]
    assert not controller.proxies.next(timeout=0.001), "nothing more"


def test_tune_gets_epoch_after_epoch_and_the_end_with_the_last(controller: Controller) -> None:
    controller.proxies.next(timeout=0.1)
    for rows, state in ((ROWS[:2], "running"), (ROWS[2:], "done")):
        controller.train()
        assert not controller.proxies.next(timeout=0.001)
        controller.answers[-1].set_result(TrialUpdate(rows=rows, state=state))  # type: ignore[arg-type]
        assert controller.proxies.next(timeout=0.1)
    assert controller.asked == [("a", 0), ("a", 2)]
    assert controller.events[1:] == [
        {"number": 7, "rows": ROWS[:2], "state": "running", "reason": "", "done": False},
        {"number": 7, "rows": ROWS[2:], "state": "done", "reason": "", "done": True},
    ]


def test_the_answer_for_a_trial_that_was_stopped_meanwhile_is_dropped(controller: Controller) -> None:
    controller.proxies.next(timeout=0.1)
    controller.train()
    controller.proxies.clear_actor_task_futures(controller.proxy)
    assert controller.proxies.schedule_actor_task(controller.proxy, "stop", _return_future=True) is None
    assert not controller.proxies.remove_actor(controller.proxy, kill=False, stop_future=None)
    controller.answers[0].set_result(TrialUpdate(rows=ROWS, state="done"))
    assert controller.proxies.next(timeout=0.1)
    assert controller.events == ["started", "stopped"]
    assert controller.proxies.num_live_actors == controller.proxies.num_actor_tasks == 0


def test_a_trial_that_is_removed_before_it_began_never_begins(controller: Controller) -> None:
    controller.proxies.remove_actor(controller.proxy)
    assert controller.proxies.next(timeout=0.1)
    assert controller.events == ["stopped"]


def test_a_dispatcher_that_is_gone_ends_the_search_and_not_a_trial(controller: Controller) -> None:
    controller.proxies.next(timeout=0.1)
    controller.train()
    error = ConnectionError("the actor is dead")
    controller.answers[0].set_exception(error)
    controller.proxies.next(timeout=0.1)
    assert controller.events == ["started", error]


def test_every_method_that_tunes_controller_calls_is_there() -> None:
    used = set(re.findall(r"self\._actor_manager\.(\w+)", getsource(TuneController)))
    not_reached = {
        "get_live_actors_resources",  # of the status that Tune prints, which a search does without
        "_actor_task_events",  # of an export of Tune's, which is not asked for
    }
    assert used - not_reached == {name for name in used if hasattr(Controller().proxies, name)}
    assert "next" in used
