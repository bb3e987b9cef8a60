"""Promises of the sentences on recalls: a class that is never recognized is named."""

import numpy as np
from fixtures.report import make_predictions

from ferray.data.subject import EXPRESSIONS
from ferray.metrics.scores import score
from ferray.report.results.recalls import recall_sentences


def sentences_of(labels: list[int], predicted: list[int]) -> list[str]:
    predictions = make_predictions(
        np.array(labels), np.eye(4)[predicted], class_names=("angry", "sad", "happy", "fear")
    )
    return recall_sentences(score(predictions), EXPRESSIONS)


def test_a_class_with_recall_0_is_named_and_so_is_one_that_the_split_lacks() -> None:
    first, second, third = sentences_of([0, 0, 1, 2, 2], [1, 2, 1, 2, 1])

    assert first == "Recall is 0 for angry (2 faces): not one was recognized; angry is never predicted."
    assert second == "fear has no face in this split, so the recall is not known."
    assert third.startswith("Else the lowest recall is that of happy, 0.500 [")
    assert "the highest that of sad, 1.000" in third


def test_a_class_that_is_predicted_for_others_alone_is_not_called_never_predicted() -> None:
    first = sentences_of([0, 1, 2, 3], [1, 0, 2, 3])[0]

    assert first == "Recall is 0 for angry (1 face) and sad (1 face): not one was recognized."


def test_where_every_class_is_recognized_nothing_is_0() -> None:
    assert not any("Recall is 0" in text for text in sentences_of([0, 1, 2, 3], [0, 1, 2, 3]))
