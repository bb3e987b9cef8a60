"""The dispatcher alone, without Ray: plain asyncio."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest

from ferray.errors import StorageError
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, State
from ferray.search.fleet import dispatcher as module
from ferray.search.fleet.dispatcher import Dispatcher
from ferray.search.fleet.messages import GroupId, GroupInfo, TrialJob, TrialUpdate

INFO = GroupInfo(device="cpu", precision="float32")
T = TypeVar("T")


def row(epoch: int) -> EpochResult:
    return EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5))


def job(trial_id: str = "a", **values: Any) -> TrialJob:
    return TrialJob(trial_id=trial_id, number=0, recipe=Recipe(), **values)


def update(state: State, rows: list[EpochResult]) -> TrialUpdate:
    return TrialUpdate(rows=tuple(rows), state=state)


def play(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(story, 10))


async def begin(*, has_scheduler: bool) -> tuple[Dispatcher, GroupId, asyncio.Task[TrialUpdate]]:
    """A dispatcher whose trial `a` has been requested by a proxy and taken by group `g`."""
    dispatcher = Dispatcher(has_scheduler=has_scheduler)
    await dispatcher.open_trial(job())
    group = await dispatcher.register_group("g", INFO)
    requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
    assert isinstance(await dispatcher.take_trial(group), TrialJob)
    return dispatcher, group, requested


async def is_done(task: Awaitable[Any]) -> bool:
    """Whether a task is done after everything that could run has run."""
    for _ in range(20):
        await asyncio.sleep(0)
    return asyncio.ensure_future(task).done()


def test_a_request_that_arrives_before_its_trial_was_opened_waits_for_that() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False)
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        assert not await is_done(requested)
        await dispatcher.open_trial(job(epochs=(row(1),), state="done"))
        assert await requested == TrialUpdate(rows=(row(1),), state="done")

    play(story())


def test_with_a_scheduler_a_report_is_answered_when_the_next_epoch_is_requested() -> None:
    async def story() -> None:
        dispatcher, group, first = await begin(has_scheduler=True)
        report = asyncio.create_task(dispatcher.report_epochs(group, "a", [row(1)]))
        assert (await first).rows == (row(1),)
        assert not await is_done(report)
        requested = asyncio.create_task(dispatcher.epochs_after("a", 1))
        assert await report == "continue"
        requested.cancel()

    play(story())


def test_a_trial_that_the_scheduler_stops_ends_after_its_epoch() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=True)
        report = asyncio.create_task(dispatcher.report_epochs(group, "a", [row(1)]))
        await requested
        await dispatcher.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_without_a_scheduler_no_report_waits() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=False)
        assert await dispatcher.report_epochs(group, "a", [row(1)]) == "continue"
        assert await dispatcher.report_epochs(group, "a", [row(2)]) == "continue"
        await requested

    play(story())


def test_without_a_scheduler_a_proxy_gets_all_new_epochs_together_and_the_end_with_the_last() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=False)
        await dispatcher.report_epochs(group, "a", [row(1)])
        assert await requested == TrialUpdate(rows=(row(1),), state="running")
        await dispatcher.report_epochs(group, "a", [row(2), row(3)])
        await dispatcher.release_trial(group, "a", update("done", [row(4)]))
        assert await dispatcher.epochs_after("a", 1) == TrialUpdate(rows=(row(2), row(3), row(4)), state="done")

    play(story())


def test_with_a_scheduler_a_proxy_gets_one_epoch_at_a_time_and_the_end_with_the_last() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=True)
        await dispatcher.release_trial(group, "a", update("done", [row(1), row(2)]))  # found in a dead group's record
        assert await requested == TrialUpdate(rows=(row(1),), state="running")
        assert await dispatcher.epochs_after("a", 1) == TrialUpdate(rows=(row(2),), state="done")

    play(story())


def test_an_epoch_on_record_needs_no_group() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=True)
        await dispatcher.open_trial(job(epochs=(row(1), row(2)), state="interrupted"))
        assert (await dispatcher.epochs_after("a", 0)).rows == (row(1),)
        assert (await dispatcher.epochs_after("a", 1)).rows == (row(2),)

    play(story())


def test_a_trial_of_a_dead_group_goes_to_the_next_and_the_dead_one_is_fenced() -> None:
    async def story() -> None:
        dispatcher, before, requested = await begin(has_scheduler=True)
        after = await dispatcher.register_group("g", INFO)  # Ray Train has restarted it
        again = await dispatcher.take_trial(after)
        assert isinstance(again, TrialJob)
        assert again.trial_id == "a"
        assert await dispatcher.report_epochs(before, "a", [row(1)]) == "fenced"
        assert await dispatcher.take_trial(before) == "exit"
        report = asyncio.create_task(dispatcher.report_epochs(after, "a", [row(1)]))
        assert (await requested).rows == (row(1),)
        await dispatcher.close_trial("a")
        assert await report == "stopped"

    play(story())


@pytest.mark.parametrize("max_failures,times", [(0, "once"), (2, "3 times")])
def test_a_trial_that_keeps_killing_its_group_fails_with_the_cause(max_failures: int, times: str) -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=True, max_failures=max_failures)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        for _ in range(max_failures + 1):
            assert not await is_done(requested)
            group = await dispatcher.register_group("g", INFO)
            await dispatcher.take_trial(group)
            await dispatcher.begin_trial(group, "a")
            await dispatcher.group_died("g", "killed by signal 9")
        ended = await requested
        assert ended.rows == ()
        assert ended.state == "failed"
        assert ended.reason == f"its worker group died {times} while training it: killed by signal 9"

    play(story())


def test_a_trial_of_a_dead_worker_goes_to_another_group_at_once() -> None:
    async def story() -> None:
        dispatcher, before, requested = await begin(has_scheduler=True)
        other = await dispatcher.register_group("other", INFO)
        taken = asyncio.create_task(dispatcher.take_trial(other))
        await dispatcher.group_died("g", "killed by signal 9")
        again = await taken
        assert isinstance(again, TrialJob)
        assert again.trial_id == "a"
        assert not await dispatcher.holds_trial(before, "a")
        assert await dispatcher.report_epochs(before, "a", [row(1)]) == "fenced"
        await dispatcher.release_trial(before, "a", update("done", [row(1)]))
        assert not await is_done(requested)
        report = asyncio.create_task(dispatcher.report_epochs(other, "a", [row(1)]))
        assert (await requested).rows == (row(1),)
        await dispatcher.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_each_group_that_takes_a_trial_gets_a_higher_lease_than_all_before_it() -> None:
    async def story() -> None:
        leases = []
        for session in (1, 2):
            dispatcher = Dispatcher(has_scheduler=False, session=session)
            await dispatcher.open_trial(job())
            requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
            for _ in range(3):
                taken = await dispatcher.take_trial(await dispatcher.register_group("g", INFO))
                assert isinstance(taken, TrialJob)
                leases.append(taken.lease)
            requested.cancel()
        assert leases == sorted(set(leases))

    play(story())


def test_a_group_on_a_draining_node_releases_its_trial_unfinished_for_the_next() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False, max_failures=0)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        for rank, node in enumerate(("staying", "draining")):
            await dispatcher.register_worker("g", rank, node)
        group = await dispatcher.register_group("g", INFO)
        await dispatcher.take_trial(group)
        interrupted = asyncio.create_task(dispatcher.wait_for_interruption(group))
        await dispatcher.drain_nodes(["another"])
        assert not await is_done(interrupted)
        await dispatcher.drain_nodes(["draining"])
        await interrupted
        await dispatcher.release_trial(group, "a", update("interrupted", [row(1)]))
        assert (await requested).rows == (row(1),)
        assert await dispatcher.take_trial(group) == "exit"
        assert await dispatcher.should_restart("g")
        await dispatcher.register_worker("g", 0, "staying")
        again = await dispatcher.take_trial(await dispatcher.register_group("g", INFO))
        assert isinstance(again, TrialJob)
        assert again.trial_id == "a"

    play(story())


def test_a_draining_node_that_is_gone_before_its_group_has_released_the_trial_counts_as_no_failure() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False, max_failures=0)
        await dispatcher.open_trial(job())
        await dispatcher.register_worker("g", 0, "draining")
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        group = await dispatcher.register_group("g", INFO)
        await dispatcher.take_trial(group)
        await dispatcher.begin_trial(group, "a")
        await dispatcher.drain_nodes(["draining"])
        await dispatcher.group_died("g", "the node is gone")
        assert not await is_done(requested)
        await dispatcher.register_worker("h", 0, "staying")
        again = await dispatcher.take_trial(await dispatcher.register_group("h", INFO))
        assert isinstance(again, TrialJob)
        requested.cancel()

    play(story())


def test_a_group_is_started_again_only_if_it_has_trained_an_epoch() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=False)
        assert not await dispatcher.should_restart("g")
        await dispatcher.report_epochs(group, "a", [row(1)])
        assert await dispatcher.should_restart("g")
        assert not await dispatcher.should_restart("g")
        await dispatcher.report_epochs(group, "a", [row(2)])
        await dispatcher.close()
        assert not await dispatcher.should_restart("g")
        await requested

    play(story())


def test_an_error_of_the_environment_ends_the_search_with_its_trials_unfinished() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=True)
        interrupted = asyncio.create_task(dispatcher.wait_for_interruption(group))
        error = StorageError("runs/first", "cannot be written: No space left on device", "Free space")
        await dispatcher.abort(error)
        assert (await requested).state == "interrupted"
        assert "No space left" in (await requested).reason
        assert await dispatcher.error() == error
        assert await dispatcher.take_trial(group) == "exit"
        await interrupted

    play(story())


def test_an_epoch_reported_twice_counts_once() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=False)
        await dispatcher.report_epochs(group, "a", [row(1)])
        await dispatcher.report_epochs(group, "a", [EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.9))])
        assert (await requested).rows == (row(1),)

    play(story())


def test_two_points_with_one_identity_are_trained_once() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=True)
        group = await dispatcher.register_group("g", INFO)
        for _ in range(2):
            await dispatcher.open_trial(job())
        requested = [asyncio.create_task(dispatcher.epochs_after("a", 0)) for _ in range(2)]
        await dispatcher.take_trial(group)
        report = asyncio.create_task(dispatcher.report_epochs(group, "a", [row(1)]))
        assert [(await one).rows for one in requested] == [(row(1),), (row(1),)]
        await dispatcher.close_trial("a")
        assert not await is_done(report)  # the other still wants it
        await dispatcher.close_trial("a")
        assert await report == "stopped"

    play(story())


def test_when_the_last_group_has_ended_requests_are_answered_with_its_reason() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=True)
        await dispatcher.open_trial(job())
        await dispatcher.register_group("g", INFO)
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        await dispatcher.group_ended("g", "out of memory", is_last=True)
        ended = await requested
        assert (ended.state, ended.reason) == ("interrupted", "out of memory")

    play(story())


def test_a_group_is_started_when_those_before_it_are_ready_or_have_ended_and_not_after_the_search() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False)
        assert await dispatcher.wait_for_start(0)
        second, third = (asyncio.create_task(dispatcher.wait_for_start(number)) for number in (1, 2))
        assert not await is_done(second)
        await dispatcher.register_group("first", INFO)
        assert await second
        await dispatcher.group_ended("second", "could not start", is_last=False)
        assert await third
        fourth = asyncio.create_task(dispatcher.wait_for_start(3))
        assert not await is_done(fourth)
        await dispatcher.close()
        assert not await fourth

    play(story())


def test_utilization_is_the_fraction_of_the_time_with_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)

    async def story() -> float | None:
        nonlocal now
        dispatcher = Dispatcher(has_scheduler=False)
        assert await dispatcher.utilization() is None
        group = await dispatcher.register_group("g", INFO)
        for trial_id, taken_at, left_at in (("a", 10, 13), ("b", 14, 20)):  # 9 of the 10 seconds from 10 to 20
            await dispatcher.open_trial(job(trial_id))
            requested = asyncio.create_task(dispatcher.epochs_after(trial_id, 0))
            now = taken_at
            await dispatcher.take_trial(group)
            now = left_at
            await dispatcher.release_trial(group, trial_id, update("done", [row(1)]))
            await requested
        return await dispatcher.utilization()

    assert play(story()) == 0.9


def test_after_the_close_groups_exit_and_reports_are_interrupted() -> None:
    async def story() -> None:
        dispatcher, group, requested = await begin(has_scheduler=True)
        await dispatcher.close()
        assert await dispatcher.report_epochs(group, "a", [row(1)]) == "interrupted"
        assert await dispatcher.take_trial(group) == "exit"
        await requested

    play(story())


def test_a_group_without_a_trial_is_answered_within_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKE_TIMEOUT_S", 0.01)

    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=True)
        assert await dispatcher.take_trial(await dispatcher.register_group("g", INFO)) == "none yet"

    play(story())


def test_a_trial_that_a_dead_worker_took_without_receiving_it_has_no_part_in_that_death() -> None:
    """A call for a trial may wait here when the worker that made it has died already."""

    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False, max_failures=0)
        dead = await dispatcher.register_group("g", INFO)
        taken = asyncio.create_task(dispatcher.take_trial(dead))
        assert not await is_done(taken)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        assert isinstance(await taken, TrialJob), "which nobody receives"
        await dispatcher.group_died("g", "killed by signal 9")
        assert not await is_done(requested)
        assert isinstance(await dispatcher.take_trial(await dispatcher.register_group("g", INFO)), TrialJob)
        requested.cancel()

    play(story())


def test_a_group_without_progress_loses_its_trial_to_another_and_what_it_did_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "WATCH_S", 0.0)

    async def story() -> None:
        nonlocal now
        dispatcher = Dispatcher(has_scheduler=False, max_failures=0, stall_limit_s=100.0)
        stopped = await dispatcher.register_group("g", INFO)
        other = await dispatcher.register_group("h", INFO)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        assert isinstance(await dispatcher.take_trial(stopped), TrialJob)
        await dispatcher.begin_trial(stopped, "a")
        now = 90.0
        await dispatcher.set_activity(stopped, "a", "features: 256 of 900 faces")
        now = 180.0
        assert not await is_done(requested)
        now = 191.0
        ended = await requested
        assert ended.state == "failed", "it has lost as many groups as it may"
        assert (
            "g made no progress for 101 s with trial 0, 0 epochs on record: features: 256 of 900 faces" in ended.reason
        )
        assert await dispatcher.error() is None, "another group goes on"
        assert await dispatcher.report_epochs(stopped, "a", [row(1)]) == "fenced"
        assert await dispatcher.take_trial(stopped) == "exit"
        await dispatcher.note_progress(other)
        await dispatcher.close()

    play(story())


def test_where_no_other_group_is_left_one_without_progress_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "WATCH_S", 0.0)

    async def story() -> None:
        nonlocal now
        dispatcher = Dispatcher(has_scheduler=False, stall_limit_s=100.0)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        group = await dispatcher.register_group("g", INFO)
        await dispatcher.take_trial(group)
        now = 101.0
        assert (await requested).state == "interrupted"
        error = await dispatcher.error()
        assert error is not None
        assert "g made no progress for 101 s with trial 0, 0 epochs on record: training" in str(error)
        assert "FERRAY_STALL_S" in str(error)

    play(story())


def test_a_search_whose_groups_hang_or_have_ended_ends_also_when_the_last_one_that_trained_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "WATCH_S", 0.0)

    async def story() -> None:
        nonlocal now
        dispatcher = Dispatcher(has_scheduler=False, stall_limit_s=100.0)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        hanging = await dispatcher.register_group("g", INFO)
        await dispatcher.take_trial(hanging)
        other = await dispatcher.register_group("h", INFO)
        now = 101.0
        taken = await dispatcher.take_trial(other)
        assert isinstance(taken, TrialJob), "the trial of the group that hangs"
        assert not await is_done(requested)
        await dispatcher.group_ended("h", "out of memory", is_last=False)  # the supervisor of `g` still waits
        assert (await requested).state == "interrupted"
        assert "g made no progress for 101 s" in str(await dispatcher.error())

    play(story())


def test_a_group_that_ends_while_another_one_starts_does_not_end_the_search() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(has_scheduler=False, stall_limit_s=100.0)
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        await dispatcher.register_group("g", INFO)
        await dispatcher.group_ended("g", "out of memory", is_last=False)
        assert not await is_done(requested)
        assert isinstance(await dispatcher.take_trial(await dispatcher.register_group("h", INFO)), TrialJob)
        await dispatcher.close()

    play(story())


def test_a_group_that_waits_for_a_decision_or_has_no_trial_is_not_taken_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "WATCH_S", 0.0)

    async def story() -> None:
        nonlocal now
        dispatcher = Dispatcher(has_scheduler=True, stall_limit_s=100.0)
        group = await dispatcher.register_group("g", INFO)
        now = 1000.0
        await dispatcher.open_trial(job())
        requested = asyncio.create_task(dispatcher.epochs_after("a", 0))
        await dispatcher.take_trial(group)
        report = asyncio.create_task(dispatcher.report_epochs(group, "a", [row(1)]))
        assert (await requested).rows == (row(1),)
        now = 2000.0  # as where the driver was suspended
        assert not await is_done(report)
        requested = asyncio.create_task(dispatcher.epochs_after("a", 1))
        assert await report == "continue"
        assert await dispatcher.holds_trial(group, "a")
        requested.cancel()
        await dispatcher.close()

    play(story())
