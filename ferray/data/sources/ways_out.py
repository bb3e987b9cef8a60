"""Why a data set is refused: what most often cannot be used, with an example, and what to do about just that.

Begin at `explain_faults`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ferray.data.sources.rows import MISSING, NUMBERED_CLASSES, Fault, Reason, count_by_reason
from ferray.errors import DataError

MIN_SECOND_SHARE = 0.2
"""Share of all faults from which the second reason is explained like the first."""

WAYS_OUT: Mapping[Reason, str] = {
    "not UTF-8": "Write the list, or the names of the files, in UTF-8",
    "wrong number of fields": "Write all fields into each line, in the order that the message names",
    "not a number": "Write whole numbers where the message says so",
    "wrong number of pixels": "Write the 2,304 gray levels of each face, 48 rows of 48",
    "unknown label": f"Write the labels as whole numbers: {NUMBERED_CLASSES}",
    "empty cell": "Fill in the path and the label, or remove the lines",
    "no annotation": "Unpack the annotations again: each picture needs its NAME_exp.npy",
    "unknown split": "Write train, validation or test into the column, or the names of FER2013's column Usage: "
    "Training, PublicTest, PrivateTest",
    "value that does not print": "Write texts of at most 1,000 characters, without line ends, into the columns",
    "box of zero area": "Check the order of the box's columns: left must be below right, and top below bottom; a line "
    "of ExpW's list is name, face id, top, left, right, bottom, confidence, label",
    "box outside the photograph": "Check that the boxes count pixels of these photographs, which may have been scaled",
    "two rows for one face": "Write one line for each face; in ExpW's list each of a photograph has its own face id",
    "name outside the folder": "Copy what links point to into the folder, for example with `cp -rL FOLDER COPY`, and "
    "name the copy; names in a list must be paths below the folder of the photographs",
    "name that is none": "Rename the files so that their names print, and have at most 255 bytes",
    MISSING: "Name the folder in which the photographs of the list lie: --images DIR",
    "truncated photograph": "Fetch the files again",
    "damaged photograph": "Fetch the files again",
    "not a picture": "Remove the files, or convert them to JPEG or PNG",
    "unreadable photograph": "Fetch the files again, or convert them to JPEG or PNG",
    "photograph too large": "Scale the photographs down",
    "copies with unlike labels": "Leave out --drop-conflicts",
    "copy of a face in a later split": "Leave out --drop-leaks",
    "of another class": "Keep it: without --without-contempt, or with `merge --classes all`; AffectNet's 8 to 10 "
    "are no expressions",
    "no label": "Expect this of half of CK+'s sequences; where all lack one, name the folder Emotion of the same "
    "release: --labels DIR",
    "no majority of votes": "Take another rule: --votes plurality",
    "tied votes": "Take another rule: --votes microsoft",
    "voted unknown": "Expect this: annotators saw no expression that they could name",
    "voted not a face": "Expect this: annotators saw no face",
}
"""What to do about each reason for which a row cannot be used."""


class UnusableSourceError(DataError):
    """A data set of which no row can be used, or too few."""

    faults: Sequence[Fault] = ()
    """What is wrong with its rows, for the list that a refused preparation leaves."""


def nothing_usable(place: str, what: str, faults: Sequence[Fault], way_out: str) -> UnusableSourceError:
    """The refusal of a data set of which no row can be used.

    Args:
        place: The data.
        what: That nothing can be used.
        faults: Why.
        way_out: What to do where there is nothing at all; after the ways out of the faults elsewhere.
    """
    shown, way_out_of_faults = explain_faults(faults) if faults else ("there are none", "")
    error = UnusableSourceError(place, f"{what}: {shown}", "; or: ".join(filter(None, (way_out_of_faults, way_out))))
    error.faults = faults
    return error


def explain_faults(faults: Sequence[Fault], root: Path | None = None) -> tuple[str, str]:
    """What cannot be used, by reason, and what to do about the leading reason, or about both of two.

    Args:
        faults: At least one.
        root: The folder of the photographs; where photographs are missing, they are looked for around it.

    Returns:
        What, such as `84 name outside the folder, the first PLACE: WHAT`, and the way out.
    """
    counts = count_by_reason(faults)
    leading = [reason for reason in list(counts)[:2] if counts[reason] >= MIN_SECOND_SHARE * len(faults)]
    parts = []
    for reason, count in counts.items():
        shown = f"{count:,} {reason}"
        if reason in leading:
            first = first_of(faults, reason)
            shown += f" (first {first.place}: {first.what})"
        parts.append(shown)
    ways_out = dict.fromkeys(way_out_of(first_of(faults, reason), root) for reason in leading)
    return ", ".join(parts), "; ".join(ways_out)


def first_of(faults: Sequence[Fault], reason: Reason) -> Fault:
    """The first fault of a reason."""
    return next(fault for fault in faults if fault.reason == reason)


def way_out_of(fault: Fault, root: Path | None = None) -> str:
    """What to do about a fault; a photograph that lies one folder beside, above or below `root` is found there."""
    way_out = fault.way_out or WAYS_OUT[fault.reason]
    found = _find_folder(fault.source, root) if fault.reason == MISSING and root is not None else None
    return f"The photographs lie in another folder: --images {found}" if found else way_out


def _find_folder(source: str, root: Path) -> Path | None:
    """The folder in which a missing photograph lies: in `root`, above it, or beside it."""
    try:
        folders = [*root.iterdir(), root.parent, *root.parent.iterdir()]
        return next((folder for folder in folders if (folder / source).is_file()), None)
    except OSError:
        return None
