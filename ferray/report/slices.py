"""Where a model is weak: its accuracy on parts of a split, by any column of the store's table.

Two parts differ in their labels before they differ in anything else: a model that is good at happy faces looks good
wherever people smile. So each slice is also scored as if it had the labels of the whole split, each class's recall
weighing as the class does there. A class without faces in the slice has no recall; it is left out on both sides, of the
slice and of the whole that the slice is compared with, and `covered` says how much of the labels is left.

Whoever looks at many slices finds a bad one by chance: the worst is judged with Bonferroni's correction for all.

Begin at `score_slices`.
"""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.metrics.bootstrap import COVERAGE, RESAMPLES, Interval, draw_totals, percentiles, sum_by_group
from ferray.metrics.predictions import PREDICTIONS, face_ids, read_predictions
from ferray.report.axes import in_words, value_text
from ferray.report.expw_words import MERGED

if TYPE_CHECKING:
    import pandas

MIN_FACES = 30
"""Below it a slice is not shown: its interval would span 35 points."""

MIN_COVERED = 0.8
"""Share of the labels from which a slice can be the worst: one that lacks most classes is compared on the rest only."""

NUM_BINS = 4
"""Of a column of numbers, equally full."""

_MOST_VALUES = 12
"""Distinct numbers from which a column is cut into bins."""

_NAMES_FROM = 60
"""Distinct words from which a column holds names, not kinds."""

_COLUMNS = (
    "column", "value", "faces", "photographs", "accuracy", "low", "high",
    "standardized", "standardized_low", "standardized_high", "gap", "covered",
)  # fmt: skip

_BOOKKEEPING = frozenset(
    {
        "source", "face_id", "split", "group", "same_face", "label", "class_name",
        "top", "left", "right", "bottom", "sha256",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of a split, and how the model does there."""

    column: str
    """Of the store's table."""
    value: str
    """Of the column, or a range of it."""
    n: int
    """Faces."""
    groups: int
    """Photographs."""
    accuracy: float
    """Top-1."""
    interval: Interval
    standardized: float
    """Top-1 as if the slice had the labels of the whole split."""
    standardized_interval: Interval
    gap: float
    """`standardized` less the same of the whole split."""
    gap_error: float
    """Standard error of the gap, with the whole split taken as known: somewhat too large for a large slice."""
    covered: float
    """Share of the whole split's labels whose classes have faces here."""


def score_slices(
    table: "pandas.DataFrame",
    labels: NDArray[np.int64],
    answers: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    num_classes: int,
    by: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Slice]:
    """Score every slice of a split with at least `MIN_FACES` faces.

    Args:
        table: The store's rows of the split.
        labels: Shape (faces,), in the order of the table.
        answers: Shape (faces,).
        groups: Ids of the photographs, shape (faces,).
        num_classes: Of labels and answers.
        by: One column; None for all that are worth slicing by.
        seed: Of the bootstrap.
        resamples: Bootstrap draws.

    Raises:
        DataError: There is no such column.

    Source: direct standardization to the labels of a reference population: Armitage, Berry and Matthews, "Statistical
        Methods in Medical Research", 2002, section 19.3.
    """
    if by is not None and by not in table.columns:
        known = ", ".join(sorted(set(table.columns) - _BOOKKEEPING))
        raise DataError(f"--by {by}", "the store's table has no such column", f"Known: {known}")
    columns = [by] if by is not None else [name for name in table.columns if name not in _BOOKKEEPING]
    right = (labels == answers).astype(np.int64)
    classes = np.eye(num_classes, dtype=np.int64)[labels]
    counted = np.concatenate([classes * right[:, None], classes], axis=1)
    whole = counted.sum(axis=0)
    slices = []
    for column in columns:
        for value, inside in _cut(table[column], named=by is not None):
            if MIN_FACES <= inside.sum() < len(labels):
                by_group = sum_by_group(counted[inside], groups[inside])
                drawn = draw_totals(by_group, seed=seed, resamples=resamples)
                slices.append(_score(column, value, by_group, drawn, whole))
    return slices


def slice_recorded(best_dir: Path, store: Store, *, by: str | None = None) -> list[Slice]:
    """Score slices of the test split from the answers on record beside the model.

    Args:
        best_dir: The folder `best` of a search.
        store: That it was searched on.
        by: As for `score_slices`.

    Raises:
        DataError: There are no answers on record, they are not of this store's test split, or there is no such column.
    """
    answers = read_predictions(best_dir / PREDICTIONS)
    table = store.table.iloc[store.rows("test")]
    if list(answers.ids or ()) != face_ids(table):
        what = f"the answers are not those on the test split of {store.folder}"
        raise DataError(str(best_dir / PREDICTIONS), what, "Name the store that the search ran on: --data DIR")
    num_classes = len(answers.class_names)
    return score_slices(table, answers.labels, answers.answers, store.groups("test"), num_classes=num_classes, by=by)


def worst_slice(slices: Sequence[Slice]) -> dict[str, Any] | None:
    """The slice farthest below the whole split, and whether chance explains it, as JSON values.

    The interval of the gap has a coverage of 95 % for all slices together (Bonferroni; normal, since a percentile so
    far out would need more draws).

    Returns:
        Slice, `interval` of the gap, `slices` that were looked at and whether the gap is `beyond_noise`; None where
        no slice covers enough of the labels.
    """
    compared = [one for one in slices if one.covered >= MIN_COVERED]
    if not compared:
        return None
    worst = min(compared, key=lambda one: one.gap)
    reach = NormalDist().inv_cdf(1 - (1 - COVERAGE) / 2 / len(compared)) * worst.gap_error
    interval = (worst.gap - reach, worst.gap + reach)
    return {**asdict(worst), "interval": interval, "slices": len(compared), "beyond_noise": interval[1] < 0}


def worst_in_words(worst: Mapping[str, Any] | None) -> str:
    """What the worst slice is worth saying, in sentences.

    Args:
        worst: From `worst_slice`.
    """
    if worst is None:
        return "No slice holds enough of the labels to be compared with the whole split."
    low, high = worst["interval"]
    name = f"{in_words(worst['column'])}: {worst['value']}"
    verdict = (
        "that is more than chance among so many slices explains"
        if worst["beyond_noise"]
        else "chance among so many slices can explain it"
    )
    words = (
        " Search words are queries that a collector typed, not annotations of people; no claim about groups of people"
        " follows."
        if worst["column"] in MERGED
        else ""
    )
    return (
        f"The worst of {worst['slices']} slices is **{name}** ({worst['n']:,} faces): {worst['gap']:+.3f} against the"
        f" whole split at equal labels, 95 % interval for all slices together {low:+.3f} to {high:+.3f};"
        f" {verdict}.{words}"
    )


def slices_csv(slices: Sequence[Slice]) -> str:
    """The slices as a CSV table, one a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in slices:
        scores = (one.accuracy, *one.interval, one.standardized, *one.standardized_interval, one.gap, one.covered)
        writer.writerow([one.column, one.value, one.n, one.groups, *(f"{value:.4f}" for value in scores)])
    return text.getvalue()


def _cut(column: "pandas.Series[Any]", *, named: bool) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Values of a column, or ranges, and the rows that have them; a column of names is left out unless asked for."""
    if column.name in MERGED:
        words = column.str.lower()
        for value, merged in MERGED[str(column.name)].items():
            yield value, words.isin(list(merged)).to_numpy(dtype=np.bool_)
        return
    distinct = column.dropna().unique()
    if column.dtype.kind in "iuf" and len(distinct) > _MOST_VALUES:
        numbers = column.to_numpy(dtype=np.float64)
        edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, NUM_BINS + 1)))
        for low, high in itertools.pairwise(edges):
            last = high == edges[-1]
            text = f"{value_text(float(low))} to {value_text(float(high))}"
            yield text, (numbers >= low) & ((numbers <= high) if last else (numbers < high))
    elif named or len(distinct) < _NAMES_FROM:
        for value in sorted(distinct, key=str):
            text = ("yes" if value else "no") if column.dtype.kind == "b" else str(value)
            yield text, (column == value).to_numpy(dtype=np.bool_)


def _score(
    column: str, value: str, by_group: NDArray[np.float64], drawn: NDArray[np.float64], whole: NDArray[np.int64]
) -> Slice:
    """A slice from its groups' hits and faces by class, and from their draws."""
    num_classes = len(whole) // 2
    weights = whole[num_classes:] / whole[num_classes:].sum()
    total = by_group.sum(axis=0)
    present = total[num_classes:] > 0
    standardized = _standardize(total[None], weights)[0]
    reference = _standardize(np.where(np.tile(present, 2), whole, 0)[None], weights)[0]
    of_draws = _standardize(drawn, weights)
    accuracies = drawn[:, :num_classes].sum(axis=1) / drawn[:, num_classes:].sum(axis=1)
    interval, standardized_interval = percentiles(np.stack([accuracies, of_draws], axis=1))
    assert interval is not None and standardized_interval is not None
    return Slice(
        column=column,
        value=value,
        n=int(total[num_classes:].sum()),
        groups=len(by_group),
        accuracy=float(total[:num_classes].sum() / total[num_classes:].sum()),
        interval=interval,
        standardized=float(standardized),
        standardized_interval=standardized_interval,
        gap=float(standardized - reference),
        gap_error=float(of_draws.std()),
        covered=math.fsum(weights[present]),
    )


def _standardize(totals: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean recall over the classes with faces, of each row of hits and faces by class."""
    hits, faces = np.split(totals, 2, axis=1)
    known = np.where(faces > 0, weights, 0.0)
    return np.asarray((known * hits / np.maximum(1, faces)).sum(axis=1) / known.sum(axis=1), dtype=np.float64)
