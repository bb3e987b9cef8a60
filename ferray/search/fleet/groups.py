"""Worker groups on the driver's side: each is one run of Ray Train that stays up and trains one trial after the other.

A run of Ray Train takes 7 to 28 s to start, a trial on a cached trunk less than one; so a group is started once. This
module does not import torch: the driver starts the groups while torch is still being imported, and the process that
watches them, their host, needs none.

Begin at `GroupSupervisor`; `ferray.search.fleet.host` runs a group, `ferray.search.fleet.worker` is what runs in it.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ferray.search.fleet import ray_patches, train_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.host import MAX_RESTARTS, GroupHost, GroupRun, describe_death
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.places import Places

log = logging.getLogger(__name__)

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
        self._hosts = Hosts()
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
        """Wait for all groups to end, `timeout_s` at most; then those that have not are ended."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._hosts.end()

    def _supervise(self, name: str, num_before: int) -> None:
        """Keep one group running, once so many others are ready, and report its end to the dispatcher."""
        reason, num_idle_ends = "", 0
        try:
            for attempt in count(1):
                place = () if self._places is None else self._places.take(name)
                if not ray.get(self._dispatcher.wait_for_start.remote(num_before)):
                    break
                if reason := self._run(name, attempt, place):
                    log.warning("%s: %s", name, reason)
                    # Where its host has died, nobody else says so, and another group can go on with its trial.
                    ray.get(self._dispatcher.group_died.remote(name, reason))
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

    def _run(self, name: str, attempt: int, place: tuple[str, ...]) -> str:
        """One run of Ray Train, until its workers have ended or died; returns what they, or their host, died of.

        The driver holds the placement group, so that its resources are free again whatever dies.
        """
        placement_group = self._reserve(place)
        node = place[0] if place else None
        host = self._hosts.on(node)
        run = GroupRun(
            group=name,
            attempt=attempt,
            config=self._config,
            dispatcher=self._dispatcher,
            allocation=self._allocation,
            placement_group=placement_group,
            is_pinned=bool(place),
            scratch=self._scratch,
            environment={name: os.environ.get(name, value) for name, value in KEEP_MEMORY.items()},
        )
        try:
            reason: str = ray.get(host.run.remote(run))
            return reason
        except ray.exceptions.RayError as error:  # the host has died, or could not start
            self._hosts.forget(node, host)
            return describe_death(error)
        finally:
            with suppress(ray.exceptions.RayError):
                ray.util.remove_placement_group(placement_group)

    def _reserve(self, place: tuple[str, ...]) -> Any:
        """A placement group for the workers of a group.

        Args:
            place: The node of each worker; empty on a cluster of the search's own, which ends with it.
        """
        need = {"CPU": float(self._allocation.cpus_per_worker), "GPU": self._allocation.gpus_per_worker}
        bundle = {name: value for name, value in need.items() if value}
        pinned = [{ray_patches.NODE_ID_LABEL: node} for node in place] or None
        return ray.util.placement_group(
            [bundle] * self._allocation.workers, strategy="PACK", bundle_label_selector=pinned
        )


class Hosts:
    """The host of each node, which is started with the first group there."""

    def __init__(self) -> None:
        self._hosts: dict[str | None, Any] = {}
        self._lock = threading.Lock()

    def on(self, node: str | None) -> Any:
        """Handle of the host on a node.

        Args:
            node: Its id; None on a cluster of the search's own.
        """
        with self._lock:
            if node not in self._hosts:
                strategy = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=False)
                options = {"num_cpus": 0, "scheduling_strategy": strategy, "max_concurrency": 10_000}
                environment = {"env_vars": train_patches.train_environment()}
                self._hosts[node] = ray.remote(GroupHost).options(**options, runtime_env=environment).remote()
            return self._hosts[node]

    def forget(self, node: str | None, host: Any) -> None:
        """A host has died: the next group there gets another one."""
        with self._lock:
            if self._hosts.get(node) is host:
                del self._hosts[node]

    def end(self) -> None:
        """End all hosts, and with them what still runs there."""
        with self._lock:
            for host in self._hosts.values():
                with suppress(ray.exceptions.RayError):
                    ray.kill(host)
            self._hosts.clear()
