"""The content of a sweep file, checked: `Space`, its metric and its rule for stopping early."""

from dataclasses import dataclass
from typing import Literal

from ferray.recipe import MetricName
from ferray.space.parameter import Parameter

Method = Literal["grid", "random", "bayes"]

ADAPTIVE: frozenset[Method] = frozenset({"bayes"})
"""Methods whose points are suggested while the search runs, by a searcher that learns from earlier ones."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric that ranks trials."""

    name: MetricName
    goal: Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """W&B's `early_terminate`, as settings of asynchronous successive halving.

    Of the trials that reach a rung, the best `1/eta` of those that were there before go on.
    """

    rungs: tuple[int, ...]
    """Epochs after which a trial can be stopped, in ascending order."""
    max_epochs: int
    """A trial of an earlier space that is continued ends here at the latest; trials of this space are not longer."""
    eta: float
    """Factor by which the trials become fewer from rung to rung; above 1."""

    def rungs_below(self, epochs: int) -> tuple[int, ...]:
        """Rungs that can stop a trial of so many epochs; one at its last epoch cannot."""
        return tuple(rung for rung in self.rungs if rung < epochs)


@dataclass(frozen=True, kw_only=True)
class Space:
    """A sweep file, read and checked: every point of it is a recipe."""

    name: str
    """The file's name without its suffix."""
    file: str
    """The file's path, for messages: relative where that is shorter."""
    text: str
    """The file's content."""
    method: Method
    """`grid`: all points; `random`: points drawn from the distributions; `bayes`: points suggested by TPE."""
    metric: Metric
    parameters: tuple[Parameter, ...]
    """In the file's order; nested ones by their own name."""
    run_cap: int | None = None
    """The largest number of points; None for no limit."""
    early_terminate: Hyperband | None = None
    replicates: int = 1
    """Seeds that each of the best points is trained with before the winner is chosen; 1 for no such finals."""
    finalists: int = 3
    """Points in the finals."""
    title: str | None = None
    """W&B's name of the sweep in the file; None for that of the search."""
    project: str | None = None
    """W&B project and entity in the file, for the search's runs there; None for the defaults."""
    entity: str | None = None

    @property
    def is_adaptive(self) -> bool:
        """Whether the points are not known before the search runs."""
        return self.method in ADAPTIVE

    @property
    def folds(self) -> int:
        """Trials of a point, one per fold; 1 without cross-validation."""
        return next((int(one.value_at(0)) for one in self.parameters if one.name == "folds" and one.value_at(0)), 1)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters that can differ from trial to trial, in the file's order."""
        return tuple(parameter.name for parameter in self.parameters if parameter.searched)
