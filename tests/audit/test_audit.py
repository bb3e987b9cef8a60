import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.report import draw_predictions, make_predictions, write_table
from numpy.typing import NDArray

from ferray.audit.score.audit import Audit, ScoreContext, audit, known_counts, known_published
from ferray.audit.score.claims import ClaimedScores
from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.metrics.names import SCORE_TITLES
from ferray.metrics.predictions import RESERVED, face_ids, predictions_csv, read_confusion, read_predictions

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
EXPW = known_counts("expw")
SHARES = np.array(list(EXPW.values())) / sum(EXPW.values())


def draw_hard(num: int, *, right: float = 0.66, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels in ExpW's proportions, and predicted classes that are mostly right for frequent ones."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(7, size=num, p=SHARES)
    chance = right + np.where(labels >= 3, 0.05, -0.3)
    return labels, np.where(generator.random(num) < chance, labels, generator.choice(7, size=num, p=SHARES))


def write_hard(file: Path, labels: NDArray[np.int64], predicted: NDArray[np.int64], **columns: Any) -> Path:
    ids = columns.pop("ids", [f"{row}.jpg#0" for row in range(len(labels))])
    rows = zip(ids, (CLASSES[at] for at in labels), (CLASSES[at] for at in predicted), *columns.values(), strict=True)
    return write_table(file, rows, head=("id", "label", "prediction", *columns))


def claims(*texts: str) -> ClaimedScores:
    """Claims about a table."""
    return ClaimedScores(texts=texts)


def write_probabilities(
    file: Path, labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], **columns: Any
) -> Path:
    """A table as ferray writes it."""
    ids = columns.get("ids", [str(row) for row in range(len(labels))])
    predictions = make_predictions(labels, probabilities, columns.get("groups"), CLASSES)
    file.write_text(predictions_csv(predictions, ids))
    return file


def found(result: Audit) -> dict[str, str]:
    return {finding.id: finding.severity for finding in result.findings}


def test_a_table_that_ferray_writes_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    labels, drawn = draw_predictions(50)
    probabilities = drawn.astype(np.float32)
    ids = [f"photo, {row}.jpg#0" for row in range(50)]
    file = write_probabilities(tmp_path / "a.csv", labels, probabilities, ids=ids, groups=np.arange(50) // 2)
    table = read_predictions(file)

    assert table.predictions.class_names == CLASSES
    assert table.predictions.probabilities is not None
    assert (table.predictions.probabilities.astype(np.float32) == probabilities).all()
    assert (table.predictions.labels == labels).all()
    assert table.ids == tuple(ids)
    assert len(set(table.predictions.groups.tolist())) == 25


def test_an_honest_table_has_no_findings(tmp_path: Path) -> None:
    labels, probabilities = draw_predictions(3000, skill=2.0)
    table = read_predictions(write_probabilities(tmp_path / "a.csv", labels, probabilities))
    top_1 = np.mean(labels == probabilities.argmax(axis=1))
    result = audit(table, claims(f"{top_1:.2f}"), ScoreContext(ceiling=0.85))

    assert found(result) == {}
    assert result.scores is not None
    assert result.scores.accuracy == top_1


@pytest.mark.parametrize("key", [key for key in SCORE_TITLES if key != "accuracy"])
def test_a_claim_that_is_another_score_of_the_same_predictions_is_called_by_its_name(key: str, tmp_path: Path) -> None:
    labels, probabilities = draw_predictions(2000, skill=1.5)
    kept = (labels != 0) | (np.arange(2000) % 5 == 0)  # the first class is rare and hard
    labels, probabilities = labels[kept], probabilities[kept]
    probabilities[labels == 0] = np.roll(probabilities[labels == 0], 1, axis=1)
    table = read_predictions(write_probabilities(tmp_path / "a.csv", labels, probabilities))
    scores = audit(table).scores
    assert scores is not None
    assert abs(scores.values[key] - scores.accuracy) > 0.003  # type: ignore[operator]
    result = audit(table, claims(f"{scores.values[key]:.4f}"))

    first = result.findings[0]
    assert (first.id, first.severity) == ("claimed-is-not-top-1", "fault")
    assert SCORE_TITLES[key] in first.seen
    assert f"{scores.accuracy:.4f}" in first.seen


def test_a_claim_that_no_score_of_the_predictions_comes_near_is_a_fault(tmp_path: Path) -> None:
    labels, predicted = draw_hard(2000)
    table = read_predictions(write_hard(tmp_path / "a.csv", labels, predicted))
    near = np.mean(labels == predicted) + 0.004  # not the top-1 accuracy, and of no other score the number

    assert found(audit(table, claims("0.99")))["claimed-not-found"] == "fault"
    assert found(audit(table, claims(f"{near:.4f}")))["claimed-not-found"] == "fault"


def test_a_claim_that_is_the_training_score_is_found_out(tmp_path: Path) -> None:
    train, test = draw_hard(3000, right=0.95), draw_hard(1000, right=0.6, seed=1)
    labels, predicted = (np.concatenate(pair) for pair in zip(train, test, strict=True))
    split = ["train"] * 3000 + ["test"] * 1000
    table = read_predictions(write_hard(tmp_path / "a.csv", labels, predicted, split=split))
    claimed = f"{np.mean(train[0] == train[1]):.4f}"
    result = audit(table, claims(claimed))

    assert result.split == "test"
    assert found(result)["claimed-is-not-top-1"] == "fault"
    assert "top-1 accuracy of the train rows" in result.findings[0].seen
    both = [claimed, f"{np.mean(test[0] == test[1]):.4f}"]  # told as what they are
    assert not {"claimed-is-not-top-1", "claimed-not-found"} & found(audit(table, claims(*both))).keys()


def balance(labels: NDArray[np.int64], predicted: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], list[str]]:
    """Rows of every class copied to one size, as before a split that leaks: rare classes are known by heart."""
    rows = np.concatenate([np.resize(np.flatnonzero(labels == label), size) for label in range(7)])
    return rows, [f"{row}-copy{place}" for place, row in enumerate(rows)]


def test_classes_balanced_by_copies_are_seen_from_equal_supports_and_the_rarest_recalled_best(tmp_path: Path) -> None:
    labels, predicted = draw_hard(3000)
    predicted = np.where(labels < 3, labels, predicted)
    rows, ids = balance(labels, predicted, 1500)
    table = read_predictions(write_hard(tmp_path / "a.csv", labels[rows], predicted[rows], ids=ids))
    known = audit(table, context=ScoreContext(source_counts=EXPW))

    assert found(known)["equal-supports"] == found(known)["rarest-recalled-best"] == "fault"
    assert found(audit(table))["equal-supports"] == "warning"
    text = next(one.seen for one in known.findings if one.id == "equal-supports")
    assert "fear was copied 1.4 times" in text


def test_a_test_split_with_other_shares_than_its_source_is_found(tmp_path: Path) -> None:
    labels, predicted = draw_hard(2000)
    natural = write_hard(tmp_path / "a.csv", labels, predicted)
    kept = (labels != 6) | (np.arange(2000) % 4 == 0)
    fewer = write_hard(tmp_path / "b.csv", labels[kept], predicted[kept])
    from_expw = ScoreContext(source_counts=EXPW)

    assert "shares-unlike-source" not in found(audit(read_predictions(natural), context=from_expw))
    assert found(audit(read_predictions(fewer), context=from_expw))["shares-unlike-source"] == "warning"


def test_sets_that_are_balanced_or_unequal_by_nature_have_no_such_finding(tmp_path: Path) -> None:
    labels, predicted = draw_hard(3000)
    natural = read_predictions(write_hard(tmp_path / "a.csv", labels, predicted))
    rows, ids = balance(labels, predicted, 30)
    balanced = read_predictions(write_hard(tmp_path / "b.csv", labels[rows], predicted[rows], ids=ids))
    findings = {"equal-supports", "rarest-recalled-best"}
    even = dict.fromkeys(CLASSES, 500)

    assert not findings & found(audit(natural, context=ScoreContext(source_counts=EXPW))).keys()
    assert not findings & found(audit(balanced, context=ScoreContext(source_counts=even))).keys()


Change = Callable[[dict[str, Any]], None]


def repeat_ids(case: dict[str, Any]) -> None:
    case["ids"][5] = case["ids"][6] = case["ids"][4]


def share_a_photograph(case: dict[str, Any]) -> None:
    case["split"] = ["train", "test"] * 100
    case["group"] = [str(row // 2) for row in range(200)]


def share_a_face(case: dict[str, Any]) -> None:
    case["split"] = ["train"] * 100 + ["test"] * 100
    case["ids"][150] = case["ids"][20]


def try_on_test(case: dict[str, Any]) -> None:
    case["ids"] = [str(row % 50) for row in range(200)]
    case["trial"] = [str(row // 50) for row in range(200)]


def predict_neutral(case: dict[str, Any]) -> None:
    case["predicted"] = np.full(200, 6)


def never_fear(case: dict[str, Any]) -> None:
    case["predicted"] = np.where(case["predicted"] == 2, 6, case["predicted"])


@pytest.mark.parametrize(
    "change, finding, severity",
    [
        (repeat_ids, "duplicate-ids", "fault"),
        (share_a_photograph, "group-in-several-splits", "fault"),
        (share_a_face, "id-in-several-splits", "fault"),
        (try_on_test, "test-used-to-choose", "fault"),
        (predict_neutral, "constant-answer", "fault"),
        (never_fear, "class-never-answered", "warning"),
    ],
)
def test_each_planted_fault_of_a_table_is_found_and_nothing_beside_it(
    change: Change, finding: str, severity: str, tmp_path: Path
) -> None:
    labels, predicted = draw_hard(200)
    for place in (0, 7, 193):  # every class in every part
        labels[place : place + 7] = predicted[place : place + 7] = np.arange(7)
    case: dict[str, Any] = {"labels": labels, "predicted": predicted, "ids": [str(row) for row in range(200)]}
    clean = read_predictions(write_hard(tmp_path / "clean.csv", **case))
    assert found(audit(clean)) == {"no-probabilities": "note"}
    change(case)
    planted = read_predictions(write_hard(tmp_path / "planted.csv", **case))

    assert found(audit(planted)) == {finding: severity, "no-probabilities": "note"}


def test_several_seeds_of_one_model_are_no_choice_and_no_copies(tmp_path: Path) -> None:
    labels, predicted = draw_hard(200)
    table = write_hard(
        tmp_path / "a.csv",
        labels,
        predicted,
        ids=[str(row % 100) for row in range(200)],
        seed=["0", "1"] * 50 + ["1", "0"] * 50,
    )
    assert not {"duplicate-ids", "test-used-to-choose"} & found(audit(read_predictions(table))).keys()


@pytest.mark.parametrize("wrong", ["logits", "sigmoids", "columns in another order"])
def test_numbers_that_are_no_probabilities_are_refused_with_an_example(wrong: str, tmp_path: Path) -> None:
    labels, probabilities = draw_predictions(100, skill=2.0)
    head, extra = ("id", "label", *CLASSES), [()] * 100
    if wrong == "logits":
        probabilities = np.log(probabilities)
    elif wrong == "sigmoids":
        probabilities = np.sqrt(probabilities)
    else:
        head += ("prediction",)
        extra = [(CLASSES[at],) for at in probabilities.argmax(axis=1)]
        probabilities = np.roll(probabilities, 1, axis=1)
    rows = [
        (row, CLASSES[label], *line, *more)
        for row, (label, line, more) in enumerate(zip(labels, probabilities, extra, strict=True))
    ]
    result = audit(read_predictions(write_table(tmp_path / "a.csv", rows, head=head)))
    expected = "answer-is-not-most-probable" if wrong.startswith("columns") else "not-probabilities"

    assert expected in found(result)
    assert next(one for one in result.findings if one.id == expected).examples[0] == "0"


def test_a_confusion_matrix_is_scored_like_the_predictions_that_it_counts(tmp_path: Path) -> None:
    labels, predicted = draw_hard(500)
    of_table = audit(read_predictions(write_hard(tmp_path / "a.csv", labels, predicted))).scores
    matrix = np.zeros((7, 7), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    rows = [(name, *row) for name, row in zip(CLASSES, matrix.tolist(), strict=True)]
    of_matrix = audit(read_confusion(write_table(tmp_path / "m.csv", rows, head=("", *CLASSES)))).scores
    assert of_table is not None
    assert of_matrix is not None

    order = [CLASSES.index(name) for name in of_table.class_names]
    assert (of_matrix.confusion[np.ix_(order, order)] == of_table.confusion).all()
    assert of_matrix.values == pytest.approx(of_table.values)


def test_claims_alone_are_read_in_every_way_and_what_fits_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["audit", "--claimed", "0.98,0.92,0.91", "--classes", "7", "--n", "7200", "--dataset", "expw"]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    for words in ("0.930", "0.720", "0.685", "0.37 to 1.00", "0.9032 to 0.9164", "0.659 to 0.757", "fits-one-vs-rest"):
        assert words in shown, words
    assert max(map(len, shown.splitlines())) <= 100

    assert main([*asked, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [claim["if_one_vs_rest"] for claim in value["claims"]] == pytest.approx([0.93, 0.72, 0.685])
    assert {one["id"] for one in value["findings"]} == {"fits-one-vs-rest", "above-published", "no-table"}


def test_a_claim_above_the_ceiling_or_from_too_few_faces_is_found() -> None:
    def of_claim(text: str, *, num_faces: int | None = None, ceiling: float | None = None) -> dict[str, str]:
        claimed = ClaimedScores(texts=(text,), num_classes=7, num_faces=num_faces)
        return found(audit(None, claimed, ScoreContext(ceiling=ceiling)))

    assert of_claim("0.91", ceiling=0.85)["above-ceiling"] == "fault"
    assert "above-ceiling" not in of_claim("0.84", ceiling=0.85)
    assert of_claim("0.9", num_faces=60)["too-few-faces"] == "warning"
    assert of_claim("0.9134", num_faces=7200)["too-few-faces"] == "note"
    assert "too-few-faces" not in of_claim("0.91", num_faces=7200)
    assert of_claim("0.913", num_faces=30)["impossible-number"] == "fault"


def test_a_test_split_that_was_read_for_several_trials_is_found(tmp_path: Path) -> None:
    table = read_predictions(write_hard(tmp_path / "a.csv", *draw_hard(300)))
    once, again, twice = (
        found(audit(table, context=ScoreContext(test_read_for=tuple(ids)))) for ids in ("a", "aa", "ab")
    )

    assert "test-read-again" not in once
    assert again["test-read-again"] == "note"
    assert twice["test-read-again"] == "warning"


def test_the_command_prints_a_table_and_findings_and_is_strict_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, predicted = draw_hard(2000)
    file = write_hard(tmp_path / "a.csv", labels, predicted)
    scores = audit(read_predictions(file)).scores
    assert scores is not None
    asked = ["audit", str(file), "--claimed", f"{scores.one_vs_rest_accuracy:.4f}"]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    for words in ("top-1 accuracy", "one-vs-rest accuracy", "needs probabilities", "fault: claimed-is-not-top-1"):
        assert words in shown
    assert max(map(len, shown.splitlines()[1:])) <= 100
    assert main([*asked, "--strict"]) == 1
    assert main(["audit", str(file), "--strict"]) == 0
    assert main([*asked, "--json", "--source-counts", "expw"]) == 0


@pytest.mark.parametrize(
    "asked, words",
    [
        (["audit"], "one table or a claim is needed"),
        (["audit", "--claimed", "0.9"], "--classes"),
        (["audit", "--claimed", "nine", "--classes", "7"], "not an accuracy between 0 and 1"),
        (["audit", "--claimed", "91", "--classes", "7"], "91%"),
        (["audit", "--claimed", "0.9", "--classes", "7", "--dataset", "cifar"], "Known: expw"),
        (["audit", "nowhere.csv"], "cannot be read"),
        (["audit", "nowhere.csv", "--confusion", "b.csv"], "one table"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_with_2(
    asked: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, words",
    [
        ("id,label\n1,happy\n", "columns are id, label"),
        ("id,label,prediction\n", "has no rows"),
        ("id,label,prediction\n1,happy\n", "row 2: 2 cells, not 3"),
        ("id,label,happy,sad\n1,happy,0.5,much\n", "row 2, column sad: 'much' is not a number"),
        ("id,label,happy,sad\n1,glad,0.5,0.5\n", "'glad' is not a class"),
        ("id,label,happy,happy\n1,happy,0.5,0.5\n", "columns are"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_the_place(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(DataError) as refused:
        read_predictions(file)
    assert words in str(refused.value)


def test_labels_as_numbers_are_places_in_the_order_of_the_columns(tmp_path: Path) -> None:
    rows = [(1, 1, 0.2, 0.8), (2, 0, 0.7, 0.3)]
    table = read_predictions(write_table(tmp_path / "a.csv", rows, head=("id", "label", "happy", "sad")))

    assert table.predictions.labels.tolist() == [1, 0]
    assert table.predictions.predicted.tolist() == [1, 0]


def test_source_counts_of_other_classes_are_refused(tmp_path: Path) -> None:
    table = read_predictions(write_hard(tmp_path / "a.csv", *draw_hard(100)))
    with pytest.raises(DataError, match="contempt"):
        audit(table, context=ScoreContext(source_counts={"contempt": 5}))
    with pytest.raises(DataError, match="not a known data set"):
        known_counts("cifar")
    assert [one.name for one in known_published("FER2013")] == ["FER2013"]


def test_faces_of_a_store_are_named_by_photograph_and_number(tiny_store: Store) -> None:
    table = tiny_store.table
    assert face_ids(table)[0] == table["source"][0]
    assert face_ids(table.assign(face_id=3))[0] == f"{table['source'][0]}#3"
    assert face_ids(table.drop(columns="source"))[5] == "row 5"
    assert not set(tiny_store.class_names) & set(RESERVED)


def test_spaces_at_the_ends_of_a_file_name_are_a_part_of_its_id(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    table = predictions_csv(make_predictions(labels, np.eye(2)[labels], None, ("cat", "dog")), [" a.jpg", "b.jpg "])
    (tmp_path / "predictions.csv").write_text(table)

    assert read_predictions(tmp_path / "predictions.csv").ids == (" a.jpg", "b.jpg ")
