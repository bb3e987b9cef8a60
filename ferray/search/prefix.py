"""Trials that begin where a shorter one ended.

Two points that differ only in the number of epochs share their first epochs, number by number, unless the learning
rate of an epoch depends on how many there will be: a cosine falls to its end. So the longer one goes on from the
checkpoint of the shorter one, if that is done when the longer one is asked for.

Begin at `Prefixes`.
"""

import dataclasses
import json
import logging

from ferray.recipe import Recipe
from ferray.records import EpochResult, Run, TrialRecord

log = logging.getLogger(__name__)


class Prefixes:
    """The trials of a search that are done, by all of their recipe but the epochs; an observer of the tuner.

    Args:
        run: What is on record of it counts from the start.
    """

    def __init__(self, run: Run) -> None:
        self._done: dict[str, dict[int, str]] = {}  # recipe without epochs -> epochs -> trial id
        for record in run.read_trials():
            self.trial_ended(record)

    def trial_started(self, record: TrialRecord) -> None:
        """Of no interest."""

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """Of no interest."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial that is done may be gone on from."""
        if record.state == "done":
            self._done.setdefault(_but_epochs(record.recipe), {})[record.recipe.epochs] = record.trial_id

    def longest(self, recipe: Recipe) -> str:
        """The trial that a recipe's run may go on from, the longest of several; empty if there is none.

        Args:
            recipe: Settled.
        """
        shorter = {
            epochs: trial for epochs, trial in self._done.get(_but_epochs(recipe), {}).items() if epochs < recipe.epochs
        }
        if not shorter:
            return ""
        trial_id = shorter[max(shorter)]
        if recipe.schedule == "cosine":
            log.info("trial %s is shorter, but on a cosine: its epochs are not those of a longer run", trial_id)
            return ""
        return trial_id


def _but_epochs(recipe: Recipe) -> str:
    values = dataclasses.asdict(recipe)
    del values["epochs"]
    return json.dumps(values, sort_keys=True)
