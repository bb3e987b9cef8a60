"""The recorded score of a model on its own test split: the content of `metrics.json`, checked and typed.

The file may come from anybody. Begin at `RecordedScore`; `read_recorded` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.metrics.calibration import Calibration
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.names import SCORE_TITLES
from ferray.metrics.scores import Scores
from ferray.report.slices import Slice, WorstSlice

METRICS_FILE = "metrics.json"
"""The recorded score, beside the model."""


@dataclass(frozen=True, kw_only=True)
class SliceSummary:
    """The slices of the test split, as far as the model card shows them."""

    num: int
    """Number of slices that were scored."""
    worst: WorstSlice | None
    """None where no slice covers enough of the labels."""
    lowest: tuple[Slice, ...]
    """Of those that `worst` was judged among, the ones with the largest negative gap, ascending."""


@dataclass(frozen=True, kw_only=True)
class RecordedScore:
    """The score of a model on the test split of the store that it was trained on, and what its one reading gave."""

    scores: Scores
    store_fingerprint: str
    """Fingerprint of the store."""
    read_at: str
    """Time of the reading, in UTC."""
    num_readings: int
    """Readings of this test split so far, for all models of the search."""
    notes: tuple[str, ...]
    """What a reader of the score must know."""
    calibration: Calibration | None
    """Without the bins, which `calibration.json` has; None in files of old versions."""
    slices: SliceSummary | None
    """None in files of old versions."""
    values: Mapping[str, Any]
    """The whole file, with all keys that this version does not know."""

    @property
    def numbers(self) -> dict[str, float]:
        """Every number at the top level of the file, by key."""
        return {name: value for name, value in self.values.items() if isinstance(value, float)}

    def to_json(self) -> dict[str, Any]:
        """As JSON values: the file, with the present number of readings."""
        return {**self.values, "test_readings": self.num_readings}


def read_recorded(file: Path) -> RecordedScore | None:
    """The score in a `metrics.json`; None where there is no such file.

    Raises:
        CheckpointError: It is not a recorded score.
        StorageError: It cannot be read.
    """
    return parse_recorded(storage.read_json(file), file=file) if file.exists() else None


def parse_recorded(values: Any, *, file: Path) -> RecordedScore:
    """Check and type the content of a `metrics.json`.

    Args:
        values: JSON values.
        file: Where they come from, for messages.

    Raises:
        CheckpointError: They are not a recorded score.
    """
    try:
        content = _CONTENT.validate_python(values)
    except (ValidationError, RecursionError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deep"}
        place = ".".join(str(part) for part in fault["loc"]) or "the whole file"
        what = f"not a recorded score: {place}: {fault['msg']}"
        raise CheckpointError(str(file), what, "Restore the file, or score the model again: --again") from error
    return RecordedScore(
        scores=content.scores(),
        store_fingerprint=content.data,
        read_at=content.read,
        num_readings=content.test_readings,
        notes=content.notes,
        calibration=content.calibration,
        slices=None if content.slices is None else content.slices.summary(),
        values=dict(values),
    )


_Number = Annotated[float, Field(strict=True)]
_Fraction = Annotated[_Number, Field(ge=0, le=1)]
_Bounds = tuple[_Number, _Number]
_ShortText = Annotated[str, Field(max_length=1000)]
_Size = Annotated[int, Field(strict=True, ge=0, lt=2**63)]

_CONFIG = ConfigDict(extra="ignore", allow_inf_nan=False)


@checked_dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _WorstSlice:
    """The worst slice, as `worst_to_json` writes it."""

    column: _ShortText
    value: _ShortText
    n: _Size
    gap: _Number
    interval: _Bounds
    slices: _Size

    def worst_slice(self) -> WorstSlice:
        return WorstSlice(
            column=self.column,
            value=self.value,
            n=self.n,
            gap=self.gap,
            gap_interval=self.interval,
            num_compared=self.slices,
        )


@checked_dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Slices:
    """The key `slices`."""

    num: _Size
    worst: _WorstSlice | None
    lowest: tuple[Slice, ...]

    def summary(self) -> SliceSummary:
        return SliceSummary(
            num=self.num, worst=None if self.worst is None else self.worst.worst_slice(), lowest=self.lowest
        )


@checked_dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Content:
    """The keys of the file that are read; the names are those of the file."""

    accuracy: _Fraction
    balanced_accuracy: _Fraction
    macro_f1: _Fraction
    one_vs_rest_accuracy: _Fraction
    binary_accuracy: _Fraction | None
    intervals: dict[str, _Bounds]
    guesses: dict[str, dict[str, _Fraction] | None]
    class_names: Annotated[tuple[_ShortText, ...], Field(min_length=1)]
    confusion: list[list[_Size]]
    recall_intervals: tuple[_Bounds | None, ...]
    n: _Size
    groups: _Size
    data: _ShortText
    read: _ShortText
    resamples: _Size = Bootstrap.resamples
    seed: _Size = Bootstrap.seed
    notes: tuple[_ShortText, ...] = ()
    test_readings: _Size = 0
    calibration: Calibration | None = None
    slices: _Slices | None = None

    def __post_init__(self) -> None:
        num = len(self.class_names)
        if {len(self.recall_intervals), len(self.confusion), *map(len, self.confusion)} != {num}:
            raise ValueError("classes, recall intervals and confusion matrix disagree in size")
        if not all(name.isprintable() for name in self.class_names):
            raise ValueError("a class name that is not printable")
        counts = [sum(row) for row in self.confusion]
        if sum(counts) != self.n or [not count for count in counts] != [each is None for each in self.recall_intervals]:
            raise ValueError("n, the confusion matrix and the recall intervals disagree")
        scored = {key for key in SCORE_TITLES if getattr(self, key) is not None}
        if not scored <= set(self.intervals) or set(self.guesses) != {"majority", "constant_guess", "chance"}:
            raise ValueError("a score without its interval or its baselines")
        if not all(scored <= set(values) for values in self.guesses.values() if values is not None):
            raise ValueError("a baseline without its scores")
        errors = [] if self.calibration is None else [self.calibration.before, self.calibration.after]
        if not all({"ece", "nll", "brier", "confidence"} <= set(each.intervals) for each in errors):
            raise ValueError("a calibration without its intervals")

    def scores(self) -> Scores:
        return Scores(
            class_names=self.class_names,
            confusion=np.asarray(self.confusion, dtype=np.int64),
            accuracy=self.accuracy,
            balanced_accuracy=self.balanced_accuracy,
            macro_f1=self.macro_f1,
            one_vs_rest_accuracy=self.one_vs_rest_accuracy,
            binary_accuracy=self.binary_accuracy,
            intervals=self.intervals,
            recall_intervals=self.recall_intervals,
            num_groups=self.groups,
            baselines=self.guesses,
            bootstrap=Bootstrap(resamples=self.resamples, seed=self.seed),
        )


_CONTENT = TypeAdapter(_Content)
