"""Photographs in folders by class: FER2013, RAF-DB, AffectNet and many others after unpacking.

    IMAGES/train/angry/1.jpg        a tree with train, validation and test, whose split is kept
    IMAGES/angry/1.jpg              or a tree without a split

The name of a folder determines its class, by `CLASS_ALIASES`; its place in the alphabet never does. Begin at
`read_folders`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ferray.data.sources.rows import CLASS_NAMES, NUMBERED_CLASSES, Face, Fault, Source
from ferray.errors import DataError

CLASS_ALIASES = {
    "angry": ("angry", "anger"),
    "disgust": ("disgust", "disgusted", "disgusting"),
    "fear": ("fear", "fearful", "afraid", "scared"),
    "happy": ("happy", "happiness", "joy", "joyful"),
    "sad": ("sad", "sadness"),
    "surprise": ("surprise", "surprised"),
    "neutral": ("neutral", "natural"),
}
"""Class to the folder names that mean it, in any case."""

SPLIT_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Split to the folder names that mean it; PublicTest and PrivateTest are FER2013's own."""

MAX_NAMED = 8
"""Folders that a message names."""

CLASS_OF_ALIAS = {alias: name for name, aliases in CLASS_ALIASES.items() for alias in aliases}
SPLIT_OF_ALIAS = {alias: name for name, aliases in SPLIT_ALIASES.items() for alias in aliases}


def read_folders(images: Path) -> Source:
    """List the photographs below a folder with the classes of their folders; no photograph is opened.

    Hidden files, `Thumbs.db`, `desktop.ini` and `__MACOSX` are ignored.

    Raises:
        DataError: The folder cannot be read, or a folder in it is neither a split nor a class.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder of photographs", "Name the top of the tree: --images FOLDER")
    root = images.resolve()
    try:
        return _read_tree(images, root)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(error.filename), what, "Check the folder's permissions") from error


def _read_tree(images: Path, root: Path) -> Source:
    tops = _folders(root)
    if not tops:
        known = ", ".join([*SPLIT_ALIASES, *CLASS_NAMES])
        raise DataError(str(images), "has no folders", f"It needs a folder for each split or each class: {known}")
    faces: list[Face] = []
    faults: list[Fault] = []
    given = [SPLIT_OF_ALIAS.get(top.name.casefold()) for top in tops]
    other = [top.name for top, split in zip(tops, given, strict=True) if split is None]
    if other and any(given):
        known = ", ".join(sorted(SPLIT_OF_ALIAS))
        what = f"{_named(other)} no split, though a folder beside {'it' if len(other) == 1 else 'them'} is one"
        raise DataError(str(images), what, f"Move away what is no split, or rename it; known: {known}")
    folders = [
        (folder, split)
        for top, split in zip(tops, given, strict=True)
        for folder in ([top] if split is None else _folders(top))
    ]
    _check_names(root, list(dict.fromkeys(folder.name for folder, _ in folders)))
    for folder, split in folders:
        _read_class(folder, root, split, faces, faults)
    return Source(dataset="folders", root=root, faces=faces, faults=faults, upright=True)


def _check_names(root: Path, names: Sequence[str]) -> None:
    """Refuse folders that are not named after a class: all of them at once."""
    unknown = [name for name in names if name.casefold() not in CLASS_OF_ALIAS]
    if not unknown:
        return
    below = root / unknown[0]
    if (
        len(names) == 1
        and below.is_dir()
        and {folder.name.casefold() for folder in _folders(below)} & {*CLASS_OF_ALIAS, *SPLIT_OF_ALIAS}
    ):
        way_out = f"The splits or classes lie one folder below: --images {below}"
    elif all(name.isdecimal() for name in unknown):
        way_out = (
            "Rename each folder to its class, as the data set's own description numbers them; sets differ, so a number "
            "is not guessed. RAF-DB has 1 surprise, 2 fear, 3 disgust, 4 happy, 5 sad, 6 angry, 7 neutral; FER2013 and "
            f"ExpW have {NUMBERED_CLASSES}"
        )
    else:
        known = "; ".join(f"{known}: {', '.join(aliases)}" for known, aliases in CLASS_ALIASES.items())
        way_out = f"Rename or move away what is no class. Known: {known}"
    raise DataError(str(root), f"{_named(unknown)} no known class", way_out)


def _named(names: Sequence[str]) -> str:
    """`the folder 'a' is`, `the folders 'a', 'b' and 5 more are`."""
    if len(names) == 1:
        return f"the folder {names[0]!r} is"
    shown = ", ".join(map(repr, names[:MAX_NAMED]))
    return f"the folders {shown}{f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else ''} are"


def _read_class(folder: Path, root: Path, split: str | None, faces: list[Face], faults: list[Fault]) -> None:
    """Add the photographs of one class: those in its folder and in the folders below it."""
    label = CLASS_NAMES.index(CLASS_OF_ALIAS[folder.name.casefold()])
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
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


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_clutter(entry.name))


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
