"""Which faces a run trains on and which it validates with: a store's own splits, or K folds of the two together.

On a validation split of 1,800 faces an accuracy is known to two points; five folds validate with every face that is
not a test face once. Folds are made by photograph and by class, from the store and their number alone and not from the
recipe's seed, so that runs of all seeds and settings share them and can be compared fold by fold. No fold contains
test faces.

Begin at `split_rows`.
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

TRAIN_AND_VALIDATION = "train+validation"
"""Names the rows of both splits together, which are adjacent in a store."""


@dataclass(frozen=True)
class Subset:
    """The faces that a run trains on, or those that it validates with."""

    span: str
    """`train`, `validation` or `TRAIN_AND_VALIDATION`: the rows whose features are one view, which all folds share."""
    rows: NDArray[np.int64]
    """Rows of the store, ascending."""


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """The faces of a run: those to train on and those to validate with."""

    train: Subset
    validation: Subset


def split_rows(recipe: Recipe, store: Store) -> DataSplit:
    """The faces that a recipe trains on and validates with.

    Raises:
        DataError: A split without faces, or fewer photographs than folds.
    """
    if recipe.folds is None:
        return DataSplit(train=_whole_split(store, "train"), validation=_whole_split(store, "validation"))
    folds, first = _folds_of_store(store, recipe.folds), span_rows(store, TRAIN_AND_VALIDATION).start
    is_validation = folds == recipe.fold
    return DataSplit(
        train=Subset(TRAIN_AND_VALIDATION, first + np.flatnonzero(~is_validation)),
        validation=Subset(TRAIN_AND_VALIDATION, first + np.flatnonzero(is_validation)),
    )


def span_rows(store: Store, span: str) -> slice:
    """The store's rows of a span; as `Store.rows`, which knows all spans but `TRAIN_AND_VALIDATION`.

    One of the two splits of that span may be empty: a store without validation faces has folds of its training faces.

    Raises:
        DataError: The span has no faces.
    """
    if span != TRAIN_AND_VALIDATION:
        return store.rows(span)
    sizes = store.manifest.split_sizes
    stop = sizes["train"] + sizes["validation"]
    if not stop:
        raise DataError(
            str(store.folder), "has a test split only", "Prepare a store with a training split: --split 70/10/20"
        )
    return slice(0, stop)


@lru_cache(maxsize=4)
def groups_fingerprint(store: Store) -> str:
    """SHA-256 over the photographs of the training and validation faces, which folds are made of.

    A store's own fingerprint has no part of them: the same faces have other groups where copies were not looked for.

    Raises:
        DataError: As `span_rows`.
    """
    return hashlib.sha256(_groups(store).astype("<i8").tobytes()).hexdigest()


def assign_folds(groups: Sequence[int] | NDArray[np.int64], labels: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Assign faces to folds so that no group is in two folds and each fold has its share of every class.

    Groups are assigned one by one, those with many faces first and equal ones in the order of a hash: each to the fold
    with the fewest faces of the group's classes, then to the smallest fold. Where every group is one face, the numbers
    of a class in any two folds differ by 1 at most.

    Args:
        groups: The photograph of each face.
        labels: The class of each face.
        folds: The number of folds.

    Returns:
        A fold for each face, shape (faces,), counted from 0.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(int(group), []).append(place)
    counts = [[0] * (int(np.max(labels, initial=0)) + 1) for _ in range(folds)]  # by fold and class
    sizes = [0] * folds
    result = np.zeros(len(labels), dtype=np.int64)
    for group in sorted(members, key=lambda group: (-len(members[group]), _hash(group))):
        classes = [int(labels[place]) for place in members[group]]
        chosen = min(range(folds), key=lambda fold: (sum(counts[fold][label] for label in classes), sizes[fold], fold))
        for label in classes:
            counts[chosen][label] += 1
        sizes[chosen] += len(classes)
        result[members[group]] = chosen
    return result


@lru_cache(maxsize=4)
def _folds_of_store(store: Store, folds: int) -> NDArray[np.int64]:
    """The fold of each training and validation row; cached, since most runs of a process ask for the same."""
    span, groups = span_rows(store, TRAIN_AND_VALIDATION), _groups(store)
    num_groups = len(np.unique(groups))
    if num_groups < folds:
        what = f"{num_groups} photographs to train and validate with cannot be divided into {folds} folds"
        raise DataError(str(store.folder), what, "Ask for fewer folds, or prepare a larger store")
    assigned = assign_folds(groups, np.asarray(store.labels[span]), folds)
    assigned.flags.writeable = False
    return assigned


def _groups(store: Store) -> NDArray[np.int64]:
    """The photograph of each training and validation row."""
    span_rows(store, TRAIN_AND_VALIDATION)  # an error where there is none
    sizes = store.manifest.split_sizes
    return np.concatenate([store.groups(split) for split in ("train", "validation") if sizes[split]])


def _whole_split(store: Store, split: str) -> Subset:
    rows = store.rows(split)
    return Subset(split, np.arange(rows.start, rows.stop))


def _hash(group: int) -> bytes:
    """Orders groups of one size: the same with every version of numpy, and without runs of one class."""
    return hashlib.sha256(f"fold\n{group}".encode()).digest()
