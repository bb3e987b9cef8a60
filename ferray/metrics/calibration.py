"""Whether a model is as often right as it says, and the one number that brings it nearer: its temperature.

Networks trained to the end are too sure of themselves. Dividing the logits by a temperature, fitted on the validation
split, moves no answer and most of the error: its score stays, its confidence becomes usable.

Begin at `calibrate`. Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.bootstrap import RESAMPLES, Interval, draw_totals, percentiles, sum_by_group

NUM_BINS = 15
"""Of confidence, equally wide, as in the source."""

HOTTEST = 20.0
"""The temperature lies between this and its inverse: no finite one fits where every answer, or none, is right."""

_TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, which float32 makes of differences above 87 between logits."""


@dataclass(frozen=True)
class Bin:
    """The faces whose confidence falls into one range."""

    faces: int
    confidence: float
    """Mean probability of the answer; 0 without faces."""
    accuracy: float
    """Share that is right; 0 without faces."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far probabilities are from what happened, each with a 95 % interval."""

    ece: float
    """Expected calibration error: mean over faces of their bin's distance between accuracy and mean confidence."""
    nll: float
    """Negative log-likelihood of the labels, nats a face."""
    brier: float
    """Squared distance of the probabilities from the one-hot label, summed over classes, mean over faces; 0 to 2."""
    confidence: float
    """Mean probability of the answer."""
    intervals: dict[str, Interval]
    """Of `ece`, `nll`, `brier` and `confidence`. A bootstrap's ECE is biased upward: chance adds to every distance."""
    bins: tuple[Bin, ...]
    """By rising confidence, each open below and closed above."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A model's probabilities on one split, as trained and divided by the temperature of another split."""

    temperature: float
    """What the logits are divided by; above 1 where the model is too sure."""
    fitted_on: int
    """Validation faces."""
    n: int
    """Faces of the split."""
    before: Quality
    after: Quality

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def calibrate(
    fit_labels: NDArray[np.int64],
    fit_probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    groups: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Fit the temperature on one split, and measure another with and without it.

    Args:
        fit_labels: Of the validation split, shape (validation faces,).
        fit_probabilities: Shape (validation faces, classes).
        labels: Of the split to measure, shape (faces,).
        probabilities: Shape (faces, classes).
        groups: Ids of its photographs, shape (faces,).
        seed: Of the bootstrap.
        resamples: Bootstrap draws.
    """
    temperature = fit_temperature(fit_labels, fit_probabilities)
    measured = [
        measure(labels, some, groups, seed=seed, resamples=resamples)
        for some in (probabilities, apply_temperature(probabilities, temperature))
    ]
    return Calibration(
        temperature=temperature, fitted_on=len(fit_labels), n=len(labels), before=measured[0], after=measured[1]
    )


def fit_temperature(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> float:
    """The temperature with the least negative log-likelihood.

    That is convex in the inverse temperature b; its slope, the mean over faces of the expected logit under
    softmax(b z) less the label's logit, rises with b, and is halved in on in log b.

    Args:
        labels: Shape (faces,).
        probabilities: Shape (faces, classes); their logarithms are logits.
    """
    logits = _logits(probabilities)
    of_label = logits[np.arange(len(labels)), labels]
    low, high = -math.log(HOTTEST), math.log(HOTTEST)
    for _ in range(60):
        middle = (low + high) / 2
        expected = (_softmax(math.exp(middle) * logits) * logits).sum(axis=1)
        low, high = (low, middle) if np.mean(expected - of_label) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def apply_temperature(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Probabilities of the logits divided by a temperature, shape (faces, classes); no answer changes."""
    return _softmax(_logits(probabilities) / temperature)


def measure(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    groups: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Quality:
    """Calibration error, log-likelihood and Brier score, with intervals over whole photographs.

    Args:
        labels: True class numbers, shape (faces,).
        probabilities: Shape (faces, classes).
        groups: Ids of the photographs, shape (faces,).
        seed: Of the bootstrap.
        resamples: Bootstrap draws.

    Source: expected calibration error with equally wide bins of the answer's probability: Naeini, Cooper and
        Hauskrecht, 2015, and Guo et al., 2017; Brier, "Verification of Forecasts", 1950, in its first form.
    """
    faces = np.arange(len(labels))
    probabilities = probabilities.astype(np.float64)
    confidence, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    in_bin = np.eye(NUM_BINS)[bins]
    nll = -np.log(np.maximum(probabilities[faces, labels], _TINY))
    brier = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    columns = [
        in_bin,
        in_bin * confidence[:, None],
        in_bin * (answers == labels)[:, None],
        nll[:, None],
        brier[:, None],
    ]
    by_group = sum_by_group(np.concatenate(columns, axis=1), groups)
    total = by_group.sum(axis=0, keepdims=True)
    values = _qualities(total)[0]
    drawn = percentiles(_qualities(draw_totals(by_group, seed=seed, resamples=resamples)))
    names = ("ece", "nll", "brier", "confidence")
    counts, sums, hits = total[0, : 3 * NUM_BINS].reshape(3, NUM_BINS)
    rows = zip(counts, sums, hits, strict=True)
    return Quality(
        **dict(zip(names, map(float, values), strict=True)),
        intervals={name: interval for name, interval in zip(names, drawn, strict=True) if interval is not None},
        bins=tuple(Bin(int(num), float(said / max(1, num)), float(hit / max(1, num))) for num, said, hit in rows),
    )


def _qualities(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """ECE, NLL, Brier score and mean confidence of many totals, shape (draws, 4)."""
    counts, sums, hits = (totals[:, at * NUM_BINS : (at + 1) * NUM_BINS] for at in range(3))
    num_faces = counts.sum(axis=1)
    ece = np.abs(hits - sums).sum(axis=1) / num_faces
    return np.stack([ece, *(totals[:, -2:].T / num_faces), sums.sum(axis=1) / num_faces], axis=1)


def _logits(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), _TINY))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
