"""Wording that messages and records share: counts, first lines, paths, suggestions for misspelled names, times."""

import datetime
import difflib
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

DEFAULT_OUT = "runs"
"""Parent folder of all searches, unless `--out` names another."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that offers the known name nearest to an unknown one, then a space; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}? " if near else ""


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: `1 trial`, `2 trials`.

    Args:
        number: At least 0.
        noun: In the singular.
        plural: Where it is not the noun with an `s`.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def columns_of(text: str) -> int:
    """The columns that a text takes in a terminal, where a Chinese character, for one, takes two."""
    from rich.cells import cell_len

    return cell_len(text)


def cut_text(text: str, columns: int) -> str:
    """A text of at most so many columns of a terminal; an ellipsis stands for what is left out."""
    from rich.cells import set_cell_size

    return text if columns_of(text) <= columns else set_cell_size(text, columns - 1).rstrip() + "…"


def pad_text(text: str, columns: int) -> str:
    """A text that is filled up with spaces to so many columns of a terminal."""
    return text + " " * (columns - columns_of(text))


def short_names(names: Sequence[str], columns: int) -> list[str]:
    """Names of at most so many columns of a terminal, no two alike: cut at the end, else in the middle, else numbered.

    Args:
        names: No two alike.
        columns: At least 12.
    """

    def middle(place: int) -> str:
        end = names[place][-(columns // 3) :]
        return cut_text(names[place], columns - columns_of(end)) + end

    def numbered(place: int) -> str:
        number = f" ({place})"
        return cut_text(names[place], columns - len(number)) + number

    short = [cut_text(name, columns) for name in names]
    for cut in (middle, numbered):
        counts = Counter(short)
        short = [cut(place) if counts[text] > 1 and text != names[place] else text for place, text in enumerate(short)]
    return short


def option_text(option: str, value: str) -> str:
    """An option with its value, as a shell and argparse read them: `--name 'my search'`, `--name=-1`."""
    return f"{option}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"


def first_line(text: str, *, default: str = "") -> str:
    """The first line of a text of many, such as an error; `default` for an empty text."""
    return next(iter(text.splitlines()), default)


def utc_now() -> str:
    """The time in UTC, to the second, as ISO 8601 writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def duration_text(seconds: float) -> str:
    """A time: `45 s`, `5:03 min`, `12 min`, `1 h 05 min`."""
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes >= 10 else f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def short_path(path: Path) -> Path:
    """Relative to where the user is, where the path lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
