"""The Ray cluster of a search: started here on loopback, or joined.

Begin at `connect`; `ferray.search.fleet.allocation` divides the cluster into worker groups.
"""

import functools
import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ferray.errors import SearchError
from ferray.search.fleet import ray_patches
from ferray.search.fleet.growth import Growth, largest_cluster, read_growth
from ferray.search.fleet.messages import NAMESPACE, stall_limit_s
from ferray.waiting import waiting
from ferray.wording import first_line

log = logging.getLogger(__name__)

DRAIN_POLL_S = 1.0
"""How often the cluster is asked for draining nodes; a spot instance has two minutes from the notice to its end."""


DOCUMENTED_VARIABLES = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the search handles Ctrl-C
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # no snapshots of all trials while Tune runs: nobody reads them
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the search keeps its own records
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else a paragraph on stdout for each worker that dies
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else, under `uv run`, the user's folder is packed for each worker
}
"""Ray's documented variables, unless the user has set them."""


@dataclass(frozen=True)
class Cluster:
    """The resources of a cluster in all."""

    cpus: int
    gpus: float
    nodes: int
    joined: bool
    """Whether it was running before this search, and so outlives it."""
    per_node: tuple[tuple[int, float], ...] = ()
    """CPUs and GPUs of each node; empty for one node that has them all."""
    can_grow: bool = False
    """Whether an autoscaler is running, which starts nodes when they are asked for."""
    largest: tuple[tuple[int, float], ...] = ()
    """CPUs and GPUs of each node when it has grown as far as it can; empty for one that cannot, or of which nothing is
    known before its first node is there."""

    @property
    def at_most(self) -> "Cluster":
        """The cluster when it has grown as far as it can."""
        if not self.largest:
            return self
        cpus, gpus = sum(cpus for cpus, _ in self.largest), sum(gpus for _, gpus in self.largest)
        return replace(
            self, cpus=cpus, gpus=gpus, nodes=len(self.largest), per_node=self.largest, can_grow=False, largest=()
        )

    @property
    def num_with_cpus(self) -> int:
        """Nodes that can run workers."""
        return sum(cpus > 0 for cpus, _ in self.per_node) or 1

    def num_workers_fitting(self, cpus: int, gpus: float, *, max_per_node: int | None = None) -> int:
        """How many workers of so many CPUs and GPUs fit at once; a worker is on one node.

        Args:
            cpus: Of each worker, at least 1.
            gpus: Of each worker.
            max_per_node: Workers on a node; None for no limit.
        """
        nodes = self.per_node or ((self.cpus, self.gpus),)
        return sum(
            min(
                int(cpu // cpus),
                int(gpu / gpus + 1e-9) if gpus else int(cpu),
                int(cpu) if max_per_node is None else max_per_node,
            )
            for cpu, gpu in nodes
        )


@contextmanager
def ray_environment(address: str | None) -> Iterator[None]:
    """The environment of `set_environment` while the block runs; afterwards the process has its own variables again.

    Args:
        address: The same as for `connect`.

    Raises:
        SearchError: Ray runs in this process already, and belongs to whoever started it.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        what = "runs in this process already: ray.init() was called before the search"
        way_out = "Call ray.shutdown() first; a search starts and ends its own, or joins a cluster by address"
        raise SearchError("Ray", what, way_out)
    before = {name: os.environ.get(name) for name in _variables(address)}
    set_environment(address)
    ray_patches.read_environment_again()
    try:
        yield
    finally:
        _update_environment(before)
        ray_patches.read_environment_again()


def set_environment(address: str | None) -> None:
    """Set the environment variables that Ray reads while it is imported; call it before that.

    Args:
        address: The same as for `connect`.
    """
    _update_environment(_variables(address))


def _update_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _variables(address: str | None) -> dict[str, str | None]:
    """What `set_environment` sets, or removes; a user's value is kept where a search is safe and can run with it."""
    optional = {**DOCUMENTED_VARIABLES, **ray_patches.TRAIN_VARIABLES}
    kept = {name: os.environ.get(name, value) for name, value in optional.items()}
    of_tune = dict.fromkeys(name for name in os.environ if name.startswith(ray_patches.OF_TUNE))
    variables: dict[str, str | None] = {**of_tune, **ray_patches.NO_AUTO_CONNECT, **ray_patches.WITHOUT_EFFECT, **kept}
    if address is None:
        variables |= ray_patches.WITHOUT_EFFECT_HERE
        variables |= ray_patches.LOOPBACK_ONLY
        variables["RAY_AUTH_MODE"] = "token"  # the default for a local cluster since 2.59 only
        variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # in the environment only: no file is left behind
    return variables


def _allowed_cores() -> dict[str, int]:
    """Ray's option for the cores that this process may use, where they are not all: `taskset`, a batch system.

    Ray itself looks at all cores, and at the quota of a container, which may be the lower of the two.
    """
    allowed, existing = num_allowed_cores(), os.cpu_count() or 1
    return {"num_cpus": allowed} if allowed < existing else {}


def num_allowed_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """A Ray cluster while the block runs; call `set_environment` before.

    Args:
        address: `auto` or `HOST:PORT` joins a running cluster; None starts one on loopback, with a token of its own,
            and ends it afterwards. A cluster is joined only by this argument, whatever the environment says.

    Raises:
        SearchError: No cluster answers at the address, or none could be started.
    """
    with waiting("importing Ray"):
        import ray

        from ferray.search.fleet.start import start_ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    with ExitStack() as stack:
        if address is None:
            parent = ray_patches.short_parent(tempfile.gettempdir())
            own = tempfile.TemporaryDirectory(prefix="ferray-", dir=parent, ignore_cleanup_errors=True)
            folder = stack.enter_context(own)
            start_ray(include_dashboard=False, **_allowed_cores(), **ray_patches.temp_dir_option(folder), **quiet)
        else:
            try:
                with waiting(f"connecting to Ray at {address}"), ray_patches.own_signal_handlers():
                    ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                what = f"no Ray cluster answers: {first_line(str(error))}"
                way_out = "Start one with `ray up cluster.yaml` (with its token: RAY_AUTH_MODE=token)"
                raise SearchError(f"--address {address}", what, f"{way_out}, or leave --address out") from error
        try:
            with waiting("asking Ray for its nodes"):
                cluster = read_cluster(joined=address is not None)
            yield cluster
        finally:
            with waiting("ending Ray's processes"):
                ray.shutdown()


def read_cluster(*, joined: bool) -> Cluster:
    """The nodes that are alive, and what an autoscaler may add to them.

    Args:
        joined: Whether the cluster outlives the search.
    """
    import ray

    sizes: dict[bool, list[tuple[int, float]]] = {True: [], False: []}  # of the head, of the others
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            is_head = not ray_patches.HEAD_NODE.keys().isdisjoint(has)
            sizes[is_head].append((int(has.get("CPU", 0)), float(has.get("GPU", 0))))
    per_node = (*sizes[True], *sizes[False])
    growth = _read_growth() if joined else None
    return Cluster(
        cpus=sum(cpus for cpus, _ in per_node),
        gpus=float(sum(gpus for _, gpus in per_node)),
        nodes=len(per_node),
        joined=joined,
        per_node=per_node,
        can_grow=growth is not None,
        largest=() if growth is None else largest_cluster(sizes[True], sizes[False], growth),
    )


def _read_growth() -> Growth | None:
    """What the autoscaler of a cluster that was joined may make of it; None where none is running."""
    import ray

    read = ray.remote(ray_patches.autoscaler_config).options(num_cpus=0, resources=ray_patches.HEAD_NODE)
    try:
        config = ray.get(read.remote())
    except ray.exceptions.RayError as error:  # such as a head that has no ferray
        _warn_once(first_line(str(getattr(error, "cause", None) or error)))
        return None
    return None if config is None else read_growth(config)


@functools.cache
def _warn_once(reason: str) -> None:
    log.warning("the head does not say what its autoscaler may start: %s", reason)


def start_dispatcher(name: str, *, has_scheduler: bool, session: int = 1, max_failures: int = 2) -> Any:
    """Start the dispatcher as a Ray actor on the head node that holds none of its CPUs; returns its handle.

    Args:
        name: The actor's name.
        has_scheduler: As for `Dispatcher`, like the other two.
        session: The session's number.
        max_failures: Deaths during one trial before it fails.
    """
    import ray

    from ferray.search.fleet.dispatcher import Dispatcher

    options = ray.remote(Dispatcher).options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        resources=ray_patches.HEAD_NODE,
        max_concurrency=100_000,  # calls that wait: one per rank for its whole life, one per group, one per proxy
    )
    return options.remote(has_scheduler, session=session, max_failures=max_failures, stall_limit_s=stall_limit_s())


@contextmanager
def watch_draining_nodes(dispatcher: Any) -> Iterator[None]:
    """While the block runs, report to the dispatcher which nodes are drained: preempted, or by a person."""
    import ray

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(DRAIN_POLL_S):
            try:
                if nodes := ray_patches.draining_nodes():
                    ray.get(dispatcher.drain_nodes.remote(nodes))
            except ray.exceptions.RayError:  # asked again at the next turn
                log.info("the cluster does not answer which nodes are draining", exc_info=True)
            except Exception:  # such as a private name that a release of Ray has dropped: it would fail at every turn
                log.warning(
                    "nodes that are about to leave the cluster are not noticed; trials there go on from their last"
                    " checkpoint",
                    exc_info=True,
                )
                return

    thread = threading.Thread(target=watch, name="watch-draining-nodes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
