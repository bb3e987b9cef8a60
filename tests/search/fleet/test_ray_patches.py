"""What ferray uses of Ray beyond its documentation: it is still there, named in one module, and put back afterwards."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune import registry
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

import ferray
from ferray.search.fleet import ray_patches, train_patches
from ferray.search.fleet.ray_patches import patched_tune, set_rungs, temp_dir_option
from ferray.search.fleet.train_patches import original_error

KEY = ("__test__", "of ferray")
"""A category that Tune's registry accepts, and a name in it."""

WAY_OUT = (
    "\n  Find in Ray's source what took its place and change ray_patches.py or train_patches.py; keep the old way there"
    " for as long as the lowest version in pyproject.toml needs it."
    "\n  Where nothing took its place, delete it there: its docstring says what a search then loses."
    "\n  Until then lower the upper bound of ray in pyproject.toml, and its version in constraints.txt."
)


def find(path: str) -> Any:
    """An object of Ray by its dotted path: the longest part that is a module, then attributes."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise AttributeError(path)


def takes(*names: str) -> Callable[[Any], bool]:
    """A function that can be called with these arguments, in this order."""

    def check(function: Any) -> bool:
        parameters = list(inspect.signature(function).parameters.values())
        further = parameters[len(names) :]
        return [one.name for one in parameters[: len(names)]] == list(names) and all(
            one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in further
        )

    return check


def mentions(*words: str) -> Callable[[Any], bool]:
    """A module or function whose source has these words."""
    return lambda found: all(word in inspect.getsource(found) for word in words)


def is_subclass_of(path: str) -> Callable[[Any], bool]:
    return lambda found: issubclass(found, find(path))


def is_a(kind: type) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, kind)


def equals(value: object) -> Callable[[Any], bool]:
    return lambda found: bool(found == value)


def equals_object(path: str) -> Callable[[Any], bool]:
    return lambda found: found is find(path)


TRAINER = "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer"
CALLBACKS = "ray.train.v2._internal.callbacks"
SCALING = "ray.train.v2._internal.execution.scaling_policy.FixedScalingPolicy"
HALVING = "ray.tune.schedulers.async_hyperband"
CONTROLLER = "ray.tune.execution.tune_controller.TuneController"
GROUP = "ray.train.v2._internal.execution.worker_group"
TRAIN_CONTROLLER = "ray.train.v2._internal.execution.controller.TrainController"
REGISTRY = "ray.tune.registry._global_registry"


@pytest.mark.parametrize(
    "path, is_as_used, used_by",
    [
        ("ray._private.auto_init_hook", mentions("RAY_ENABLE_AUTO_CONNECT"), "NO_AUTO_CONNECT"),
        ("ray._private.ray_constants", mentions("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"), "LOOPBACK_ONLY"),
        ("ray._private.services.get_node_ip_address", mentions("ENABLE_RAY_CLUSTER"), "LOOPBACK_ONLY"),
        ("ray.train.v2._internal.constants", mentions("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"), "TRAIN_VARIABLES"),
        ("ray.tune.tune", mentions("RAY_AIR_LOCAL_CACHE_DIR"), "WITHOUT_EFFECT"),
        ("ray.train.v2._internal.constants", mentions('"RAY_TRAIN_V2_ENABLED"'), "WITHOUT_EFFECT"),
        ("ray._private.ray_constants", mentions('"RAY_LOG_TO_STDERR"'), "WITHOUT_EFFECT_HERE"),
        ("ray._private.ray_constants", mentions('"RAY_RUNTIME_ENV_HOOK"'), "WITHOUT_EFFECT_HERE"),
        ("ray._private.runtime_env.constants", mentions("RAY_JOB_CONFIG_JSON_ENV_VAR"), "WITHOUT_EFFECT_HERE"),
        ("ray.autoscaler._private.command_runner", mentions("OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore"), "RAY_EXEC"),
        ("ray._common.constants.HEAD_NODE_RESOURCE_NAME", equals("node:__internal_head__"), "HEAD_NODE"),
        ("ray._private.auto_init_hook.enable_auto_connect", is_a(bool), "read_environment_again"),
        ("ray._private.ray_constants.ENABLE_RAY_CLUSTER", is_a(bool), "read_environment_again"),
        ("ray._private.ray_constants.IS_WINDOWS_OR_OSX", is_a(bool), "read_environment_again"),
        ("ray._private.ray_constants.env_bool", takes("key", "default"), "read_environment_again"),
        ("ray._raylet.Config.initialize", callable, "read_environment_again"),
        ("ray._raylet.AuthenticationTokenLoader.reset_cache", callable, "read_environment_again"),
        ("ray._private.worker.init", mentions('"_temp_dir"'), "temp_dir_option"),
        ("ray._private.node.Node.start_head_processes", takes("self"), "ended_if_not_started"),
        ("ray._private.node.Node.kill_all_processes", mentions("allow_graceful", "wait"), "ended_if_not_started"),
        ("ray._private.utils.set_sigterm_handler", takes("sigterm_handler"), "own_signal_handlers"),
        ("ray._private.worker", mentions("ray._private.utils.set_sigterm_handler("), "own_signal_handlers"),
        ("ray._private.state.state.get_draining_nodes", takes(), "draining_nodes"),
        ("ray._private.state.available_resources_per_node", takes(), "free_resources"),
        ("ray._raylet.RAY_NODE_ID_KEY", equals(ray_patches.NODE_ID_LABEL), "NODE_ID_LABEL"),
        ("ray._private.services.start_monitor", mentions('"--autoscaling-config="', "monitor.py"), "autoscaler_config"),
        ("ray._private.ray_constants.DEBUG_AUTOSCALING_STATUS", is_a(str), "launching_nodes"),
        ("ray.autoscaler._private.monitor", mentions("autoscaler_report", "AUTOSCALING_STATUS"), "launching_nodes"),
        ("ray.autoscaler.v2.sdk.get_cluster_status", takes("gcs_address"), "launching_nodes"),
        ("ray.autoscaler.v2.utils.is_autoscaler_v2", takes("fetch_from_server"), "launching_nodes"),
        ("ray.experimental.internal_kv._internal_kv_get", takes("key"), "launching_nodes"),
        (f"{TRAINER}._create_default_callbacks", takes("self"), "trainer_class"),
        ("ray.train.torch.TorchTrainer", is_subclass_of(TRAINER), "trainer_class"),
        (f"{CALLBACKS}.datasets.DatasetsCallback", inspect.isclass, "trainer_class"),
        (f"{CALLBACKS}.placement_group_callback.PlacementGroupCleanerCallback", inspect.isclass, "trainer_class"),
        (f"{HALVING}.AsyncHyperBandScheduler", mentions("self._brackets = ["), "set_rungs"),
        (f"{HALVING}._Bracket.on_result", mentions("for milestone, recorded in self._rungs:"), "set_rungs"),
        ("ray.train.v2._internal.constants.get_env_vars_to_propagate", takes(), "train_environment"),
        ("ray.train.v2._internal.constants", mentions("_ENABLE_CONTROLLER_STRUCTURED_LOGGING"), "train_environment"),
        (f"{TRAINER}._initialize_and_run_controller", mentions("controller.run", "get_result"), "trainer_class"),
        (f"{TRAIN_CONTROLLER}.worker_group_cls", equals_object(f"{GROUP}.WorkerGroup"), "trainer_class"),
        (SCALING, takes("scaling_config"), "trainer_class"),
        (f"{SCALING}.after_controller_start", takes("self", "train_run_context"), "trainer_class"),
        (f"{TRAIN_CONTROLLER}.run", inspect.iscoroutinefunction, "trainer_class"),
        (f"{TRAIN_CONTROLLER}.get_result", takes("self"), "trainer_class"),
        (f"{GROUP}.WorkerGroup._create_placement_group",
         takes("self", "scaling_config", "worker_group_context"), "trainer_class"),
        (f"{GROUP}.placement_group_handle.DefaultPlacementGroupHandle", takes("pg"), "trainer_class"),
        (f"{GROUP}.placement_group_handle.DefaultPlacementGroupHandle.shutdown", takes("self"), "trainer_class"),
        (f"{GROUP}.worker_group.WorkerGroup._start_impl",
         mentions("SynchronizationActor.options(", ").remote("), "without_synchronization"),
        (f"{GROUP}.state._shutdown_sync_actor", takes("sync_actor"), "without_synchronization"),
        (f"{CONTROLLER}.__init__", mentions("RayActorManager(resource_manager=resource_manager)"), "patched_tune"),
        (f"{CONTROLLER}._mark_trial_to_checkpoint", takes("self", "trial"), "patched_tune"),
        (f"{CONTROLLER}._get_trial_checkpoints", takes("self"), "patched_tune"),
        (f"{REGISTRY}.get", takes("category", "key"), "patched_tune"),
        (f"{REGISTRY}.contains", takes("category", "key"), "patched_tune"),
        (f"{REGISTRY}.register", takes("category", "key", "value"), "patched_tune"),
        (f"{REGISTRY}.unregister", takes("category", "key"), "patched_tune"),
    ],
)  # fmt: skip
def test_every_private_name_of_ray_is_there_and_is_what_it_is_used_as(
    path: str, is_as_used: Callable[[Any], bool], used_by: str
) -> None:
    assert hasattr(ray_patches, used_by) or hasattr(train_patches, used_by)
    where = f"Ray {ray.__version__}: `{path}`, which `{used_by}` relies on,"
    try:
        found = find(path)
    except AttributeError:
        pytest.fail(f"{where} is gone.{WAY_OUT}")
    assert is_as_used(found), f"{where} has changed.{WAY_OUT}"


def test_the_watcher_of_preempted_nodes_can_be_turned_off_where_there_is_one() -> None:
    watchers = [module.name for module in pkgutil.iter_modules(find(CALLBACKS).__path__) if "preemption" in module.name]
    assert not watchers or mentions("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER")(find("ray.train.v2._internal.constants")), (
        f"Ray {ray.__version__} has {watchers}, which no variable turns off.{WAY_OUT}"
    )


@pytest.mark.parametrize("name", ["WorkerHealthCheckFailedError", "UserExceptionWithTraceback"])
def test_an_error_that_ray_train_has_wrapped_is_found(name: str) -> None:
    cause = ValueError("the cause")
    arguments = {"WorkerHealthCheckFailedError": ("died", cause), "UserExceptionWithTraceback": (cause, "a traceback")}
    wrapped = find(f"ray.train.v2._internal.exceptions.{name}")(*arguments[name])
    assert original_error(wrapped) is cause, f"Ray {ray.__version__}: {name} has changed.{WAY_OUT}"
    assert original_error(cause) is cause


def test_halving_asks_for_nothing_but_the_id_of_a_trial_and_for_no_controller() -> None:
    """`ferray.search.tune.decisions` gives it no more than that."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch", metric="score", mode="max", grace_period=1, max_t=3, reduction_factor=2, brackets=1
    )
    trials = [namedtuple("Trial", "trial_id")(name) for name in "abc"]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    answers = [
        scheduler.on_trial_result(None, trial, {"epoch": 1, "score": score})
        for trial, score in zip(trials, (0.9, 0.1, 0.2), strict=True)
    ]
    assert answers == [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.STOP]
    scheduler.on_trial_complete(None, trials[0], {"epoch": 3, "score": 0.9})
    scheduler.on_trial_error(None, trials[1])


def test_tunes_halving_judges_at_the_rungs_that_are_set() -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    scheduler = AsyncHyperBandScheduler(time_attr="epoch", metric="score", mode="max", max_t=26, reduction_factor=3)
    set_rungs(scheduler, (2, 8))
    trial = namedtuple("Trial", "trial_id")("a")
    scheduler.on_trial_add(None, trial)
    judged = []
    for epoch in range(1, 26):
        before = [len(scores) for _, scores in scheduler._brackets[0]._rungs]
        scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": 0.5})
        judged += [epoch] if [len(scores) for _, scores in scheduler._brackets[0]._rungs] != before else []
    assert judged == [2, 8], f"Ray {ray.__version__}: successive halving has changed.{WAY_OUT}"


def test_no_other_module_names_what_ray_does_not_document() -> None:
    private = re.compile(r"\bray\.(?:\w+\.)*(?:_(?!_)\w+|v2)\b|\bfrom ray\.data|[\"']_temp_dir|__internal_head__")
    package, allowed = Path(ferray.__file__).parent, {Path(ray_patches.__file__), Path(train_patches.__file__)}
    found = {
        str(file.relative_to(package)): names
        for file in package.rglob("*.py")
        if (names := private.findall(file.read_text())) and file not in allowed
    }
    assert found == {}


SNAPSHOT = """\
import importlib, pkgutil, sys, types
import ray, ray.train, ray.train.torch, ray.tune, ray.tune.search.optuna, ray.util.state
import ray.train.v2.api.data_parallel_trainer, ray.tune.execution.tune_controller, ray.data
from ray.tune import registry

def snapshot():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "ray":
            continue
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, types.ModuleType):  # a module that was imported later becomes an attribute
                found[name, attribute] = (id(value), repr(sorted(map(str, value))) if type(value) is set else "")
            if isinstance(value, type) and value.__module__.split(".")[0] == "ray":
                found |= {(name, attribute, one): id(what) for one, what in list(vars(value).items())}
    found["registry"] = sorted(vars(registry._global_registry))
    return found

loaded = set(sys.modules)
before = snapshot()
package = importlib.import_module("ferray.search")  # `ferray.search` is a function
for module in pkgutil.walk_packages(package.__path__, "ferray.search."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = {key: value for key, value in snapshot().items() if key == "registry" or key[0] in loaded}
IGNORED = {"__warningregistry__", "_abc_impl", "__abstractmethods__"}
changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key) and not IGNORED & {*key}]
print(len(before) > 10_000, changed)
"""


@pytest.mark.slow
def test_importing_the_search_changes_nothing_in_ray() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SNAPSHOT], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["True []"], done.stdout + done.stderr[-2000:]


@pytest.fixture
def patched() -> Iterator[None]:
    """Ray Tune as it is during a search; afterwards as it was."""
    changed = [tune_controller, TuneController, registry._global_registry]
    before = [dict(vars(owner)) for owner in changed]
    with patched_tune(lambda: "proxies"):
        yield
        registry._global_registry.unregister(*KEY)
    assert [dict(vars(owner)) for owner in changed] == before


@pytest.mark.usefixtures("patched")
def test_tunes_controller_is_given_proxies_in_place_of_a_manager_of_actors() -> None:
    assert tune_controller.RayActorManager(resource_manager=None) == "proxies"


@pytest.mark.usefixtures("patched")
def test_tunes_registry_keeps_a_value_until_another_is_registered() -> None:
    values = registry._global_registry
    assert not values.contains(*KEY)
    values.register(*KEY, ["first"])
    assert values.contains(*KEY)
    first = values.get(*KEY)
    assert first == ["first"]
    assert values.get(*KEY) is first, "not unpickled again"

    values.register(*KEY, ["second"])
    assert values.contains(*KEY)
    assert values.get(*KEY) == ["second"]

    values.unregister(*KEY)
    assert not values.contains(*KEY)


@pytest.mark.usefixtures("patched")
def test_tune_makes_no_snapshot_of_a_trial() -> None:
    controller = SimpleNamespace(_trials_to_cache=set(), _trial_metadata={})
    TuneController._mark_trial_to_checkpoint(controller, Trial("of ferray", stub=True, _setup_default_resource=False))
    assert TuneController._get_trial_checkpoints(controller) == {}


def test_a_temporary_folder_whose_name_is_too_long_for_a_socket_is_left_to_ray() -> None:
    assert temp_dir_option("/tmp/ferray-12345678") == {"_temp_dir": "/tmp/ferray-12345678"}
    assert temp_dir_option("/tmp/" + 40 * "x") == {}


@pytest.mark.parametrize("module", ["ray_patches", "train_patches"])
def test_the_modules_that_name_rays_internals_import_nothing_of_ray(module: str) -> None:
    code = f"import sys; import ferray.search.fleet.{module}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
