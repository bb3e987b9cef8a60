"""Photographs in folders by class: FER2013, RAF-DB, AffectNet and many others after unpacking.

    IMAGES/train/angry/1.jpg        a tree with train, validation and test, whose split is kept
    IMAGES/angry/1.jpg              or a tree without a split

The name of a folder determines its class, by `CLASS_ALIASES`; its place in the alphabet never does. Begin at
`read_folders`.
"""

import os
from pathlib import Path

from ferray.data.sources.rows import CLASS_NAMES, Face, Fault, Source
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
    for top, split in zip(tops, given, strict=True):
        if split is None and any(given):
            known = ", ".join(sorted(SPLIT_OF_ALIAS))
            raise DataError(str(top), "not a split, though a folder beside it is one", f"Move it away; known: {known}")
        for folder in [top] if split is None else _folders(top):
            _read_class(folder, root, split, faces, faults)
    return Source(dataset="folders", root=root, faces=faces, faults=faults, upright=True)


def _read_class(folder: Path, root: Path, split: str | None, faces: list[Face], faults: list[Fault]) -> None:
    """Add the photographs of one class: those in its folder and in the folders below it."""
    name = CLASS_OF_ALIAS.get(folder.name.casefold())
    if name is None:
        known = "; ".join(f"{known}: {', '.join(aliases)}" for known, aliases in CLASS_ALIASES.items())
        raise DataError(
            str(folder), f"{folder.name!r} is not a known class", f"Rename it or move it away. Known: {known}"
        )
    label = CLASS_NAMES.index(name)
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
