"""The Ray cluster of a search: started here on loopback, or joined; what it has, and how it is shared out.

Begin at `connect`; `share_out` turns what the cluster has into worker groups.
"""

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ferray.errors import SearchError
from ferray.search.fleet import ray_patches

log = logging.getLogger(__name__)

MAX_CPU_GROUPS = 8
"""Worker groups on CPUs by default; each takes half a gigabyte and seconds to start."""

DRAIN_POLL_S = 1.0
"""How often a cluster is asked for nodes that are about to go; a spot instance has two minutes."""


DOCUMENTED_VARIABLES = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the search handles Ctrl-C
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # no snapshots of all trials while Tune runs: nobody reads them
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the search keeps its own records
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else a paragraph on stdout for each worker that dies
}
"""Ray's documented variables, unless the user has set them."""


@dataclass(frozen=True)
class Cluster:
    """What a cluster has in all."""

    cpus: int
    gpus: float
    nodes: int
    joined: bool
    """Whether it was there before this search."""
    per_node: tuple[tuple[int, float], ...] = ()
    """CPUs and GPUs of each node; empty for one node that has them all."""

    @property
    def num_with_cpus(self) -> int:
        """Nodes that workers may lie on."""
        return sum(cpus > 0 for cpus, _ in self.per_node) or 1

    def num_fitting(self, cpus: int, gpus: float) -> int:
        """How many workers of so many CPUs and GPUs find a place at once; a worker lies on one node."""
        nodes = self.per_node or ((self.cpus, self.gpus),)
        return sum(min(int(cpu // cpus), int(gpu / gpus + 1e-9) if gpus else int(cpu)) for cpu, gpu in nodes)


@dataclass(frozen=True)
class Share:
    """Worker groups and what each of their workers holds."""

    num_groups: int
    workers: int
    cpus_per_worker: int
    gpus_per_worker: float

    def __str__(self) -> str:
        device = f"{self.gpus_per_worker:g} GPU and " if self.gpus_per_worker else ""
        groups = f"{self.num_groups} worker group{'s' if self.num_groups > 1 else ''}"
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{groups} of {workers}, {device}{self.cpus_per_worker} CPU each"


def set_environment(address: str | None) -> None:
    """Environment variables that Ray reads while it is imported; to be called before that.

    Args:
        address: As `connect`.
    """
    os.environ.update(ray_patches.NO_AUTO_CONNECT)
    for name, value in {**DOCUMENTED_VARIABLES, **ray_patches.TRAIN_VARIABLES}.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.update(ray_patches.LOOPBACK_ONLY)
        os.environ["RAY_AUTH_MODE"] = "token"  # the default for a local cluster since 2.59 only
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # in the environment only: no file is left behind


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """A Ray cluster while the block runs; `set_environment` comes first.

    Args:
        address: `auto` or `HOST:PORT` joins a running cluster; None starts one on loopback, with a token of its own,
            and ends it afterwards. Never joins one that was not asked for, whatever the environment says.

    Raises:
        SearchError: No cluster answers at the address, or none could be started.
    """
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as stack:
        if address is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ferray-", ignore_cleanup_errors=True))
            _start(include_dashboard=False, **ray_patches.temp_dir_option(folder), **quiet)
        else:
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                what = f"no Ray cluster answers: {str(error).splitlines()[0]}"
                way_out = "Start one with `ray up cluster.yaml` (with its token: RAY_AUTH_MODE=token)"
                raise SearchError(f"--address {address}", what, f"{way_out}, or leave --address out") from error
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray puts its own in place
            if address is None:
                ray_patches.start_autoscaling_coordinator()
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            per_node = tuple((int(one.get("CPU", 0)), float(one.get("GPU", 0))) for one in alive)
            cpus, gpus = sum(cpus for cpus, _ in per_node), sum(gpus for _, gpus in per_node)
            yield Cluster(cpus, float(gpus), len(alive), joined=address is not None, per_node=per_node)
        finally:
            ray.shutdown()


def _start(**options: Any) -> None:
    """Ray on this machine, tried twice: it gives its processes 30 s, which are not enough on a busy one.

    Raises:
        SearchError: It does not come up.
    """
    import ray

    for is_last in (False, True):
        try:
            ray.init(address="local", **options)
        except Exception as error:  # a bare one
            what = f"did not start: {str(error).splitlines()[0]}"
            ray.shutdown()
            if is_last:
                way_out = "The machine may be overloaded or short of memory: try again later"
                raise SearchError("Ray", what, way_out) from error
            log.warning("Ray %s; once more", what)
        else:
            return


def share_out(
    cluster: Cluster,
    *,
    workers: int,
    gpus_per_worker: float | None,
    num_groups: int | None,
    heads_only: bool = False,
    num_points: int | None = None,
) -> Share:
    """Worker groups for what a cluster has: as many as fit on GPUs, one a node on CPUs, unless told otherwise.

    On CPUs a head on cached features trains hardly faster with two threads than with one, so where all trials train
    heads, there is one group a core, up to `MAX_CPU_GROUPS`.

    Args:
        cluster: What there is.
        workers: Ranks per group.
        gpus_per_worker: None for 1 where the cluster has GPUs, else 0.
        num_groups: None for the default.
        heads_only: Whether all trials leave the whole trunk frozen.
        num_points: Of the search, if known: there are no more groups by default.

    Raises:
        SearchError: It does not fit; the missing resource is named.
    """
    gpus = gpus_per_worker if gpus_per_worker is not None else (1.0 if cluster.gpus else 0.0)
    if num_groups is None:
        places = min(cluster.cpus, MAX_CPU_GROUPS * workers) if heads_only else cluster.num_with_cpus
        on_cpus = places // workers
        fit = cluster.num_fitting(1, gpus) // workers if gpus else on_cpus
        num_groups = max(1, fit if num_points is None else min(fit, num_points))
    need_gpus, total = num_groups * workers * gpus, num_groups * workers
    if need_gpus > cluster.gpus:
        raise SearchError(
            f"{num_groups} x {workers} workers",
            f"need {need_gpus:g} GPUs, but the cluster has {cluster.gpus:g}",
            "Lower --concurrent-trials, --workers-per-trial or --gpus-per-worker (0 trains on CPUs)",
        )
    if total > cluster.cpus:
        raise SearchError(
            f"{num_groups} x {workers} workers",
            f"need {total} CPUs, but the cluster has {cluster.cpus}",
            "Lower --concurrent-trials or --workers-per-trial",
        )
    for cpus in range(cluster.cpus // total, 0, -1):  # the most that every worker finds on one node
        if cluster.num_fitting(cpus, gpus) >= total:
            return Share(num_groups, workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    raise SearchError(
        f"{num_groups} x {workers} workers",
        f"a worker lies on one node: with 1 CPU and {gpus:g} GPUs each, {cluster.num_fitting(1, gpus)} find a place",
        "Lower --concurrent-trials, --workers-per-trial or --gpus-per-worker (0 trains on CPUs)",
    )


def start_dispatcher(name: str, *, decides: bool, session: int = 1, max_failures: int = 2) -> Any:
    """The dispatcher as a Ray actor on the head node, without a share of its CPUs."""
    import ray

    from ferray.search.fleet.dispatcher import NAMESPACE, Dispatcher

    options = ray.remote(Dispatcher).options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        resources=ray_patches.HEAD_NODE,
        max_concurrency=100_000,  # of calls that wait: one a rank for as long as it lives, one a group, one a proxy
    )
    return options.remote(decides, session=session, max_failures=max_failures)


@contextmanager
def drain_watch(dispatcher: Any) -> Iterator[None]:
    """While the block runs, tell the dispatcher of nodes that are about to go: preempted, or drained by a person."""
    import ray

    over = threading.Event()

    def watch() -> None:
        while not over.wait(DRAIN_POLL_S):
            try:
                if nodes := ray_patches.draining_nodes():
                    ray.get(dispatcher.drain.remote(nodes))
            except ray.exceptions.RayError:  # no answer for once: ask again
                log.info("the cluster does not say which nodes are about to go", exc_info=True)

    thread = threading.Thread(target=watch, name="drain-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def missing(share: Share) -> str:
    """What one worker group still waits for, in words; empty if it has got it, or there is room for it."""
    import ray

    if not any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values()):
        return ""  # what is not free is what our own groups hold
    free = ray.available_resources()
    short = []
    for resource, per_worker in (("CPU", float(share.cpus_per_worker)), ("GPU", share.gpus_per_worker)):
        wanted, there = per_worker * share.workers, float(free.get(resource, 0.0))
        if wanted > there:
            short.append(f"{wanted:g} {resource}, of which {there:g} free")
    return " and ".join(short)
