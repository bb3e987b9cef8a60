"""CK+: sequences of frames that begin neutral and end at the peak of an expression, split by person.

    DIR/cohn-kanade-images/S005/001/S005_001_00000011.png     subject, sequence, frame
    DIR/Emotion/S005/001/S005_001_00000011_emotion.txt        3.0000000e+00

Of 593 sequences 327 have a label: 1 anger, 2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness, 7 surprise. The last
frames of a sequence, which most papers use, hardly differ, and a person looks alike in all sequences; so all faces of a
person are one group, which is never in two splits. A random split of frames has the same person on both sides, and
scores near 100 %. Copies have folders by class, with frames under their own names. Begin at `read_ckplus`.

Source: Lucey, Cohn, Kanade, Saragih, Ambadar and Matthews, "The Extended Cohn-Kanade Dataset (CK+)", 2010, and the
readme of its files.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ferray.data.sources.classes import classes_of_expressions
from ferray.data.sources.folders import CK_FRAME, read_folders
from ferray.data.sources.rows import Face, Fault, Source
from ferray.data.sources.ways_out import nothing_usable
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

CLASS_OF_NUMBER = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
DEFAULT_FRAMES = 3
MAX_FRAMES = 20
"""Frames of a sequence that may be taken; the shortest have few, and the first are neutral."""

_WAY_OUT_OF_LABEL = "Unpack CK+'s Emotion again: each of its files has one number from 0 to 7"
_SUBJECT, _SEQUENCE = re.compile(r"S\d{3}"), re.compile(r"\d{3}")
_TREES = (
    "Name the folder that holds cohn-kanade-images and Emotion, or folders by class whose files are named as "
    "S005_001_00000011.png: --images DIR"
)


def read_ckplus(
    images: Path,
    *,
    labels: Path | None = None,
    frames: int | None = None,
    with_neutral: bool = False,
    with_contempt: bool = True,
) -> Source:
    """Read CK+; no photograph is opened.

    Args:
        images: The folder that holds `cohn-kanade-images` and `Emotion`, or folders by class.
        labels: The folder `Emotion`, where it lies elsewhere.
        frames: Frames that are taken from the end of each labeled sequence; None for `DEFAULT_FRAMES`.
        with_neutral: Whether the first frame of each labeled sequence is taken, too, as neutral.
        with_contempt: Whether contempt, which the seven expressions lack, is kept.

    Raises:
        DataError: It is none of the layouts, or a person is in two splits.
    """
    if frames is not None and not 1 <= frames <= MAX_FRAMES:
        raise DataError(f"--frames {frames}", f"not between 1 and {MAX_FRAMES}", "Leave it out for the last three")
    if not images.is_dir():
        raise DataError(str(images), "no such folder", _TREES)
    try:
        pictures = images / "cohn-kanade-images"
        pictures = pictures if pictures.is_dir() else images
        if any(map(_SUBJECT.fullmatch, os.listdir(pictures))):
            emotion = labels or _find_labels(images)
            return _read_sequences(images, pictures, emotion, frames or DEFAULT_FRAMES, with_neutral, with_contempt)
    except OSError as error:
        raise DataError(str(error.filename), f"cannot be read: {error.strerror or error}", _TREES) from error
    if frames is not None or with_neutral or labels is not None:
        what = "has folders by class, in which frames were chosen before, and no sequences"
        raise DataError(str(images), what, f"Leave out --frames, --with-neutral and --labels. {_TREES}")
    return _read_copy(images, with_contempt=with_contempt)


def _find_labels(images: Path) -> Path:
    places = [images / "Emotion", images / "Emotion_labels" / "Emotion", images.parent / "Emotion"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(str(images), "has no folder Emotion, which holds the labels", "Name it: --labels DIR")
    return found


def _read_sequences(
    images: Path, pictures: Path, labels: Path, num_frames: int, with_neutral: bool, with_contempt: bool
) -> Source:
    root = images.resolve()
    names = _class_names(with_neutral=with_neutral, with_contempt=with_contempt)
    faces: list[Face] = []
    faults: list[Fault] = []
    left_out: list[Fault] = []
    num_labeled = 0
    for subject, sequence, files in _list_sequences(pictures):
        place = f"{pictures.name}/{subject}/{sequence}"
        label = _read_label(labels, subject, sequence)
        if isinstance(label, Fault):
            (left_out if label.reason == "no label" else faults).append(label)
            continue
        name = CLASS_OF_NUMBER[label]
        if name not in names:
            left_out.append(Fault("of another class", place, f"label is {name}", place))
            continue
        num_labeled += 1
        peak = files[-num_frames:]
        taken = [(file, name, len(peak) - 1 - at) for at, file in enumerate(peak)]
        if with_neutral and len(files) > num_frames:
            taken.append((files[0], "neutral", len(files) - 1))
        for file, class_name, before_peak in taken:
            source = (pictures / subject / sequence / file).relative_to(images).as_posix()
            columns: dict[str, str | float | None] = {
                "subject": subject, "sequence": f"{subject}_{sequence}", "frames_before_peak": before_peak,
            }  # fmt: skip
            faces.append(Face(source, 0, names.index(class_name), str(root / source), group=subject, columns=columns))
    if not faces:
        way_out = "Name the folder Emotion of the same release: --labels DIR"
        raise nothing_usable(str(labels), "no labeled sequence", [*faults, *left_out], way_out)
    taken_frames = f"the last {num_frames} frames" if num_frames > 1 else "the last frame"
    neutral = ", and the first as neutral" if with_neutral else ""
    return Source(
        dataset="ckplus" if num_frames == DEFAULT_FRAMES else f"ckplus-{num_frames}-frames",
        root=root,
        faces=faces,
        faults=faults,
        upright=True,
        classes=classes_of_expressions(names),
        left_out=left_out,
        notes=[f"{taken_frames} of each of {num_labeled:,} labeled sequences{neutral}", _describe_people(faces)],
    )


def _class_names(*, with_neutral: bool, with_contempt: bool) -> tuple[str, ...]:
    names = CLASS_NAMES if with_neutral else tuple(name for name in CLASS_NAMES if name != "neutral")
    return (*names, "contempt") if with_contempt else names


def _describe_people(faces: Sequence[Face]) -> str:
    return f"faces of {len({face.group for face in faces}):,} people; no person is in two splits"


def _list_sequences(pictures: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Subject, sequence and frames of each folder, in their order."""
    for subject in sorted(filter(_SUBJECT.fullmatch, os.listdir(pictures))):
        folder = pictures / subject
        for sequence in sorted(filter(_SEQUENCE.fullmatch, os.listdir(folder))) if folder.is_dir() else ():
            if (folder / sequence).is_dir():
                names = sorted(filter(CK_FRAME.fullmatch, os.listdir(folder / sequence)))
                if names:
                    yield subject, sequence, names


def _read_label(labels: Path, subject: str, sequence: str) -> int | Fault:
    """The number of a sequence's label."""
    folder, place = labels / subject / sequence, f"{subject}/{sequence}"
    files = sorted(name for name in os.listdir(folder) if name.endswith("_emotion.txt")) if folder.is_dir() else []
    files = [name for name in files if not name.startswith(".")]
    if not files:
        return Fault("no label", place, "the sequence has no label", place)
    if len(files) > 1:
        return Fault("two rows for one face", str(folder), f"{len(files)} labels for one sequence", place)
    try:
        text = untrusted.read_bytes(folder / files[0], max_bytes=1000, inside=labels).decode().strip()
        number = float(text)
    except StorageError as error:
        return Fault("no annotation", error.args[0], error.args[1], place)
    except ValueError:
        what = "its text is not one number"
        return Fault("unknown label", str(folder / files[0]), what, place, way_out=_WAY_OUT_OF_LABEL)
    if not number.is_integer() or not 0 <= number < len(CLASS_OF_NUMBER):
        what = f"label is {text[:20]!r}, not 0 to 7"
        return Fault("unknown label", str(folder / files[0]), what, place, way_out=_WAY_OUT_OF_LABEL)
    return int(number)


def _read_copy(images: Path, *, with_contempt: bool) -> Source:
    """Folders by class, in which the frames have their own names."""
    try:
        tree = read_folders(images, is_set_known=True)
    except DataError as error:
        raise DataError(error.args[0], error.args[1], _TREES) from error
    names = tuple(name for name in (*CLASS_NAMES, "contempt") if name != "contempt" or with_contempt)
    known = classes_of_expressions((*CLASS_NAMES, "contempt"))
    labels = [known.find(name) for name in tree.classes.names]
    if None in labels:
        unknown = ", ".join(repr(name) for name, label in zip(tree.classes.names, labels, strict=True) if label is None)
        raise DataError(str(images), f"has folders that are no expressions: {unknown[:200]}", _TREES)
    present = {known.names[label] for label in labels if label is not None}
    names = tuple(name for name in names if name in present)
    faces: list[Face] = []
    left_out: list[Fault] = []
    for face in tree.faces:
        found = CK_FRAME.fullmatch(face.source.rpartition("/")[2])
        if found is None:
            what = f"{face.source} is not named after subject, sequence and frame, so whose face it is is not known"
            way_out = "Without it one person would be on both sides of the split; take frames under their own names"
            raise DataError(str(images), what, f"{way_out}. {_TREES}")
        label = labels[face.label]
        assert label is not None
        if known.names[label] not in names:
            left_out.append(Fault("of another class", face.place, f"label is {known.names[label]}", face.source))
            continue
        columns = {"subject": found[1], "sequence": f"{found[1]}_{found[2]}"}
        faces.append(replace(face, label=names.index(known.names[label]), group=found[1], columns=columns))
    _refuse_people_in_two_splits(faces, images)
    return replace(
        tree,
        dataset="ckplus",
        faces=faces,
        classes=classes_of_expressions(names),
        left_out=left_out,
        notes=[_describe_people(faces)],
    )


def _refuse_people_in_two_splits(faces: Sequence[Face], images: Path) -> None:
    splits: dict[str | None, str | None] = {}
    for face in faces:
        if splits.setdefault(face.group, face.split) != face.split:
            what = f"{face.group} is in {splits[face.group]} and in {face.split}: a score would be of known people"
            raise DataError(str(images), what, "Move the classes of all splits into one tree, which is split by person")
