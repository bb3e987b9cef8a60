"""The trackers that a search is asked for beside W&B: TensorBoard's files, and MLflow. See `other_trackers`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ferray.search.plan import Plan
from ferray.tracking.mlflow import MlflowLog
from ferray.tracking.tensorboard import TensorBoardLog


@contextmanager
def other_trackers(
    plan: Plan, *, search_id: str, origin: Mapping[str, str]
) -> Iterator[list[TensorBoardLog | MlflowLog]]:
    """The trackers of a search; each is an observer of `ferray.search.tune.loop`.

    Args:
        plan: Names them.
        search_id: Unique to the search.
        origin: Of what space and data the search is.
    """
    with ExitStack() as stack:
        trackers: list[TensorBoardLog | MlflowLog] = []
        if plan.tensorboard:
            trackers.append(stack.enter_context(TensorBoardLog(plan.run)))
        if plan.mlflow is not None:
            log = MlflowLog(plan.mlflow, plan.run, search_id=search_id, tags=dict(origin))
            trackers.append(stack.enter_context(log))
        yield trackers
