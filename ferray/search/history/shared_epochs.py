"""Trials that begin where a shorter one ended.

Two points that differ only in the number of epochs have the same first epochs, unless the learning rate of an epoch
depends on how many there will be, as on a cosine schedule. So the longer trial goes on from the checkpoint of the
shorter one, if that is done when the longer one begins. Where a scheduler may stop the longer one before those epochs,
it is trained from its first epoch: otherwise its best checkpoint might be of an epoch that it never reached.

Begin at `SharedEpochs`.
"""

import hashlib
import json
import logging
from collections.abc import Iterable

from ferray.recipe import Recipe, to_values
from ferray.records.trial import EpochResult, TrialRecord

log = logging.getLogger(__name__)


class SharedEpochs:
    """The trials of a search by all of their recipe but the epochs; an observer of `ferray.search.tune.loop`.

    Args:
        records: Trials on record.
        has_scheduler: Whether trials may be stopped early.
    """

    def __init__(self, records: Iterable[TrialRecord], *, has_scheduler: bool) -> None:
        self._has_scheduler = has_scheduler
        self._known: dict[bytes, dict[int, str]] = {}  # recipe without epochs -> epochs -> trial id
        self._has_warned = False
        for record in records:
            self.trial_started(record)

    def trial_started(self, record: TrialRecord) -> None:
        """Longer trials may go on from this one."""
        self._known.setdefault(_without_epochs(record.recipe), {})[record.recipe.epochs] = record.trial_id

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """Nothing to do: the worker that begins a longer trial reads how far a shorter one has come."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Nothing to do, as in `epoch`."""

    def shorter_trials(self, recipe: Recipe) -> tuple[str, ...]:
        """The trials that a recipe's run may go on from, once they are done, the longest first.

        Args:
            recipe: Settled.
        """
        known = self._known.get(_without_epochs(recipe), {})
        found = tuple(known[epochs] for epochs in sorted(known, reverse=True) if epochs < recipe.epochs)
        reason = ""
        if self._has_scheduler:
            reason = "a longer trial may be stopped before its last one"
        elif recipe.schedule == "cosine":
            reason = "on a cosine schedule they differ from those of a longer trial"
        if found and reason:
            level = logging.INFO if self._has_warned else logging.WARNING
            log.log(level, "the epochs of trial %s are trained again for a longer trial: %s", found[0], reason)
            self._has_warned = True
            return ()
        return found


def _without_epochs(recipe: Recipe) -> bytes:
    values = to_values(recipe)
    del values["epochs"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()  # a search may have many thousands
