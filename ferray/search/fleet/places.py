"""Places for worker groups on a cluster that was joined, whose nodes come and go.

One thread looks at the nodes every second. A node that has joined is asked first whether it sees what the search needs
(`ferray.search.fleet.probe`), and is left out where it does not. A group that waits for a place gets one as soon as it
fits (`ferray.search.fleet.nodes`).

Where groups still wait and an autoscaler is running, it is asked for their resources by placement groups that wait.
Both of Ray's autoscalers count those, and they end with the search, also where it is killed. Nothing ever runs in them:
as soon as one has its resources, all are removed, and the worker group takes the place.

Begin at `Places`.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ferray.errors import SearchError
from ferray.search.fleet import ray_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.nodes import (
    ClusterNode,
    FleetState,
    describe_missing,
    describe_need,
    find_place,
    fits_when_free,
)
from ferray.search.fleet.probe import find_fault
from ferray.wording import first_line

log = logging.getLogger(__name__)

TURN_S = 1.0
"""How often the nodes are looked at."""

PROBE_LIMIT_S = 180.0
"""A node that does not answer for so long is left out. It may be drawing the demo faces."""

PROBE_AGAIN_S = 60.0
"""How often a node that is left out is asked again: its folder may be mounted by then."""

NO_NODE_LIMIT_S = 600.0
"""After so long without a node that is large enough, and without an autoscaler, the search ends with an error."""

SETTLE_S = 3.0
"""The autoscaler is not asked again before: what the placement groups held becomes free meanwhile."""


@dataclass
class _Probe:
    """What a node was asked, and its answer."""

    name: str
    asked_at: float
    answer: Any = None
    """The pending call; None once it has been answered."""
    fault: str = ""


@dataclass
class _Wish:
    """A group that waits for a place."""

    place: tuple[str, ...] = ()
    given: threading.Event = field(default_factory=threading.Event)


class Places:
    """Gives worker groups their places, from `watch` on until `close`.

    Args:
        config: What the nodes must see.
        allocation: What each group needs.
        can_grow: Whether an autoscaler is running.
    """

    def __init__(self, config: GroupConfig, allocation: Allocation, *, can_grow: bool) -> None:
        self._config = config
        self._allocation = allocation
        self._can_grow = can_grow
        self._probes: dict[str, _Probe] = {}  # by node
        self._wishes: dict[str, _Wish] = {}  # by group
        self._places: dict[str, tuple[str, ...]] = {}  # of the groups that have one
        self._starting: set[str] = set()  # of these, the groups whose workers have not reported yet
        self._alive: frozenset[str] = frozenset()
        self._demand: list[Any] = []
        self._quiet_until = 0.0
        self._no_node_since: float | None = None
        self._state = FleetState(can_grow=can_grow)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check_nodes(self, stop: threading.Event) -> None:
        """Ask all nodes that are there, and wait for their answers.

        Raises:
            SearchError: A node that would train does not see what the search needs; none is left out silently.
        """
        while not stop.is_set():
            nodes = self._read_nodes()
            usable = self._usable(nodes)
            faults = [f"{probe.name}: {probe.fault}" for probe in self._probes.values() if probe.fault]
            if faults:
                way_out = "Put it right, or take the node out of the cluster: `ray stop` there"
                raise SearchError("cluster", "; ".join(faults), way_out)
            if len(usable) == len(nodes):
                return
            stop.wait(0.1)

    def watch(self, dispatcher: Any) -> None:
        """Begin to give places to groups.

        Args:
            dispatcher: Handle of the dispatcher, which says which groups have workers and how many trials there are.
        """
        self._thread = threading.Thread(target=self._watch, args=(dispatcher,), name="places", daemon=True)
        self._thread.start()

    def take(self, group: str) -> tuple[str, ...]:
        """Wait for a place: the node of each worker, by id; empty if the search ends before."""
        wish = _Wish()
        with self._lock:
            self._wishes[group] = wish
        while not self._closed.is_set():
            if wish.given.wait(TURN_S):
                return wish.place
        return ()

    def give_back(self, group: str) -> bool:
        """A group has ended; returns whether all nodes of its place are still there."""
        with self._lock:
            self._starting.discard(group)
            return self._alive.issuperset(self._places.pop(group, ()))

    def describe(self) -> str:
        """What the next group waits for."""
        with self._lock:
            return describe_missing(self._state, self._allocation)

    def close(self) -> None:
        """Give no more places, and ask for no more nodes."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(ray.exceptions.RayError):
            self._ask_for(0)

    def _watch(self, dispatcher: Any) -> None:
        while not self._closed.wait(TURN_S):
            try:
                self._turn(dispatcher)
            except ray.exceptions.RayError:  # asked again at the next turn; where the cluster is gone, others see it
                log.info("the cluster does not answer which nodes it has", exc_info=True)
            except Exception as error:  # such as a private name that a release of Ray has dropped: groups would wait
                log.exception("worker groups can be given no places")
                what = f"no worker group can be given a place: {type(error).__name__}: {error}"
                dispatcher.abort.remote(SearchError("cluster", what, "Use the version of Ray in constraints.txt"))
                return

    def _turn(self, dispatcher: Any) -> None:
        """Look at the nodes, give places, ask for nodes, say what is missing."""
        nodes = self._read_nodes()
        usable = self._usable(nodes)
        started, num_trials = ray.get(dispatcher.progress.remote())
        names = {node.id: node.name for node in nodes}
        with self._lock:
            self._alive = frozenset(names)
            self._starting -= started
            self._give_places(usable)
            num_missing = len(self._wishes)
            if num_trials is not None:  # a trial that a group has needs no other
                num_missing = min(num_missing, max(0, num_trials - len(self._places)))
            num_waiting, is_starting = len(self._wishes), bool(self._starting)
            has_groups = bool(self._places)
        if self._can_grow:
            self._ask_nodes(num_missing, is_starting=is_starting)
        lines = tuple(self._launching()) if self._can_grow and num_missing else ()
        with self._lock:
            self._state = FleetState(
                nodes=tuple(usable),
                unchecked=tuple(self._probes[one.id].name for one in nodes if self._probes[one.id].answer is not None),
                left_out={probe.name: probe.fault for probe in self._probes.values() if probe.fault},
                starting={one: ", ".join({names.get(id_, "a node that is gone") for id_ in self._places[one]})
                          for one in sorted(self._starting)},
                launching=lines,
                num_waiting=num_waiting,
                can_grow=self._can_grow,
            )  # fmt: skip
        self._end_without_nodes(dispatcher, usable, has_groups=has_groups)

    def _read_nodes(self) -> list[ClusterNode]:
        """The nodes that are alive, stay, and are large enough for a worker."""
        free, leaving = ray_patches.free_resources(), set(ray_patches.draining_nodes())
        nodes = []
        for one in ray.nodes():
            node_id, has = one["NodeID"], one["Resources"]
            if one["Alive"] and node_id not in leaving:
                of_node = free.get(node_id, {})
                node = ClusterNode(
                    id=node_id,
                    name=f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})",
                    cpus=int(has.get("CPU", 0)),
                    gpus=float(has.get("GPU", 0)),
                    free_cpus=float(of_node.get("CPU", 0)),
                    free_gpus=float(of_node.get("GPU", 0)),
                )
                if node.num_fitting(self._allocation, free=False):
                    nodes.append(node)
        return nodes

    def _usable(self, nodes: list[ClusterNode]) -> list[ClusterNode]:
        """Those of the nodes that see what the search needs, as far as they have answered."""
        now = time.monotonic()
        present = {node.id for node in nodes}
        self._probes = {node_id: probe for node_id, probe in self._probes.items() if node_id in present}
        for node in nodes:
            probe = self._probes.get(node.id)
            if probe is None or (probe.fault and probe.answer is None and now - probe.asked_at > PROBE_AGAIN_S):
                self._probes[node.id] = _ask(node, self._config, known="" if probe is None else probe.fault)
            elif probe.answer is not None:
                _receive(probe, now)
        return [node for node in nodes if _is_good(self._probes[node.id])]

    def _give_places(self, nodes: list[ClusterNode]) -> None:
        """Give places to groups that wait, in the order of their names; at a time one on each node."""
        for group in sorted(self._wishes, key=lambda name: (len(name), name)):
            busy = {node_id for name in self._starting for node_id in self._places[name]}
            place = find_place(nodes, self._allocation, busy=busy)
            if not place:
                return
            wish = self._wishes.pop(group)
            self._places[group] = wish.place = place
            self._starting.add(group)
            wish.given.set()

    def _ask_nodes(self, num_missing: int, *, is_starting: bool) -> None:
        """Ask the autoscaler for the resources of so many groups."""
        now = time.monotonic()
        if any(_is_ready(one) for one in self._demand):  # it holds what a group is to have
            self._quiet_until = now + SETTLE_S
            self._ask_for(0)
        elif is_starting:  # it takes what is free: a placement group must not be there first
            self._quiet_until = now + SETTLE_S
        elif now > self._quiet_until:
            self._ask_for(num_missing)

    def _ask_for(self, num_groups: int) -> None:
        while len(self._demand) > num_groups:
            ray.util.remove_placement_group(self._demand.pop())
        need = {"CPU": float(self._allocation.cpus_per_worker), "GPU": self._allocation.gpus_per_worker}
        bundle = {name: value for name, value in need.items() if value}
        while len(self._demand) < num_groups:
            self._demand.append(ray.util.placement_group([bundle] * self._allocation.workers, strategy="PACK"))

    def _launching(self) -> list[str]:
        try:
            return ray_patches.launching_nodes()
        except Exception:  # private names, without which a search can do
            log.debug("the autoscaler does not say what it is doing", exc_info=True)
            return []

    def _end_without_nodes(self, dispatcher: Any, usable: list[ClusterNode], *, has_groups: bool) -> None:
        """End the search where no node is large enough and nobody starts one."""
        now = time.monotonic()
        if self._can_grow or has_groups or fits_when_free(usable, self._allocation):
            self._no_node_since = None
            return
        self._no_node_since = now if self._no_node_since is None else self._no_node_since
        if now - self._no_node_since > NO_NODE_LIMIT_S:
            need, minutes = describe_need(self._allocation), NO_NODE_LIMIT_S / 60
            what = f"no node has had {need} for {minutes:.0f} min: {self.describe()}"
            way_out = "Start one: `ray start --address=HEAD:6379` there"
            dispatcher.abort.remote(SearchError("cluster", what, way_out))
            self._no_node_since = None


def _ask(node: ClusterNode, config: GroupConfig, *, known: str) -> _Probe:
    """Begin to ask a node whether it sees what the search needs."""
    strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
    call: Callable[..., Any] = (
        ray.remote(find_fault).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0).remote
    )
    return _Probe(node.name, time.monotonic(), answer=call(config), fault=known)


def _receive(probe: _Probe, now: float) -> None:
    """Note a node's answer, if it is there, and name a fault that is new."""
    before = probe.fault
    if ray.wait([probe.answer], timeout=0)[0]:
        try:
            probe.fault = ray.get(probe.answer)
        except ray.exceptions.RayError as error:  # the node is gone, or has no ferray
            probe.fault = f"does not answer: {first_line(str(getattr(error, 'cause', None) or error))}"
        probe.answer = None
    elif now - probe.asked_at > PROBE_LIMIT_S:
        probe.fault, probe.answer = f"has not answered for {PROBE_LIMIT_S:.0f} s", None
    if probe.fault and probe.fault != before:
        log.warning("node %s is left out: %s", probe.name, probe.fault)


def _is_good(probe: _Probe) -> bool:
    return probe.answer is None and not probe.fault


def _is_ready(group: Any) -> bool:
    """Whether a placement group has its resources."""
    state: str = ray.util.placement_group_table(group)["state"]
    return state == "CREATED"
