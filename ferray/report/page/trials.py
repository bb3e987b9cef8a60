"""The table of all trials: columns that the page's script sorts and filters. Begin at `trials_table`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ferray.report.results.early import reason_in_words
from ferray.report.results.read import SearchResults
from ferray.report.results.series import overfitting
from ferray.report.wording import EXPONENTIAL, in_words, sort_words

MAX_REASON = 300
"""Characters of the reason of a failure; `record.json` has all."""


def trials_table(results: SearchResults, *, out: Path) -> dict[str, Any]:
    """All trials by column, as JSON values.

    Args:
        results: The search.
        out: The page, which links to the folders of the trials.
    """
    records = results.records
    score = in_words(results.metric)
    repeated = [name for name in ("seed", "fold") if len({getattr(one.recipe, name) for one in records}) > 1]
    best = [record.best() for record in records]
    columns = [
        _column("trial", "trial", [record.number for record in records]),
        _column("score", score, [record.score() for record in records], digits=4),
        _column("state", "state", [record.state for record in records]),
        *(
            _setting_column(name, [getattr(record.recipe, name) for record in records])
            for name in (*results.searched, *repeated)
        ),
        _column("best_epoch", "best epoch", [None if row is None else row.epoch for row in best]),
        _column("epochs", "epochs", [len(record.epochs) for record in records]),
        _column("gap", "train minus validation", [overfitting(record) for record in records], digits=4),
        _column("seconds", "seconds", [record.seconds() for record in records], digits=1),
        *(
            _column(name, in_words(name), [None if row is None else getattr(row, name) for row in best], digits=4)
            for name in ("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss")
            if name != results.metric
        ),
        *_reasons(results),
    ]
    return {
        "columns": columns,
        "maximize": results.maximize,
        "winner": None if results.kept is None else results.kept.trial_id,
        "folders": [record.trial_id for record in records],
        "base": folder_link(results.run.folder / "trials", out=out),
    }


def folder_link(folder: Path, *, out: Path) -> str:
    """A link from the page to a folder, relative where that is possible."""
    relative = os.path.relpath(folder, out.resolve().parent)
    return quote(Path(relative).as_posix()) + "/"


def _column(key: str, title: str, values: Sequence[Any], *, digits: int | None = None) -> dict[str, Any]:
    """A column; its numbers have six digits, or what they are shown with."""
    known = [value for value in values if value is not None]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if is_number:
        values = [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
    else:
        values = [None if value is None else str(value) for value in values]
    return {"key": key, "title": title, "values": values, "number": is_number, "digits": digits}


def _setting_column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A column of a setting, which the page's script writes and sorts as `ferray.report.wording` does."""
    column = _column(name, in_words(name), values)
    order = [] if column["number"] else sort_words(name, {value for value in column["values"] if value is not None})
    return column | {"setting": True, "exponential": name in EXPONENTIAL, "order": order}


def _reasons(results: SearchResults) -> list[dict[str, Any]]:
    reasons = [reason_in_words(record, results.space)[:MAX_REASON] for record in results.records]
    return [_column("reason", "reason", reasons)] if any(reasons) else []
