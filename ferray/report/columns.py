"""Tables of trials in a terminal: the searched settings as columns that are narrow enough.

Begin at `fit_settings`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferray.report.wording import setting_text

WIDTH = 80
"""Columns of a terminal that every table fits."""

GAP = 2
"""Columns between two columns of a table."""

_MAX_WORD = 9
"""Letters of one part of a name; a longer one is shortened."""

_MAX_VALUE = 18
"""Letters of a value: so many has `mobilenet_v3_large`; a longer one is shortened."""


@dataclass(frozen=True, kw_only=True)
class SettingColumn:
    """A setting as a column of a table."""

    name: str
    header: str
    """The words of the name, one a line."""
    cells: tuple[str, ...]
    """A text for each trial."""

    @property
    def width(self) -> int:
        """In characters, without the gap."""
        return max(map(len, (*self.header.splitlines(), *self.cells)), default=0)


def fit_settings(
    names: Sequence[str], rows: Sequence[Mapping[str, object]], *, room: int
) -> tuple[list[SettingColumn], list[str]]:
    """The settings that have room as columns, and the names of those that have none.

    Args:
        names: Settings, the most important first.
        rows: The settings of each trial in the table; one that is missing leaves its cell empty.
        room: In characters; each column takes its width and a gap.
    """
    columns, left_out = [], []
    for name in names:
        cells = tuple(_cut(setting_text(name, row.get(name, "")), _MAX_VALUE, "…") for row in rows)
        header = "\n".join(_cut(word, _MAX_WORD, ".") for word in name.split("_"))
        column = SettingColumn(name=name, header=header, cells=cells)
        if column.width + GAP <= room:
            columns.append(column)
            room -= column.width + GAP
        else:
            left_out.append(name)
    return columns, left_out


def _cut(text: str, length: int, sign: str) -> str:
    return text if len(text) <= length else text[: length - 1] + sign
