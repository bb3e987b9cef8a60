"""How many worker groups a search has, and how many CPUs and GPUs each of their workers holds.

Begin at `allocate`.
"""

from dataclasses import dataclass

from ferray.errors import SearchError
from ferray.search.fleet.cluster import Cluster
from ferray.wording import count_of

MAX_CPU_GROUPS = 8
"""Worker groups on the CPUs of a node by default; each takes half a gigabyte and seconds to start."""


@dataclass(frozen=True, kw_only=True)
class GroupRequest:
    """What is asked of the worker groups of a search."""

    workers: int = 1
    """Workers of each group, which train one trial together."""
    gpus_per_worker: float | None = None
    """None for 1 where the cluster has GPUs, else 0."""
    num_groups: int | None = None
    """None for the default: as many as fit on GPUs, one per node on CPUs."""
    heads_only: bool = False
    """Whether all trials keep the whole trunk frozen. On CPUs a head on cached features trains hardly faster with two
    threads than with one, so the default is then one group per core, `MAX_CPU_GROUPS` on a node at most."""
    num_trials: int | None = None
    """Trials of the search, if known: the default is not above it."""


@dataclass(frozen=True)
class Allocation:
    """Worker groups, and what each of their workers holds. The names of its fields stand in `search.json`."""

    num_groups: int
    workers: int
    cpus_per_worker: int
    gpus_per_worker: float

    def __str__(self) -> str:
        device = f"{self.gpus_per_worker:g} GPU and " if self.gpus_per_worker else ""
        groups, workers = count_of(self.num_groups, "worker group"), count_of(self.workers, "worker")
        return f"{groups} of {workers}, {device}{self.cpus_per_worker} CPU each"


def allocate(cluster: Cluster, request: GroupRequest) -> Allocation:
    """Divide a cluster into worker groups; each worker gets as many CPUs as all workers can have on their nodes.

    A cluster that can grow is divided as it is when it has grown as far as it can. On a cluster that was joined, whose
    nodes may come and go, more groups may be asked for than have room: those wait for nodes.

    Raises:
        SearchError: The request does not fit; the missing resource is named.
    """
    can_grow, cluster = cluster.can_grow, cluster.at_most
    gpus = request.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster.gpus else 0.0
    workers, num_groups = request.workers, request.num_groups
    if num_groups is None:
        num_groups = _default_num_groups(cluster, request, gpus)
    num_fitting = cluster.num_workers_fitting(1, gpus)
    num_now = min(num_groups, max(1, num_fitting // workers)) if cluster.joined else num_groups
    total = num_now * workers
    where = f"{num_now} x {workers} workers"
    whose = "the cluster" if cluster.joined else "this machine"
    has = f"{whose} can grow only to" if can_grow else f"{whose} has"
    if total * gpus > cluster.gpus:
        raise SearchError(
            where,
            f"need {total * gpus:g} GPUs, but {has} {cluster.gpus:g}",
            "Lower --concurrent-trials, --workers-per-trial or --gpus-per-worker (0 trains on CPUs)",
        )
    if total > cluster.cpus:
        raise SearchError(
            where,
            f"need {total} CPUs, but {has} {cluster.cpus}",
            "Lower --concurrent-trials or --workers-per-trial",
        )
    for cpus in range(cluster.cpus // total, 0, -1):
        if cluster.num_workers_fitting(cpus, gpus) >= total:
            return Allocation(num_groups, workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    raise SearchError(
        where,
        f"each must be on one node, but with 1 CPU and {gpus:g} GPUs each, only {num_fitting} fit",
        "Lower --concurrent-trials, --workers-per-trial or --gpus-per-worker (0 trains on CPUs)",
    )


def _default_num_groups(cluster: Cluster, request: GroupRequest, gpus: float) -> int:
    if gpus:
        num_workers = cluster.num_workers_fitting(1, gpus)
    elif request.heads_only:
        num_workers = cluster.num_workers_fitting(1, 0.0, max_per_node=MAX_CPU_GROUPS * request.workers)
    else:
        num_workers = cluster.num_with_cpus
    num_groups = num_workers // request.workers
    return max(1, num_groups if request.num_trials is None else min(num_groups, request.num_trials))
