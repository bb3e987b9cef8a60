"""Worker groups on the driver's side: each is one run of Ray Train that stays up and trains one trial after the other.

A run of Ray Train takes 7 to 28 s to start, a trial on a cached trunk less than one; so a group is started once. This
module does not import torch: the driver starts the groups while torch is still being imported, and Ray Train's
controller, a process of each group that only watches it, needs none.

Begin at `GroupSupervisor`; `ferray.search.fleet.worker` is what runs in a group.
"""

import logging
import os
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback

from ferray.search.fleet import ray_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.places import Places

log = logging.getLogger(__name__)

MAX_RESTARTS = 5
"""Restarts of a group's workers in one run of Ray Train; it is run again if it had trained an epoch until then."""

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}
"""Variables of the workers' environment for glibc, which would return the memory of each step to the system and request
it again: 27,000 pages per step of the whole model with 64 pixels, 640,000 with 224, each zeroed by the kernel. With
them no block gets pages of its own, free memory is kept, and all threads share one heap, since the heap of a thread
returns 64 MB at a time whatever the second variable says. Other allocators do not read them."""


class GroupSupervisor:
    """Starts the worker groups of a search, starts them again where that helps, and reports their end.

    On a cluster of the search's own, each group is started when the one before it is ready: where the cores are few,
    the first is then ready sooner. On one that was joined, each group is started when there is a place for it.

    Args:
        config: What each group needs of the search.
        dispatcher: Handle of the dispatcher actor.
        places: Where the groups run; None on a cluster of the search's own.
        allocation: How many groups, and what their workers hold.
        scratch: Folder for Ray Train's own files, removed by the caller.
    """

    def __init__(
        self, config: GroupConfig, dispatcher: Any, *, places: Places | None, allocation: Allocation, scratch: Path
    ) -> None:
        self.failure = ""
        """Why a group ended before the search did; empty if none has."""
        self._config = config
        self._dispatcher = dispatcher
        self._places = places
        self._allocation = allocation
        self._scratch = scratch
        self._num_alive = allocation.num_groups
        self._lock = threading.Lock()
        self._threads = []
        for number in range(allocation.num_groups):
            name = f"group-{number}"
            num_before = number if places is None else 0
            thread = threading.Thread(target=self._supervise, args=(name, num_before), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for all groups to end, `timeout_s` at most."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _supervise(self, name: str, num_before: int) -> None:
        """Keep one group running, once so many others are ready, and report its end to the dispatcher."""
        reason, num_idle_ends = "", 0
        try:
            for attempt in count(1):
                place = () if self._places is None else self._places.take(name)
                if not ray.get(self._dispatcher.wait_for_start.remote(num_before)):
                    break
                try:
                    self._run(name, attempt, place)
                except Exception as error:  # noqa: BLE001  whatever ended the run, those who wait must know of it
                    reason = describe_death(error)
                    log.warning("%s: %s", name, reason)
                    if isinstance(error, ray.exceptions.ActorDiedError) and self._places is None:
                        break  # the controller has died, and the workers' resources stay taken
                is_lost = self._places is not None and not self._places.give_back(name)
                if ray.get(self._dispatcher.should_restart.remote(name)) or is_lost:
                    num_idle_ends = 0
                elif self._places is None or (num_idle_ends := num_idle_ends + 1) > MAX_RESTARTS:
                    break
                reason = ""
        except Exception as error:  # noqa: BLE001  the dispatcher is gone
            reason = f"{type(error).__name__}: {error}"
            log.warning("%s: %s", name, reason)
        with self._lock:
            self._num_alive -= 1
            is_last = self._num_alive == 0
            self.failure = self.failure or reason
        try:
            ray.get(self._dispatcher.group_ended.remote(name, reason or "no worker group is left", is_last))
        except Exception:  # noqa: BLE001  the search has ended, and the dispatcher with it
            log.debug("%s ended after the dispatcher", name)

    def _run(self, name: str, attempt: int, place: tuple[str, ...]) -> None:
        """One run of Ray Train: until its workers end, or have died `MAX_RESTARTS` times.

        On nodes that are named it ends with the first death: they may be gone, and the group then gets another place.
        """
        environment = {name: os.environ.get(name, value) for name, value in KEEP_MEMORY.items()}
        trainer = _make_trainer(
            self._allocation,
            place=place,
            train_loop_config={"config": self._config, "group": name, "dispatcher": self._dispatcher},
            run_config=RunConfig(
                name=f"{name}-{attempt}",
                storage_path=str(self._scratch),
                failure_config=FailureConfig(
                    max_failures=0 if place else MAX_RESTARTS,
                    controller_failure_limit=0 if place else -1,  # somebody else was first to take what was free there
                ),
                callbacks=[_DeathCallback(name, self._dispatcher)],
                worker_runtime_env={"env_vars": environment},
            ),
        )
        trainer.fit()


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
    error = ray_patches.original_error(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("The actor is dead because", "Worker exit"))] or lines or [""]
    return f"{type(error).__name__}: {causes[0][:300]}"


def _make_trainer(allocation: Allocation, *, place: tuple[str, ...], **arguments: Any) -> Any:
    """Ray Train's trainer for one group.

    Args:
        allocation: What its workers hold.
        place: The node of each worker; empty on a cluster of the search's own, which ends with it.
        arguments: Further arguments of the trainer.
    """
    resources = {"CPU": float(allocation.cpus_per_worker)}
    if allocation.gpus_per_worker:
        resources["GPU"] = allocation.gpus_per_worker
    arguments["scaling_config"] = ScalingConfig(
        num_workers=allocation.workers,
        use_gpu=allocation.gpus_per_worker > 0,
        resources_per_worker=resources,
        label_selector=[{ray_patches.NODE_ID_LABEL: node} for node in place] or None,
    )
    with_process_group = allocation.workers > 1  # only workers that train one trial together need torch's
    if with_process_group:
        from ray.train.torch import TorchConfig

        arguments["torch_config"] = TorchConfig(backend="nccl" if allocation.gpus_per_worker >= 1 else "gloo")
    trainer_class = ray_patches.trainer_class(with_process_group=with_process_group, joined=bool(place))
    return trainer_class(_train_loop_per_worker, **arguments)


def _train_loop_per_worker(config: dict[str, Any]) -> None:
    """Ray Train's entry into a worker; here, so that the controller need not import what a worker does."""
    from ferray.search.fleet.worker import run_worker

    run_worker(**config)
