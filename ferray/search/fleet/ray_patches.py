"""All that ferray uses of Ray beyond what Ray documents: private names, patched methods, hidden options and variables.

What a run of Ray Train needs stands in `ferray.search.fleet.train_patches`, all else here, each with its reason and
with the line of Ray's source that it relies on; paths are below `ray/`, as of 2.60. Importing this module imports and
changes nothing: a search calls these functions when it starts, and what `patched_tune` replaces is put back at its
end.

A new release of Ray may drop any of it without notice, so `pyproject.toml` has an upper bound. Before it is raised,
`make test-ray` runs the tests of a search with it; `tests/search/fleet/test_ray_patches.py` then names what is gone.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NO_AUTO_CONNECT = {"RAY_ENABLE_AUTO_CONNECT": "0"}
"""Without it, a thread that calls Ray after the search has ended starts or joins a cluster: ray#31060,
`_private/auto_init_hook.py`, `auto_init_ray`. Ray reads it while it is imported."""

LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""With it, Ray binds every port to 127.0.0.1, on Linux too: ray#30770, `_private/services.py`, `get_node_ip_address`.
Ray reads it while it is imported. `ray.init(_node_ip_address="127.0.0.1")` does not do: Ray replaces that address."""

TRAIN_VARIABLES = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Ray Train's variables without documentation: `train/v2/_internal/constants.py`.

The interval: a controller notices the end of a group only when it polls, by default every 2 s.
The watcher: an actor for each group, since ray#63807, that ends a run at the node's deadline; `watch_draining_nodes` of
`ferray.search.fleet.cluster` gives the trial back before. Releases without the watcher ignore the variable."""

WITHOUT_EFFECT: dict[str, str | None] = {
    "RAY_AIR_LOCAL_CACHE_DIR": None,
    "RAY_TRAIN_V2_ENABLED": "1",
}
"""A user's variables, from other programs or versions of Ray, with which no search could run; None for not set.

`tune/tune.py`, `run`, ends with an error where the first is set, and `train/__init__.py` has other classes without the
second."""

OF_TUNE = "TUNE_"
"""Begins the names of Tune's variables. A user's have no effect but for those that a search sets itself: they are about
trials that are processes. With one of them Tune makes a call that the proxies of `patched_tune` do not have, and with
another, TUNE_RESULT_DIR, `tune/tune.py` ends with an error."""

WITHOUT_EFFECT_HERE: dict[str, str | None] = {
    "RAY_LOG_TO_STDERR": None,
    "RAY_RUNTIME_ENV_HOOK": None,
    "RAY_JOB_CONFIG_JSON_ENV_VAR": None,
    "RAY_USE_TLS": None,
    "GLOO_SOCKET_IFNAME": None,
    "NCCL_SOCKET_IFNAME": None,
}
"""The same on a cluster that is started for the search, not on one that is joined.

The first sends the logs of Ray's processes to this one's, also to its stdout, where `--json` prints. The next two, the
second of which `ray job submit` sets, are of another cluster, and name folders that are only there. The fourth needs
certificates; the cluster listens on loopback and asks for a token. `_private/ray_constants.py` and
`_private/worker.py`. The two after it name a network between machines, for ranks that are on this one."""

HEAD_NODE = {"node:__internal_head__": 1e-4}
"""Resources of an actor that must run on the head node: `_common/constants.py`, `HEAD_NODE_RESOURCE_NAME`."""


RAY_EXEC = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
"""What `ray exec` sets for a command, whatever the machine: `autoscaler/_private/command_runner.py`."""


def started_by_ray_exec() -> bool:
    """Whether this process is limited to one thread by `ray exec`, and not by its user."""
    return all(os.environ.get(name) == value for name, value in RAY_EXEC.items())


def read_environment_again() -> None:
    """Give a Ray that this process has imported already what it read of the environment then, and what it has cached.

    So for a notebook that imports Ray, and for the second search of a process: the switches above are constants,
    `_private/ray_constants.py` and `_private/auto_init_hook.py`, and C++ keeps the mode of authentication and the token
    of the last cluster, `Config` and `AuthenticationTokenLoader` of `_raylet.pyx`, which
    `_private/authentication_test_utils.py` resets in this order. A Ray that is not imported is left so.

    That no call starts or joins a cluster by itself stays so to the end of the process, whatever the environment says.
    """
    if "ray" not in sys.modules:
        return
    from ray._private import auto_init_hook, ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    auto_init_hook.enable_auto_connect = False
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(name, not ray_constants.IS_WINDOWS_OR_OSX)
    Config.initialize("")  # first: a thread that asks for a token while none is set would end the process
    AuthenticationTokenLoader.instance().reset_cache()


MAX_TEMP_DIR_BYTES = 32
"""Longest name of a temporary folder for Ray: the paths of its sockets are up to 66 bytes longer, and the path of a
socket has at most 107."""

OWN_TEMP_DIR_BYTES = len("/ferray-12345678")
"""What `tempfile` adds to the parent of a folder for a search."""

SHORT_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")
"""Where Ray's temporary folder is made if that of the user, such as `TMPDIR`, has too long a name."""


def short_parent(usual: str) -> str:
    """The parent of Ray's temporary folder: the usual one, or one with a shorter name that can be written.

    Ray itself would start in the usual one, and fail.

    Args:
        usual: Absolute path.
    """

    def is_short(folder: str) -> bool:
        return len(os.fsencode(folder)) + OWN_TEMP_DIR_BYTES <= MAX_TEMP_DIR_BYTES

    others = (one for one in SHORT_PARENTS if os.path.isdir(one) and os.access(one, os.W_OK | os.X_OK))
    return usual if is_short(usual) else next(others, usual)


def temp_dir_option(folder: str) -> dict[str, str]:
    """The hidden option of `ray.init` for its temporary folder; empty where the folder's name is too long.

    Ray would leave some megabytes for each search in a folder that all users of the machine share. `init` in
    `_private/worker.py` lists `_temp_dir` among its unstable options.

    Args:
        folder: Absolute path.
    """
    return {"_temp_dir": folder} if len(os.fsencode(folder)) <= MAX_TEMP_DIR_BYTES else {}


@contextmanager
def ended_if_not_started() -> Iterator[None]:
    """Around `ray.init`: if it fails, what it has started is ended.

    `init` in `_private/worker.py` names its `Node` to `ray.shutdown` only when that is complete, but the processes are
    started while it is made: `_private/node.py`, `Node.start_head_processes` and `Node.kill_all_processes`.
    """
    from ray._private.node import Node

    begun: list[Any] = []
    start = Node.start_head_processes

    def start_and_note(node: Any) -> None:
        begun.append(node)
        start(node)

    with _replaced(Node, start_head_processes=start_and_note):
        try:
            yield
        except BaseException:
            for node in begun:
                node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
            raise


@contextmanager
def own_signal_handlers() -> Iterator[None]:
    """Around `ray.init`: the process keeps its handlers, during the block and after it; only the main thread has any.

    Ray replaces that of SIGTERM twice: by one in Python that exits without a message (`_private/utils.py`,
    `set_sigterm_handler`, which `_private/worker.py` calls), and by one in C++ that prints a stack.
    """
    import ray._private.utils

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in numbers if in_main}
    try:
        with _replaced(ray._private.utils, set_sigterm_handler=lambda handler: None):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def draining_nodes() -> list[str]:
    """Ids of the nodes that are about to leave the cluster: drained by a person, or preempted.

    No public call says so. Ray Train's watcher (ray#63807) asks the same: `_private/state.py`, `get_draining_nodes`.
    """
    import ray

    return list(ray._private.state.state.get_draining_nodes())


def free_resources() -> dict[str, dict[str, float]]:
    """What nobody holds, by node and resource; some hundred milliseconds old.

    `ray.available_resources` says so of the whole cluster only: `_private/state.py`, `available_resources_per_node`.
    """
    import ray

    return dict(ray._private.state.available_resources_per_node())


NODE_ID_LABEL = "ray.io/node-id"
"""The label with its id that Ray gives every node: `_raylet.pyx`, `RAY_NODE_ID_KEY`."""


def autoscaler_config() -> dict[str, Any] | None:
    """The configuration of the autoscaler; None where none is running. Call it on the head node.

    Ray has no call for it: no autoscaler of the open source fills in what `get_cluster_config` of `_private/state.py`
    reads. The monitor, a process of the head, is the autoscaler where its command names a file, and only looks on where
    it names none: `_private/services.py`, `start_monitor`.
    """
    import yaml

    option = "--autoscaling-config="
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        if not any(word.endswith("/monitor.py") for word in words):
            continue
        for word in words:
            if word.startswith(option):
                file = Path(word.removeprefix(option)).expanduser()  # no shell expands a `~` within a word
                config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
                return config
    return None


def launching_nodes() -> list[str]:
    """What the autoscaler says of the nodes that it is starting, and of those that it could not start: one line each.

    The two autoscalers tell it in two places: `autoscaler/v2/sdk.py`, `get_cluster_status`, and the text that the first
    one keeps in the cluster's store, `autoscaler/_private/monitor.py`.
    """
    import json

    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    lines = []
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        for request in status.pending_launches:
            lines.append(f"the autoscaler starts {request.count} x {request.ray_node_type_name}")
        starting = Counter((node.ray_node_type_name, node.details) for node in status.pending_nodes)
        for (kind, details), num in starting.items():
            lines.append(f"starting: {num} x {kind}{f' ({details})' if details else ''}")
        for request in status.failed_launches:
            lines.append(f"a node of type {request.ray_node_type_name} could not be started: {request.details}")
        return lines
    report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}").get("autoscaler_report") or {}
    for kind, num in (report.get("pending_launches") or {}).items():
        lines.append(f"the autoscaler starts {num} x {kind}")
    for address, kind, state in report.get("pending_nodes") or ():
        lines.append(f"the node {address} of type {kind} is starting ({state})")
    for address, kind in report.get("failed_nodes") or ():
        lines.append(f"the node {address} of type {kind} could not be started")
    return lines


def set_rungs(scheduler: Any, rungs: Sequence[int]) -> None:
    """Make Tune's successive halving judge at these epochs and no others, before it knows any trial.

    Its arguments allow only the powers of `reduction_factor` times `grace_period`; W&B rounds such numbers, and counts
    down from `max_iter`. `tune/schedulers/async_hyperband.py`: a bracket keeps `_rungs`, from the last to the first,
    each an epoch with the scores that were reported at it.

    Args:
        scheduler: An `AsyncHyperBandScheduler` with one bracket.
        rungs: Epochs, in ascending order.
    """
    (bracket,) = scheduler._brackets
    bracket._rungs = [(rung, {}) for rung in reversed(rungs)]


@contextmanager
def patched_tune(make_manager: Callable[[], Any]) -> Iterator[None]:
    """While the block runs, Ray Tune starts no actors, keeps no snapshot and caches its registry.

    - `tune/execution/tune_controller.py`, `RayActorManager`: Tune starts an actor for each trial, a process of some
      115 MB on the head, which a trial that trains nothing does not need. Its controller makes this object once, and
      calls its methods.
    - `tune/execution/tune_controller.py`, `_mark_trial_to_checkpoint`: at the end of a run Tune writes a snapshot of
      all trials (ray#11233), a millisecond a trial, and keeps its texts; a search goes on from its own journal. A trial
      that is never marked is in no snapshot.
    - `tune/registry.py`, `_global_registry`: Tune asks the cluster's store for the class of the trials three times for
      each trial, 2 ms in all, and unpickles it each time; the value changes only by `register` or `unregister`.

    Args:
        make_manager: Makes what stands in for a `RayActorManager`: `ferray.search.tune.proxies.Proxies`.
    """
    from ray.tune import registry
    from ray.tune.execution import tune_controller

    with (
        _replaced(tune_controller, RayActorManager=lambda resource_manager: make_manager()),
        _replaced(tune_controller.TuneController, _mark_trial_to_checkpoint=lambda self, trial: None),
        _replaced(registry._global_registry, **_cached(registry._global_registry)),
    ):
        yield


def _cached(registry: Any) -> dict[str, Callable[..., Any]]:
    """The methods of Tune's registry, with a cache of the values that were read."""
    values: dict[tuple[str, str], Any] = {}
    read, contains, register, unregister = registry.get, registry.contains, registry.register, registry.unregister

    def get_cached(category: str, key: str) -> Any:
        if (category, key) not in values:
            values[category, key] = read(category, key)
        return values[category, key]

    def contains_cached(category: str, key: str) -> bool:
        return (category, key) in values or bool(contains(category, key))

    def register_anew(category: str, key: str, value: Any) -> None:
        register(category, key, value)
        values.pop((category, key), None)

    def unregister_cached(category: str, key: str) -> None:
        unregister(category, key)
        values.pop((category, key), None)

    return {
        "get": get_cached,
        "contains": contains_cached,
        "register": register_anew,
        "unregister": unregister_cached,
    }


@contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Set attributes of a module, class or object while the block runs."""
    before = {name: vars(owner)[name] for name in values if name in vars(owner)}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)
