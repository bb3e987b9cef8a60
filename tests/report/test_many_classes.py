"""Texts, tables and pictures of data sets that are no expressions, with 2 to 1,000 classes."""

from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest
from fixtures.report import draw_predictions, make_epoch, make_predictions
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ferray.data.store.contact_sheet import MAX_ROWS, draw_contact_sheet
from ferray.data.store.reader import Store, open_store
from ferray.data.store.summary import format_counts
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.data.subject import PICTURES
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.predictions import predictions_csv, read_predictions
from ferray.metrics.scores import score
from ferray.recipe import Recipe
from ferray.report.card import ModelOrigin, ModelSelection, model_card
from ferray.report.diagrams import draw_confusion
from ferray.report.slices import score_slices
from ferray.report.terminal import format_scores, format_slices
from ferray.report.test_split.recorded import parse_recorded
from ferray.train.preflight import find_risks
from ferray.wording import short_names

NUMBERS = (2, 12, 100, 1000)


def names_of(num: int) -> tuple[str, ...]:
    """Names of classes, one of them with 100 characters and one that Markdown would misread."""
    return ("x" * 100, "a|b *c*", *(f"class {number}" for number in range(2, num)))[:num]


def write_store(folder: Path, num: int, *, splits: tuple[str, ...] = ("train", "validation", "test")) -> Store:
    """A store with a picture of each class in each split."""
    rows = [{"label": label, "split": split} for split in splits for label in range(num)]
    table = pandas.DataFrame(rows).assign(group=range(len(rows)))
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    with StoreWriter(folder, num_faces=len(rows), size_px=32) as writer:
        for row in range(len(rows)):
            writer.put(row, picture)
        writer.finish(table, names_of(num), Provenance(dataset="folders", source_fingerprint="", subject="pictures"))
    return open_store(folder)


def test_names_of_wide_letters_leave_the_columns_of_a_terminal_where_they_are(tmp_path: Path) -> None:
    names = ("悲しい", "圖" * 50, "고양이와 강아지", "short")
    labels, probabilities = draw_predictions(200, num_classes=4)
    predictions = make_predictions(labels, probabilities, class_names=names)
    terminal = format_scores(score(predictions, bootstrap=Bootstrap(resamples=20)), "title", shown=PICTURES)
    table = pandas.DataFrame({"kind": [names[number % 4] for number in range(200)]})
    slices = format_slices(score_slices(table, predictions, bootstrap=Bootstrap(resamples=20)), "title", PICTURES)

    for text, begin, mark in ((terminal, "class  ", "to"), (slices, "kind  ", "[")):
        lines = text[text.index(begin) :].splitlines()[1:5]
        assert max(map(cell_len, lines)) <= 80
        assert len({cell_len(line.partition(mark)[0]) for line in lines}) == 1, lines


@pytest.mark.parametrize("num", NUMBERS)
def test_every_text_holds_and_speaks_of_pictures(num: int, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", num)
    labels, probabilities = draw_predictions(2 * num, num_classes=num)
    predictions = make_predictions(labels, probabilities, class_names=store.class_names)
    scores = score(predictions, train_counts=[1] * num, bootstrap=Bootstrap(resamples=20))
    values = scores.to_json() | {"data": "abc", "read": "2030-01-01", "test_readings": 1}
    recorded = parse_recorded(values, file=tmp_path)
    origin = ModelOrigin(name="a", kind="search", command="b", best_dir="c", data_dir="d", weights="none")
    selection = ModelSelection(recipe=Recipe(image_size=32), epoch=make_epoch(1, 0.4), num_trials=2, num_epochs=1)

    card = model_card(origin, selection, store.manifest, recorded)
    terminal = format_scores(scores, "title", recorded=recorded, shown=PICTURES)
    counts = format_counts(store)

    for text in (card, terminal, counts):
        assert "picture" in text
        assert not any(word in text for word in ("face", "emotion", "expression", "AI Act"))
    assert max(map(len, terminal.splitlines())) <= 80
    assert max(map(len, counts.splitlines()[1:-1])) <= 80
    assert len(terminal.splitlines()) < 60
    assert len(counts.splitlines()) < 70
    assert len(card) < 20_000
    assert "a\\|b \\*c\\*" in card or num == 1000


@pytest.mark.parametrize("num", [*NUMBERS[:-1], pytest.param(NUMBERS[-1], marks=pytest.mark.slow)])
def test_every_picture_and_table_holds(num: int, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", num)
    labels, probabilities = draw_predictions(2 * num, num_classes=num)
    predictions = make_predictions(labels, probabilities, class_names=store.class_names)
    scores = score(predictions, bootstrap=Bootstrap(resamples=2))

    draw_confusion(scores.confusion, scores.class_names, tmp_path / "a.png", title="a", nouns="pictures")
    (tmp_path / "a.csv").write_text(predictions_csv(predictions, [str(row) for row in range(2 * num)]))

    assert max(cv2.imread(str(tmp_path / "a.png")).shape) < 4000
    assert read_predictions(tmp_path / "a.csv").predictions.class_names == store.class_names
    assert draw_contact_sheet(store).shape[0] < 72 * (MAX_ROWS + 2)


def test_a_thousand_classes_that_a_split_lacks_are_a_few_warnings(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 1000, splits=("train",))

    risks = list(find_risks(Recipe(folds=2, fold=0), store))

    assert len(risks) < 15
    assert all(len(risk) < 1000 and "face" not in risk for risk in risks)


@given(st.sets(st.text("ab悲", min_size=1, max_size=60), min_size=1, max_size=20), st.integers(16, 40))
def test_short_names_fit_and_stay_apart(names: set[str], columns: int) -> None:
    short = short_names(sorted(names), columns)

    assert len(set(short)) == len(names)
    assert max(map(cell_len, short)) <= columns
    assert all(one == name for one, name in zip(short, sorted(names), strict=True) if cell_len(name) <= columns)
