"""A claimed accuracy without a prediction table: which scores the number could be.

Keras' BinaryAccuracy and the mean of per-class accuracies count every class of every face. In seven classes, 91 % in
these terms is a top-1 accuracy of 68.5 % if one class is predicted per face, and any from 37 to 100 % if a threshold
decides.

Begin at `read_claim`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ferray.errors import DataError
from ferray.metrics.intervals import Interval, wilson_interval
from ferray.metrics.names import one_vs_rest_accuracy


@dataclass(frozen=True, kw_only=True)
class Published:
    """Top-1 accuracies that were published for a data set, and where."""

    name: str
    low: float
    high: float
    source: str


PUBLISHED: Mapping[str, Published] = {
    "expw": Published(
        name="ExpW", low=0.659, high=0.757, source="no common split; the highest, arXiv 2409.10545, is disputed"
    ),
    "fer2013": Published(
        name="FER2013",
        low=0.704,
        high=0.768,
        source="PrivateTest; single networks to 0.741, an ensemble of seven 0.768",
    ),
    "raf-db": Published(name="RAF-DB", low=0.881, high=0.926, source="its own test split of 3,068"),
    "affectnet": Published(name="AffectNet", low=0.647, high=0.675, source="seven classes, its 3,500 validation faces"),
}
"""By the name that `--dataset` takes; from the authors' own abstracts and READMEs. Lower numbers exist for each set."""


@dataclass(frozen=True, kw_only=True)
class ClaimedScores:
    """Accuracies as somebody reports them, and what they are reported to be about."""

    texts: tuple[str, ...] = ()
    """Accuracies as written: `0.91` or `91%`."""
    num_classes: int | None = None
    """Number of classes; not needed where there is a prediction table."""
    num_faces: int | None = None
    """Number of test faces; not needed where there is a prediction table."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claimed accuracy, interpreted in every possible way."""

    text: str
    """As written."""
    value: float
    """In [0, 1]."""
    unit: float
    """Value of one unit of the last digit."""
    one_vs_rest: float
    """The one-vs-rest accuracy of a model with this top-1 accuracy."""
    if_one_vs_rest: float | None
    """Top-1 accuracy of a model with this one-vs-rest accuracy; None where no model has it."""
    if_binary: Interval | None
    """Lowest and highest top-1 accuracy of a softmax model with this binary accuracy; None where no model has it."""
    n: int | None
    """Number of test faces, where it is known."""
    interval: Interval | None
    """95 %, as a top-1 accuracy on n independent faces."""

    @property
    def is_possible(self) -> bool:
        """Whether some whole number of n faces rounds to the claim, which the GRIM test asks; true without n.

        Source: Brown and Heathers, "The GRIM Test", 2017.
        """
        if self.n is None:
            return True
        nearest = round(self.value * self.n) / self.n
        return abs(nearest - self.value) <= self.unit / 2 + 1e-9

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"is_possible": self.is_possible}


def read_claim(text: str, *, num_classes: int, n: int | None = None) -> Claim:
    """Read a claimed accuracy.

    Args:
        text: `0.91` or `91%`.
        num_classes: Number of classes.
        n: Number of test faces, where it is known.

    Raises:
        DataError: It is not a number, or not between 0 and 1.
    """
    percent = text.strip().endswith("%")
    digits = text.strip().removesuffix("%").strip()
    try:
        value = float(digits) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"--claimed {text}", "not an accuracy between 0 and 1", "Write 0.91 or 91%")
    places = len(digits.partition(".")[2]) + (2 if percent else 0)
    return Claim(
        text=text.strip(),
        value=value,
        unit=10.0**-places,
        one_vs_rest=one_vs_rest_accuracy(value, num_classes=num_classes),
        if_one_vs_rest=top_1_of_one_vs_rest(value, num_classes=num_classes),
        if_binary=top_1_of_binary(value, num_classes=num_classes),
        n=n,
        interval=None if n is None else wilson_interval(value, n),
    )


def top_1_of_one_vs_rest(accuracy: float, *, num_classes: int) -> float | None:
    """The inverse of `one_vs_rest_accuracy`; None for values below that of a model that is always wrong."""
    top_1 = 1 - num_classes / 2 * (1 - accuracy)
    return top_1 if top_1 >= 0 else None


def top_1_of_binary(accuracy: float, *, num_classes: int) -> Interval | None:
    """Lowest and highest top-1 accuracy behind a binary accuracy of softmax outputs at a threshold of 0.5.

    Three kinds of faces exist. The label's probability is above 0.5: all cells are right. A wrong class is above 0.5
    (share w): two cells are wrong. No class is above 0.5 (share u): one cell is wrong, whether the most probable class
    is the label or not. So 2 w + u equals `classes` times (1 - accuracy).
    """
    missing = num_classes * (1 - accuracy)
    if missing > 2:
        return None
    return max(0.0, 1 - missing), min(1.0, 2 - missing)
