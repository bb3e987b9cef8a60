"""Which class a number means: sets of expressions number them in unlike orders, and copies of a set in others again.

A wrong order shows in no accuracy: each class only has another's name. The one certain sign is the number of pictures
of each class, which is published and differs from class to class. So an order is taken where the counts prove it, where
the set's own files have it and the counts do not contradict, or where a person names it. Begin at `choose_order`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ferray.data.known_sets import KnownSet, find_order_slip
from ferray.data.sources.rows import Source
from ferray.errors import DataError

OrderName = Literal["rafdb", "affectnet", "alphabetical", "fer2013"]
ORDER_NAMES: tuple[OrderName, ...] = get_args(OrderName)

Counts = Mapping[str, Mapping[int, int]]
"""Pictures by split and number."""

_ORDERS: Mapping[OrderName, tuple[str, ...]] = {
    "rafdb": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "affectnet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "alphabetical": ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    "fer2013": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
}
_FIRST_NUMBERS: Mapping[OrderName, int] = {"rafdb": 1, "affectnet": 0, "alphabetical": 0, "fer2013": 0}
"""Sources: the files' own readme for RAF-DB and AffectNet; `anger` to `surprise` for the alphabet."""


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """An order of classes, and the class of each number."""

    name: OrderName
    classes: Mapping[int, str]
    is_proved: bool
    """Whether the numbers of pictures prove it."""

    def __str__(self) -> str:
        return describe_order(self.name, self.classes)


def describe_order(name: OrderName, classes: Mapping[int, str]) -> str:
    """`rafdb (1 surprise, 2 fear, ...)`."""
    return f"{name} ({', '.join(f'{number} {word}' for number, word in sorted(classes.items()))})"


def choose_order(
    counts: Counts,
    class_names: Sequence[str],
    known_sets: Sequence[KnownSet],
    *,
    readings: Sequence[OrderName],
    documented: OrderName | None,
    given: OrderName | None,
    place: str,
    what: str,
) -> Numbering:
    """The class of each number.

    Args:
        counts: Pictures by split and number.
        class_names: The classes that are numbered.
        known_sets: The published counts of the set that it claims to be.
        readings: The orders that are compared with them.
        documented: The order of the set's own files, where these are; it is taken where counts prove no other.
        given: The order that a person names.
        place: The data, for messages.
        what: What is numbered: `folders`, `labels`.

    Raises:
        DataError: The numbers are not those of the classes, no order is certain, or the counts prove another one than
            is given.
    """
    numbers = sorted({number for by_number in counts.values() for number in by_number})
    first = _first_number(numbers, len(class_names), documented, place, what)
    orders = {
        name: _number(name, class_names, first) for name in dict.fromkeys((*readings, *([given] if given else [])))
    }
    proved = _find_proved(counts, orders, known_sets, place, what)
    if proved is not None and given is not None and orders[proved] != orders[given]:
        says = f"the numbers of pictures are exactly {known_sets[0].name}'s in the order {proved}, not {given}"
        raise DataError(place, says, f"Leave --order out, or write --order {proved}")
    name = given or proved or documented
    if name is None:
        unclear = (
            f"the {what} are numbers, and the numbers of pictures are {known_sets[0].name}'s in no order, as far as "
        )
        unclear += "orders are known, so what a number means is not certain"
        shown = "; or ".join(f"--order {describe_order(one, classes)}" for one, classes in orders.items())
        raise DataError(place, unclear, f"Look at some pictures of each number, and say which order it is: {shown}")
    return Numbering(name=name, classes=orders[name], is_proved=proved is not None)


def refuse_order_slip(source: Source, place: Path, way_out: str) -> None:
    """Refuse labels whose class counts are a public set's, or one of its splits', on other classes.

    Raises:
        DataError: They are.
    """
    names = source.classes.names
    parts: dict[str | None, Counter[int]] = {"whole": Counter()}
    for face in source.faces:
        parts.setdefault(face.split, Counter())[face.label] += 1
        parts["whole"][face.label] += 1
    for part, found in parts.items():
        slip = find_order_slip(names, [found[label] for label in range(len(names))])
        if slip is not None:
            of = f"{part or 'whole'} has the class counts of {slip.known.name} ({slip.part})"
            raise DataError(str(place), f"{of}, but on other classes: {', '.join(slip.moved)}", way_out)


def _number(name: OrderName, class_names: Sequence[str], first: int) -> dict[int, str]:
    """The numbers of an order, in which classes that the data does not have are left out."""
    words = [word for word in _ORDERS[name] if word in class_names]
    return dict(enumerate(words, start=first))


def _first_number(numbers: Sequence[int], num: int, documented: OrderName | None, place: str, what: str) -> int:
    """0 or 1: that of the set's own files where all numbers fit, or else as the first and the last number show."""
    if documented is not None:
        first = _FIRST_NUMBERS[documented]
        if set(numbers) <= set(range(first, first + num)):
            return first
    for first in (0, 1):
        if numbers and numbers[0] >= first and numbers[-1] == first + num - 1 and (first == 1) == (0 not in numbers):
            return first
    shown = ", ".join(map(str, numbers[:12])) or "none"
    way_out = f"Number the {num} classes from 0 to {num - 1}, or from 1 to {num}; or name the {what} after the classes"
    raise DataError(place, f"the {what} are numbered {shown}, which are not {num} classes", way_out)


def _find_proved(
    counts: Counts,
    orders: Mapping[OrderName, Mapping[int, str]],
    known_sets: Sequence[KnownSet],
    place: str,
    what: str,
) -> OrderName | None:
    """The order in which some split has exactly the published counts; None where no order or several have."""
    found: dict[str, OrderName] = {}
    for split, by_number in counts.items():
        fitting = [name for name, classes in orders.items() if _is_published(by_number, classes, known_sets)]
        if fitting and all(orders[name] == orders[fitting[0]] for name in fitting):
            found[split] = fitting[0]
    if len({tuple(sorted(orders[name].items())) for name in found.values()}) > 1:
        shown = ", ".join(f"{split} as {name}" for split, name in found.items())
        raise DataError(place, f"the {what} are numbered in another order in each split: {shown}", f"Rename the {what}")
    return next(iter(found.values()), None)


def _is_published(by_number: Mapping[int, int], classes: Mapping[int, str], known_sets: Sequence[KnownSet]) -> bool:
    by_class = {name: by_number.get(number, 0) for number, name in classes.items()}
    for known in known_sets:
        if set(known.class_names) == set(by_class):
            own = tuple(by_class[name] for name in known.class_names)
            if own in known.counts().values():
                return True
    return False
