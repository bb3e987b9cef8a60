"""What a sweep file says, checked: `Space`, its metric and its rule for stopping early."""

from dataclasses import dataclass
from typing import Literal

from ferray.recipe import Metric as MetricName
from ferray.space.parameter import Parameter

Method = Literal["grid", "random", "bayes"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What names the best trial."""

    name: MetricName
    goal: Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """W&B's `early_terminate`, as asynchronous successive halving reads it.

    Of the trials that reach epoch `min_iter * eta**k`, the best `1/eta` go on.
    """

    min_iter: int
    """The first epoch at which a trial can be stopped."""
    max_iter: int
    """Epochs of a trial that is never stopped."""
    eta: float
    """What both the epochs and the number of trials change by from rung to rung; above 1."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A sweep file, read and checked: every point of it is a recipe."""

    name: str
    """The file's, without its ending."""
    file: str
    """For messages: relative where that is shorter."""
    text: str
    """As given."""
    method: Method
    """All points; points drawn by the parameters' distributions; points suggested by TPE."""
    metric: Metric
    parameters: tuple[Parameter, ...]
    """In the file's order; nested ones by their last name."""
    run_cap: int | None = None
    """Trials at most; None for no limit."""
    early_terminate: Hyperband | None = None
    replicates: int = 1
    """Seeds that each of the best points is trained with before the winner is named; 1 names it at once."""
    finalists: int = 3
    """How many of the best points that are."""
    project: str | None = None
    """W&B project and entity that the file names; None for the defaults."""
    entity: str | None = None

    @property
    def folds(self) -> int:
        """Trials of a point, one a fold; 1 without cross-validation."""
        return next((int(one.value_at(0)) for one in self.parameters if one.name == "folds" and one.value_at(0)), 1)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters that can differ from trial to trial, in the file's order."""
        return tuple(parameter.name for parameter in self.parameters if parameter.searched)
