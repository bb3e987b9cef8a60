"""How far a search is, as one value: what its own terminal and `ferray report watch` show.

The driver makes it of what it observes and writes it into the folder; a reader without it makes one of the records.
Both are drawn by `ferray.report.watch.drawing`. All texts are one printable line: the folder may be anybody's.

Begin at `SearchView`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ferray.recipe import MetricName
from ferray.records.trial import State

Phase = Literal["starting", "training", "concluding", "finished", "interrupted", "failed", "silent", "lost"]
"""`silent`: nothing new is written, and nobody can say why; `lost`: its process is gone and has reported no end."""

OVER: frozenset[Phase] = frozenset({"finished", "interrupted", "failed", "lost"})
"""Phases in which nothing more will come."""


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


Shown = Annotated[str, Field(max_length=2000), AfterValidator(_printable)]
_Number = Annotated[int, Field(ge=0, le=10**9)]
_Seconds = Annotated[float, Field(ge=0)]
_CHECKED = ConfigDict(extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class TrialView:
    """One trial."""

    number: _Number
    state: State
    num_epochs: _Number
    max_epochs: _Number
    score: float | None = None
    """The monitored metric of its best epoch; None before the first."""
    best_epoch: _Number | None = None
    settings: Annotated[dict[Shown, Shown], Field(max_length=100)] = Field(default_factory=dict)
    """Those that are searched, as they are shown."""
    activity: Shown = ""
    """What its worker group does, `training` or a text on features; empty while it waits for one."""
    left_s: _Seconds | None = None
    """Seconds that it still takes, if it is not stopped."""
    reason: Shown = ""
    """Why it failed or was stopped."""


_Trials = Annotated[tuple[TrialView, ...], Field(max_length=1000)]


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class SearchView:
    """One search at one moment."""

    name: Shown
    metric: MetricName | None = None
    """What ranks trials; None where that cannot be read."""
    maximize: bool = True
    columns: tuple[Shown, ...] = ()
    """Settings in which the trials differ, the most important first."""
    phase: Phase = "starting"
    doing: Shown = ""
    """What it does in this phase, or how it ended."""
    waits: Shown = ""
    """What it waits for and since when, such as `for a node with 1 CPU since 12:03`; empty if for nothing."""
    way_out: Shown = ""
    """A command that goes on with it, where it has not come to its end."""
    message: Shown = ""
    """The last message."""
    message_at: float | None = None
    """When that was, in seconds since 1970."""
    total: _Number | None = None
    """Trials in all; None if unknown."""
    num_ended: _Number = 0
    """Trials that have ended, in this session or before."""
    num_stopped: _Number = 0
    num_failed: _Number = 0
    num_epochs: _Number = 0
    """Epochs of this session."""
    epochs_per_min: _Seconds | None = None
    """Of all worker groups together, features not counted; None before there are any."""
    began: float = 0.0
    """When this session began, in seconds since 1970."""
    at: float = 0.0
    """When this was so, in seconds since 1970."""
    left_s: _Seconds | None = None
    """Seconds until the search ends; None where that is not known yet."""
    new_points_s: float | None = None
    """Seconds in which further points are begun, 0 or less for no more; None without a limit of time."""
    price: _Seconds | None = None
    """Of an hour, in the currency of whoever gave it."""
    running: _Trials = ()
    """Trials that have begun and not ended, by number."""
    best: _Trials = ()
    """Trials that have ended and not failed, best first, as many as are worth a line."""
    stopped: _Trials = ()
    """Those that the scheduler has stopped last, the newest first."""
    failed: _Trials = ()
    """Those that have failed last, the newest first."""

    @property
    def spent_s(self) -> float:
        """Seconds of this session."""
        return max(0.0, self.at - self.began)

    @property
    def leader(self) -> TrialView | None:
        """The trial with the best score so far, running or not; None before the first epoch."""
        scored = [trial for trial in (*self.best, *self.running) if trial.score is not None]
        return min(scored, key=self._loss, default=None)

    def _loss(self, trial: TrialView) -> float:
        assert trial.score is not None
        return -trial.score if self.maximize else trial.score
