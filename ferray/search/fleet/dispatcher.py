"""The dispatcher: the one actor between Tune's proxies and the worker groups.

Proxies ask for the epochs of a trial, as they come; groups take trials and report epochs. Between them a queue, the
epochs so far, and two rules: every (trial, epoch) counts once, and only the group that holds a trial may report it.
A group that dies, or whose node is going, loses its trial to the next one.

    proxy  -- epochs_after(trial, 2) -->  dispatcher  <-- report(trial, epoch 3) --  rank 0 of a group
                                                       -- go on, or leave it ---->

A report is answered when somebody asks for the epoch after it (go on) or lets the trial go (leave it), so no epoch is
trained that the scheduler did not want. Where nothing is ever stopped early, it is answered at once, and a group tells
of several short epochs together.

`Dispatcher` is plain asyncio; `ferray.search.fleet.cluster` makes a Ray actor of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Literal

from ferray.errors import FerrayError
from ferray.recipe import Recipe
from ferray.records.trial import ENDED, EpochResult, State

NAMESPACE = "ferray"
"""Of Ray's actor names."""

TAKE_WAIT_S = 10.0
"""How long `take` waits for a trial before it answers None; the ranks of a group meet at least this often."""

Answer = Literal["go on", "stopped", "interrupted", "fenced"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all groups of a search are told when they start; plain values, since it crosses processes."""

    run_dir: Path
    search_id: str
    """In the `search.json` of `run_dir`: a node that does not find it there has another disk."""
    data_dir: Path
    weights: str
    cache: Path
    cpus_per_worker: int
    decides: bool
    """Whether a scheduler wants to hear of every epoch before the next one begins."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial as the groups see it."""

    trial_id: str
    number: int
    recipe: Recipe
    epochs: tuple[EpochResult, ...] = ()
    """Already on record."""
    state: State = "queued"
    reason: str = ""
    shorter: tuple[str, ...] = ()
    """Ids of trials whose epochs, once they are done, are this one's first epochs; the longest first."""
    lease: tuple[int, int] = (0, 0)
    """Of whoever takes it, higher each time: see `ferray.files.storage.Lease`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a proxy gets: epochs that it had not heard of, and the trial's state after them."""

    rows: tuple[EpochResult, ...]
    state: State
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a worker group says of itself when it is up."""

    device: str
    precision: str
    """The faster one on this device, by measurement."""


@dataclass
class _Trial:
    job: Job
    rows: list[EpochResult]
    state: State
    reason: str
    askers: int = 0
    wanted: int = 0
    holder: tuple[str, int] | None = None
    taken_at: float = 0.0
    deaths: int = 0


class Dispatcher:
    """Queue in, epochs out.

    Args:
        decides: Whether a scheduler may stop trials early, so that groups must wait for its word after each epoch.
        session: Counts the times that this search was begun or resumed; leases of a later one are higher.
        max_failures: Deaths of worker groups that one trial may have a part in before it is given up.
    """

    def __init__(self, decides: bool, *, session: int = 1, max_failures: int = 2) -> None:
        self._decides = decides
        self._session = session
        self._max_failures = max_failures
        self._counts = count(1)
        self._proxies_to_come = 0
        self._trials: dict[str, _Trial] = {}
        self._queue: deque[str] = deque()
        self._changed = asyncio.Event()
        self._groups: dict[str, int] = {}  # name -> incarnation
        self._hellos: dict[str, Hello] = {}
        self._gone: set[str] = set()
        self._places: dict[str, dict[int, str]] = {}  # group -> rank -> node
        self._draining: set[str] = set()  # nodes
        self._useful: set[str] = set()  # groups that trained an epoch since they were last started
        self._notes: dict[str, str] = {}  # trial_id -> what its group is doing
        self._closed, self._lost = False, ""
        self._fault: FerrayError | None = None
        self._busy_s = self._span_s = 0.0
        self._idle_since: dict[str, float] = {}  # group -> when it left its last trial

    # The side of Tune's proxies and of the driver.

    async def open_trial(self, job: Job) -> None:
        """Make a trial known before it is asked for; two points with one identity share it."""
        if (trial := self._trials.get(job.trial_id)) is None:
            state: State = job.state if job.state in ENDED else "queued"
            trial = _Trial(job=job, rows=list(job.epochs), state=state, reason=job.reason)
            self._trials[job.trial_id] = trial
        trial.askers += 1
        self._change()

    async def epochs_after(self, trial_id: str, epoch: int, *, begins: bool = False) -> Outcome:
        """The epochs of a trial beyond one, trained if they are not on record, and the trial's state after them.

        Where a scheduler decides it is one epoch at most; where none is left to come, the state says how it ended.

        Args:
            trial_id: Opened before, or at this moment: the driver does not wait for an answer.
            epoch: The last one that the proxy has heard of.
            begins: Whether the proxy asks for this trial for the first time.
        """
        await self._until(lambda: trial_id in self._trials)
        trial = self._trials[trial_id]
        self._proxies_to_come -= begins
        trial.wanted = max(trial.wanted, epoch + 1)
        if len(trial.rows) <= epoch and trial.state == "queued" and trial_id not in self._queue:
            self._queue.append(trial_id)
        self._change()
        await self._until(lambda: len(trial.rows) > epoch or trial.state in ENDED or self._over)
        await self._until(lambda: self._proxies_to_come <= 0 or self._over)
        rows = tuple(trial.rows[epoch : epoch + 1] if self._decides else trial.rows[epoch:])
        if trial.state in ENDED and epoch + len(rows) == len(trial.rows):
            return Outcome(rows=rows, state=trial.state, reason=trial.reason)
        if rows:
            return Outcome(rows=rows, state="running")
        return Outcome(rows=(), state="interrupted", reason=self._lost or "the search was interrupted")

    async def await_proxies(self, number: int) -> None:
        """No trial gets an answer before so many proxies have begun one; 0 if no more will.

        Tune gives the process of a trial that ends to the one that waits for its own, which it then drops. Where trials
        are shorter than the start of a process, it would start one for every trial and never have two.
        """
        self._proxies_to_come = number
        self._change()

    async def close_trial(self, trial_id: str) -> None:
        """A trial that was opened is let go: it has ended, or the scheduler stopped it."""
        trial = self._trials[trial_id]
        trial.askers -= 1
        if trial.askers == 0 and trial_id in self._queue:
            self._queue.remove(trial_id)
        self._forget(trial)
        self._change()

    async def greetings(self, num_groups: int) -> list[Hello]:
        """What the groups say of themselves, once all are up; fewer if all were lost or the search closed before."""
        await self._until(lambda: len(self._hellos) >= num_groups or self._over)
        return list(self._hellos.values())

    async def groups_seen(self, num_groups: int) -> bool:
        """Wait until so many groups have come up, or gone; whether there is anything left to do for another one."""
        await self._until(lambda: len(self._hellos.keys() | self._gone) >= num_groups or self._over)
        return not self._over

    async def utilization(self) -> float | None:
        """Share of the time that groups had a trial, from the first trial of each to the end of its last."""
        return round(self._busy_s / self._span_s, 4) if self._span_s else None

    async def notes(self) -> dict[str, str]:
        """What the groups are doing at this moment, by trial."""
        return dict(self._notes)

    async def drain(self, nodes: Collection[str]) -> None:
        """Nodes are about to go: groups that have a worker there leave their trial, in the middle of an epoch too."""
        self._draining |= set(nodes)
        self._change()

    async def group_down(self, group: str, reason: str) -> None:
        """A worker of a group has died; others may have its trial at once, and what is left of it is refused."""
        before = self._groups.get(group)
        if before is not None:
            self._groups[group] = before + 1
            self._release((group, before), reason)
            self._change()

    async def wants_again(self, group: str) -> bool:
        """All workers of a group have gone; whether to start it again: it was of use, or left a node that is going."""
        again = group in self._useful or self._is_leaving(group)
        self._useful.discard(group)
        self._places.pop(group, None)
        return again and not self._over

    async def group_ended(self, group: str, reason: str, last: bool) -> None:
        """A group is gone for good; its trial waits for another, or ends with the last group."""
        self._release((group, self._groups.pop(group, 0)), reason)
        self._gone.add(group)
        if last:
            self._lost = self._lost or reason
        self._change()

    async def halt(self, fault: FerrayError) -> None:
        """Nothing can be trained as things are, such as with a full disk: the search ends, its trials unfinished."""
        self._fault = self._fault or fault
        self._lost = self._lost or str(fault)
        self._change()

    async def fault(self) -> FerrayError | None:
        """Why the search was halted, if it was."""
        return self._fault

    async def close(self) -> None:
        """No more trials: groups leave theirs where they are."""
        self._closed = True
        self._change()

    # The side of the worker groups, rank 0 only.

    async def place(self, group: str, rank: int, node: str) -> None:
        """Where a worker of a group runs; each says so before the group joins."""
        self._places.setdefault(group, {})[rank] = node

    async def interruption(self, group: str, incarnation: int) -> None:
        """Returns when the group is to leave its trial at once."""
        await self._until(lambda: self._is_to_go(group, incarnation))

    async def join(self, group: str, hello: Hello) -> int:
        """A group is up, for the first time or again; what an earlier incarnation held goes back to the queue's head.

        Returns:
            The incarnation, to be shown with every later call.
        """
        before = self._groups.get(group, 0)
        self._groups[group] = before + 1
        self._hellos[group] = hello
        if before:
            self._release((group, before), "started again without a word")
        self._change()
        return before + 1

    async def take(self, group: str, incarnation: int) -> Job | Literal["wait", "leave"]:
        """The next trial; `wait` if none came for a while, `leave` if none will come."""
        try:
            async with asyncio.timeout(TAKE_WAIT_S):
                await self._until(lambda: bool(self._queue) or self._is_to_go(group, incarnation))
        except TimeoutError:
            return "wait"
        if self._is_to_go(group, incarnation):
            return "leave"
        trial = self._trials[self._queue.popleft()]
        trial.holder, trial.state, trial.taken_at = (group, incarnation), "running", monotonic()
        self._notes[trial.job.trial_id] = "training"
        self._change()
        return replace(trial.job, lease=(self._session, next(self._counts)))

    async def report(self, group: str, incarnation: int, trial_id: str, rows: Sequence[EpochResult]) -> Answer:
        """Epochs, in order, that are on record now; a second report of the same epoch changes nothing.

        Returns:
            Whether to go on; `fenced` if the trial has been given to somebody else.
        """
        trial, holder = self._trials.get(trial_id), (group, incarnation)
        if trial is None or trial.holder != holder:
            return "fenced"
        self._add(trial, rows)
        self._useful.add(group)
        self._notes[trial_id] = "training"
        self._change()
        if self._decides:
            last = rows[-1].epoch
            await self._until(lambda: trial.wanted > last or trial.askers == 0 or trial.holder != holder or self._over)
        if trial.holder != holder:
            return "fenced"
        if trial.askers == 0:
            return "stopped"
        return "interrupted" if self._over else "go on"

    async def holds(self, group: str, incarnation: int, trial_id: str) -> bool:
        """Whether a trial is still this group's."""
        trial = self._trials.get(trial_id)
        return trial is not None and trial.holder == (group, incarnation)

    async def note(self, group: str, incarnation: int, trial_id: str, text: str) -> None:
        """A word for the live table on what the group is doing."""
        if self._groups.get(group) == incarnation:
            self._notes[trial_id] = text

    async def leave_trial(
        self, group: str, incarnation: int, trial_id: str, state: State, reason: str, rows: Sequence[EpochResult]
    ) -> None:
        """The group has recorded the trial's end, and the epochs that it did not report yet, and is free.

        A trial that it left unfinished is the next to be taken.
        """
        trial = self._trials.get(trial_id)
        if trial is not None and trial.holder == (group, incarnation):
            self._add(trial, rows)
            self._count_time(group, trial)
            self._useful.add(group)
            if state == "interrupted":
                self._give_back(trial)
            else:
                self._let_go(trial, state, reason)
            self._forget(trial)
            self._change()

    # Below: the same few steps, named.

    @property
    def _over(self) -> bool:
        return self._closed or bool(self._lost)

    def _add(self, trial: _Trial, rows: Sequence[EpochResult]) -> None:
        """Append the epochs that are new."""
        for row in rows:
            if row.epoch == len(trial.rows) + 1:
                trial.rows.append(row)

    def _count_time(self, group: str, trial: _Trial) -> None:
        now = monotonic()
        self._busy_s += now - trial.taken_at
        self._span_s += now - self._idle_since.get(group, trial.taken_at)
        self._idle_since[group] = now

    def _let_go(self, trial: _Trial, state: State, reason: str) -> None:
        trial.state, trial.reason, trial.holder = state, reason, None
        self._notes.pop(trial.job.trial_id, None)

    def _forget(self, trial: _Trial) -> None:
        """Drop a trial that nobody asks for or holds: whoever opens it again brings what is on record."""
        if trial.askers == 0 and trial.holder is None:
            del self._trials[trial.job.trial_id]

    def _release(self, holder: tuple[str, int], reason: str) -> None:
        """Take a dead group's trial from it and put it at the queue's head, unless it has killed too many."""
        for trial in list(self._trials.values()):
            if trial.holder != holder:
                continue
            if not self._is_leaving(holder[0]):  # a node that was announced to go, sooner than its group could leave
                trial.deaths += 1
            times = "once" if trial.deaths == 1 else f"{trial.deaths} times"
            if trial.deaths > self._max_failures:
                self._let_go(trial, "failed", f"its worker group died {times} while training it: {reason}")
            else:
                self._give_back(trial)
            self._forget(trial)

    def _give_back(self, trial: _Trial) -> None:
        """Put an unfinished trial at the queue's head."""
        self._let_go(trial, "queued", "")
        if trial.askers:
            self._queue.appendleft(trial.job.trial_id)

    def _is_to_go(self, group: str, incarnation: int) -> bool:
        return self._over or self._is_leaving(group) or self._groups.get(group) != incarnation

    def _is_leaving(self, group: str) -> bool:
        """Whether a worker of a group runs on a node that is about to go."""
        return not self._draining.isdisjoint(self._places.get(group, {}).values())

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so; asked again after every change."""
        while not ready():
            await self._changed.wait()

    def _change(self) -> None:
        """Wake whoever waits, and let the next wait begin anew."""
        self._changed.set()
        self._changed = asyncio.Event()
