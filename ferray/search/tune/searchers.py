"""Ray Tune's searchers and schedulers for a space, without Tune's loop. Begin at `make_searcher`."""

from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from ferray.search.fleet.ray_patches import set_rungs
from ferray.space import Parameter, Space


@dataclass(frozen=True)
class NamedTrial:
    """All that asynchronous successive halving reads of a Tune trial."""

    trial_id: str


def make_scheduler(space: Space) -> AsyncHyperBandScheduler | None:
    """W&B's rungs in Tune's asynchronous successive halving with one bracket; None if nothing is stopped early."""
    halving = space.early_terminate
    if halving is None:
        return None
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode=_mode(space),
        max_t=halving.max_epochs,
        reduction_factor=halving.eta,
        brackets=1,
    )
    set_rungs(scheduler, halving.rungs)
    return scheduler


def make_searcher(space: Space, *, seed: int) -> Searcher | None:
    """Optuna's TPE for `bayes`; None where the points are known in advance."""
    if space.method != "bayes":
        return None
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(space=distributions_of(space), metric="score", mode=_mode(space), seed=seed)


def distributions_of(space: Space) -> dict[str, Any]:
    """Optuna's distribution of each parameter that is searched."""
    return {one.name: _distribution(one) for one in space.parameters if one.searched}


def _mode(space: Space) -> str:
    return "max" if space.metric.goal == "maximize" else "min"


def _distribution(parameter: Parameter) -> Any:
    """A parameter as Optuna's distribution; steps on a logarithmic range are taken afterwards."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high, step = parameter.low, parameter.high, None if parameter.log else parameter.step
    if parameter.kind in ("value", "values"):
        return CategoricalDistribution(parameter.values)
    assert low is not None
    assert high is not None
    if parameter.kind == "int":
        return IntDistribution(int(low), int(high), log=parameter.log, step=1 if step is None else int(step))
    return FloatDistribution(float(low), float(high), log=parameter.log, step=None if step is None else float(step))
