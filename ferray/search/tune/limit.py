"""A limit of time for a search: no point is begun after it, and nothing that has begun is cut off.

The journal of a search that ran out of time is that of a search of fewer points, so it can be resumed as any other.
Begin at `UntilDeadline`.
"""

import time
from collections.abc import Callable
from typing import Literal

from ferray.records.events import EndState
from ferray.search.history.points import Suggestion
from ferray.search.tune.loop import Decider


class UntilDeadline:
    """A decider that begins no point once the time is up; the first one is begun in any case, or nothing would win.

    Args:
        decider: Decides as long as there is time.
        deadline: By `now`; None for no limit.
        folds: Trials of a point, which are begun together.
        now: The clock.
    """

    def __init__(
        self, decider: Decider, deadline: float | None, *, folds: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._decider = decider
        self._deadline = deadline
        self._folds = folds
        self._now = now
        self._last: int | None = None  # number of the trial that was begun last
        self.has_refused = False
        """Whether a point was not begun because the time was up."""

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""
        ends_point = self._last is not None and (self._last + 1) % self._folds == 0
        if self._deadline is not None and ends_point and self._now() >= self._deadline:
            self.has_refused = True
            return "none left"
        suggestion = self._decider.suggest()
        if isinstance(suggestion, Suggestion):
            self._last = suggestion.number
        return suggestion

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        """As the decider."""
        return self._decider.report_epoch(number, epoch, score)

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """As the decider."""
        self._decider.end(number, state, epoch, score)
