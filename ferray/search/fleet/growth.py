"""What a cluster may grow to, by the configuration of its autoscaler: plain values in, plain values out.

Begin at `largest_cluster`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NodeType:
    """Nodes that an autoscaler may start."""

    name: str
    cpus: int | None
    """None where that is known only when one is there, as for own machines."""
    gpus: float
    max_nodes: int
    """In all, those that are there included."""


@dataclass(frozen=True)
class Growth:
    """What an autoscaler may make of a cluster."""

    types: tuple[NodeType, ...]
    max_workers: int
    """Nodes of all types together, without the head."""


def largest_cluster(
    head: Sequence[tuple[int, float]], workers: Sequence[tuple[int, float]], growth: Growth
) -> tuple[tuple[int, float], ...]:
    """CPUs and GPUs of each node of the cluster at its largest.

    A node of unknown size is taken for one like the largest that is there, or like the head where that has CPUs.

    Args:
        head: CPUs and GPUs of the head.
        workers: Those of the other nodes that are there.
        growth: What may be added.
    """
    left = list(workers)
    added: list[tuple[int, float]] = []
    for kind in growth.types:
        if kind.cpus is None:
            known = [*workers] or [one for one in head if one[0]]
            if not known:
                continue
            size = max(known)
            num_present = len(left)
            left.clear()
        else:
            size = (kind.cpus, kind.gpus)
            num_present = min(left.count(size), kind.max_nodes)
            for _ in range(num_present):
                left.remove(size)
        added += [size] * max(0, kind.max_nodes - num_present)
    room = max(0, growth.max_workers - len(workers))
    return (*head, *workers, *added[:room])


def read_growth(config: Mapping[str, Any]) -> Growth:
    """What the configuration of an autoscaler allows, as `ray up` hands it to the head.

    Args:
        config: Its content; Ray has checked it and has put in its defaults, also for a cluster of own machines.
    """
    limit = int(config.get("max_workers") or 0)
    types = []
    for name, kind in (config.get("available_node_types") or {}).items():
        resources = kind.get("resources") or {}
        max_nodes = min(limit, int(kind.get("max_workers", limit)))
        cpus = None if "CPU" not in resources else int(resources["CPU"])
        if max_nodes and cpus != 0:
            types.append(NodeType(str(name), cpus, float(resources.get("GPU", 0)), max_nodes))
    return Growth(tuple(types), limit)
