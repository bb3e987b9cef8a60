"""The dispatcher alone, without Ray: plain asyncio."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest

from ferray.recipe import Recipe
from ferray.records import METRIC_FIELDS, EpochResult
from ferray.search import dispatch
from ferray.search.dispatch import Dispatcher, Hello, Job, Outcome

HELLO = Hello(device="cpu", precision="float32")
T = TypeVar("T")


def row(epoch: int) -> EpochResult:
    return EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5))


def job(trial_id: str = "a", **values: Any) -> Job:
    return Job(trial_id=trial_id, number=0, recipe=Recipe(), **values)


def play(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(story, 10))


async def begin(*, decides: bool) -> tuple[Dispatcher, int, asyncio.Task[Outcome]]:
    """A dispatcher whose trial `a` has been asked for by a proxy and taken by group `g`."""
    desk = Dispatcher(decides=decides)
    await desk.open_trial(job())
    incarnation = await desk.join("g", HELLO)
    asked = asyncio.create_task(desk.epochs_after("a", 0))
    assert isinstance(await desk.take("g", incarnation), Job)
    return desk, incarnation, asked


async def settled(task: Awaitable[Any]) -> bool:
    """Whether a task is done after everything that could run has run."""
    for _ in range(20):
        await asyncio.sleep(0)
    return asyncio.ensure_future(task).done()


def test_a_report_is_answered_when_the_next_epoch_is_asked_for() -> None:
    async def story() -> None:
        desk, incarnation, first = await begin(decides=True)
        report = asyncio.create_task(desk.report("g", incarnation, "a", [row(1)]))
        assert (await first).rows == (row(1),)
        assert not await settled(report)
        asked = asyncio.create_task(desk.epochs_after("a", 1))
        assert await report == "go on"
        asked.cancel()

    play(story())


def test_a_trial_that_the_scheduler_stops_is_left_after_its_epoch() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=True)
        report = asyncio.create_task(desk.report("g", incarnation, "a", [row(1)]))
        await asked
        await desk.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_without_a_scheduler_no_report_waits() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=False)
        assert await desk.report("g", incarnation, "a", [row(1)]) == "go on"
        assert await desk.report("g", incarnation, "a", [row(2)]) == "go on"
        await asked

    play(story())


def test_without_a_scheduler_epochs_that_came_meanwhile_are_handed_out_together_with_the_end() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=False)
        await desk.report("g", incarnation, "a", [row(1)])
        assert await asked == Outcome(rows=(row(1),), state="running")
        await desk.report("g", incarnation, "a", [row(2), row(3)])
        await desk.leave_trial("g", incarnation, "a", "done", "", [row(4)])
        assert await desk.epochs_after("a", 1) == Outcome(rows=(row(2), row(3), row(4)), state="done")

    play(story())


def test_a_scheduler_hears_of_one_epoch_after_the_other_and_of_the_end_with_the_last() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=True)
        await desk.leave_trial("g", incarnation, "a", "done", "", [row(1), row(2)])  # found in a dead group's record
        assert await asked == Outcome(rows=(row(1),), state="running")
        assert await desk.epochs_after("a", 1) == Outcome(rows=(row(2),), state="done")

    play(story())


def test_an_epoch_on_record_is_handed_out_without_a_group() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=True)
        await desk.open_trial(job(epochs=(row(1), row(2)), state="interrupted"))
        assert (await desk.epochs_after("a", 0)).rows == (row(1),)
        assert (await desk.epochs_after("a", 1)).rows == (row(2),)

    play(story())


def test_a_trial_of_a_dead_group_goes_to_the_next_and_the_dead_one_is_fenced() -> None:
    async def story() -> None:
        desk, before, asked = await begin(decides=True)
        after = await desk.join("g", HELLO)  # Ray Train has restarted it
        again = await desk.take("g", after)
        assert isinstance(again, Job)
        assert again.trial_id == "a"
        assert await desk.report("g", before, "a", [row(1)]) == "fenced"
        assert await desk.take("g", before) == "leave"
        report = asyncio.create_task(desk.report("g", after, "a", [row(1)]))
        assert (await asked).rows == (row(1),)
        await desk.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_a_trial_that_keeps_killing_its_group_is_given_up() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=True)
        await desk.open_trial(job())
        asked = asyncio.create_task(desk.epochs_after("a", 0))
        for _ in range(dispatch.MAX_DEATHS + 1):
            await desk.take("g", await desk.join("g", HELLO))
        await desk.join("g", HELLO)
        outcome = await asked
        assert outcome.rows == ()
        assert outcome.state == "failed"
        assert "died 3 times" in outcome.reason

    play(story())


def test_an_epoch_reported_twice_counts_once() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=False)
        await desk.report("g", incarnation, "a", [row(1)])
        await desk.report("g", incarnation, "a", [EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.9))])
        assert (await asked).rows == (row(1),)

    play(story())


def test_two_points_with_one_identity_are_trained_once() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=True)
        incarnation = await desk.join("g", HELLO)
        for _ in range(2):
            await desk.open_trial(job())
        asked = [asyncio.create_task(desk.epochs_after("a", 0)) for _ in range(2)]
        await desk.take("g", incarnation)
        report = asyncio.create_task(desk.report("g", incarnation, "a", [row(1)]))
        assert [(await one).rows for one in asked] == [(row(1),), (row(1),)]
        await desk.close_trial("a")
        assert not await settled(report)  # the other still wants it
        await desk.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_whoever_waits_hears_of_the_loss_of_the_last_group() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=True)
        await desk.open_trial(job())
        await desk.join("g", HELLO)
        asked = asyncio.create_task(desk.epochs_after("a", 0))
        await desk.group_ended("g", "out of memory", last=True)
        outcome = await asked
        assert (outcome.state, outcome.reason) == ("interrupted", "out of memory")

    play(story())


def test_a_group_is_started_when_those_before_it_are_up_or_gone_and_not_after_the_search() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=False)
        assert await desk.groups_seen(0)
        second, third = (asyncio.create_task(desk.groups_seen(number)) for number in (1, 2))
        assert not await settled(second)
        await desk.join("first", HELLO)
        assert await second
        await desk.group_ended("second", "could not start", last=False)
        assert await third
        fourth = asyncio.create_task(desk.groups_seen(3))
        assert not await settled(fourth)
        await desk.close()
        assert not await fourth

    play(story())


def test_utilization_is_the_share_of_the_time_with_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(dispatch, "monotonic", lambda: now)

    async def story() -> float | None:
        nonlocal now
        desk = Dispatcher(decides=False)
        assert await desk.utilization() is None
        incarnation = await desk.join("g", HELLO)
        for trial_id, taken_at, left_at in (("a", 10, 13), ("b", 14, 20)):  # 9 of the 10 seconds from 10 to 20
            await desk.open_trial(job(trial_id))
            asked = asyncio.create_task(desk.epochs_after(trial_id, 0))
            now = taken_at
            await desk.take("g", incarnation)
            now = left_at
            await desk.leave_trial("g", incarnation, trial_id, "done", "", [row(1)])
            await asked
        return await desk.utilization()

    assert play(story()) == 0.9


def test_no_trial_ends_before_every_proxy_is_up_or_no_more_are_needed() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=False)
        await desk.await_proxies(2)
        for trial_id in ("a", "b"):
            await desk.open_trial(job(trial_id, epochs=(row(1),), state="done"))
        first = asyncio.create_task(desk.epochs_after("a", 0, begins=True))
        again = asyncio.create_task(desk.epochs_after("a", 0))
        assert not await settled(first)
        await desk.epochs_after("b", 0, begins=True)
        assert (await first).state == (await again).state == "done"

        alone = Dispatcher(decides=False)
        await alone.await_proxies(2)
        await alone.open_trial(job(epochs=(row(1),), state="done"))
        asked = asyncio.create_task(alone.epochs_after("a", 0, begins=True))
        assert not await settled(asked)
        await alone.await_proxies(0)
        assert (await asked).state == "done"

    play(story())


def test_after_the_close_groups_leave_and_reports_are_interrupted() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=True)
        await desk.close()
        assert await desk.report("g", incarnation, "a", [row(1)]) == "interrupted"
        assert await desk.take("g", incarnation) == "leave"
        await asked

    play(story())


def test_a_group_without_work_hears_so_within_the_waiting_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TAKE_WAIT_S", 0.01)

    async def story() -> None:
        desk = Dispatcher(decides=True)
        assert await desk.take("g", await desk.join("g", HELLO)) == "wait"

    play(story())
