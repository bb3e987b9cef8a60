"""FER2013 as a source, with its own labels or with those of FER+.

The column Usage is the split on which papers report: Training is train, PublicTest validation, PrivateTest test. (Some
libraries take both of the later ones, 7,178 faces, for their test split.) Begin at `read_fer2013`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.known_sets import WITH_CONTEMPT
from ferray.data.sources.classes import EXPRESSION_CLASSES, classes_of_expressions
from ferray.data.sources.fer2013_csv import MAX_CSV_BYTES, PixelTable, read_fer2013_csv
from ferray.data.sources.ferplus import VoteRule, VoteTable, choose_label, read_votes
from ferray.data.sources.folders import SPLIT_OF_ALIAS
from ferray.data.sources.numbering import refuse_order_slip
from ferray.data.sources.rows import MAX_LIST_BYTES, Face, Fault, Source
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError
from ferray.files import untrusted


def read_fer2013(
    file: Path,
    *,
    may_divide: bool = False,
    ferplus: Path | None = None,
    rule: VoteRule = "majority",
    with_contempt: bool = True,
) -> Source:
    """Read FER2013's CSV file.

    Args:
        file: `fer2013.csv`, `icml_face_data.csv`, or one of their form.
        may_divide: Whether a file without the column Usage is accepted; it is then divided as any other data.
        ferplus: FER+'s `fer2013new.csv`, whose votes replace the labels and are kept with the faces.
        rule: How votes become a label.
        with_contempt: Whether FER+'s eighth class is kept.

    Raises:
        DataError: A file cannot be read, has no line or no split; FER+'s lines are not those of the faces.
    """
    table = read_fer2013_csv(file)
    has_split = None not in table.splits  # where no line can be used, `prepare` explains why
    if not has_split and not may_divide:
        way_out = (
            "Take fer2013.csv or icml_face_data.csv, whose split others report on; or divide these faces by copies, "
            "as a split of your own: --split 70/10/20"
        )
        raise DataError(
            f"{file}:1", "has no column Usage, so FER2013's own split is not known (Kaggle's train.csv)", way_out
        )
    faces = [
        Face(name, 0, int(label), f"{file}:{name.removeprefix('row ')}", split=split)
        for name, label, split in zip(table.names, table.labels, table.splits, strict=True)
    ]
    place_of = {name: place for place, name in enumerate(table.names)}

    def pixels(name: str) -> NDArray[np.uint8]:
        return np.repeat(table.pixels[place_of[name], :, :, None], 3, axis=2)

    source = Source(
        dataset="fer2013",
        root=file.parent.resolve(),
        faces=faces,
        faults=table.faults,
        upright=True,
        classes=replace(EXPRESSION_CLASSES, are_required=False),
        is_listed=True,
        label_digest=untrusted.digest_file(file, max_bytes=MAX_CSV_BYTES),
        notes=["FER2013's own split: Usage Training, PublicTest, PrivateTest"] if has_split else [],
        pixels=pixels,
    )
    if ferplus is None:
        refuse_order_slip(
            source,
            file,
            "Number the labels as FER2013 does: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral",
        )
        return source
    return _relabel(source, table, read_votes(ferplus), ferplus, rule, with_contempt=with_contempt)


def _relabel(
    source: Source, table: PixelTable, votes: VoteTable, file: Path, rule: VoteRule, *, with_contempt: bool
) -> Source:
    """The same faces with labels by a rule; those for which it gives none are left out, each with the reason."""
    _check_lines(table, votes, file)
    names = WITH_CONTEMPT if with_contempt else CLASS_NAMES
    faces: list[Face] = []
    left_out: list[Fault] = []
    for face, place in zip(source.faces, table.places.tolist(), strict=True):
        counts = votes.votes[place].tolist()
        label = choose_label(counts, rule)
        if label == len(names):
            label = "of another class"
        if isinstance(label, str):
            left_out.append(Fault(label, face.place, f"its votes are {_shown(counts)}", face.source, face.face_id))
            continue
        columns = {"agreement": round(counts[label] / sum(counts), 2), "fer2013_class": CLASS_NAMES[face.label]}
        faces.append(replace(face, label=label, columns=columns, votes=tuple(counts[: len(names)])))
    kept = f"labels by FER+'s votes, rule {rule}: {len(faces):,} of {len(source.faces):,} faces have one"
    return replace(
        source,
        dataset=f"ferplus-{rule}",
        faces=faces,
        left_out=left_out,
        classes=classes_of_expressions(names),
        label_digest=hashlib.sha256(
            source.label_digest + untrusted.digest_file(file, max_bytes=MAX_LIST_BYTES)
        ).digest(),
        notes=[*source.notes, kept, *([] if with_contempt else ["faces voted contempt were left out"])],
    )


def _check_lines(table: PixelTable, votes: VoteTable, file: Path) -> None:
    """Refuse votes of other faces: they belong to the faces by the order of the lines alone."""
    way_out = "Take both files as they were published: the order of their lines says which votes are whose"
    if len(votes.votes) != table.num_lines:
        what = f"has {len(votes.votes):,} lines of votes, but there are {table.num_lines:,} faces"
        raise DataError(str(file), what, way_out)
    if votes.usages is None or None in table.splits:
        return
    for place, split in zip(table.places.tolist(), table.splits, strict=True):
        usage = votes.usages[place]
        if SPLIT_OF_ALIAS.get(usage.casefold()) != split:
            what = f"Usage of line {place + 1:,} of the votes is {usage[:20]!r}, but the face is in {split}"
            raise DataError(str(file), what, way_out)


def _shown(counts: Sequence[int]) -> str:
    answers = (*WITH_CONTEMPT, "unknown", "not a face")
    return ", ".join(f"{num} {name}" for name, num in zip(answers, counts, strict=True) if num) or "none"
