"""The worker groups of a search and their dispatcher, from start-up to shutdown.

Begin at `start_worker_groups`.
"""

import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from ferray.errors import FerrayError, SearchError
from ferray.files import storage
from ferray.files.location import is_address
from ferray.search.fleet.allocation import Allocation, GroupRequest, allocate
from ferray.search.fleet.cluster import Cluster, read_cluster, start_dispatcher, watch_draining_nodes
from ferray.search.fleet.groups import GroupSupervisor
from ferray.search.fleet.messages import GroupConfig, GroupInfo
from ferray.search.fleet.pause import Pause
from ferray.search.fleet.places import NO_NODE_LIMIT_S, Places
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
    data_dir: Path | None
    """The store's folder; None for the demo faces on a cluster that was joined."""
    fingerprint: str
    """Of the store."""
    has_scheduler: bool
    """Whether trials may be stopped early."""
    heads_only: bool
    """Whether all trials keep the whole trunk frozen."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of the pretrained weights of each backbone."""


@dataclass
class WorkerGroups:
    """The worker groups of a search that are ready, and the dispatcher that they take trials from."""

    dispatcher: Any
    dispatcher_name: str
    allocation: Allocation
    places: Places | None = None
    """On a cluster that was joined."""
    infos: list[GroupInfo] = field(default_factory=list)
    """Of the groups that were ready first, and once they have ended, of all; empty if the search was interrupted."""
    utilization: float | None = None
    """Fraction of the time in which groups had a trial; known once they have ended, as the next."""
    trained_on: dict[str, str] = field(default_factory=dict)
    """The node, by id, on which rank 0 trained each trial last."""
    pause: Pause = field(default_factory=Pause)

    def activities(self) -> dict[str, str]:
        """What the groups are doing at this moment, by trial."""
        found: dict[str, str] = ray.get(self.dispatcher.activities.remote())
        self.pause.note(bool(found))
        return found

    def missing(self) -> str:
        """What is missing, and since when, where no group has had a trial for `NAMED_AFTER_S`; else empty."""
        return self.pause.describe(self.describe_wait) if self.pause.is_long else ""

    def describe_wait(self) -> str:
        """What the next worker group waits for: resources that others hold, a node, or only its own start."""
        if self.places is not None:
            return self.places.describe()
        return "the worker groups are starting"


def group_config(plan: Plan, settings: LaunchSettings, cluster: Cluster, *, cpus_per_worker: int) -> GroupConfig:
    """What every process on a node needs of a search.

    Args:
        plan: The search.
        settings: What the plan does not say of it.
        cluster: Where the process runs.
        cpus_per_worker: Which it holds.
    """
    return GroupConfig(
        run_dir=plan.run.folder.absolute(),
        address=plan.run.address,
        search_id=settings.search_id,
        data_dir=settings.data_dir,
        fingerprint=settings.fingerprint,
        data_address=plan.data if cluster.joined and plan.data is not None and is_address(plan.data) else None,
        weights=plan.weights if cluster.joined else plan.weights_path,
        weights_fingerprints=dict(settings.weights),
        cache=None if cluster.joined else storage.cache_dir(),
        cpus_per_worker=cpus_per_worker,
        has_scheduler=settings.has_scheduler,
    )


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
        SearchError: The groups do not fit, a node does not see what it needs, or no trial can be trained: a full
            disk, a cluster that does not answer.
    """
    request = GroupRequest(
        workers=plan.workers_per_trial,
        gpus_per_worker=plan.gpus_per_worker,
        num_groups=plan.concurrent_trials,
        heads_only=settings.heads_only,
        num_trials=plan.num_trials,
    )
    allocation = allocate(_await_first_node(cluster, stop) if cluster.joined else cluster, request)
    config = group_config(plan, settings, cluster, cpus_per_worker=allocation.cpus_per_worker)
    places = Places(config, allocation, can_grow=cluster.can_grow) if cluster.joined else None
    if places is not None:
        with waiting("asking the nodes for the search's folder and its data"):
            places.check_nodes(stop)
    name = f"dispatcher-{settings.search_id}-{secrets.token_hex(4)}"  # a copy of the search has the same id
    dispatcher = start_dispatcher(
        name, has_scheduler=settings.has_scheduler, session=settings.session, max_failures=plan.max_failures
    )
    if places is not None:
        places.watch(dispatcher)
    supervisor = GroupSupervisor(config, dispatcher, places=places, allocation=allocation, scratch=scratch)
    groups = WorkerGroups(dispatcher, name, allocation, places)
    error: FerrayError | None = None
    try:
        with watch_draining_nodes(dispatcher) if cluster.joined else nullcontext():
            try:
                groups.infos = _wait_for_first_group(groups, stop)
                yield groups
            finally:
                error = ray.get(dispatcher.error.remote())
                ray.get(dispatcher.close.remote())
                with waiting("ending the worker groups"):
                    if places is not None:
                        places.close()
                    supervisor.join(GRACE_S)
                groups.utilization = ray.get(dispatcher.utilization.remote())
                groups.trained_on = ray.get(dispatcher.trained_on.remote())
                groups.infos = ray.get(dispatcher.wait_for_groups.remote(0)) if groups.infos else []
    except ray.exceptions.RayError as ray_error:
        lost = SearchError("cluster", f"does not answer any more: {ray_error}", "See whether it is running")
        raise _with_resume_command(plan, lost) from ray_error
    # Where a search came to its end with the other groups, the failure of one is no error of the search.
    if error is None and supervisor.failure and (stop.is_set() or not groups.infos):
        error = SearchError("worker groups", supervisor.failure, "See the log with FERRAY_LOG=info")
    if error is not None:
        raise _with_resume_command(plan, error)


def _await_first_node(cluster: Cluster, stop: threading.Event) -> Cluster:
    """The cluster as soon as it has a node with CPUs, or an autoscaler that can start one of a known size.

    Raises:
        SearchError: There was none for `NO_NODE_LIMIT_S`.
    """
    began = time.monotonic()
    starter = "the autoscaler starts none" if cluster.can_grow else "no autoscaler is running that could start one"
    with waiting("waiting for a node with CPUs: the cluster has none yet"):
        while cluster.at_most.cpus == 0 and not stop.is_set():
            if time.monotonic() - began > NO_NODE_LIMIT_S:
                what = f"has had no node with CPUs for {NO_NODE_LIMIT_S / 60:.0f} min, and {starter}"
                raise SearchError("cluster", what, "Start one: `ray start --address=HEAD:6379` there")
            stop.wait(2.0)
            cluster = read_cluster(joined=True)
    return cluster


def _wait_for_first_group(groups: WorkerGroups, stop: threading.Event) -> list[GroupInfo]:
    """Wait until one group is ready, and print from time to time what is missing; none if the search stops.

    The others join in when they are ready.
    """
    answer = groups.dispatcher.wait_for_groups.remote(1)
    with waiting(lambda: f"no worker group is ready yet: {groups.describe_wait()}"):
        while not stop.is_set():
            try:
                infos: list[GroupInfo] = ray.get(answer, timeout=0.5)
                groups.pause.note(True)  # it waits for Tune's first trial
                return infos
            except ray.exceptions.GetTimeoutError:
                continue
    return []


def _with_resume_command(plan: Plan, error: FerrayError) -> SearchError:
    """The error that ended the search, with the command that goes on with it."""
    where, what, way_out = error.args
    return SearchError(where, what, f"{way_out}; then go on: {plan.resume_command}")
