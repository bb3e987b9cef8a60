"""What `metrics.json` must hold to be shown; the file may be anybody's. Begin at `read_recorded`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.metrics.names import TITLES

Number = Annotated[float, Field(strict=True)]
Share = Annotated[Number, Field(ge=0, le=1)]
Interval = tuple[Number, Number]
Text = Annotated[str, Field(max_length=1000)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]

_CONFIG = ConfigDict(extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Errors:
    """Of the probabilities."""

    ece: Share


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Calibration:
    """Before and after temperature scaling."""

    before: _Errors
    after: _Errors


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Recorded:
    """The part that is read again."""

    accuracy: Share
    balanced_accuracy: Share
    macro_f1: Share
    one_vs_rest_accuracy: Share
    binary_accuracy: Share | None
    intervals: dict[str, Interval]
    guesses: dict[str, dict[str, Share] | None]
    class_names: list[Text]
    confusion: list[list[Count]]
    recalls: list[Share | None]
    recall_intervals: list[Interval | None]
    n: Count
    groups: Count
    data: Text
    read: Text
    notes: tuple[Text, ...] = ()
    test_readings: Count = 0
    temperature: Number | None = None
    calibration: _Calibration | None = None

    def __post_init__(self) -> None:
        num = len(self.class_names)
        lengths = {len(self.recalls), len(self.recall_intervals), len(self.confusion), *map(len, self.confusion)}
        if lengths != {num} or not all(name.isprintable() for name in self.class_names):
            raise ValueError("classes, recalls and confusion do not belong together")
        if [recall is None for recall in self.recalls] != [each is None for each in self.recall_intervals]:
            raise ValueError("a recall without its interval")
        scored = {key for key in TITLES if getattr(self, key) is not None}
        if not scored <= set(self.intervals) or set(self.guesses) != {"majority", "constant_guess", "chance"}:
            raise ValueError("a score without its interval or its guesses")
        if not all(scored <= set(guess) for guess in self.guesses.values() if guess is not None):
            raise ValueError("a guess without its scores")
        if (self.temperature is None) != (self.calibration is None):
            raise ValueError("a temperature without its calibration")


_RECORDED = TypeAdapter(_Recorded)


def read_recorded(file: Path) -> dict[str, Any]:
    """The value of a `metrics.json`; empty where there is none.

    Raises:
        CheckpointError: It is no score on record.
        StorageError: It cannot be read.
    """
    if not file.exists():
        return {}
    values = storage.read_json(file)
    try:
        _RECORDED.validate_python(values)
    except (ValidationError, RecursionError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deep"}
        place = ".".join(str(part) for part in fault["loc"]) or "the whole"
        what = f"no score on record: {place}: {fault['msg']}"
        raise CheckpointError(str(file), what, "Restore the file, or score the model again: --again") from error
    return dict(values)
