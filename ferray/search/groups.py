"""Worker groups as the driver sees them: each one Ray Train run that stays up and trains one trial after the other.

Starting a Ray Train run takes 7 to 28 s, a trial on a cached trunk less than one; so a group is started once. This
module does not import torch: the driver starts the groups while torch is still being read, and Ray Train's controller,
a process of each group that only watches, needs none.

Begin at `Groups`; what a group does is `ferray.search.workers`.
"""

import logging
import threading
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ferray.search.cluster import Share
from ferray.search.dispatch import Task

log = logging.getLogger(__name__)

MAX_RESTARTS = 20
"""Restarts of one group in a search; a trial that keeps killing its group is given up long before."""


class Groups:
    """The worker groups of a search, seen from the driver.

    Args:
        task: What they work on.
        dispatcher: Handle of the dispatcher actor.
        share: How many, each a Ray Train run of its own, and what their workers hold.
        one_by_one: Start each when the one before is up, so that on a node with few cores the first is up sooner.
        scratch: Folder for Ray Train's own files, removed by the caller.
    """

    def __init__(self, task: Task, dispatcher: Any, *, share: Share, one_by_one: bool, scratch: Path) -> None:
        self.lost = ""
        self._dispatcher = dispatcher
        self._alive = share.num_groups
        self._lock = threading.Lock()
        resources = {"CPU": float(share.cpus_per_worker)}
        if share.gpus_per_worker:
            resources["GPU"] = share.gpus_per_worker
        self._threads = []
        for number in range(share.num_groups):
            name = f"group-{number}"
            trainer = _make_trainer(
                share,
                train_loop_config={"task": task, "group": name, "dispatcher": dispatcher},
                scaling_config=ScalingConfig(
                    num_workers=share.workers, use_gpu=share.gpus_per_worker > 0, resources_per_worker=resources
                ),
                run_config=RunConfig(
                    name=name,
                    storage_path=str(scratch),
                    failure_config=FailureConfig(max_failures=MAX_RESTARTS),
                ),
            )
            wait_for = number if one_by_one else 0
            thread = threading.Thread(target=self._watch, args=(name, trainer, wait_for), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for all groups to end; False if some still run after `timeout_s` each."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _watch(self, name: str, trainer: DataParallelTrainer, wait_for: int) -> None:
        """Run one group to its end, once so many others have come up, and tell the dispatcher, whatever the end."""
        reason = ""
        try:
            if ray.get(self._dispatcher.groups_seen.remote(wait_for)):
                trainer.fit()
        except Exception as error:  # noqa: BLE001  any end of a group must reach those who wait for it
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


def _make_trainer(share: Share, **arguments: Any) -> DataParallelTrainer:
    """A Ray Train run; only workers that train one trial together need torch's process group."""
    if share.workers == 1:
        return DataParallelTrainer(_enter, **arguments)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "nccl" if share.gpus_per_worker >= 1 else "gloo"
    return TorchTrainer(_enter, torch_config=TorchConfig(backend=backend), **arguments)


def _enter(config: dict[str, Any]) -> None:
    """The workers' entrance, which the controller can name without importing what they do."""
    from ferray.search.workers import serve

    serve(**config)
