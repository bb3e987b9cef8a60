"""Where a model is weak: its accuracy on slices of a split, by any column of the store's table.

Slices differ in their labels before they differ in anything else: a model that recognizes happy faces well has a high
accuracy wherever many people smile. So each slice is also scored by direct standardization, as if it had the labels of
the whole split: each class's recall has the weight that the class has there. A class without faces in the slice has no
recall. It is left out of the slice and of the whole split that the slice is compared with; `covered` is the share of
the labels that is left.

Among many slices one looks bad by chance, so the worst is judged with Bonferroni's correction.

Begin at `score_slices`.
"""

import csv
import io
import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.data.subject import EXPRESSIONS, Subject
from ferray.errors import DataError
from ferray.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    certain_interval,
    draw_totals,
    normal_interval,
    percentiles,
    range_text,
    sum_by_group,
    wilson_interval,
)
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.predictions import PREDICTIONS_FILE, PredictionTable, face_ids, read_predictions
from ferray.report.expw_words import MERGED
from ferray.report.wording import in_words, value_text

if TYPE_CHECKING:
    import pandas

MIN_FACES = 30
"""Smaller slices are not scored: their intervals would be 35 points wide."""

MIN_GROUPS = 10
"""Photographs that a slice must come from to be the worst one: many faces of a few photographs, or people, are a few
draws, and a bootstrap of them is far too narrow; of one photograph its error would be 0."""

MIN_COVERED = 0.8
"""Share of labels that a slice must cover to be the worst one: without it, it is compared on few classes only."""

NUM_RANGES = 4
"""Ranges with equal numbers of faces that a column of numbers is cut into."""

_MAX_VALUES = 12
"""Distinct numbers up to which each is a slice of its own."""

_MAX_KINDS = 59
"""Distinct texts up to which a column is taken for categories; one with more holds names."""

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
"""Columns that are sliced by only if `by` names them."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of a split, and the model's accuracy on it."""

    column: str
    """Column of the store's table."""
    value: str
    """Value of the column, or a range of values."""
    n: int
    """Number of faces."""
    groups: int
    """Number of photographs."""
    accuracy: float
    """Top-1."""
    interval: Interval
    """Of `accuracy`."""
    standardized: float
    """Top-1 accuracy as if the slice had the labels of the whole split."""
    standardized_interval: Interval
    """Of `standardized`."""
    gap: float
    """`standardized` minus the accuracy of the whole split on the same classes."""
    gap_error: float
    """Standard error of the gap, without the error of the whole split; somewhat too large for a large slice."""
    covered: float
    """Share of the whole split's labels whose classes have faces in the slice."""


@dataclass(frozen=True, kw_only=True)
class WorstSlice:
    """The slice farthest below the whole split, judged among all slices that were compared."""

    column: str
    """Column of the store's table."""
    value: str
    """Value of the column, or a range of values."""
    n: int
    """Number of faces."""
    gap: float
    """As in `Slice`."""
    gap_interval: Interval
    """Of `gap`. All intervals of the compared slices together have a coverage of 95 % (Bonferroni). It is normal, since
    percentiles so far out would need more draws."""
    num_compared: int
    """Slices that cover enough labels, and enough photographs, to be compared with the whole split."""

    @property
    def beyond_noise(self) -> bool:
        """Whether chance does not explain the gap."""
        return self.gap_interval[1] < 0

    @property
    def is_only(self) -> bool:
        """Whether no other slice was compared."""
        return self.num_compared == 1


def score_slices(
    table: "pandas.DataFrame",
    predictions: LabeledPredictions,
    *,
    by: str | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> list[Slice]:
    """Score every slice of a split with at least `MIN_FACES` faces.

    Args:
        table: The store's rows of the split.
        predictions: The same faces in the same order.
        by: One column; None for all that are not bookkeeping.
        bootstrap: Number of draws and seed.

    Raises:
        DataError: There is no such column.

    Source: direct standardization to the labels of a reference population: Armitage, Berry and Matthews, "Statistical
        Methods in Medical Research", 2002, section 19.3.
    """
    if by is not None and by not in table.columns:
        known = ", ".join(sorted(set(table.columns) - _BOOKKEEPING))
        raise DataError(f"--by {by}", "the store's table has no such column", f"Known: {known}")
    columns = [by] if by is not None else [name for name in table.columns if name not in _BOOKKEEPING]
    correct = predictions.is_correct.astype(np.int64)
    classes = np.eye(len(predictions.class_names), dtype=np.int64)[predictions.labels]
    counted = np.concatenate([classes * correct[:, None], classes], axis=1)
    whole = counted.sum(axis=0)
    slices = []
    for column in columns:
        for value, inside in _cut(table[column], named=by is not None):
            if MIN_FACES <= inside.sum() < len(correct):
                by_group = sum_by_group(counted[inside], predictions.groups[inside])
                slices.append(_score(column, value, by_group, draw_totals(by_group, bootstrap), whole))
    return slices


def score_recorded_slices(best_dir: Path, store: Store, *, by: str | None = None) -> list[Slice]:
    """Score slices of the test split from the predictions on record beside the model.

    Args:
        best_dir: The folder `best` of a search.
        store: The store of that search.
        by: As for `score_slices`.

    Raises:
        DataError: There are no predictions on record, they are not of this store's test split, or there is no such
            column.
    """
    recorded = read_recorded_predictions(best_dir)
    table = store.table.iloc[store.rows("test")]
    if list(recorded.ids or ()) != face_ids(table):
        what = f"the predictions are not for the test split of {store.folder}"
        raise DataError(str(best_dir / PREDICTIONS_FILE), what, "Name the store of that search: --data DIR")
    return score_slices(table, recorded.predictions, by=by)


def read_recorded_predictions(best_dir: Path) -> PredictionTable:
    """The predictions on record beside a model.

    Raises:
        DataError: There are none, and what writes them; or they cannot be read.
    """
    file = best_dir / PREDICTIONS_FILE
    if best_dir.is_dir() and not file.exists():
        what = "no predictions on record: the test split was not read for this model"
        best, out = shlex.quote(str(best_dir)), shlex.quote(str(file))
        command = f"python -m ferray.report evaluate {best} --data DIR --predictions {out}"
        way_out = f"A first reading writes them: {command}"
        raise DataError(str(file), what, way_out)
    return read_predictions(file)


def worst_slice(slices: Sequence[Slice]) -> WorstSlice | None:
    """The slice farthest below the whole split; None where no slice covers enough of the labels and photographs."""
    compared = compared_slices(slices)
    if not compared:
        return None
    worst = min(compared, key=_gap)
    return WorstSlice(
        column=worst.column,
        value=worst.value,
        n=worst.n,
        gap=worst.gap,
        gap_interval=normal_interval(worst.gap, worst.gap_error, num_comparisons=len(compared)),
        num_compared=len(compared),
    )


def worst_to_json(slices: Sequence[Slice]) -> dict[str, Any] | None:
    """The worst slice as JSON values; `interval` is that of the gap, `slices` the number that were compared."""
    worst = worst_slice(slices)
    if worst is None:
        return None
    return asdict(min(compared_slices(slices), key=_gap)) | {
        "interval": worst.gap_interval,
        "slices": worst.num_compared,
        "beyond_noise": worst.beyond_noise,
    }


def worst_in_words(worst: WorstSlice | None, shown: Subject = EXPRESSIONS) -> str:
    """The worst slice in sentences, in Markdown."""
    if worst is None:
        return "No slice holds enough of the labels, of enough photographs, to be compared with the whole split."
    conclusion = (
        f"The gap is larger than chance explains{'' if worst.is_only else ' among so many slices'}."
        if worst.beyond_noise
        else f"Chance{'' if worst.is_only else ' among so many slices'} can explain the gap."
    )
    caution = (
        " Search words are queries that a collector typed, not annotations of people; they support no claim about"
        " groups of people."
        if worst.column in MERGED and shown is EXPRESSIONS
        else ""
    )
    num = f"{worst.n:,} {shown.nouns}"
    which = "The only slice that can be compared" if worst.is_only else f"The worst of {worst.num_compared:,} slices"
    return (
        f"{which} is **{in_words(worst.column)}: {worst.value}** ({num}):"
        f" {worst.gap:+z.3f} against the whole split at equal labels; the 95 % interval"
        f"{'' if worst.is_only else ' for all slices together'} is"
        f" {range_text(worst.gap_interval, 3, sign='+')}. {conclusion}{caution}"
    )


def slices_csv(slices: Sequence[Slice]) -> str:
    """The slices as a CSV table, one per row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in slices:
        scores = (one.accuracy, *one.interval, one.standardized, *one.standardized_interval, one.gap, one.covered)
        writer.writerow([one.column, one.value, one.n, one.groups, *(f"{value:.4f}" for value in scores)])
    return text.getvalue()


def compared_slices(slices: Sequence[Slice]) -> list[Slice]:
    """The slices that cover enough labels, and enough photographs, to be compared with the whole split."""
    return [one for one in slices if one.covered >= MIN_COVERED and one.groups >= MIN_GROUPS]


def _gap(one: Slice) -> float:
    return one.gap


def _cut(column: "pandas.Series[Any]", *, named: bool) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The values of a column, or ranges of them, and which rows have them; none of a column of names unless `named`."""
    if column.name in MERGED:
        lowered = column.str.lower()
        for value, merged in MERGED[str(column.name)].items():
            yield value, lowered.isin(list(merged)).to_numpy(dtype=np.bool_)
        return
    distinct = column.dropna().unique()
    if column.dtype.kind in "iuf" and len(distinct) > _MAX_VALUES:
        numbers = column.to_numpy(dtype=np.float64)
        edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, NUM_RANGES + 1)))
        for low, high in itertools.pairwise(edges):
            last = high == edges[-1]
            text = f"{value_text(float(low))} to {value_text(float(high))}"
            yield text, (numbers >= low) & ((numbers <= high) if last else (numbers < high))
    elif named or len(distinct) <= _MAX_KINDS:
        for value in sorted(distinct, key=str):
            text = ("yes" if value else "no") if column.dtype.kind == "b" else str(value)
            yield text, (column == value).to_numpy(dtype=np.bool_)


def _score(
    column: str, value: str, by_group: NDArray[np.float64], drawn: NDArray[np.float64], whole: NDArray[np.int64]
) -> Slice:
    """A slice from the correct predictions and faces by class of its groups, and from the bootstrap draws."""
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
    accuracy, gap_error = float(total[:num_classes].sum() / total[num_classes:].sum()), float(of_draws.std())
    if accuracy in (0, 1):  # so it is in every draw
        num_of_class = (by_group[:, num_classes:] > 0).sum(axis=0)[present].tolist()
        interval = certain_interval(accuracy, [len(by_group)])
        shares = weights[present] / weights[present].sum()
        standardized_interval = certain_interval(accuracy, num_of_class, shares.tolist())
        gap_error = (standardized_interval[1] - standardized_interval[0]) / 1.96
    elif len(by_group) == 1:
        interval, standardized_interval = wilson_interval(accuracy, 1), wilson_interval(float(standardized), 1)
    return Slice(
        column=column,
        value=value,
        n=int(total[num_classes:].sum()),
        groups=len(by_group),
        accuracy=accuracy,
        interval=interval,
        standardized=float(standardized),
        standardized_interval=standardized_interval,
        gap=float(standardized - reference),
        gap_error=gap_error,
        covered=math.fsum(weights[present]),
    )


def _standardize(totals: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean recall of the classes with faces, for each row of correct predictions and faces by class."""
    hits, faces = np.split(totals, 2, axis=1)
    known = np.where(faces > 0, weights, 0.0)
    return np.asarray((known * hits / np.maximum(1, faces)).sum(axis=1) / known.sum(axis=1), dtype=np.float64)
