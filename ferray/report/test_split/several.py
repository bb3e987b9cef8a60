"""The score of one model on several stores, to see how far it holds on data of another origin.

Classes are mapped by name. Faces of a class that the model lacks are left out and counted; the model's classes that a
store lacks are named.

Begin at `StoreScore`; `format_stores` makes the table.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.data.subject import EXPRESSIONS, Subject
from ferray.metrics.intervals import range_text
from ferray.metrics.scores import Scores
from ferray.wording import cut_text, pad_text

_MAX_COLUMNS = 80

_NAME_COLUMNS = 20

_LEGEND = (
    "constant: top-1 accuracy of the best constant prediction. Balanced accuracy is the mean recall of the classes that"
    " have faces. Classes differ in number and share among stores, so compare each score with its own baseline first."
)


@dataclass(frozen=True, kw_only=True)
class StoreScore:
    """A model's score on one store."""

    data: str
    """The store's folder or address, as it was given."""
    fingerprint: str
    """Of the store."""
    scores: Scores
    left_out: Mapping[str, int]
    """Faces of classes that the model lacks, by class; they are in no score."""
    absent: tuple[str, ...]
    """Classes of the model that the store lacks."""
    read_at: str | None
    """Time of the reading on record; None where the split was read now."""

    def to_json(self, split: str) -> dict[str, Any]:
        """As JSON values.

        Args:
            split: What was scored.
        """
        return {
            "folder": self.data,
            **self.scores.to_json(),
            "data": self.fingerprint,
            "split": split,
            "left_out": dict(self.left_out),
            "absent": list(self.absent),
            "read": self.read_at,
        }


def format_stores(rows: Sequence[StoreScore], title: str, shown: Subject = EXPRESSIONS) -> str:
    """A table with a line for each store, and below it what was left out.

    Args:
        rows: The scores.
        title: The model and the split.
        shown: What the pictures show.
    """
    head = (
        f"{'store':<{_NAME_COLUMNS}} {shown.nouns:>8} {'left out':>8} {'top-1':>6} {'95 % interval':>16}"
        f" {'balanced':>8} {'constant':>8}"
    )
    lines = [*textwrap.wrap(title, _MAX_COLUMNS), "", head]
    for row in rows:
        scores, constant = row.scores, row.scores.baselines["constant_guess"]
        assert constant is not None, "it needs no training faces"
        lines.append(
            f"{pad_text(cut_text(Path(row.data).name, _NAME_COLUMNS), _NAME_COLUMNS)} {scores.num_faces:>8,}"
            f" {sum(row.left_out.values()):>8,}"
            f" {scores.accuracy:>6.4f} {range_text(scores.intervals['accuracy']):>16}"
            f" {scores.balanced_accuracy:>8.4f} {constant['accuracy']:>8.4f}"
        )
    for row in rows:
        notes = [f"left out, since the model lacks the class: {num:,} of {name}" for name, num in row.left_out.items()]
        if row.absent:
            notes.append(
                f"the store lacks {', '.join(row.absent)}: a {shown.noun} that is predicted so is predicted wrongly"
            )
        if row.read_at is not None:
            notes.append(f"the score on record, read at {row.read_at}; the split was not read again")
        lines += [""] * bool(notes)
        lines += [line for text in notes for line in textwrap.wrap(f"{row.data}: {text}", _MAX_COLUMNS)]
    return "\n".join([*lines, "", *textwrap.wrap(shown.reword(_LEGEND), _MAX_COLUMNS)])
