"""The worker groups of a search and their dispatcher, from start-up to shutdown.

Begin at `start_worker_groups`.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from ferray.errors import FerrayError, SearchError
from ferray.files import storage
from ferray.search.fleet.allocation import Allocation, GroupRequest, allocate
from ferray.search.fleet.cluster import Cluster, start_dispatcher, watch_draining_nodes
from ferray.search.fleet.groups import GroupSupervisor
from ferray.search.fleet.messages import GroupConfig, GroupInfo
from ferray.search.plan import Plan
from ferray.waiting import waiting

GRACE_S = 30.0
"""How long groups have to release their trials when a search ends early."""


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What the worker groups need of a search beyond its plan."""

    search_id: str
    session: int
    """How often the search was started or resumed, this time included; later sessions have higher leases."""
    data_dir: Path
    """The store's folder."""
    has_scheduler: bool
    """Whether trials may be stopped early."""
    heads_only: bool
    """Whether all trials keep the whole trunk frozen."""


@dataclass
class WorkerGroups:
    """The worker groups of a search that are ready, and the dispatcher that they take trials from."""

    dispatcher: Any
    dispatcher_name: str
    allocation: Allocation
    infos: list[GroupInfo] = field(default_factory=list)
    """Of the groups that were ready first; empty if the search was interrupted before."""
    utilization: float | None = None
    """Fraction of the time in which groups had a trial; known once they have ended."""

    def activities(self) -> dict[str, str]:
        """What the groups are doing at this moment, by trial."""
        found: dict[str, str] = ray.get(self.dispatcher.activities.remote())
        return found


@contextmanager
def start_worker_groups(
    plan: Plan, settings: LaunchSettings, cluster: Cluster, *, scratch: Path, stop: threading.Event
) -> Iterator[WorkerGroups]:
    """Worker groups while the block runs; at its end all of them are ended.

    Args:
        plan: The search.
        settings: What the plan does not say of it.
        cluster: Where the groups run.
        scratch: Folder for Ray Train's own files.
        stop: Ends the wait for groups.

    Raises:
        SearchError: The groups do not fit, or no trial can be trained: a full disk, a cluster that does not answer.
    """
    allocation = allocate(
        cluster,
        GroupRequest(
            workers=plan.workers_per_trial,
            gpus_per_worker=plan.gpus_per_worker,
            num_groups=plan.concurrent_trials,
            heads_only=settings.heads_only,
            num_trials=plan.num_trials,
        ),
    )
    name = f"dispatcher-{settings.search_id}-{secrets.token_hex(4)}"  # a copy of the search has the same id
    dispatcher = start_dispatcher(
        name, has_scheduler=settings.has_scheduler, session=settings.session, max_failures=plan.max_failures
    )
    config = GroupConfig(
        run_dir=plan.run.folder,
        search_id=settings.search_id,
        data_dir=settings.data_dir,
        weights=plan.weights,
        cache=storage.cache_dir(),
        cpus_per_worker=allocation.cpus_per_worker,
        has_scheduler=settings.has_scheduler,
    )
    supervisor = GroupSupervisor(config, dispatcher, cluster=cluster, allocation=allocation, scratch=scratch)
    groups = WorkerGroups(dispatcher, name, allocation)
    # Groups on one node have the same device, so the first may begin while the others start.
    num_needed = 1 if cluster.nodes == 1 else allocation.num_groups
    error: FerrayError | None = None
    try:
        with watch_draining_nodes(dispatcher) if cluster.joined else nullcontext():
            try:
                groups.infos = _wait_for_groups(groups, num_needed, stop)
                yield groups
            finally:
                error = ray.get(dispatcher.error.remote())
                ray.get(dispatcher.close.remote())
                with waiting("ending the worker groups"):
                    supervisor.join(GRACE_S)
                groups.utilization = ray.get(dispatcher.utilization.remote())
    except ray.exceptions.RayError as ray_error:
        lost = SearchError("cluster", f"does not answer any more: {ray_error}", "See whether it is running")
        raise _with_resume_command(plan, lost) from ray_error
    # Where a search came to its end with the other groups, the failure of one is no error of the search.
    if error is None and supervisor.failure and (stop.is_set() or not groups.infos):
        error = SearchError("worker groups", supervisor.failure, "See the log with FERRAY_LOG=info")
    if error is not None:
        raise _with_resume_command(plan, error)


def _wait_for_groups(groups: WorkerGroups, num_groups: int, stop: threading.Event) -> list[GroupInfo]:
    """Wait until so many groups are ready, and print from time to time what is missing; none if the search stops."""
    answer = groups.dispatcher.wait_for_groups.remote(num_groups)
    with waiting(lambda: _describe_wait(groups.allocation)):
        while not stop.is_set():
            try:
                infos: list[GroupInfo] = ray.get(answer, timeout=0.5)
                return infos
            except ray.exceptions.GetTimeoutError:
                continue
    return []


def _describe_wait(allocation: Allocation) -> str:
    """What the first worker groups wait for: resources that others hold, or only their own start."""
    try:
        missing = _describe_missing(allocation)
    except ray.exceptions.RayError:  # the cluster is gone: who waits for its answer sees that, too
        missing = ""
    return f"no worker group is ready yet: {f'one needs {missing}' if missing else 'they are starting'}"


def _describe_missing(allocation: Allocation) -> str:
    """The resources that one more worker group waits for; empty if none waits, or they are free."""
    if not any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values()):
        return ""  # what is not free is held by the search's own groups
    free = ray.available_resources()
    missing = []
    for resource, per_worker in (("CPU", float(allocation.cpus_per_worker)), ("GPU", allocation.gpus_per_worker)):
        num_needed, num_free = per_worker * allocation.workers, float(free.get(resource, 0.0))
        if num_needed > num_free:
            missing.append(f"{num_needed:g} {resource}, of which {num_free:g} free")
    return " and ".join(missing)


def _with_resume_command(plan: Plan, error: FerrayError) -> SearchError:
    """The error that ended the search, with the command that goes on with it."""
    where, what, way_out = error.args
    return SearchError(where, what, f"{way_out}; then go on: {plan.resume_command}")
