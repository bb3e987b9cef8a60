"""Calibration: whether predictions are as often correct as their probabilities say, and the temperature that helps.

A network that is trained to the end is mostly overconfident. Temperature scaling divides its logits by one number,
fitted on the validation split. It changes no predicted class and removes most of the error, so the accuracy stays and
the probabilities become usable.

Begin at `calibrate`. Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.intervals import BOOTSTRAP, Bootstrap, Interval, draw_totals, percentiles, sum_by_group
from ferray.metrics.labeled import LabeledPredictions

NUM_BINS = 15
"""Equally wide bins of confidence, as in the source."""

MAX_TEMPERATURE = 20.0
"""The temperature lies between this and its inverse: where all predictions are correct, or none, no finite one fits."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Replaces a smaller probability, such as 0, which float32 gives where logits differ by more than 87."""


@dataclass(frozen=True)
class Bin:
    """The faces whose confidence lies in one range."""

    faces: int
    confidence: float
    """Mean probability of the predicted class; 0 without faces."""
    accuracy: float
    """Share of correct predictions; 0 without faces."""


@dataclass(frozen=True, kw_only=True)
class ProbabilityErrors:
    """How far probabilities are from the labels; each number has a 95 % interval."""

    ece: float
    """Expected calibration error: mean over faces of the distance between accuracy and confidence in their bin."""
    nll: float
    """Negative log-likelihood of the labels, nats per face."""
    brier: float
    """Brier score: squared distance of the probabilities from the one-hot label, summed over classes, mean over faces;
    from 0 to 2."""
    confidence: float
    """Mean probability of the predicted class."""
    intervals: dict[str, Interval]
    """Of `ece`, `nll`, `brier` and `confidence`. The bootstrapped ECE is biased upward: noise adds to each distance."""
    bins: tuple[Bin, ...] = ()
    """By ascending confidence; the lower bound of a bin is excluded, the upper one included. Empty where they were not
    recorded."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Probabilities on one split, as trained and after temperature scaling."""

    temperature: float
    """Divisor of the logits; above 1 where the model is overconfident."""
    fitted_on: int
    """Validation faces."""
    n: int
    """Faces of the split."""
    before: ProbabilityErrors
    after: ProbabilityErrors

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def calibrate(
    fitted: LabeledPredictions, tested: LabeledPredictions, *, bootstrap: Bootstrap = BOOTSTRAP
) -> Calibration:
    """Fit the temperature on one split, and measure the probabilities on another one with and without it.

    Args:
        fitted: The validation faces that the temperature is fitted on, with probabilities.
        tested: The faces to measure, with probabilities.
        bootstrap: Number of draws and seed.
    """
    assert fitted.probabilities is not None and tested.probabilities is not None
    temperature = fit_temperature(fitted.labels, fitted.probabilities)
    before, after = (
        measure(tested.labels, probabilities, tested.groups, bootstrap=bootstrap)
        for probabilities in (tested.probabilities, apply_temperature(tested.probabilities, temperature))
    )
    return Calibration(
        temperature=temperature, fitted_on=len(fitted.labels), n=len(tested.labels), before=before, after=after
    )


def fit_temperature(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> float:
    """The temperature that minimizes the negative log-likelihood.

    The likelihood is convex in the inverse temperature b. Its slope is the mean over faces of the expected logit under
    softmax(b z) minus the label's logit. The slope rises with b, so bisection in log b finds its zero.

    Args:
        labels: Shape (faces,).
        probabilities: Shape (faces, classes); their logarithms serve as logits.
    """
    logits = _logits(probabilities)
    of_label = logits[np.arange(len(labels)), labels]
    low, high = -math.log(MAX_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(60):
        middle = (low + high) / 2
        expected = (_softmax(math.exp(middle) * logits) * logits).sum(axis=1)
        low, high = (low, middle) if np.mean(expected - of_label) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def apply_temperature(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """The probabilities after dividing the logits by a temperature, shape (faces, classes)."""
    return _softmax(_logits(probabilities) / temperature)


def measure(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    groups: NDArray[np.int64],
    *,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> ProbabilityErrors:
    """Calibration error, log-likelihood and Brier score, with intervals over whole photographs.

    Args:
        labels: True class numbers, shape (faces,).
        probabilities: Shape (faces, classes).
        groups: Ids of the photographs, shape (faces,).
        bootstrap: Number of draws and seed.

    Source: expected calibration error with equally wide bins of the predicted class's probability: Naeini, Cooper and
        Hauskrecht, 2015, and Guo et al., 2017; Brier, "Verification of Forecasts", 1950, in its first form.
    """
    faces = np.arange(len(labels))
    probabilities = probabilities.astype(np.float64)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    in_bin = np.eye(NUM_BINS)[bins]
    nll = -np.log(np.maximum(probabilities[faces, labels], SMALLEST))
    brier = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    columns = [
        in_bin,
        in_bin * confidence[:, None],
        in_bin * (predicted == labels)[:, None],
        nll[:, None],
        brier[:, None],
    ]
    by_group = sum_by_group(np.concatenate(columns, axis=1), groups)
    total = by_group.sum(axis=0, keepdims=True)
    values = _errors(total)[0]
    drawn = percentiles(_errors(draw_totals(by_group, bootstrap)))
    names = ("ece", "nll", "brier", "confidence")
    counts, sums, hits = total[0, : 3 * NUM_BINS].reshape(3, NUM_BINS)
    rows = zip(counts, sums, hits, strict=True)
    return ProbabilityErrors(
        **dict(zip(names, map(float, values), strict=True)),
        intervals={name: interval for name, interval in zip(names, drawn, strict=True) if interval is not None},
        bins=tuple(Bin(int(num), float(summed / max(1, num)), float(hit / max(1, num))) for num, summed, hit in rows),
    )


def _errors(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """ECE, NLL, Brier score and mean confidence of each row of totals, shape (draws, 4)."""
    counts, sums, hits = (totals[:, at * NUM_BINS : (at + 1) * NUM_BINS] for at in range(3))
    num_faces = counts.sum(axis=1)
    ece = np.abs(hits - sums).sum(axis=1) / num_faces
    return np.stack([ece, *(totals[:, -2:].T / num_faces), sums.sum(axis=1) / num_faces], axis=1)


def _logits(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
