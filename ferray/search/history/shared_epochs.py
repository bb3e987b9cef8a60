"""Trials that begin where a shorter one ended.

Two points that differ only in the number of epochs share their first epochs, number by number, unless the learning
rate of an epoch depends on how many there will be: a cosine falls to its end. So the longer one goes on from the
checkpoint of the shorter one, if that is done when the longer one begins. Where a scheduler may stop the longer one
before those epochs, it begins anew, or its best checkpoint might be of an epoch that it never came to.

Begin at `Prefixes`.
"""

import hashlib
import json
import logging

from ferray.recipe import Recipe, to_values
from ferray.records.run import Run
from ferray.records.trial import EpochResult, TrialRecord

log = logging.getLogger(__name__)


class Prefixes:
    """The trials of a search, by all of their recipe but the epochs; an observer of the tuner.

    Args:
        run: What is on record of it counts from the start.
        decides: Whether a scheduler may stop trials early.
    """

    def __init__(self, run: Run, *, decides: bool) -> None:
        self._decides = decides
        self._known: dict[bytes, dict[int, str]] = {}  # recipe without epochs -> epochs -> trial id
        self._said = False
        for record in run.read_trials():
            self.trial_started(record)

    def trial_started(self, record: TrialRecord) -> None:
        """A trial that longer ones may go on from."""
        self._known.setdefault(_but_epochs(record.recipe), {})[record.recipe.epochs] = record.trial_id

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """Of no interest."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Of no interest."""

    def shorter(self, recipe: Recipe) -> tuple[str, ...]:
        """The trials that a recipe's run may go on from, once they are done, the longest first.

        Args:
            recipe: Settled.
        """
        known = self._known.get(_but_epochs(recipe), {})
        found = tuple(known[epochs] for epochs in sorted(known, reverse=True) if epochs < recipe.epochs)
        reason = ""
        if self._decides:
            reason = "a longer run may be stopped before its last one, and"
        elif recipe.schedule == "cosine":
            reason = "on a cosine: they are not those of a longer run, which"
        if found and reason:
            level = logging.INFO if self._said else logging.WARNING
            log.log(level, "trial %s has fewer epochs, but %s begins anew", found[0], reason)
            self._said = True
            return ()
        return found


def _but_epochs(recipe: Recipe) -> bytes:
    values = to_values(recipe)
    del values["epochs"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()  # a search may have many thousands
