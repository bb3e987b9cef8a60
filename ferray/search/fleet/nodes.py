"""The nodes of a cluster as plain values, where on them a worker group fits, and what is missing where it does not.

Nothing here knows Ray: `ferray.search.fleet.ray_patches` reads the values, `ferray.search.fleet.places` acts on them.

Begin at `find_place`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ferray.search.fleet.allocation import Allocation
from ferray.wording import count_of


@dataclass(frozen=True, kw_only=True)
class ClusterNode:
    """A node that is alive."""

    id: str
    name: str
    """Host name and address."""
    cpus: int
    """In all, as the next."""
    gpus: float
    free_cpus: float
    """Not held by anybody at this moment, as the next."""
    free_gpus: float

    def num_fitting(self, allocation: Allocation, *, free: bool) -> int:
        """Workers that fit on the node, into what is free or into the whole of it."""
        cpus, gpus = (self.free_cpus, self.free_gpus) if free else (self.cpus, self.gpus)
        num = int(cpus / allocation.cpus_per_worker + 1e-9)
        return min(num, int(gpus / allocation.gpus_per_worker + 1e-9)) if allocation.gpus_per_worker else num


def find_place(nodes: Sequence[ClusterNode], allocation: Allocation, *, busy: Collection[str]) -> tuple[str, ...]:
    """The node of each worker of one more group, by id; empty if it fits nowhere at this moment.

    As few nodes as possible, those with most room first.

    Args:
        nodes: Those that may be used.
        allocation: What a group needs.
        busy: Nodes on which a group is just starting. The next one there waits for it: where the cores are few, the
            first is then ready sooner, and what the starting group takes may not be counted yet.
    """
    room = {node.id: node.num_fitting(allocation, free=True) for node in nodes if node.id not in busy}
    place: list[str] = []
    for node_id in sorted(room, key=lambda one: -room[one]):
        place += [node_id] * min(room[node_id], allocation.workers - len(place))
    return tuple(place) if len(place) == allocation.workers else ()


def fits_when_free(nodes: Sequence[ClusterNode], allocation: Allocation) -> bool:
    """Whether one group would fit on these nodes if nobody else held anything."""
    return sum(node.num_fitting(allocation, free=False) for node in nodes) >= allocation.workers


@dataclass(frozen=True, kw_only=True)
class FleetState:
    """What a turn of `ferray.search.fleet.places` has found, for the words about it."""

    nodes: tuple[ClusterNode, ...] = ()
    """Those that may be used."""
    unchecked: tuple[str, ...] = ()
    """Names of nodes that have just joined."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Name of each node that may not be used, and why."""
    starting: Mapping[str, str] = field(default_factory=dict)
    """Groups that are starting, and on which nodes."""
    launching: tuple[str, ...] = ()
    """What the autoscaler says of the nodes that it starts, or could not start."""
    num_waiting: int = 1
    """Groups that wait for a place."""
    can_grow: bool = False
    """Whether an autoscaler is running."""


def describe_missing(state: FleetState, allocation: Allocation) -> str:
    """What one more worker group waits for: in one line, for a person."""
    parts = [f"{group} is starting on {where}" for group, where in state.starting.items()]
    need = describe_need(allocation)
    if not parts and not state.num_waiting:
        parts.append("the worker groups wait for the next trial")
    elif not parts and not find_place(state.nodes, allocation, busy=()):
        if fits_when_free(state.nodes, allocation):
            parts.append(f"a worker group needs {need}, which others hold")
        elif state.can_grow:
            parts.append(f"no node has {need}; the autoscaler was asked for one")
        else:
            parts.append(f"no node has {need}, and no autoscaler is running that could start one")
    parts += [f"node {name} has joined and is being checked" for name in state.unchecked]
    parts += [f"node {name} is left out: {reason}" for name, reason in state.left_out.items()]
    return "; ".join([*parts, *state.launching]) or "a worker group is about to start"


def describe_need(allocation: Allocation) -> str:
    """What one group needs, such as `2 x 4 CPUs and 1 GPU`."""
    need = count_of(allocation.cpus_per_worker, "CPU")
    if allocation.gpus_per_worker:
        need += f" and {allocation.gpus_per_worker:g} GPU"
    return f"{allocation.workers} x ({need})" if allocation.workers > 1 else need
