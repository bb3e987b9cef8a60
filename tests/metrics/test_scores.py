import json
import tracemalloc

import numpy as np
import pytest
from fixtures.report import make_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from ferray.metrics.intervals import Bootstrap, draw_totals, percentiles
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.scores import Scores, score

CLASSES = ("angry", "happy", "sad", "neutral")


def confusion_by_group(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], groups: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """One confusion matrix per group, shape (groups, classes, classes), by ascending group id.

    Args:
        labels: True class numbers, shape (faces,).
        predictions: Predicted class numbers, shape (faces,).
        groups: Group ids, shape (faces,).
        num_classes: Number of rows and columns of each matrix.
    """
    ids, places = np.unique(groups, return_inverse=True)
    at = (places * num_classes + labels) * num_classes + predictions
    counts = np.bincount(at, minlength=len(ids) * num_classes**2)
    return counts.reshape(len(ids), num_classes, num_classes).astype(np.int64)


def draw_skilled(num_faces: int, *, skill: float = 0.5, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of uneven classes, and probabilities that are right more often than not."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(CLASSES), size=num_faces, p=[0.1, 0.2, 0.2, 0.5])
    raw = generator.random((num_faces, len(CLASSES)))
    raw[np.arange(num_faces), labels] += skill
    return labels, raw / raw.sum(axis=1, keepdims=True)


def score_faces(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> Scores:
    return score(make_predictions(labels, probabilities, groups, CLASSES), train_counts=(1, 9, 2, 3))


def score_classes(labels: NDArray[np.int64], predicted: NDArray[np.int64], *, resamples: int = 2000) -> Scores:
    """Scores of predicted classes without probabilities."""
    predictions = LabeledPredictions(
        class_names=CLASSES, labels=labels, predicted=predicted, probabilities=None, groups=labels
    )
    return score(predictions, bootstrap=Bootstrap(resamples=resamples))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_scores_are_those_of_scikit_learn(num_faces: int, seed: int) -> None:
    labels, probabilities = draw_skilled(num_faces, seed=seed)
    answers, every = probabilities.argmax(axis=1), list(range(len(CLASSES)))
    scores = score(make_predictions(labels, probabilities, labels, CLASSES), bootstrap=Bootstrap(resamples=10))

    assert scores.accuracy == pytest.approx(accuracy_score(labels, answers))
    recalls = [np.mean(answers[labels == label] == label) for label in np.unique(labels)]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    if len(set(labels)) > 1 and set(answers) <= set(labels):  # scikit-learn warns otherwise
        assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, answers))
    expected = f1_score(labels, answers, labels=every, average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(expected)
    of_classes = [accuracy_score(labels == label, answers == label) for label in every]
    assert scores.one_vs_rest_accuracy == pytest.approx(np.mean(of_classes))
    one_hot, sure = np.eye(len(CLASSES))[labels], probabilities > 0.5  # as Keras' BinaryAccuracy counts
    assert scores.binary_accuracy == pytest.approx(accuracy_score(one_hot.ravel(), sure.ravel()))
    assert (scores.confusion == confusion_matrix(labels, answers, labels=every)).all()
    assert scores.num_faces == num_faces


def test_intervals_are_those_of_a_slow_bootstrap_of_whole_groups() -> None:
    labels, probabilities = draw_skilled(300)
    groups = np.random.default_rng(1).integers(0, 90, 300)
    scores = score(make_predictions(labels, probabilities, groups, CLASSES), bootstrap=Bootstrap(resamples=4000))

    answers, generator = probabilities.argmax(axis=1), np.random.default_rng(2)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([members[place] for place in generator.integers(0, len(members), len(members))])
        some, said = labels[rows], answers[rows]
        recalls, f1s, cells = [], [], []
        for label in range(len(CLASSES)):
            right = np.sum((some == label) & (said == label))
            recalls.append(right / np.sum(some == label))
            f1s.append(2 * right / max(1, np.sum(some == label) + np.sum(said == label)))
            cells.append(np.mean((some == label) == (said == label)))
        sure = np.mean((probabilities[rows] > 0.5) == np.eye(len(CLASSES))[some])
        drawn.append((np.mean(some == said), np.mean(recalls), np.mean(f1s), np.mean(cells), sure, *recalls))

    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    intervals = [*scores.intervals.values(), *scores.recall_intervals]
    assert list(scores.intervals) == list(scores.values)
    for place, interval in enumerate(intervals):
        wide = 0.008 if place < 5 else 0.02
        assert interval == pytest.approx((low[place], high[place]), abs=wide)


def test_copies_of_a_face_in_its_group_do_not_narrow_the_interval() -> None:
    labels, probabilities = draw_skilled(200)
    once = score_faces(labels, probabilities)
    copies = np.repeat(labels, 5), np.repeat(probabilities, 5, axis=0)
    by_group = score_faces(*copies, groups=np.repeat(np.arange(200), 5))
    by_face = score_faces(*copies)

    def width(scores: Scores) -> float:
        low, high = scores.intervals["accuracy"]
        return high - low

    assert by_group.intervals["accuracy"] == once.intervals["accuracy"]
    assert width(by_group) == pytest.approx(width(by_face) * 5**0.5, rel=0.1)


def test_a_normal_interval_is_near_where_faces_stand_alone() -> None:
    labels, probabilities = draw_skilled(2000)
    scores = score_faces(labels, probabilities)
    reach = 1.96 * (scores.accuracy * (1 - scores.accuracy) / 2000) ** 0.5

    assert scores.intervals["accuracy"] == pytest.approx((scores.accuracy - reach, scores.accuracy + reach), abs=0.003)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(40)))
def test_the_order_of_faces_changes_nothing(order: list[int]) -> None:
    labels, probabilities = draw_skilled(40)
    groups = np.arange(40) // 2

    assert (
        score_faces(labels[order], probabilities[order], groups[order]).to_json()
        == score_faces(labels, probabilities, groups).to_json()
    )


def test_one_group_alone_gives_the_score_itself_also_without_some_class() -> None:
    labels, answers = np.array([1, 1, 2, 3, 3]), np.array([1, 2, 2, 3, 2])
    scores = score_faces(labels, np.eye(4)[answers], groups=np.zeros(5, dtype=np.int64))

    for name, interval in scores.intervals.items():
        assert interval == pytest.approx((getattr(scores, name),) * 2)


def test_many_groups_are_drawn_in_pieces_with_the_same_law(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = draw_skilled(400)
    groups = np.arange(400) // 4
    whole = score_faces(labels, probabilities, groups)
    monkeypatch.setattr("ferray.metrics.intervals._MAX_CELLS", 1000)
    pieces = score_faces(labels, probabilities, groups)

    assert pieces.intervals == whole.intervals


def test_baselines_that_ignore_the_faces_stand_beside_the_score() -> None:
    labels, probabilities = draw_skilled(500)
    scores = score_faces(labels, probabilities)

    baselines = scores.to_json()["baselines"]
    assert baselines["majority"] == np.mean(labels == 1)  # the training faces are mostly of class 1
    assert baselines["constant_guess"] == np.mean(labels == 3)  # these faces are mostly of class 3
    assert baselines["chance"] == 0.25


def test_a_baseline_has_every_score_of_a_model_that_predicts_so() -> None:
    labels, _ = draw_skilled(400)
    constant = np.eye(4)[np.full(400, 3)]
    baselines = score_faces(labels, constant).baselines

    assert baselines["constant_guess"] == pytest.approx(score_faces(labels, constant).values)
    random = np.random.default_rng(3).integers(0, 4, 400_000)  # the answer drawn, the probabilities all 1/4
    drawn = score_classes(np.repeat(labels, 1000), random, resamples=2)
    chance = dict(baselines["chance"] or {})
    assert chance.pop("binary_accuracy") == score_faces(labels, np.full((400, 4), 0.25)).binary_accuracy == 0.75
    assert chance == pytest.approx({name: getattr(drawn, name) for name in chance}, abs=0.004)


def test_predictions_without_probabilities_have_no_binary_accuracy() -> None:
    labels, probabilities = draw_skilled(100)
    scores = score_classes(labels, probabilities.argmax(axis=1))

    assert scores.binary_accuracy is None
    assert "binary_accuracy" not in scores.intervals
    assert scores.recalls == score_faces(labels, probabilities).recalls
    assert len(scores.recall_intervals) == 4


@pytest.mark.parametrize("answer, expected", [(0, (0.610, 1.0)), (1, (0.0, 0.390))])
def test_a_class_of_six_faces_that_all_have_one_answer_is_not_certain_to_get_it_again(
    answer: int, expected: tuple[float, float]
) -> None:
    labels = np.array([0] * 6 + [1] * 6)
    scores = score_faces(labels, np.eye(4)[[answer] * 6 + [0, 1, 0, 1, 0, 1]])

    assert scores.recall_intervals[0] == pytest.approx(expected, abs=1e-3)  # Wilson's, of 6 of 6 and of 0 of 6


def test_a_class_without_faces_has_no_recall_and_no_interval() -> None:
    scores = score_faces(np.array([0, 1, 1]), np.eye(4)[[0, 1, 2]])

    assert scores.recalls == (1.0, 0.5, None, None)
    assert scores.recall_intervals[2:] == (None, None)


@pytest.mark.parametrize("train_counts", [None, (0, 0, 0, 0)])
def test_without_training_faces_there_is_no_majority(train_counts: tuple[int, ...] | None) -> None:
    labels, probabilities = draw_skilled(20)
    scores = score(make_predictions(labels, probabilities, labels, CLASSES), train_counts=train_counts)

    assert scores.baselines["majority"] is None
    assert scores.to_json()["baselines"]["majority"] is None


def test_the_json_value_holds_all_and_survives_json() -> None:
    labels, probabilities = draw_skilled(50)
    scores = score_faces(labels, probabilities)
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))

    assert value == scores.to_json()
    assert value["interval"] == value["intervals"]["accuracy"] == list(scores.intervals["accuracy"])
    assert value["baselines"].keys() == {"majority", "constant_guess", "chance"}
    assert (value["n"], value["groups"], value["resamples"], value["seed"]) == (50, 50, 2000, 0)
    assert value["class_names"] == list(CLASSES)
    assert np.sum(value["confusion"]) == 50


def test_shapes_that_disagree_are_refused() -> None:
    labels, probabilities = draw_skilled(5)
    with pytest.raises(ValueError, match="do not belong together"):
        make_predictions(labels, probabilities[:, :3], labels, CLASSES)
    with pytest.raises(ValueError, match="do not belong together"):
        make_predictions(labels[:0], probabilities[:0], labels[:0], CLASSES)


def test_intervals_are_those_of_whole_confusion_matrices_drawn_by_group() -> None:
    random = np.random.default_rng(3)
    labels, predicted, groups = (random.integers(0, most, 300) for most in (9, 9, 120))
    predictions = LabeledPredictions(
        class_names=tuple("abcdefghi"), labels=labels, predicted=predicted, probabilities=None, groups=groups
    )

    drawn = draw_totals(confusion_by_group(labels, predicted, groups, num_classes=9).reshape(-1, 81)).reshape(-1, 9, 9)

    hits, of_label, of_prediction = np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=2), drawn.sum(axis=1)
    f1 = (2 * hits / np.maximum(1, of_label + of_prediction)).mean(axis=1)
    scores = score(predictions)
    assert scores.intervals["accuracy"] == pytest.approx(np.quantile(hits.sum(axis=1) / 300, [0.025, 0.975]), abs=0.01)
    assert scores.intervals["macro_f1"] == pytest.approx(percentiles(f1[:, None])[0], rel=1e-12)


def test_a_thousand_classes_are_scored_in_little_memory() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 2)
    predicted = np.where(random.random(2000) < 0.5, labels, random.integers(0, 1000, 2000))
    predictions = LabeledPredictions(
        class_names=tuple(map(str, range(1000))),
        labels=labels, predicted=predicted, probabilities=None, groups=np.arange(2000),
    )  # fmt: skip

    tracemalloc.start()
    try:
        scores = score(predictions, bootstrap=Bootstrap(resamples=50))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert scores.accuracy == np.mean(labels == predicted)
    assert peak_bytes < 200e6  # a matrix for each group would take 16 GB


@pytest.mark.parametrize("answers, expected", [([0, 1] * 5, (0.722, 1.0)), ([1, 0] * 5, (0.0, 0.278))])
def test_ten_faces_that_are_all_right_or_all_wrong_leave_the_scores_uncertain(
    answers: list[int], expected: tuple[float, float]
) -> None:
    scores = score(make_predictions(np.array([0, 1] * 5), np.eye(2)[answers], None, ("cat", "dog")))

    assert scores.intervals["accuracy"] == pytest.approx(expected, abs=1e-3)  # Wilson's, of 10 of 10 and of 0 of 10
    assert scores.intervals["one_vs_rest_accuracy"] == pytest.approx(expected, abs=1e-3)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "one_vs_rest_accuracy"):
        low, high = scores.intervals[name]
        assert 0 <= low <= getattr(scores, name) <= high <= 1
        assert high - low > 0.2
