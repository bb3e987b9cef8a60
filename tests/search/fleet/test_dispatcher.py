"""The dispatcher alone, without Ray: plain asyncio."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest

from ferray.errors import StorageError
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult
from ferray.search.fleet import dispatcher
from ferray.search.fleet.dispatcher import Dispatcher, Hello, Job, Outcome

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


def test_a_proxy_that_is_faster_than_the_drivers_word_of_its_trial_waits_for_it() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=False)
        asked = asyncio.create_task(desk.epochs_after("a", 0, begins=True))
        assert not await settled(asked)
        await desk.open_trial(job(epochs=(row(1),), state="done"))
        assert await asked == Outcome(rows=(row(1),), state="done")

    play(story())


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


@pytest.mark.parametrize("max_failures,times", [(0, "once"), (2, "3 times")])
def test_a_trial_that_keeps_killing_its_group_fails_with_the_cause(max_failures: int, times: str) -> None:
    async def story() -> None:
        desk = Dispatcher(decides=True, max_failures=max_failures)
        await desk.open_trial(job())
        asked = asyncio.create_task(desk.epochs_after("a", 0))
        for _ in range(max_failures + 1):
            assert not await settled(asked)
            await desk.take("g", await desk.join("g", HELLO))
            await desk.group_down("g", "killed by signal 9")
        outcome = await asked
        assert outcome.rows == ()
        assert outcome.state == "failed"
        assert outcome.reason == f"its worker group died {times} while training it: killed by signal 9"

    play(story())


def test_a_trial_of_a_dead_worker_goes_to_another_group_at_once() -> None:
    async def story() -> None:
        desk, before, asked = await begin(decides=True)
        other = await desk.join("other", HELLO)
        taken = asyncio.create_task(desk.take("other", other))
        await desk.group_down("g", "killed by signal 9")
        again = await taken
        assert isinstance(again, Job)
        assert again.trial_id == "a"
        assert not await desk.holds("g", before, "a")
        assert await desk.report("g", before, "a", [row(1)]) == "fenced"
        await desk.leave_trial("g", before, "a", "done", "", [row(1)])
        assert not await settled(asked)
        report = asyncio.create_task(desk.report("other", other, "a", [row(1)]))
        assert (await asked).rows == (row(1),)
        await desk.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_every_taking_of_a_trial_has_a_higher_lease_than_all_before_it() -> None:
    async def story() -> None:
        leases = []
        for session in (1, 2):
            desk = Dispatcher(decides=False, session=session)
            await desk.open_trial(job())
            asked = asyncio.create_task(desk.epochs_after("a", 0))
            for _ in range(3):
                taken = await desk.take("g", await desk.join("g", HELLO))
                assert isinstance(taken, Job)
                leases.append(taken.lease)
            asked.cancel()
        assert leases == sorted(set(leases))

    play(story())


def test_a_group_on_a_node_that_is_going_leaves_its_trial_unfinished_for_the_next() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=False, max_failures=0)
        await desk.open_trial(job())
        asked = asyncio.create_task(desk.epochs_after("a", 0))
        for rank, node in enumerate(("here", "going")):
            await desk.place("g", rank, node)
        incarnation = await desk.join("g", HELLO)
        await desk.take("g", incarnation)
        told = asyncio.create_task(desk.interruption("g", incarnation))
        await desk.drain(["somewhere"])
        assert not await settled(told)
        await desk.drain(["going"])
        await told
        await desk.leave_trial("g", incarnation, "a", "interrupted", "", [row(1)])
        assert (await asked).rows == (row(1),)
        assert await desk.take("g", incarnation) == "leave"
        assert await desk.wants_again("g")
        await desk.place("g", 0, "here")
        again = await desk.take("g", await desk.join("g", HELLO))
        assert isinstance(again, Job)
        assert again.trial_id == "a"

    play(story())


def test_a_node_that_goes_sooner_than_its_group_could_leave_counts_as_no_failure() -> None:
    async def story() -> None:
        desk = Dispatcher(decides=False, max_failures=0)
        await desk.open_trial(job())
        await desk.place("g", 0, "going")
        asked = asyncio.create_task(desk.epochs_after("a", 0))
        await desk.take("g", await desk.join("g", HELLO))
        await desk.drain(["going"])
        await desk.group_down("g", "the node has gone")
        assert not await settled(asked)
        await desk.place("h", 0, "here")
        again = await desk.take("h", await desk.join("h", HELLO))
        assert isinstance(again, Job)
        asked.cancel()

    play(story())


def test_a_group_is_started_again_only_if_it_was_of_use() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=False)
        assert not await desk.wants_again("g")
        await desk.report("g", incarnation, "a", [row(1)])
        assert await desk.wants_again("g")
        assert not await desk.wants_again("g")
        await desk.report("g", incarnation, "a", [row(2)])
        await desk.close()
        assert not await desk.wants_again("g")
        await asked

    play(story())


def test_a_fault_of_the_place_ends_the_search_with_its_trials_unfinished() -> None:
    async def story() -> None:
        desk, incarnation, asked = await begin(decides=True)
        told = asyncio.create_task(desk.interruption("g", incarnation))
        fault = StorageError("runs/first", "cannot be written: No space left on device", "Free space")
        await desk.halt(fault)
        assert (await asked).state == "interrupted"
        assert "No space left" in (await asked).reason
        assert await desk.fault() == fault
        assert await desk.take("g", incarnation) == "leave"
        await told

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
    monkeypatch.setattr(dispatcher, "monotonic", lambda: now)

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
    monkeypatch.setattr(dispatcher, "TAKE_WAIT_S", 0.01)

    async def story() -> None:
        desk = Dispatcher(decides=True)
        assert await desk.take("g", await desk.join("g", HELLO)) == "wait"

    play(story())
