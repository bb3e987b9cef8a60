"""A function of the user's that is called after every epoch of a search. Begin at `EpochCallback`."""

import dataclasses
import threading
from collections.abc import Callable

from ferray.records.trial import EpochResult, TrialRecord

OnEpoch = Callable[[TrialRecord, EpochResult], object]
"""Gets the trial with its epochs so far, and the last of them."""


class EpochCallback:
    """An observer of `ferray.search.tune.loop` that calls a function in the process of the search.

    An error of the function ends the search as Ctrl-C does: workers write their checkpoints, and nothing is lost. Who
    wants to end a search raises KeyboardInterrupt.

    Args:
        function: The user's.
        stop: Set where the function fails.
    """

    def __init__(self, function: OnEpoch, stop: threading.Event) -> None:
        self._function = function
        self._stop = stop
        self._running: dict[str, TrialRecord] = {}
        self.error: BaseException | None = None
        """What the function raised; it is not called again."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins or goes on."""
        self._running[record.trial_id] = record

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """Call the function, unless it has failed."""
        record = self._running[trial_id]
        record = self._running[trial_id] = dataclasses.replace(record, epochs=(*record.epochs, row))
        if self.error is not None:
            return
        try:
            self._function(record, row)
        except BaseException as error:  # noqa: BLE001  raised by the caller once the search has ended in order
            self.error = error
            self._stop.set()

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        self._running.pop(record.trial_id, None)
