"""A number called accuracy, without its table of answers: what it could have been.

Keras' BinaryAccuracy and the mean of per-class accuracies count every class of every face. In seven classes 91 % of
them is a top-1 accuracy of 68.5 % if there is one answer a face, and anything from 37 to 100 % if a threshold decides.

Begin at `read_claim`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from ferray.errors import DataError
from ferray.metrics.bootstrap import COVERAGE, Interval
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
"""By the name to ask for; from the authors' own abstracts and READMEs. For each set there are lower numbers, too."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claimed accuracy, read in every way that is possible."""

    text: str
    """As written."""
    value: float
    """In [0, 1]."""
    unit: float
    """Of its last digit."""
    one_vs_rest: float
    """The one-vs-rest accuracy of a model with this top-1 accuracy."""
    if_one_vs_rest: float | None
    """Top-1 accuracy of a model with this one-vs-rest accuracy; None where no model has it."""
    if_binary: Interval | None
    """Lowest and highest top-1 accuracy of a softmax model with this binary accuracy; None where no model has it."""
    n: int | None
    """Faces, where they are known."""
    interval: Interval | None
    """95 %, as a top-1 accuracy of n faces that err independently."""

    @property
    def is_possible(self) -> bool:
        """Whether some whole number of n faces rounds to the claim, as the GRIM test asks; true without n.

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
        num_classes: Of the answers.
        n: Faces that it is said to come from.

    Raises:
        DataError: No number, or none between 0 and 1.
    """
    percent = text.strip().endswith("%")
    digits = text.strip().removesuffix("%").strip()
    try:
        value = float(digits) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"--claimed {text}", "no accuracy between 0 and 1", "Write 0.91 or 91%")
    places = len(digits.partition(".")[2]) + (2 if percent else 0)
    return Claim(
        text=text.strip(),
        value=value,
        unit=10.0**-places,
        one_vs_rest=one_vs_rest_accuracy(value, num_classes=num_classes),
        if_one_vs_rest=top_1_of_one_vs_rest(value, num_classes=num_classes),
        if_binary=top_1_of_binary(value, num_classes=num_classes),
        n=n,
        interval=None if n is None else wilson(value, n),
    )


def top_1_of_one_vs_rest(accuracy: float, *, num_classes: int) -> float | None:
    """The inverse of `one_vs_rest_accuracy`; None below what answers that are all wrong have."""
    top_1 = 1 - num_classes / 2 * (1 - accuracy)
    return top_1 if top_1 >= 0 else None


def top_1_of_binary(accuracy: float, *, num_classes: int) -> Interval | None:
    """Lowest and highest top-1 accuracy behind a binary accuracy of softmax outputs at a threshold of 0.5.

    A face is right and above 0.5, wrong and above 0.5 (share w, two wrong cells), or has nothing above 0.5 (share u,
    one wrong cell), right or not: 2 w + u is `classes` times what is missing to 1.
    """
    missing = num_classes * (1 - accuracy)
    if missing > 2:
        return None
    return max(0.0, 1 - missing), min(1.0, 2 - missing)


def wilson(share: float, n: int) -> Interval:
    """95 % interval of a share of n independent faces.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z2 = NormalDist().inv_cdf((1 + COVERAGE) / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)
