"""Worker groups as the driver sees them: each one Ray Train run that stays up and trains one trial after the other.

Starting a Ray Train run takes 7 to 28 s, a trial on a cached trunk less than one; so a group is started once. This
module does not import torch: the driver starts the groups while torch is still being read, and Ray Train's controller,
a process of each group that only watches, needs none.

Begin at `Groups`; what a group does is `ferray.search.fleet.worker`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback

from ferray.search.fleet import ray_patches
from ferray.search.fleet.cluster import Share
from ferray.search.fleet.dispatcher import Task

log = logging.getLogger(__name__)

MAX_RESTARTS = 5
"""Deaths of a group's workers in one run of Ray Train; it is run again if it had trained anything until then."""

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}
"""Of the workers' environment. glibc would give each step's memory back to the system and ask for it again, 27,000
pages a step of the whole model with 64 pixels, 640,000 with 224, every one of them zeroed on its way. No block gets
pages of its own; what is free stays; and threads share one heap, since that of a thread gives back 64 MB at a time
whatever the second says. Other allocators do not read it."""


class Groups:
    """The worker groups of a search, seen from the driver.

    Args:
        task: What they work on.
        dispatcher: Handle of the dispatcher actor.
        share: How many, each a Ray Train run of its own, and what their workers hold.
        joined: Whether the cluster outlives this process.
        one_by_one: Start each when the one before is up, so that on a node with few cores the first is up sooner.
        scratch: Folder for Ray Train's own files, removed by the caller.
    """

    def __init__(
        self, task: Task, dispatcher: Any, *, share: Share, joined: bool, one_by_one: bool, scratch: Path
    ) -> None:
        self.lost = ""
        self._dispatcher = dispatcher
        self._joined = joined
        self._alive = share.num_groups
        self._lock = threading.Lock()
        environment = {name: os.environ.get(name, value) for name, value in KEEP_MEMORY.items()}
        resources = {"CPU": float(share.cpus_per_worker)}
        if share.gpus_per_worker:
            resources["GPU"] = share.gpus_per_worker
        scaling = ScalingConfig(
            num_workers=share.workers, use_gpu=share.gpus_per_worker > 0, resources_per_worker=resources
        )

        def run(group: str, turn: int) -> None:
            """One run of Ray Train, until its workers leave or too many have died."""
            _make_trainer(
                share,
                joined=joined,
                train_loop_config={"task": task, "group": group, "dispatcher": dispatcher},
                scaling_config=scaling,
                run_config=RunConfig(
                    name=f"{group}-{turn}",
                    storage_path=str(scratch),
                    failure_config=FailureConfig(max_failures=MAX_RESTARTS),
                    callbacks=[_Deaths(group, dispatcher)],
                    worker_runtime_env={"env_vars": environment},
                ),
            ).fit()

        self._threads = []
        for number in range(share.num_groups):
            name = f"group-{number}"
            wait_for = number if one_by_one else 0
            thread = threading.Thread(target=self._watch, args=(name, run, wait_for), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for all groups to end, `timeout_s` at most."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self, name: str, run: Callable[[str, int], None], wait_for: int) -> None:
        """Keep one group running, once so many others have come up, and tell the dispatcher of its end."""
        reason = ""
        try:
            for turn in count(1):
                if not ray.get(self._dispatcher.groups_seen.remote(wait_for)):
                    break
                try:
                    run(name, turn)
                except Exception as error:  # noqa: BLE001  any end of a run must reach those who wait for it
                    reason = describe_death(error)
                    log.warning("%s: %s", name, reason)
                    if isinstance(error, ray.exceptions.ActorDiedError) and not self._joined:
                        break  # the controller, which has left the workers' share of the cluster taken
                if not ray.get(self._dispatcher.wants_again.remote(name)):
                    break
                reason = ""
        except Exception as error:  # noqa: BLE001  the dispatcher is gone
            reason = f"{type(error).__name__}: {error}"
            log.warning("%s: %s", name, reason)
        with self._lock:
            self._alive -= 1
            last = self._alive == 0
            self.lost = self.lost or reason
        try:
            ray.get(self._dispatcher.group_ended.remote(name, reason or "no worker group is left", last))
        except Exception:  # noqa: BLE001  the search is over and the dispatcher gone with it
            log.debug("%s ended after the dispatcher", name)


class _Deaths(UserCallback):  # type: ignore[misc]  # ray has no complete annotations
    """Tells the dispatcher that a worker has died, from Ray Train's controller, before the group is started again."""

    def __init__(self, group: str, dispatcher: Any) -> None:
        self._group = group
        self._dispatcher = dispatcher

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called when one or more workers raised or died."""
        reason = describe_death(next(iter(worker_exceptions.values())))
        ray.get(self._dispatcher.group_down.remote(self._group, reason))


def describe_death(error: Exception) -> str:
    """What a worker died of, in one line for a table."""
    error = ray_patches.original_error(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("The actor is dead because", "Worker exit"))] or lines or [""]
    return f"{type(error).__name__}: {telling[0][:300]}"


def _make_trainer(share: Share, *, joined: bool, **arguments: Any) -> Any:
    """One run of Ray Train for one group.

    Args:
        share: What the workers hold.
        joined: Whether the cluster outlives the search.
        arguments: Of the trainer.
    """
    with_process_group = share.workers > 1  # only workers that train one trial together need torch's process group
    if with_process_group:
        from ray.train.torch import TorchConfig

        arguments["torch_config"] = TorchConfig(backend="nccl" if share.gpus_per_worker >= 1 else "gloo")
    trainer_class = ray_patches.trainer_class(with_process_group=with_process_group, joined=joined)
    return trainer_class(_enter, **arguments)


def _enter(config: dict[str, Any]) -> None:
    """The workers' entrance, which the controller can name without importing what they do."""
    from ferray.search.fleet.worker import serve

    serve(**config)
