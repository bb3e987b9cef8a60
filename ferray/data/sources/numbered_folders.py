"""Folders that are numbers, as copies of RAF-DB and AffectNet have: `train/1/...` to `test/7/...`.

Begin at `read_numbered_folders`; `ferray.data.sources.numbering` says what the numbers mean.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferray.data.known_sets import KnownSet
from ferray.data.sources.classes import classes_of_expressions
from ferray.data.sources.folders import read_folders
from ferray.data.sources.numbering import OrderName, choose_order
from ferray.data.sources.rows import Source
from ferray.errors import DataError


def read_numbered_folders(
    images: Path,
    class_lists: Sequence[Sequence[str]],
    known_sets: Sequence[KnownSet],
    *,
    readings: Sequence[OrderName],
    order: OrderName | None,
    dataset: str,
    way_out: str,
) -> Source | None:
    """Read a tree whose folders of classes are numbers; None where they are not.

    Args:
        images: The top of the tree.
        class_lists: The classes that may be numbered, in the order of the labels of the result: the list with as many
            as there are folders is taken, or else the first.
        known_sets: The published counts of the set.
        readings: The orders that may be meant.
        order: The order that a person names.
        dataset: Name of the set.
        way_out: What the set's layouts are, for a tree that is none.

    Raises:
        DataError: The tree cannot be read, or the order is not certain.
    """
    try:
        tree = read_folders(images, is_set_known=True)
    except DataError as error:
        raise DataError(error.args[0], error.args[1], way_out) from error
    if not all(name.isascii() and name.isdecimal() and len(name) < 4 for name in tree.classes.names):
        return None
    num = len(tree.classes.names)
    class_names = next((names for names in class_lists if len(names) == num), class_lists[0])
    number_of = [int(name) for name in tree.classes.names]
    counts: dict[str, Counter[int]] = {}
    for face in tree.faces:
        counts.setdefault(face.split or "the whole", Counter())[number_of[face.label]] += 1
    numbering = choose_order(
        counts, class_names, known_sets, readings=readings, documented=None, given=order, place=str(images),
        what="folders",
    )  # fmt: skip
    label_of = [class_names.index(numbering.classes[number]) for number in number_of]
    how = "proved by the published counts" if numbering.is_proved else "as given, not proved by the published counts"
    return replace(
        tree,
        dataset=dataset,
        faces=[replace(face, label=label_of[face.label]) for face in tree.faces],
        classes=classes_of_expressions(class_names),
        notes=[f"order of the folders: {numbering}; {how}"],
    )
