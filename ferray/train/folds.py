"""Which faces a run trains on and which it validates with: a store's own splits, or K folds of the two together.

One validation split of 1,800 faces says an accuracy to two points; five folds validate with every face that is not a
test face once. Folds are cut by photograph and by class, from the store and their number alone: not from the recipe's
seed, so that runs of all seeds and settings share them and can be compared fold by fold. The test split is in none.

Begin at `divide`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.recipe import Recipe

LEARNING = "train+validation"
"""Names the rows of both splits together, which lie side by side in a store."""


@dataclass(frozen=True)
class Part:
    """Faces that a run trains on, or validates with."""

    span: str
    """`train`, `validation` or `LEARNING`: the rows whose features are kept together, and shared by all folds."""
    rows: NDArray[np.int64]
    """Rows of the store, ascending."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """Both parts of a run."""

    train: Part
    validation: Part


def divide(recipe: Recipe, store: Store) -> Division:
    """The faces that a recipe trains on and validates with.

    Raises:
        DataError: A split without faces, or fewer photographs than folds.
    """
    if recipe.folds is None:
        return Division(train=_whole(store, "train"), validation=_whole(store, "validation"))
    folds, first = _cut(store, recipe.folds), span_rows(store, LEARNING).start
    chosen = folds == recipe.fold
    return Division(
        train=Part(LEARNING, first + np.flatnonzero(~chosen)),
        validation=Part(LEARNING, first + np.flatnonzero(chosen)),
    )


def span_rows(store: Store, span: str) -> slice:
    """The store's rows of a span; arguments and errors as `Store.rows`, which knows all but `LEARNING`."""
    if span == LEARNING:
        return slice(store.rows("train").start, store.rows("validation").stop)
    return store.rows(span)


def fold_of_rows(groups: Sequence[int] | NDArray[np.int64], labels: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Divide faces so that no group lies in two folds and each fold has its share of every class.

    Groups are dealt out one by one, those of many faces first and equals in the order of a hash, each to the fold that
    lacks most of its classes, then to the smallest; where every group is one face, a class's numbers in any two folds
    differ by 1 at most.

    Args:
        groups: The photograph of each face.
        labels: The class of each face.
        folds: How many.

    Returns:
        A fold for each face, shape (faces,), from 0.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(int(group), []).append(place)
    counts = [[0] * (int(np.max(labels, initial=0)) + 1) for _ in range(folds)]  # by fold and class
    sizes = [0] * folds
    result = np.zeros(len(labels), dtype=np.int64)
    for group in sorted(members, key=lambda group: (-len(members[group]), _rank(group))):
        classes = [int(labels[place]) for place in members[group]]
        chosen = min(range(folds), key=lambda fold: (sum(counts[fold][label] for label in classes), sizes[fold], fold))
        for label in classes:
            counts[chosen][label] += 1
        sizes[chosen] += len(classes)
        result[members[group]] = chosen
    return result


@lru_cache(maxsize=4)
def _cut(store: Store, folds: int) -> NDArray[np.int64]:
    """The fold of each learning row; kept, since the runs of a process mostly ask for the same."""
    groups = np.concatenate([store.groups("train"), store.groups("validation")])
    num_groups = len(np.unique(groups))
    if num_groups < folds:
        what = f"{num_groups} photographs to train and validate with cannot be cut into {folds} folds"
        raise DataError(str(store.folder), what, "Ask for fewer folds, or prepare a larger store")
    cut = fold_of_rows(groups, np.asarray(store.labels[span_rows(store, LEARNING)]), folds)
    cut.flags.writeable = False
    return cut


def _whole(store: Store, split: str) -> Part:
    rows = store.rows(split)
    return Part(split, np.arange(rows.start, rows.stop))


def _rank(group: int) -> bytes:
    """Where a group comes among those of its size: the same with every version of numpy, and no class in a row."""
    return hashlib.sha256(f"fold\n{group}".encode()).digest()
