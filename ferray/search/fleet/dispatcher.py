"""The dispatcher: the one actor between Tune's proxies and the worker groups.

A proxy requests the epochs of its trial one after the other; a worker group takes trials from a queue and reports their
epochs. The dispatcher keeps the queue and the epochs so far, and two rules: each (trial, epoch) counts once, and only
the group that holds a trial may report it. A trial whose group dies, or whose node is drained, goes to the next group.

    proxy  -- epochs_after(trial, 2) -->  dispatcher  <-- report_epochs(trial, epoch 3) --  rank 0 of a group
                                                       -- "continue" or "stopped" ------->

With a scheduler, a report is answered when a proxy requests the next epoch ("continue") or the trial is closed
("stopped"), so that no epoch is trained that the scheduler did not ask for. Without one it is answered at once, and a
group reports several short epochs together.

`Dispatcher` is plain asyncio; `ferray.search.fleet.cluster` makes a Ray actor of it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from time import monotonic

from ferray.errors import FerrayError, SearchError
from ferray.records.trial import ENDED, EpochResult, State
from ferray.search.fleet.messages import GroupId, GroupInfo, NoTrial, ReportReply, TrialJob, TrialUpdate
from ferray.search.fleet.open_trial import OpenTrial
from ferray.wording import count_of

TAKE_TIMEOUT_S = 10.0
"""How long `take_trial` waits for a trial; the ranks of a group synchronize at least this often."""

WATCH_S = 30.0
"""How often it is checked whether groups make progress."""


class Dispatcher:
    """The queue of trials, the epochs that were trained, and the worker groups.

    Args:
        has_scheduler: Whether a scheduler may stop trials early, so that a group waits for its decision on each epoch.
        session: How often this search was started or resumed; later sessions have higher leases.
        max_failures: Deaths of worker groups during one trial before the trial fails.
        stall_limit_s: A group that holds a trial for so long without progress has lost it, as if it had died.
    """

    def __init__(
        self, has_scheduler: bool, *, session: int = 1, max_failures: int = 2, stall_limit_s: float = math.inf
    ) -> None:
        self._has_scheduler = has_scheduler
        self._session = session
        self._max_failures = max_failures
        self._stall_limit_s = stall_limit_s
        self._progress_at: dict[str, float] = {}  # by group
        self._watches: dict[str, asyncio.Task[None]] = {}  # by group
        self._lease_counts = count(1)
        self._trials: dict[str, OpenTrial] = {}
        self._has_begun = False
        self._queue: deque[str] = deque()
        self._changed = asyncio.Event()
        self._incarnations: dict[str, int] = {}  # by group
        self._infos: dict[str, GroupInfo] = {}  # by group
        self._ended_groups: set[str] = set()
        self._stalled: dict[str, str] = {}  # groups that have lost a trial because they made no progress, and why
        self._nodes: dict[str, dict[int, str]] = {}  # group -> rank -> node
        self._trained_on: dict[str, str] = {}  # trial -> node of rank 0 of its last group
        self._draining: set[str] = set()  # nodes
        self._productive: set[str] = set()  # groups that trained an epoch since their last start
        self._activities: dict[str, str] = {}  # by trial
        self._is_closed, self._end_reason = False, ""
        self._error: FerrayError | None = None
        self._busy_s = self._span_s = 0.0
        self._idle_since: dict[str, float] = {}  # group -> when it released its last trial

    # Called by Tune's proxies and by the driver.

    async def open_trial(self, job: TrialJob) -> None:
        """Add a trial before its epochs are requested; two points with one identity share it."""
        if (trial := self._trials.get(job.trial_id)) is None:
            state: State = job.state if job.state in ENDED else "queued"
            trial = OpenTrial(job=job, rows=list(job.epochs), state=state, reason=job.reason)
            self._trials[job.trial_id] = trial
        trial.num_open += 1
        self._has_begun = True
        self._notify()

    async def epochs_after(self, trial_id: str, epoch: int) -> TrialUpdate:
        """The epochs of a trial after a given one, trained if they are not on record, and the state after them.

        With a scheduler, at most one epoch is returned. After the last one, the state says how the trial has ended.

        Args:
            trial_id: May be requested before `open_trial` has run, for which the driver does not wait.
            epoch: The last epoch that the proxy has.
        """
        await self._wait_until(lambda: trial_id in self._trials)
        trial = self._trials[trial_id]
        trial.requested_epoch = max(trial.requested_epoch, epoch + 1)
        if len(trial.rows) <= epoch and trial.state == "queued" and trial_id not in self._queue:
            self._queue.append(trial_id)
        self._notify()
        await self._wait_until(lambda: len(trial.rows) > epoch or trial.state in ENDED or self._is_over)
        rows = tuple(trial.rows[epoch : epoch + 1] if self._has_scheduler else trial.rows[epoch:])
        if trial.state in ENDED and epoch + len(rows) == len(trial.rows):
            return TrialUpdate(rows=rows, state=trial.state, reason=trial.reason)
        if rows:
            return TrialUpdate(rows=rows, state="running")
        return TrialUpdate(rows=(), state="interrupted", reason=self._end_reason or "the search was interrupted")

    async def close_trial(self, trial_id: str) -> None:
        """The trial has ended, or the scheduler has stopped it: one proxy less has it open."""
        trial = self._trials[trial_id]
        trial.num_open -= 1
        if trial.num_open == 0 and trial_id in self._queue:
            self._queue.remove(trial_id)
        self._drop_if_unused(trial)
        self._notify()

    async def wait_for_groups(self, num_groups: int) -> list[GroupInfo]:
        """Wait until so many groups are ready; returns fewer if the search ended before."""
        await self._wait_until(lambda: len(self._infos) >= num_groups or self._is_over)
        return list(self._infos.values())

    async def wait_for_start(self, num_groups: int) -> bool:
        """Wait until so many groups are ready or have ended; returns whether to start another one."""
        await self._wait_until(lambda: len(self._infos.keys() | self._ended_groups) >= num_groups or self._is_over)
        return not self._is_over

    async def utilization(self) -> float | None:
        """Fraction of the time in which groups had a trial, from each group's first trial to the end of its last."""
        return round(self._busy_s / self._span_s, 4) if self._span_s else None

    async def trained_on(self) -> dict[str, str]:
        """The node on which rank 0 trained each trial last."""
        return self._trained_on

    async def activities(self) -> dict[str, str]:
        """What the groups are doing at this moment, by trial."""
        return dict(self._activities)

    async def progress(self) -> tuple[set[str], int | None]:
        """The groups that have workers, and the trials that have not ended; None before there was one."""
        num_trials = sum(trial.state not in ENDED for trial in self._trials.values())
        return set(self._nodes), num_trials if self._has_begun else None

    async def drain_nodes(self, nodes: Collection[str]) -> None:
        """These nodes will leave the cluster: groups with a worker there release their trial, within an epoch too."""
        self._draining |= set(nodes)
        self._notify()

    async def group_died(self, group: str, reason: str) -> None:
        """A worker of the group has died: its trial is free for another, and further reports of it are refused."""
        before = self._incarnations.get(group)
        if before is not None:
            self._incarnations[group] = before + 1
            self._requeue_trials_of(GroupId(group, before), reason)
            self._notify()

    async def should_restart(self, group: str) -> bool:
        """All workers of a group have ended; whether to start it again: it trained an epoch, or its node is drained."""
        again = group in self._productive or self._is_draining(group)
        self._productive.discard(group)
        self._nodes.pop(group, None)
        return again and not self._is_over

    async def group_ended(self, group: str, reason: str, is_last: bool) -> None:
        """The group will not be started again; its trial waits for another one, or ends with the last group."""
        self._requeue_trials_of(GroupId(group, self._incarnations.pop(group, 0)), reason)
        self._ended_groups.add(group)
        if is_last:
            self._end_reason = self._end_reason or reason
        self._end_if_all_stall()
        self._notify()

    async def abort(self, error: FerrayError) -> None:
        """End the search with its trials unfinished: none can be trained, for example on a full disk."""
        self._error = self._error or error
        self._end_reason = self._end_reason or str(error)
        self._notify()

    async def error(self) -> FerrayError | None:
        """Why the search was aborted, if it was."""
        return self._error

    async def close(self) -> None:
        """Give out no more trials; the groups release theirs, unfinished."""
        self._is_closed = True
        self._notify()

    # Called by worker groups: `register_worker` and `wait_for_interruption` by every rank, the rest by rank 0.

    async def register_worker(self, group: str, rank: int, node: str) -> None:
        """On which node a worker runs; each rank calls this before its group is registered."""
        self._nodes.setdefault(group, {})[rank] = node

    async def register_group(self, group: str, info: GroupInfo) -> GroupId:
        """A group is ready, for the first time or again; a trial of its last incarnation goes to the queue's head.

        Returns:
            The new incarnation, which every later call shows.
        """
        before = self._incarnations.get(group, 0)
        self._incarnations[group] = before + 1
        self._stalled.pop(group, None)
        self._infos[group] = info
        if before:
            self._requeue_trials_of(GroupId(group, before), "restarted without a reported death")
        self._notify()
        known = GroupId(group, before + 1)
        if self._stall_limit_s < math.inf:
            self._watches[group] = asyncio.create_task(self._watch(known))
        return known

    async def wait_for_interruption(self, group: GroupId) -> None:
        """Return when the group is to release its trial at once."""
        await self._wait_until(lambda: self._must_release(group))

    async def take_trial(self, group: GroupId) -> TrialJob | NoTrial:
        """The next trial of the queue, now held by this group."""
        try:
            async with asyncio.timeout(TAKE_TIMEOUT_S):
                await self._wait_until(lambda: bool(self._queue) or self._must_release(group))
        except TimeoutError:
            return "none yet"
        if self._must_release(group):
            return "exit"
        trial = self._trials[self._queue.popleft()]
        trial.holder, trial.state, trial.taken_at, trial.is_begun = group, "running", monotonic(), False
        self._progress_at[group.name] = monotonic()
        self._activities[trial.job.trial_id] = "training"
        self._notify()
        return replace(trial.job, lease=(self._session, next(self._lease_counts)))

    async def begin_trial(self, group: GroupId, trial_id: str) -> None:
        """The group has received a trial that it took; from now on its death is one during that trial."""
        trial = self._trials.get(trial_id)
        if trial is not None and trial.holder == group:
            trial.is_begun = True
            self._trained_on[trial_id] = self._nodes.get(group.name, {}).get(0, "")

    async def note_progress(self, group: GroupId) -> None:
        """The group is training."""
        self._progress_at[group.name] = monotonic()

    async def report_epochs(self, group: GroupId, trial_id: str, rows: Sequence[EpochResult]) -> ReportReply:
        """Epochs, in order, that are on record now; a second report of the same epoch changes nothing."""
        trial = self._trials.get(trial_id)
        if trial is None or trial.holder != group:
            return "fenced"
        self._append(trial, rows)
        self._productive.add(group.name)
        self._activities[trial_id] = "training"
        self._progress_at[group.name] = math.inf  # while it waits for the answer
        self._notify()
        if self._has_scheduler:
            last = rows[-1].epoch
            await self._wait_until(
                lambda: trial.requested_epoch > last or not trial.num_open or trial.holder != group or self._is_over
            )
        if trial.holder != group:
            return "fenced"
        self._progress_at[group.name] = monotonic()
        if trial.num_open == 0:
            return "stopped"
        return "interrupted" if self._is_over else "continue"

    async def holds_trial(self, group: GroupId, trial_id: str) -> bool:
        """Whether the trial is still held by this group."""
        trial = self._trials.get(trial_id)
        return trial is not None and trial.holder == group

    async def set_activity(self, group: GroupId, trial_id: str, text: str) -> None:
        """What the group is doing for a trial, for the table that a running search shows."""
        if self._incarnations.get(group.name) == group.incarnation:
            self._activities[trial_id] = text
            self._progress_at[group.name] = monotonic()

    async def release_trial(self, group: GroupId, trial_id: str, update: TrialUpdate) -> None:
        """The group has recorded the state of its trial and is free; the update has the epochs not yet reported.

        A trial that is released as interrupted is the next to be taken.
        """
        trial = self._trials.get(trial_id)
        if trial is not None and trial.holder == group:
            self._append(trial, update.rows)
            self._count_time(group.name, trial)
            self._productive.add(group.name)
            if update.state == "interrupted":
                self._requeue(trial)
            else:
                self._set_free(trial, update.state, update.reason)
            self._drop_if_unused(trial)
            self._notify()

    # Steps that several of the above share.

    @property
    def _is_over(self) -> bool:
        return self._is_closed or bool(self._end_reason)

    def _append(self, trial: OpenTrial, rows: Sequence[EpochResult]) -> None:
        """Add the epochs that are new."""
        for row in rows:
            if row.epoch == len(trial.rows) + 1:
                trial.rows.append(row)

    def _count_time(self, group: str, trial: OpenTrial) -> None:
        now = monotonic()
        self._busy_s += now - trial.taken_at
        self._span_s += now - self._idle_since.get(group, trial.taken_at)
        self._idle_since[group] = now

    def _set_free(self, trial: OpenTrial, state: State, reason: str) -> None:
        trial.state, trial.reason, trial.holder = state, reason, None
        self._activities.pop(trial.job.trial_id, None)

    def _drop_if_unused(self, trial: OpenTrial) -> None:
        """Forget a trial that no proxy has open and no group holds: `open_trial` brings what is on record."""
        if trial.num_open == 0 and trial.holder is None:
            del self._trials[trial.job.trial_id]

    def _requeue_trials_of(self, group: GroupId, reason: str) -> None:
        """Take the trial of a dead group from it; it goes to the queue's head, or fails after too many deaths."""
        for trial in list(self._trials.values()):
            if trial.holder != group:
                continue
            # A drained node may be gone before its group could release the trial.
            trial.num_deaths += trial.is_begun and not self._is_draining(group.name)
            times = "once" if trial.num_deaths == 1 else f"{trial.num_deaths} times"
            if trial.num_deaths > self._max_failures:
                self._set_free(trial, "failed", f"its worker group died {times} while training it: {reason}")
            else:
                self._requeue(trial)
            self._drop_if_unused(trial)

    async def _watch(self, group: GroupId) -> None:
        """Take its trial from a group that makes no progress, for another: a process that hangs does not die."""
        while self._incarnations.get(group.name) == group.incarnation and not self._is_over:
            await asyncio.sleep(min(WATCH_S, self._stall_limit_s / 4))
            held = next((trial for trial in self._trials.values() if trial.holder == group), None)
            silent_s = monotonic() - self._progress_at.get(group.name, math.inf)
            if held is None or silent_s <= self._stall_limit_s:
                continue
            activity = self._activities.get(held.job.trial_id, "training")
            where = f"trial {held.job.number}, {count_of(len(held.rows), 'epoch')} on record: {activity}"
            reason = f"{group.name} made no progress for {silent_s:.0f} s with {where}"
            self._stalled[group.name] = reason
            self._end_if_all_stall()
            self._incarnations[group.name] = group.incarnation + 1
            self._requeue_trials_of(group, reason)
            self._notify()

    def _end_if_all_stall(self) -> None:
        """End the search where all groups that have not ended make no progress: nobody is left to train."""
        reasons = [self._stalled.get(group, "") for group in self._infos if group not in self._ended_groups]
        if reasons and all(reasons):
            reason, way_out = "; ".join(reasons), "See what holds that process up; FERRAY_STALL_S sets the limit"
            self._error = self._error or SearchError("worker groups", reason, way_out)
            self._end_reason = self._end_reason or reason

    def _requeue(self, trial: OpenTrial) -> None:
        """Put an unfinished trial at the queue's head."""
        self._set_free(trial, "queued", "")
        if trial.num_open:
            self._queue.appendleft(trial.job.trial_id)

    def _must_release(self, group: GroupId) -> bool:
        is_replaced = self._incarnations.get(group.name) != group.incarnation
        return self._is_over or self._is_draining(group.name) or is_replaced

    def _is_draining(self, group: str) -> bool:
        """Whether a worker of the group runs on a node that is being drained."""
        return not self._draining.isdisjoint(self._nodes.get(group, {}).values())

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is evaluated after every change."""
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        """Wake everything that waits, and let later waits use a new event."""
        self._changed.set()
        self._changed = asyncio.Event()
