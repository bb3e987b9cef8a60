"""The worker groups of a search and their dispatcher, from the first greeting to the last goodbye.

Begin at `assemble`.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from ferray.errors import FerrayError, SearchError
from ferray.files import storage
from ferray.search.fleet import cluster as clusters
from ferray.search.fleet.cluster import Cluster, Share
from ferray.search.fleet.dispatcher import Hello, Task
from ferray.search.fleet.groups import Groups
from ferray.search.plan import Plan

log = logging.getLogger(__name__)

GRACE_S = 30.0
"""How long groups have to leave their trials when a search ends early."""

PENDING_S = 30.0
"""After so many seconds without a group, and again and again, the user hears what is missing."""


@dataclass
class Team:
    """Worker groups that are up, and the dispatcher that they take trials from."""

    dispatcher: Any
    dispatcher_name: str
    share: Share
    hellos: list[Hello] = field(default_factory=list)
    """Of the groups that came up first; empty if the search was interrupted before."""
    utilization: float | None = None
    """Share of the time in which groups had a trial; known once they are gone."""

    def notes(self) -> dict[str, str]:
        """What the groups are doing at this moment, by trial."""
        found: dict[str, str] = ray.get(self.dispatcher.notes.remote())
        return found


@contextmanager
def assemble(
    plan: Plan,
    search: dict[str, Any],
    data_dir: Path,
    there: Cluster,
    *,
    decides: bool,
    heads_only: bool,
    scratch: Path,
    stop: threading.Event,
) -> Iterator[Team]:
    """Worker groups while the block runs; afterwards none of them is left.

    Args:
        plan: The search.
        search: The value of `search.json`.
        data_dir: The store's folder.
        there: The cluster.
        decides: Whether somebody may stop trials early.
        heads_only: Whether all trials leave the whole trunk frozen.
        scratch: Folder for Ray Train's own files.
        stop: Ends the wait for groups.

    Raises:
        SearchError: The groups cannot be had, or nothing can be trained as things are: a full disk, a lost cluster.
    """
    share = clusters.share_out(
        there,
        workers=plan.workers_per_trial,
        gpus_per_worker=plan.gpus_per_worker,
        num_groups=plan.concurrent_trials,
        heads_only=heads_only,
        num_points=plan.num_trials,
    )
    name = f"dispatcher-{search['id']}-{secrets.token_hex(4)}"  # a copy of the search has its id
    dispatcher = clusters.start_dispatcher(
        name, decides=decides, session=search["openings"], max_failures=plan.max_failures
    )
    task = Task(
        run_dir=plan.run.folder,
        search_id=search["id"],
        data_dir=data_dir,
        weights=plan.weights,
        cache=storage.cache_dir(),
        cpus_per_worker=share.cpus_per_worker,
        decides=decides,
    )
    alike = there.nodes == 1  # then the first group may begin while the others come up
    groups = Groups(task, dispatcher, share=share, joined=there.joined, one_by_one=alike, scratch=scratch)
    team = Team(dispatcher, name, share)
    fault: FerrayError | None = None
    try:
        with clusters.drain_watch(dispatcher) if there.joined else nullcontext():
            try:
                team.hellos = _greet(team, 1 if alike else share.num_groups, stop)
                yield team
            finally:
                fault = ray.get(dispatcher.fault.remote())
                ray.get(dispatcher.close.remote())
                groups.join(GRACE_S)
                team.utilization = ray.get(dispatcher.utilization.remote())
    except ray.exceptions.RayError as error:
        raise _stopped(plan, SearchError("cluster", f"no longer answers: {error}", "See that it is up")) from error
    # A group that was lost is no fault of a search that came to its end with the others.
    if fault is None and groups.lost and (stop.is_set() or not team.hellos):
        fault = SearchError("worker groups", groups.lost, "See the log with FERRAY_LOG=info")
    if fault is not None:
        raise _stopped(plan, fault)


def _greet(team: Team, num_groups: int, stop: threading.Event) -> list[Hello]:
    """Wait until so many groups are up; tell the user from time to time what is missing."""
    answer = team.dispatcher.greetings.remote(num_groups)
    said = time.monotonic()
    while not stop.is_set():
        try:
            hellos: list[Hello] = ray.get(answer, timeout=0.5)
            return hellos
        except ray.exceptions.GetTimeoutError:
            if time.monotonic() - said > PENDING_S:
                said = time.monotonic()
                short = clusters.missing(team.share)
                log.warning("no worker group is up yet: %s", f"one needs {short}" if short else "they are starting")
    return []


def _stopped(plan: Plan, fault: FerrayError) -> SearchError:
    """A fault that ended the search, with the way to go on."""
    where, what, way_out = fault.args
    return SearchError(where, what, f"{way_out}; then go on: python -m ferray.search --resume {plan.run.name}")
