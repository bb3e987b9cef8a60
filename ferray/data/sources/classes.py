"""The classes of a source: their names, their order, and the names in the data that mean them.

    expressions                    the seven expressions, with the many names of their folders
    FILE.yaml                      cat: [cat, cats, felis]      in the order of the file
                                   dog:
    FILE.csv                       class,name                   a line for each name
    nothing                        expressions where every name is one; else each name is a class, in their order

Names are compared as Unicode composes them (NFC) and without spaces around them, first exactly and then in any case.
Begin at `choose_classes`.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ferray.data.store.manifest import MAX_CLASS_CHARS, MAX_CLASSES
from ferray.data.subject import EXPRESSIONS, PICTURES, Subject
from ferray.errors import DataError, StorageError
from ferray.files import untrusted
from ferray.metrics.predictions import RESERVED

MAX_FILE_BYTES = 2**20
MAX_NAMED = 8
"""Names that a message lists."""

_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$", re.MULTILINE)
"""A whole number as it is written in a column of fractions: 1.0."""

_FORM = "Write `class: [name, ...]` lines into a .yaml file, or columns `class,name` into a .csv file"
_TELL_APART = "Rename one of them, or say which class each name means: --classes FILE (docs/data.md)"


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Classes in the order of their labels, and the names that mean them."""

    names: tuple[str, ...]
    subject: Subject
    are_required: bool
    """Whether each must be in the data: the source says so, or the user does."""
    exact: Mapping[str, int]
    """Name in the data, composed, to label."""
    folded: Mapping[str, int]
    """The same in lower case, where only one class is meant."""

    def find(self, name: str) -> int | None:
        """The label that a name in the data means; None if it means no class."""
        composed = _compose(name)
        return self.exact.get(composed, self.folded.get(composed.casefold()))


def choose_classes(given: str | None, found: Iterable[str], place: str) -> Classes:
    """The classes of a data set.

    Args:
        given: `expressions`, the name of a file, or None where the data names its classes.
        found: The names in the data.
        place: The data, for messages.

    Raises:
        DataError: The file cannot be used, names are not told apart or are no names of classes, there are fewer than 2
            or more than `MAX_CLASSES`, or the data has a name that means no class.
    """
    names = list(dict.fromkeys(found))
    if given is None:
        known = [EXPRESSION_CLASSES.find(name) for name in names]
        if names and None not in known:
            present = {EXPRESSION_CLASSES.names[label] for label in known if label is not None}
            aliases = {name: alias for name, alias in EXPRESSIONS.class_aliases.items() if name in present}
            return _check_number(_make(aliases, EXPRESSIONS, place, are_required=False), place)
        named = {_compose(name): () for name in sorted(names, key=_sort_key(names))}
        _refuse_lookalikes(names, place)
        return _check_number(_make(named, _subject_of(names), place, are_required=False), place)
    classes = EXPRESSION_CLASSES if given == EXPRESSIONS.name else read_classes(Path(given))
    unknown = [name for name in names if classes.find(name) is None]
    if unknown:
        what = f"{quote_names(unknown)} of no class in --classes {given}"
        known_names = ", ".join(classes.names[:MAX_NAMED]) + (", ..." if len(classes.names) > MAX_NAMED else "")
        raise DataError(place, what, f"Move these away, or add them to a class; its classes: {known_names}")
    return classes


def read_classes(file: Path) -> Classes:
    """Read classes and their names from a file.

    Raises:
        DataError: It cannot be read, is no such mapping, or names one thing twice.
    """
    if file.suffix.lower() not in (".yaml", ".yml", ".csv"):
        raise DataError(f"--classes {file}", "neither `expressions` nor a .yaml or .csv file", _FORM)
    try:
        text = untrusted.read_bytes(file, max_bytes=MAX_FILE_BYTES).decode("utf-8-sig")
        rows = _read_csv(text, file) if file.suffix.lower() == ".csv" else _read_yaml(text, file)
        aliases: dict[str, list[str]] = {}
        for name, alias in rows:
            aliases.setdefault(_compose(name), []).append(alias)
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], _FORM) from error
    except (UnicodeDecodeError, csv.Error, yaml.YAMLError, RecursionError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(str(file), f"cannot be read: {what}", _FORM) from error
    classes = _make(aliases, _subject_of(list(aliases)), str(file), are_required=True)
    return _check_number(classes, str(file))


def quote_names(names: Sequence[str]) -> str:
    """`'a' is`, `'a', 'b' and 5 more are`."""
    if len(names) == 1:
        return f"{names[0][:MAX_CLASS_CHARS]!r} is"
    shown = ", ".join(repr(name[:MAX_CLASS_CHARS]) for name in names[:MAX_NAMED])
    return f"{shown}{f' and {len(names) - MAX_NAMED:,} more' if len(names) > MAX_NAMED else ''} are"


def _subject_of(names: Sequence[str]) -> Subject:
    """Expressions where most names are, as in sets with an eighth one: what holds for them must not get lost."""
    num_expressions = sum(EXPRESSION_CLASSES.find(name) is not None for name in names)
    return EXPRESSIONS if 2 * num_expressions > len(names) else PICTURES


def _make(aliases: Mapping[str, Sequence[str]], subject: Subject, place: str, *, are_required: bool) -> Classes:
    """Classes from a mapping of each to further names that mean it; each also means itself."""
    exact: dict[str, int] = {}
    folded: dict[str, int | None] = {}
    for label, (name, others) in enumerate(aliases.items()):
        _check_name(name, place)
        for alias in dict.fromkeys(map(_compose, (name, *others))):
            if exact.setdefault(alias, label) != label:
                what = f"{alias[:MAX_CLASS_CHARS]!r} means two classes, {_nth(aliases, exact[alias])!r} and {name!r}"
                raise DataError(place, what, "Write each name into one class")
            if folded.setdefault(alias.casefold(), label) != label:
                folded[alias.casefold()] = None
    _refuse_lookalikes(list(aliases), place)
    certain = {name: label for name, label in folded.items() if label is not None}
    return Classes(names=tuple(aliases), subject=subject, are_required=are_required, exact=exact, folded=certain)


def _nth(aliases: Mapping[str, object], label: int) -> str:
    return list(aliases)[label]


def _sort_key(names: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """By the alphabet; numbers by size, so that 10 is not between 1 and 2."""
    are_numbers = all(name.isascii() and name.isdecimal() and len(name) < 20 for name in names)
    return lambda name: (int(name) if are_numbers else 0, _compose(name))


def _compose(name: str) -> str:
    """Without the spaces around it, which no table keeps, and as Unicode composes it."""
    return unicodedata.normalize("NFC", name.strip())


def _refuse_lookalikes(names: Sequence[str], place: str) -> None:
    """Refuse names that are one name to some file systems and to most readers."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(_WHOLE.sub(r"\1", _compose(name).casefold()), name)
        if first != name:
            how = "in how a number is written" if _WHOLE.search(f"{first}\n{name}") else "in case"
            if _compose(first) == _compose(name):
                how = "in spaces around them" if first.strip() == name.strip() else "in how Unicode composes them"
            raise DataError(place, f"the classes {first!a} and {name!a} differ only {how}", _TELL_APART)


def _check_name(name: str, place: str) -> None:
    """Refuse what no table or terminal could show as the name of a class."""
    way_out = "Rename it, or give the class another name: --classes FILE (docs/data.md)"
    if not name.strip() or not name.isprintable():
        what = f"{name[:MAX_CLASS_CHARS]!r} is no name of a class: it is empty, or does not print"
        raise DataError(place, what, way_out)
    if len(name) > MAX_CLASS_CHARS:
        what = f"the class {name[:40]!r}... has a name of {len(name)} characters; at most {MAX_CLASS_CHARS}"
        raise DataError(place, what, way_out)
    if name in RESERVED:
        what = f"the class {name!r} has the name of a column of predictions.csv ({', '.join(RESERVED)})"
        raise DataError(place, what, way_out)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(place, f"the class {name!r} is not UTF-8", way_out) from error


def _check_number(classes: Classes, place: str) -> Classes:
    """Refuse what cannot be classified."""
    num = len(classes.names)
    if num < 2:
        what = f"has only one class, {classes.names[0]!r}" if num else "has no class"
        raise DataError(place, what, "A classifier needs at least 2: name the folder whose folders are the classes")
    if num > MAX_CLASSES:
        raise DataError(place, f"has {num:,} classes; at most {MAX_CLASSES:,}", "Join some of them: --classes FILE")
    return classes


def _read_csv(text: str, file: Path) -> Iterator[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if rows.fieldnames is None or not {"class", "name"} <= set(rows.fieldnames):
        columns = ", ".join(rows.fieldnames or []) or "none"
        raise DataError(str(file), f"has columns {columns}, not class and name", _FORM)
    for row in rows:
        if not row["class"]:
            raise DataError(f"{file}:{rows.line_num}", "the class is empty", _FORM)
        yield row["class"], row["name"] or row["class"]


def _read_yaml(text: str, file: Path) -> Iterator[tuple[str, str]]:
    """Names of every class; all values are read as text, so that `no` and `007` are names."""
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    if not isinstance(root, yaml.MappingNode):
        raise DataError(str(file), "is no mapping of classes to names", _FORM)
    seen = set()
    for key, value in root.value:
        place = f"{file}:{key.start_mark.line + 1}"
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(item, yaml.ScalarNode) for item in [key, *items]):
            raise DataError(place, "is no class with its names", _FORM)
        if key.value in seen:
            raise DataError(place, f"the class {key.value[:MAX_CLASS_CHARS]!r} is named twice", _FORM)
        seen.add(key.value)
        yield key.value, key.value
        yield from ((key.value, item.value) for item in items if item.value)


def classes_of_expressions(names: Sequence[str]) -> Classes:
    """Classes that are expressions, with all words for them; none must be in the data.

    Args:
        names: Of the seven, and `contempt`, in the order of their labels.
    """
    return _make({name: _ALL_ALIASES[name] for name in names}, EXPRESSIONS, "expressions", are_required=False)


NONE = Classes(names=(), subject=PICTURES, are_required=False, exact={}, folded={})
"""Of data that names none."""

_ALL_ALIASES = {**EXPRESSIONS.class_aliases, "contempt": ("contempt", "contemptuous")}

EXPRESSION_CLASSES = _make(EXPRESSIONS.class_aliases, EXPRESSIONS, "expressions", are_required=True)
"""The seven expressions, as ExpW and FER2013 number them."""
