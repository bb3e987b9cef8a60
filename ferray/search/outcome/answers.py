"""Where the models of a search predict once all trials are trained: here, or on a node. See `Answers`."""

from collections.abc import Callable
from dataclasses import dataclass

from ferray.records.trial import TrialRecord
from ferray.report.test_split.evaluate import SplitPredictions
from ferray.train.predict import ValidationAnswers


@dataclass(frozen=True)
class Answers:
    """Predictions of the best epochs of trials; None for each that is made in this process, on the CPU."""

    validation: Callable[[TrialRecord], ValidationAnswers] | None = None
    """Of a trial for the faces that it was validated with."""
    split: Callable[[TrialRecord, str, int | None], SplitPredictions] | None = None
    """Of a trial's whole model for a split of the store, or for at most so many faces of it."""


HERE = Answers()
