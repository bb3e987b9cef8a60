"""Photographs in folders by class: Oxford's pets, FER2013, RAF-DB and most other sets after unpacking.

    IMAGES/train/cat/1.jpg        a tree with train, validation and test, whose split is kept
    IMAGES/cat/1.jpg              or a tree without a split

The name of a folder is its class; which classes there are, and in which order, is decided in
`ferray.data.sources.classes`. Begin at `read_folders`.
"""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ferray.data.sources.classes import Classes, choose_classes, quote_names
from ferray.data.sources.rows import NUMBERED_CLASSES, SUFFIXES, Face, Fault, Source
from ferray.data.subject import EXPRESSIONS
from ferray.errors import DataError

log = logging.getLogger(__name__)

SPLIT_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Split to the folder names that mean it; PublicTest and PrivateTest are FER2013's own."""

SPLIT_OF_ALIAS = {alias: name for name, aliases in SPLIT_ALIASES.items() for alias in aliases}

_NUMBERED_SETS = (
    "Copies of RAF-DB and AffectNet have such folders: `prepare rafdb` and `prepare affectnet` find out which class a "
    "number means"
)
_NUMBERS_OF_SETS = [[str(number) for number in numbers] for numbers in (range(1, 8), range(7), range(8))]

CK_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.(?:png|jpe?g|tiff?)", re.IGNORECASE)
"""The name of a frame of CK+: subject, sequence, number."""

_TREES = "It needs a folder for each class, or train, validation and test with a folder for each class in each"


def read_folders(images: Path, classes: str | None = None, *, is_set_known: bool = False) -> Source:
    """List the photographs below a folder with the classes of their folders; no photograph is opened.

    Hidden files, `Thumbs.db`, `desktop.ini` and `__MACOSX` are ignored.

    Args:
        images: The top of the tree.
        classes: `expressions`, or a file of classes and their names; None takes the names of the folders.
        is_set_known: Whether the caller knows which public set it is; others are warned of what is misread easily.

    Raises:
        DataError: The folder cannot be read, or its folders are neither classes nor splits with classes.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder of photographs", "Name the top of the tree: --images FOLDER")
    root = images.resolve()
    try:
        return _read_tree(images, root, classes, is_set_known)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(error.filename), what, "Check the folder's permissions") from error


def _read_tree(images: Path, root: Path, given: str | None, is_set_known: bool) -> Source:
    folders = _find_classes(images, root)
    names = list(dict.fromkeys(folder.name for folder, _ in folders))
    if not is_set_known:
        _check_numbers(images, names, given)
    try:
        classes = choose_classes(given, names, str(images))
    except DataError as error:
        raise _explain_refusal(error, root, names) from error
    faces: list[Face] = []
    faults: list[Fault] = []
    for folder, split in folders:
        _read_class(folder, root, split, classes, faces, faults)
    if not is_set_known and faces and all(CK_FRAME.fullmatch(face.source.rpartition("/")[2]) for face in faces):
        log.warning(
            "%s: the files are named as CK+'s frames are, and the same people will be in all splits; `prepare ckplus` "
            "splits by person",
            images,
        )
    return Source(dataset="folders", root=root, faces=faces, faults=faults, upright=True, classes=classes)


def _find_classes(images: Path, root: Path) -> list[tuple[Path, str | None]]:
    """The folder of every class, each with its split.

    A folder with the name of a split may also be a class of that name, if it holds pictures.
    """
    tops = _folders(root)
    if not tops:
        raise DataError(str(images), "has no folders", _TREES)
    for top in tops:
        if top.is_symlink() and root.is_relative_to(top.resolve()):
            raise DataError(str(top), "is a link to a folder that it lies in", "Remove the link")
    named = [top for top in tops if top.name.casefold() in SPLIT_OF_ALIAS]
    if len(named) < len(tops):
        if splits := [top for top in named if _holds_folders_alone(top)]:
            other = [top.name for top in tops if top not in splits]
            what = f"{_named(other)} no split, though a folder beside {'it' if len(other) == 1 else 'them'} is one"
            known = ", ".join(sorted(SPLIT_OF_ALIAS))
            raise DataError(str(images), what, f"Move away what is no split, or rename it; splits are: {known}")
        _refuse_hidden_splits(images, tops)
        return [(top, None) for top in tops]
    if empty := [top.name for top in tops if not _folders(top)]:
        what = f"{_named(empty)} named like a split, but without folders of classes in it"
        raise DataError(str(images), what, f"{_TREES}. Move away pictures without a class")
    found: list[tuple[Path, str | None]] = [
        (folder, SPLIT_OF_ALIAS[top.name.casefold()]) for top in tops for folder in _folders(top)
    ]
    for folder, _ in found:
        if folder.name.casefold() in SPLIT_OF_ALIAS and _holds_folders_alone(folder):
            what = f"{folder.relative_to(root)} holds folders of classes once more, as a nested copy does"
            raise DataError(str(images), what, f"Move the copy away; if it is the whole tree: --images {folder.parent}")
    return found


def _refuse_hidden_splits(images: Path, tops: Sequence[Path]) -> None:
    """Refuse folders such as `seg_train` and `seg_test`, which would become the two classes of the set."""
    words = [SPLIT_OF_ALIAS.keys() & re.split(r"[\W_\d]+", top.name.casefold()) for top in tops]
    if all(words) and all(map(_holds_folders_alone, tops)):
        what = f"{_named([top.name for top in tops])} no class, but looks like a split"
        raise DataError(str(images), what, f"Rename to train, validation or test what is one. {_TREES}")


def _check_numbers(images: Path, names: Sequence[str], given: str | None) -> None:
    """Refuse numbers where names of expressions are asked for: sets of expressions number them in unlike orders."""
    if given == EXPRESSIONS.name and all(name.isdecimal() for name in names):
        way_out = (
            "Rename each folder to its class, as the data set's own description numbers them; sets differ, so a number "
            "is not guessed. RAF-DB has 1 surprise, 2 fear, 3 disgust, 4 happy, 5 sad, 6 angry, 7 neutral; FER2013 and "
            f"ExpW have {NUMBERED_CLASSES}. {_NUMBERED_SETS}"
        )
        raise DataError(str(images), f"{_named(names)} no known class", way_out)
    if given is None and sorted(names) in _NUMBERS_OF_SETS:
        log.warning("%s: %s numbers, and the classes will be called so. %s", images, _named(names), _NUMBERED_SETS)


def _explain_refusal(error: DataError, root: Path, names: Sequence[str]) -> DataError:
    """The refusal of a tree's classes; where its only folder holds the classes, that folder is the way out."""
    below = root / names[0] if len(names) == 1 else None
    if below is not None and below.is_dir() and _holds_folders_alone(below):
        place, what, _ = error.args
        return DataError(place, what, f"The splits or classes lie one folder below: --images {below}")
    return error


def _named(names: Sequence[str]) -> str:
    """`the folder 'a' is`, `the folders 'a', 'b' and 5 more are`."""
    return f"the folder{'s' if len(names) > 1 else ''} {quote_names(names)}"


def _read_class(
    folder: Path, root: Path, split: str | None, classes: Classes, faces: list[Face], faults: list[Fault]
) -> None:
    """Add the photographs of one class: those in its folder and in the folders below it."""
    label = classes.find(folder.name)
    assert label is not None, folder
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(inner for inner in folders if not _is_clutter(inner))
        for file in sorted(files + [inner for inner in folders if (Path(parent) / inner).is_symlink()]):
            if _is_clutter(file):
                continue
            path = Path(parent) / file
            source = path.relative_to(root).as_posix()
            try:
                source.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(source).decode("utf-8", "backslashreplace")
                faults.append(Fault("not UTF-8", shown, "the file's name is not UTF-8", shown))
                continue
            if not source.isprintable():
                shown = source.encode("unicode_escape").decode()
                faults.append(Fault("name that is none", shown, "the file's name does not print", shown))
                continue
            faces.append(Face(source, 0, label, str(path), split=split))


def _raise(error: OSError) -> None:
    raise error


def _holds_folders_alone(folder: Path) -> bool:
    """Whether a folder has folders in it, and no pictures beside them."""
    files = [entry.name for entry in folder.iterdir() if not entry.is_dir() and not _is_clutter(entry.name)]
    return bool(_folders(folder)) and not any(file.lower().endswith(SUFFIXES) for file in files)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_clutter(entry.name))


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
