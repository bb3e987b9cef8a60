"""Records as tables of pandas: one row per trial, or one row per epoch. Every column has a type, even an empty one.

Begin at `trials_frame`.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from ferray import recipe as recipes
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, TrialRecord, epochs_to_json

if TYPE_CHECKING:
    import pandas

_TYPES: dict[type, str] = {int: "Int64", float: "Float64", str: "string", bool: "boolean"}
"""pandas' types that know missing values, by Python's."""

_TIME = "datetime64[s, UTC]"
_PARAMETERS = ("trunk_parameters", "head_parameters")


def trials_frame(
    records: Iterable[TrialRecord],
    *,
    searched: Sequence[str] = (),
    tested: Mapping[str, Mapping[str, float]] | None = None,
    count_parameters: Callable[[Recipe], tuple[int, int]] | None = None,
) -> "pandas.DataFrame":
    """One row per trial: number, id, state, the searched settings, scores, times, and then all other settings.

    Args:
        records: All trials.
        searched: Names of the settings in which the trials can differ: they come first, and the column `searched` has
            their names.
        tested: Scores on the test split by trial id, as the columns `test_*`; the winner's alone.
        count_parameters: Those of a recipe's trunk and head, for two columns; None leaves them empty.
    """
    import pandas

    kinds = {
        "number": "Int64",
        "trial_id": "string",
        "state": "string",
        "searched": "string",
        **{name: setting_types()[name] for name in searched},
        "epochs_run": "Int64",
        **{name: "Int64" if name == "best_epoch" else "Float64" for name in best_names()},
        **{f"test_{name}": "Float64" for scores in (tested or {}).values() for name in scores},
        **dict.fromkeys(_PARAMETERS, "Int64"),
        "began": _TIME,
        "seconds": "Float64",
        "device": "string",
        "reason": "string",
        **{name: kind for name, kind in setting_types().items() if name not in searched},
    }
    rows = []
    for record in records:
        scores = (tested or {}).get(record.trial_id, {})
        counts = None if count_parameters is None else count_parameters(record.recipe)
        rows.append(
            {
                "number": record.number,
                "trial_id": record.trial_id,
                "state": record.state,
                "searched": ", ".join(searched),
                **recipes.to_values(record.recipe),
                "epochs_run": len(record.epochs),
                **best_columns(record),
                **{f"test_{name}": value for name, value in scores.items()},
                **dict(zip(_PARAMETERS, counts or (None, None), strict=True)),
                "began": record.began or None,
                "seconds": record.seconds(),
                "device": record.device,
                "reason": record.reason,
            }
        )
    frame = pandas.DataFrame(rows, columns=list(kinds), dtype="object")
    frame["began"] = pandas.to_datetime(frame["began"], utc=True, errors="coerce")
    return frame.astype(kinds)


def best_names() -> tuple[str, ...]:
    """The names of `best_columns`."""
    return tuple(f"best_{name}" for name in ("epoch", *(name for name in METRIC_FIELDS if name != "seconds")))


def best_columns(record: TrialRecord) -> dict[str, Any]:
    """The best epoch as `best_epoch`, `best_train_loss` and so on, without its seconds; None where there is none."""
    best = record.best()
    return {name: None if best is None else getattr(best, name.removeprefix("best_")) for name in best_names()}


def epochs_frame(records: Iterable[TrialRecord]) -> "pandas.DataFrame":
    """One row per epoch: trial_id, number, and the fields of `EpochResult`."""
    import pandas

    rows = [
        {"trial_id": record.trial_id, "number": record.number, **row}
        for record in records
        for row in epochs_to_json(record.epochs)
    ]
    kinds = {"trial_id": "string", "number": "Int64", "epoch": "Int64", **dict.fromkeys(METRIC_FIELDS, "Float64")}
    return pandas.DataFrame(rows, columns=list(kinds), dtype="object").astype(kinds)


def plain_frame(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """A table with Python's own values, None where one is missing, for libraries that do not know pandas' types."""
    return frame.astype("object").where(frame.notna(), None)


def setting_types() -> dict[str, str]:
    """The type of each setting in pandas, in the order of the class."""
    return {name: _TYPES[_python_type(hint)] for name, hint in get_type_hints(Recipe).items()}


def _python_type(hint: Any) -> type:
    """The type of a field's values: of `int | None` it is int, of a choice of words it is str."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(_python_type(one) for one in get_args(hint) if one is not types.NoneType)
    return hint if get_origin(hint) is None else str
