"""What watches the worker groups of a node: one process with Ray Train's controllers, a thread for each.

Ray Train starts three processes for each of its runs, of more than 100 MB each: the controller, one that removes the
placement group if the controller dies, and one at which workers meet that report to Ray Train. The first two would be
on the head of the cluster. Here one actor on each node, the host, runs all controllers of the groups that have their
first worker there, and it dies with the node, as those groups do. The other two are not needed
(`ferray.search.fleet.train_patches`).

Begin at `GroupHost.run`; `ferray.search.fleet.groups` calls it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback

from ferray.search.fleet import train_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.messages import GroupConfig

MAX_RESTARTS = 5
"""Restarts of a group's workers in one run of Ray Train; it is run again if it had trained an epoch until then."""

MAX_GROUPS = 1024
"""Groups of one host."""


@dataclass(frozen=True, kw_only=True)
class GroupRun:
    """One run of Ray Train: a worker group, from its start until its workers end or have died too often."""

    group: str
    attempt: int
    """Counted from 1: how often the group was run."""
    config: GroupConfig
    dispatcher: Any
    """Handle of the actor."""
    allocation: Allocation
    """What its workers hold."""
    placement_group: Any
    """Where they are."""
    is_pinned: bool
    """Whether to nodes that may leave: then the run ends with the first death, and the group gets another place."""
    scratch: Path
    """Folder for Ray Train's own files."""
    environment: dict[str, str]
    """Variables of the workers."""


class GroupHost:
    """Runs worker groups of a node, as an actor that holds no CPU."""

    def __init__(self) -> None:
        train_patches.without_synchronization()
        self._threads = ThreadPoolExecutor(MAX_GROUPS, thread_name_prefix="group")

    async def run(self, run: GroupRun) -> str:
        """Run a group to its end; returns what it died of, empty if its workers have ended."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, run_group, run)


def run_group(run: GroupRun) -> str:
    """One run of Ray Train, in this thread; returns what it died of, or nothing."""
    try:
        make_trainer(run).fit()
    except Exception as error:  # noqa: BLE001  whatever ended the run, those who wait must know of it
        return describe_death(error)
    return ""


def make_trainer(run: GroupRun) -> Any:
    """Ray Train's trainer for one run."""
    allocation = run.allocation
    resources = {"CPU": float(allocation.cpus_per_worker)}
    if allocation.gpus_per_worker:
        resources["GPU"] = allocation.gpus_per_worker
    arguments: dict[str, Any] = {}
    with_process_group = allocation.workers > 1  # only workers that train one trial together need torch's
    if with_process_group:
        from ray.train.torch import TorchConfig

        arguments["torch_config"] = TorchConfig(backend="nccl" if allocation.gpus_per_worker >= 1 else "gloo")
    return train_patches.trainer_class(run.placement_group, with_process_group=with_process_group)(
        _train_loop_per_worker,
        train_loop_config={"config": run.config, "group": run.group, "dispatcher": run.dispatcher},
        scaling_config=ScalingConfig(
            num_workers=allocation.workers, use_gpu=allocation.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"{run.group}-{run.attempt}",
            storage_path=str(run.scratch),
            failure_config=FailureConfig(
                max_failures=0 if run.is_pinned else MAX_RESTARTS,
                controller_failure_limit=0 if run.is_pinned else -1,  # somebody else was first to take what was free
            ),
            callbacks=[_DeathCallback(run.group, run.dispatcher)],
            worker_runtime_env={"env_vars": run.environment},
        ),
        **arguments,
    )


class _DeathCallback(UserCallback):  # type: ignore[misc]  # ray has no complete annotations
    """Reports from Ray Train's controller that a worker has died, before the group is started again."""

    def __init__(self, group: str, dispatcher: Any) -> None:
        self._group = group
        self._dispatcher = dispatcher

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called when one or more workers raised or died."""
        reason = describe_death(next(iter(worker_exceptions.values())))
        ray.get(self._dispatcher.group_died.remote(self._group, reason))


def describe_death(error: Exception) -> str:
    """What a worker died of, in one line for a table."""
    error = train_patches.original_error(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("The actor is dead because", "Worker exit"))] or lines or [""]
    return f"{type(error).__name__}: {causes[0][:300]}"


def _train_loop_per_worker(config: dict[str, Any]) -> None:
    """Ray Train's entry into a worker; here, so that a host need not import what a worker does."""
    from ferray.search.fleet.worker import run_worker

    run_worker(**config)
