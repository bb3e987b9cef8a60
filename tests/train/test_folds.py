"""Folds: every learning face is validated with once, photographs stay whole, and the test split is left alone."""

from collections import Counter
from typing import cast

import numpy as np
import pytest
from fixtures.train import SmallStore, small_recipe
from hypothesis import given
from hypothesis import strategies as st

from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.train.folds import TRAIN_AND_VALIDATION, assign_folds, span_rows, split_rows
from ferray.train.spec import RunSpec


@given(
    faces=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), min_size=1, max_size=150), folds=st.integers(2, 7)
)
def test_a_photograph_never_lies_in_two_folds(faces: list[tuple[int, int]], folds: int) -> None:
    groups, labels = (np.array(column) for column in zip(*faces, strict=True))
    found = assign_folds(groups, labels, folds)

    assert ((found >= 0) & (found < folds)).all()
    assert all(len(set(found[groups == group])) == 1 for group in groups)
    if len(set(groups)) >= folds:
        assert set(found) == set(range(folds)), "no fold is empty"


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), folds=st.integers(2, 7))
def test_where_every_face_is_a_photograph_each_class_is_divided_evenly(labels: list[int], folds: int) -> None:
    found = assign_folds(np.arange(len(labels)), np.array(labels), folds)

    for label in set(labels):
        counts = np.bincount(found[np.array(labels) == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(found, minlength=folds)
    assert sizes.max() - sizes.min() <= len(set(labels))


def test_photographs_of_many_faces_leave_the_classes_shares_close_to_even() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(600), random.integers(1, 5, 600))
    labels = random.choice(4, size=len(groups), p=[0.6, 0.25, 0.1, 0.05])
    found = assign_folds(groups, labels, 5)

    for label, total in Counter(labels.tolist()).items():
        counts = np.bincount(found[labels == label], minlength=5)
        assert np.abs(counts - total / 5).max() <= 4, "the faces of a photograph"


def test_the_folds_do_not_change_from_version_to_version() -> None:
    found = assign_folds(np.arange(30) // 2, np.arange(30) % 7, 3)

    assert "".join(map(str, found)) == "111122000011110022222222000011"


@pytest.mark.parametrize("folds", [2, 5])
def test_the_folds_of_a_store_validate_with_every_face_but_the_test_faces_once(tiny_store: Store, folds: int) -> None:
    splits = [split_rows(small_recipe(folds=folds, fold=fold), tiny_store) for fold in range(folds)]
    validated = np.concatenate([split.validation.rows for split in splits])

    assert sorted(validated) == list(range(tiny_store.rows("validation").stop))
    for split in splits:
        train, validation = set(split.train.rows.tolist()), set(split.validation.rows.tolist())
        assert not train & validation
        assert len(train | validation) == len(validated)
        assert split.train.span == split.validation.span == TRAIN_AND_VALIDATION
    assert max(validated) < tiny_store.rows("test").start


def test_the_folds_are_the_same_for_all_seeds_and_settings() -> None:
    store = SmallStore(60, 30)
    some = split_rows(small_recipe(folds=4, fold=2), store)
    other = split_rows(small_recipe(folds=4, fold=2, seed=9, freeze="none", batch_size=3), SmallStore(60, 30))

    np.testing.assert_array_equal(some.validation.rows, other.validation.rows)


def test_without_folds_the_splits_are_as_they_are(tiny_store: Store) -> None:
    split = split_rows(small_recipe(), tiny_store)

    for name, subset in (("train", split.train), ("validation", split.validation)):
        rows = tiny_store.rows(name)
        assert subset.span == name
        assert subset.rows.tolist() == list(range(rows.start, rows.stop))
    assert span_rows(tiny_store, TRAIN_AND_VALIDATION) == slice(0, tiny_store.rows("test").start)


def test_fewer_photographs_than_folds_are_an_error() -> None:
    with pytest.raises(DataError, match="3 photographs to train and validate with cannot be divided into 5 folds"):
        split_rows(small_recipe(folds=5, fold=0), SmallStore(4, 2))


def test_a_run_with_folds_of_other_photographs_is_another_run_and_one_without_folds_is_not(weights: Weights) -> None:
    store, regrouped = SmallStore(), SmallStore()
    regrouped._groups = np.arange(36) // 3
    assert store.fingerprint == regrouped.fingerprint, "the same faces"

    def ids(recipe: Recipe) -> set[str]:
        return {RunSpec(recipe, cast(Store, one), weights).trial_id for one in (store, regrouped)}

    assert len(ids(small_recipe())) == 1
    assert len(ids(small_recipe(folds=3, fold=0))) == 2
