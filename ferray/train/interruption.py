"""Leaving a run in the middle of an epoch, when its caller wants that.

Begin at `InterruptionPoller`.
"""

import time
from collections.abc import Callable

from ferray.train.ranks import Ranks

POLL_INTERVAL_S = 1.0
"""Approximate time between two questions to the caller, between training steps."""

FEATURE_POLL_INTERVAL_S = 1.0
"""The same while an epoch's features are computed, before its first step, and while it is validated, after its last."""


class Interrupted(Exception):  # noqa: N818 -- not an error: what was trained is kept, and the same call continues there
    """Training was left in the middle of an epoch because the caller asked for it."""


class InterruptionPoller:
    """Asks rank 0's caller about once a second whether to stop.

    Between steps all ranks must decide alike, so rank 0's answer is broadcast, but only at steps that all ranks know:
    the other steps cost no exchange.

    Args:
        is_interrupted: The caller's function; None for never.
        ranks: All of them call `should_stop` before the same steps.
    """

    def __init__(self, is_interrupted: Callable[[], bool] | None, ranks: Ranks) -> None:
        self._is_interrupted, self._ranks = is_interrupted, ranks
        self._is_used = ranks.from_first(is_interrupted is not None)
        self._asked_at = self._shown_at = time.perf_counter()
        self._steps_since, self._steps_between = 0, 1

    def show_progress(self) -> None:
        """Ask without heeding the answer, so that the caller sees that this rank has not come to a stop.

        For work that is not left in its middle; the next step asks again.
        """
        now = time.perf_counter()
        if self._is_interrupted is not None and now - self._shown_at >= FEATURE_POLL_INTERVAL_S:
            self._shown_at = now
            self._is_interrupted()

    def raise_if_interrupted(self) -> None:
        """Raise if this rank's caller wants to stop; to be called often during long work that each rank does by itself.

        Raises:
            Interrupted: This rank's caller wants to stop.
        """
        now = time.perf_counter()
        if self._is_interrupted is not None and now - self._asked_at >= FEATURE_POLL_INTERVAL_S:
            self._asked_at = now
            if self._is_interrupted():
                raise Interrupted

    def should_stop(self) -> bool:
        """Whether to leave training before the step that is about to begin; the same on all ranks."""
        self._steps_since += 1
        if not self._is_used or self._steps_since < self._steps_between:
            return False
        stop, steps = False, 1
        with self._ranks.together():
            if self._is_interrupted is not None and self._ranks.is_first:
                stop = self._is_interrupted()
                now = time.perf_counter()
                # As many steps as take `POLL_INTERVAL_S`, at most twice as many as before.
                steps = int(self._steps_between * POLL_INTERVAL_S / max(now - self._asked_at, 1e-9))
                steps, self._asked_at = max(1, min(steps, 2 * self._steps_between)), now
        stop, self._steps_between = self._ranks.from_first((stop, steps))
        self._steps_since = 0
        return stop
