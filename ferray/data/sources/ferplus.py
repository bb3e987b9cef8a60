"""FER+: ten annotators' votes for each face of FER2013, and the rules that make one label of them.

    Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
    Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0

`fer2013new.csv` has a line for each line of `fer2013.csv`, in the same order; its names are not used, and are empty
where it is no face. "The majority label of FER+" means different faces to different authors, so a rule has a name:

    majority     an expression with more than half of all votes
    plurality    the expression with the most votes, if no other answer has as many
    microsoft    the authors' own: an answer with a single vote does not count, then more than half of the rest

`unknown` and `NF` (not a face) are answers like the others: a face for which one of them wins is left out, and so is
one without a winner. Begin at `read_votes`; `choose_label` applies a rule.

Source: Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", 2016; for `microsoft`, mode `majority` of the reader that they published with it.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ferray.data.known_sets import WITH_CONTEMPT
from ferray.data.sources.classes import Classes, classes_of_expressions
from ferray.data.sources.rows import INTEGER, MAX_LIST_BYTES, Reason
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

VoteRule = Literal["majority", "plurality", "microsoft"]
RULES: tuple[VoteRule, ...] = get_args(VoteRule)

UNKNOWN, NOT_A_FACE = len(WITH_CONTEMPT), len(WITH_CONTEMPT) + 1
"""Places of the two other answers behind the expressions."""
MAX_VOTES = 1000
"""Of one answer; FER+ has ten annotators."""

_FORM = "Name FER+'s fer2013new.csv, which has a column of votes for each expression, unknown and NF"
_REASONS: dict[int, Reason] = {UNKNOWN: "voted unknown", NOT_A_FACE: "voted not a face"}


@dataclass(frozen=True, kw_only=True)
class VoteTable:
    """The votes of a file, a row for each line."""

    votes: NDArray[np.int64]
    """Shape (lines, 10): the expressions in the order of `WITH_CONTEMPT`, unknown, not a face."""
    usages: tuple[str, ...] | None
    """Usage of each line as it is written; None where there is no such column."""


def read_votes(file: Path) -> VoteTable:
    """Read the votes of all lines.

    Raises:
        DataError: It cannot be read, lacks a column, or a number of votes is none; with a line that is left out, the
            others would belong to other faces.
    """
    rows: list[list[int]] = []
    usages: list[str] = []
    try:
        with untrusted.open_text(file, max_bytes=MAX_LIST_BYTES) as opened:
            lines = csv.reader(opened, skipinitialspace=True)
            header = [name.strip().casefold() for name in next(lines, [])]
            columns = _find_columns(header, file)
            for fields in lines:
                if not fields:
                    continue
                if len(fields) != len(header):
                    what = f"{len(fields)} fields, not {len(header)} as in the first line"
                    raise DataError(f"{file}:{lines.line_num}", what, _FORM)
                rows.append(_read_line([fields[at].strip() for at in columns], f"{file}:{lines.line_num}"))
                usages += [fields[header.index("usage")].strip()] if "usage" in header else []
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], _FORM) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(file), f"cannot be read: {error}", _FORM) from error
    if not rows:
        raise DataError(str(file), "has no votes", _FORM)
    return VoteTable(votes=np.asarray(rows, dtype=np.int64), usages=tuple(usages) or None)


def choose_label(votes: Sequence[int], rule: VoteRule) -> int | Reason:
    """The label that a rule makes of votes, as a place in `WITH_CONTEMPT`, or why there is none.

    Args:
        votes: Ten numbers, as in `VoteTable`.
        rule: See the module.
    """
    counted = [num if num > 1 or rule != "microsoft" else 0 for num in votes]
    most = max(counted)
    winners = [place for place, num in enumerate(counted) if num == most]
    if most == 0 or (rule != "plurality" and 2 * most <= sum(counted)):
        return "no majority of votes"
    if len(winners) > 1:
        return "tied votes"
    return _REASONS.get(winners[0], winners[0])


def _find_columns(header: Sequence[str], file: Path) -> list[int]:
    """The place of each answer's column, in the order of `VoteTable`."""
    found: dict[int, int] = {}
    for at, name in enumerate(header):
        answer = {"unknown": UNKNOWN, "nf": NOT_A_FACE}.get(name, _EIGHT.find(name))
        if answer is not None and found.setdefault(answer, at) != at:
            raise DataError(f"{file}:1", f"two columns are {name[:40]!r}", _FORM)
    answers = (*WITH_CONTEMPT, "unknown", "NF")
    missing = [name for answer, name in enumerate(answers) if answer not in found]
    if missing:
        shown = ", ".join(name[:20] for name in header[:14]) or "nothing"
        raise DataError(f"{file}:1", f"no column of votes for {', '.join(missing)}, but {shown}", _FORM)
    return [found[answer] for answer in range(len(answers))]


def _read_line(texts: Sequence[str], place: str) -> list[int]:
    for text in texts:
        if not INTEGER.fullmatch(text) or not 0 <= int(text) <= MAX_VOTES:
            raise DataError(place, f"a number of votes is {text[:20]!r}", f"Write whole numbers up to {MAX_VOTES:,}")
    return list(map(int, texts))


_EIGHT: Classes = classes_of_expressions(WITH_CONTEMPT)
