"""All that a run of Ray Train uses of Ray beyond what Ray documents; the rest is in `ferray.search.fleet.ray_patches`.

The same holds as there: each has its reason and the line of Ray's source that it relies on, paths are below `ray/`, as
of 2.60, importing this module imports and changes nothing, and `tests/search/fleet/test_ray_patches.py` names what a
release has dropped. What is patched is patched in the process of a `ferray.search.fleet.host`, which runs nothing else.

Begin at `trainer_class`.
"""

from typing import Any


def train_environment() -> dict[str, str]:
    """Variables of a process that runs Ray Train's controllers: what Ray gives a controller, and one log for all.

    Ray Train hands them on from process to process: `train/v2/_internal/constants.py`, `get_env_vars_to_propagate`. The
    second one of these here is what `_initialize_and_run_controller` of `train/v2/api/data_parallel_trainer.py` sets. A
    controller would redirect the log of its whole process into a file of its own.
    """
    from ray.train.v2._internal.constants import get_env_vars_to_propagate

    own = {"RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0", "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0"}
    return {**get_env_vars_to_propagate(), **own}


class NoSynchronization:
    """Stands in for the actor at which the workers of a group meet when they call `ray.train.report`.

    Ray Train starts one for each group, a process of some 110 MB: `train/v2/_internal/execution/worker_group`. Workers
    of a search report to the dispatcher and never meet there.
    """

    @classmethod
    def options(cls, **_: Any) -> type["NoSynchronization"]:
        """As of an actor class."""
        return cls

    @classmethod
    def remote(cls, **_: Any) -> "NoSynchronization":
        """As of an actor class."""
        return cls()


def without_synchronization() -> None:
    """From now on groups that controllers of this process start have no actor for synchronization; never put back."""
    from ray.train.v2._internal.execution.worker_group import state, worker_group

    vars(worker_group)["SynchronizationActor"] = NoSynchronization
    vars(state)["_shutdown_sync_actor"] = lambda actor: None


def trainer_class(placement_group: Any, *, with_process_group: bool) -> type[Any]:
    """A trainer class of Ray Train that starts no process but its workers.

    - Its controller runs in the thread that calls `fit`. Ray Train would start an actor for it:
      `train/v2/api/data_parallel_trainer.py`, `_initialize_and_run_controller`.
    - Its workers get a placement group that is there, and that stays when they end; the caller removes it. So it needs
      no actor that removes the group where the controller dies first (ray#58515, ray#65443), and workers that are
      started again get the same resources: `train/v2/_internal/execution/worker_group`, `_create_placement_group`.
    - It has no data sets, and no actor for them: `_create_default_callbacks` lists it.
    - It asks no autoscaler: `ferray.search.fleet.places` does. Ray Train would ask through an actor that outlives the
      search, as its requests do by three minutes, and that hangs for good where its node is lost (since ray#61703):
      `train/v2/_internal/execution/scaling_policy`, `after_controller_start`.

    Args:
        placement_group: A bundle for each worker.
        with_process_group: Whether the workers need torch's process group; only then is torch imported.
    """
    import asyncio

    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
    from ray.train.v2._internal.execution.worker_group import WorkerGroup
    from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    base: type[Any] = DataParallelTrainer
    if with_process_group:
        from ray.train.torch import TorchTrainer

        base = TorchTrainer

    class GroupSize(FixedScalingPolicy):  # type: ignore[misc]
        """As many workers as the group has places, which are there."""

        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    class KeptPlacementGroup(DefaultPlacementGroupHandle):  # type: ignore[misc]
        """Is not removed with the workers."""

        def shutdown(self) -> None:
            pass

    class PlacedWorkerGroup(WorkerGroup):  # type: ignore[misc]
        """Workers in a placement group that is there."""

        def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> Any:
            return KeptPlacementGroup(placement_group)

    class GroupController(TrainController):  # type: ignore[misc]
        """Watches one worker group."""

        worker_group_cls = PlacedWorkerGroup

    class GroupTrainer(base):  # type: ignore[misc]
        """Runs one worker group."""

        def _create_default_callbacks(self) -> list[Any]:
            unused = (DatasetsCallback, PlacementGroupCleanerCallback)
            return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            controller = GroupController(**{**arguments, "scaling_policy": GroupSize(self.scaling_config)})
            asyncio.run(controller.run())
            return controller.get_result()

    return GroupTrainer


def original_error(error: Exception) -> Exception:
    """The error that Ray Train has wrapped in one of its own, which says only that a worker died, or did not start.

    `train/v2/_internal/exceptions.py`: `WorkerHealthCheckFailedError` and `UserExceptionWithTraceback`;
    `train/v2/api/exceptions.py`: `ControllerError`, in which may be a `RayTaskError` of `exceptions.py`.
    """
    for attribute in ("controller_failure", "health_check_failure", "_base_exc", "cause"):
        inner = getattr(error, attribute, None)
        error = inner if isinstance(inner, Exception) else error
    return error
