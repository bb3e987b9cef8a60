"""Scores agree with scikit-learn's, and say what they say for empty classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from ferray.metrics import confusion as confusions

NUM_CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=60)


@given(PAIRS)
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    names = list(range(NUM_CLASSES))
    confusion = confusions.make_confusion(labels, predictions, num_classes=NUM_CLASSES)
    recalls = recall_score(labels, predictions, labels=np.unique(labels), average=None)
    f1s = f1_score(labels, predictions, labels=names, average=None, zero_division=0)

    np.testing.assert_array_equal(confusion, confusion_matrix(labels, predictions, labels=names))
    assert confusions.accuracy(confusion) == pytest.approx(accuracy_score(labels, predictions))
    assert confusions.balanced_accuracy(confusion) == pytest.approx(recalls.mean())
    assert confusions.f1_by_class(confusion) == pytest.approx(f1s)
    assert confusions.macro_f1(confusion) == pytest.approx(f1s.mean())


@given(PAIRS, PAIRS)
def test_the_counts_of_two_parts_add_up(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def count(pairs: list[tuple[int, int]]) -> np.ndarray:
        return confusions.make_confusion(*np.array(pairs).T, num_classes=NUM_CLASSES)

    np.testing.assert_array_equal(count(some) + count(others), count(some + others))


def test_without_faces_every_score_is_0() -> None:
    nothing = np.zeros((3, 3), dtype=np.int64)

    assert confusions.accuracy(nothing) == confusions.balanced_accuracy(nothing) == confusions.macro_f1(nothing) == 0


def test_a_class_without_labels_does_not_lower_the_balanced_accuracy_but_lowers_the_macro_f1() -> None:
    confusion = np.array([[3, 0, 0], [0, 2, 0], [0, 0, 0]])

    assert confusions.balanced_accuracy(confusion) == 1
    assert confusions.macro_f1(confusion) == pytest.approx(2 / 3)
