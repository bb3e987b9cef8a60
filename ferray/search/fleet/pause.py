"""Times in which no worker group trains: what is missing is named, and since when. Begin at `Pause`."""

import time
from collections.abc import Callable
from datetime import datetime

from ferray.wording import duration_text

NAMED_AFTER_S = 30.0
"""No search is silent for longer while nobody trains."""


class Pause:
    """Since when no group has had a trial.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = clock()

    def note(self, is_training: bool) -> None:
        """Whether a group has a trial at this moment."""
        if is_training:
            self._since = self._clock()

    @property
    def is_long(self) -> bool:
        """Whether none has had one for `NAMED_AFTER_S`."""
        return self._clock() - self._since >= NAMED_AFTER_S

    def describe(self, what: Callable[[], str]) -> str:
        """The pause in words.

        Args:
            what: Called for what is missing.
        """
        since = datetime.fromtimestamp(self._since)
        return f"{what()}; nobody trains since {since:%H:%M:%S}, {duration_text(self._clock() - self._since)} ago"
