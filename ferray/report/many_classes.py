"""What tables and sentences show of the classes: all, or of a thousand those that matter. Begin at `lowest_recalls`."""

import re
from collections.abc import Sequence

from ferray.metrics.scores import Scores

MAX_NAMES = 20
"""Classes that a sentence names, or a table has a column for."""


def lowest_recalls(scores: Scores, max_rows: int) -> Sequence[int]:
    """The places of all classes in their order; of more than `max_rows`, of those with the lowest recall, lowest first.

    Of equal recalls the class with the most examples comes first, since its recall is the most certain.
    """
    places = range(len(scores.class_names))
    if len(places) <= max_rows:
        return places
    counts = scores.class_counts
    recalls = {place: recall for place, recall in enumerate(scores.recalls) if recall is not None}
    return sorted(recalls, key=lambda place: (recalls[place], -counts[place], place))[:max_rows]


def list_names(names: Sequence[str]) -> str:
    """`a, b, c`; of many the first, and how many there are more."""
    shown = ", ".join(names[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES:,} more"


def escape_cell(name: str) -> str:
    """A name as Markdown shows it in a table."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", name)
