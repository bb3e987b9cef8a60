import itertools
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from fixtures.report import draw_predictions, make_epoch, make_predictions

from ferray.commands import report
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import Store
from ferray.metrics.calibration import calibrate
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.scores import Scores, score
from ferray.recipe import Recipe
from ferray.report.card import ModelOrigin, ModelSelection, model_card
from ferray.report.slices import compared_slices, score_slices, worst_to_json
from ferray.report.test_split.recorded import RecordedScore, parse_recorded

ORIGIN = ModelOrigin(
    name="grid",
    kind="search",
    command="python -m ferray.search --space grid --data data/tiny",
    best_dir="elsewhere/grid/best",
    data_dir="data/tiny",
    weights="imagenet",
)
SELECTION = ModelSelection(
    recipe=Recipe(image_size=32, precision="float32", learning_rate=1e-4),
    epoch=make_epoch(3, 0.42),
    num_trials=24,
    num_epochs=10,
    searched=("learning_rate", "dropout"),
)


def record(scores: Scores, **more: Any) -> RecordedScore:
    """The score as `metrics.json` has it."""
    values = scores.to_json() | {"data": "abc", "read": "2030-01-01", "test_readings": 1} | more
    return parse_recorded(values, file=Path("metrics.json"))


def write_card(store: Store, **changes: Any) -> str:
    labels = store.labels[store.rows("test")]
    probabilities = np.eye(7)[np.where(np.arange(len(labels)) % 3, labels, 0)]
    scores = score(make_predictions(labels, probabilities, class_names=store.class_names), train_counts=[6] * 7)
    usual = {"origin": ORIGIN, "selection": SELECTION, "manifest": store.manifest, "test": record(scores)}
    return model_card(**(usual | changes))


def test_a_card_shows_what_the_score_is_worth_and_what_the_model_is_not(tiny_store: Store) -> None:
    card = write_card(tiny_store)
    for words in (
        "an annotator would give it",
        "not tell what a person feels",
        "For research only",
        "best epoch of one of 24 trials, by validation accuracy: **0.4200** in epoch 3 of 10",
        "optimistic",
        "95 % interval",
        "always the most frequent training class",
        "best constant prediction",
        "equal probabilities",
        "| **top-1 accuracy** | 0.7143 | ",
        "| one-vs-rest accuracy | 0.9184 | ",
        "| binary accuracy | 0.9184 | ",
        " | 0.8571 |",
        "| neutral | 3 | 0.667 | ",
        "read the test split once",
        "| **learning_rate** (searched) | **1e-4** |",
        tiny_store.fingerprint,
        "RGB, not BGR",
        "Article 5(1)(f)",
        "not legal advice",
        "python -m ferray.search --space grid --data data/tiny",
        "python -m ferray.report evaluate elsewhere/grid/best --data data/tiny --split test",
    ):
        assert words in " ".join(card.split()), words
    assert "None" not in card
    assert "{" not in card


def test_a_card_of_demo_faces_says_at_the_top_that_its_score_means_nothing(tiny_store: Store) -> None:
    assert "means nothing for real faces" in "\n".join(write_card(tiny_store).splitlines()[:5])
    real = replace(tiny_store.manifest, dataset="folders")
    assert "means nothing" not in write_card(tiny_store, manifest=real)


def test_a_card_of_expw_forbids_its_pictures_and_does_not_take_search_words_for_annotations(tiny_store: Store) -> None:
    expw = write_card(
        tiny_store,
        manifest=replace(tiny_store.manifest, dataset="expw", split=(0.7, 0.1, 0.2), skipped={"no picture": 3}),
    )

    assert "publish no pictures" in expw
    assert "not annotations of people" in expw
    assert "70%/10%/20% by photograph, seed 0" in expw
    assert "no picture: 3" in expw
    assert "ExpW" not in write_card(tiny_store)


def test_a_card_without_a_test_split_says_not_tested(tiny_store: Store) -> None:
    counts = {split: dict(tiny_store.manifest.counts[split]) for split in SPLITS}
    counts["test"] = dict.fromkeys(tiny_store.class_names, 0)
    card = write_card(tiny_store, test=None, manifest=replace(tiny_store.manifest, counts=counts))

    assert "Not tested: the store has no test faces." in card
    assert "95 % interval" not in card
    assert "ferray.report evaluate" not in card
    assert "{" not in card


def test_a_class_without_test_faces_and_unknown_training_classes_are_shown_as_such(tiny_store: Store) -> None:
    labels = np.array([0, 1, 1])
    scores = score(make_predictions(labels, np.eye(7)[[0, 1, 4]], labels, tiny_store.class_names))
    card = write_card(tiny_store, test=record(scores))

    assert "| fear | 0 | no faces | | |" in card
    assert "| disgust | 2 | 0.500 | 0.500 to 0.500 | sad |" in card
    assert "most frequent training class" not in card
    assert "Calibration" not in card
    assert "weak" not in card


def test_a_card_shows_the_calibration_and_where_the_model_is_weak(tiny_store: Store) -> None:
    bootstrap = Bootstrap(resamples=50)
    predictions = make_predictions(*draw_predictions(600, sharpness=3.0), class_names=tiny_store.class_names)
    calibration = calibrate(predictions, predictions, bootstrap=bootstrap).to_json()
    is_common = np.arange(600) % 3 > 0
    table = pandas.DataFrame({"subject_word": np.where(is_common, "wife", "old")})
    predicted = np.where(is_common, predictions.labels, (predictions.labels + 1) % 7)
    slices = score_slices(table, replace(predictions, predicted=predicted), bootstrap=bootstrap)
    test = record(
        score(predictions, train_counts=[6] * 7),
        test_readings=2,
        calibration=calibration,
        slices={"num": len(slices), "worst": worst_to_json(slices), "lowest": [asdict(one) for one in slices]},
    )
    card = write_card(tiny_store, test=test)

    for words in (
        "read the test split 2 times",
        "it is overconfident",
        f"temperature of **{calibration['temperature']:.3f}**",
        f"| expected calibration error | {calibration['before']['ece']:.3f} [",
        "The worst of 2 slices is **subject word: older**",
        "| subject word: older | 200 | 0.000 |",
        "no claim about groups of people",
        "slices.csv",
    ):
        assert words in " ".join(card.split()), words
    assert "None" not in card
    check_tables(card)


@pytest.mark.parametrize("num_trials", [1, 2])
def test_one_trial_is_no_trials(tiny_store: Store, num_trials: int) -> None:
    card = write_card(tiny_store, selection=replace(SELECTION, num_trials=num_trials))

    assert ("of one trial," in card) == (num_trials == 1)


def test_every_table_has_as_many_cells_in_each_row(tiny_store: Store) -> None:
    check_tables(write_card(tiny_store))


def test_a_card_says_of_a_temperature_what_its_own_table_says(tiny_store: Store) -> None:
    bootstrap = Bootstrap(resamples=50)
    tested = make_predictions(*draw_predictions(600), class_names=tiny_store.class_names)
    sharp = make_predictions(*draw_predictions(600, sharpness=3.0), class_names=tiny_store.class_names)
    for fitted, words in (
        (sharp, "expected calibration error, negative log-likelihood, Brier score are higher. It does not help"),
        (tested, "`ferray predict` divides by it; the exported tensors do not."),
    ):
        calibration = calibrate(fitted, tested, bootstrap=bootstrap)
        test = record(score(tested, train_counts=[6] * 7), calibration=calibration.to_json())
        card = " ".join(write_card(tiny_store, test=test).split())
        assert words in card
        assert "better" not in card
        assert "overconfident" not in card  # these probabilities are as often right as they say
        for key, title in (("ece", "expected calibration error"), ("nll", "negative log-likelihood")):
            before, after = (round(getattr(one, key), 3) for one in (calibration.before, calibration.after))
            state = "lower" if after < before else "higher" if after > before else "the same"
            clauses = card.split("test split with it: ")[1].split(". ")[0].split("; ")
            assert title in next(clause for clause in clauses if clause.endswith(f" {state}"))


def test_the_worst_slice_and_the_lowest_ones_are_of_one_number_of_slices(tiny_store: Store) -> None:
    predictions = make_predictions(*draw_predictions(600), class_names=tiny_store.class_names)
    table = pandas.DataFrame({"half": np.arange(600) % 2, "only": np.where(predictions.labels == 0, "a", "b")})
    slices = score_slices(table, predictions, bootstrap=Bootstrap(resamples=50))
    compared = compared_slices(slices)
    assert len(compared) < len(slices)  # the faces of one class alone cover too few of the labels
    lowest = [asdict(one) for one in compared[:2]]
    summary = {"num": len(slices), "worst": worst_to_json(slices), "lowest": lowest}
    card = " ".join(write_card(tiny_store, test=record(score(predictions), slices=summary)).split())

    assert f"The worst of {len(compared)} slices" in card
    assert f"The 2 lowest of these {len(compared)} slices; `slices.csv` has all {len(slices)}" in card
    none = write_card(tiny_store, test=record(score(predictions), slices=summary | {"worst": None, "lowest": []}))
    assert "No slice holds enough of the labels" in none


def test_one_slice_whose_name_is_markdown_is_one_row(tiny_store: Store) -> None:
    predictions = make_predictions(*draw_predictions(600), class_names=tiny_store.class_names)
    table = pandas.DataFrame({"store": np.where(np.arange(600) % 30, "a|b", None)})
    slices = score_slices(table, predictions, bootstrap=Bootstrap(resamples=50))
    summary = {"num": len(slices), "worst": worst_to_json(slices), "lowest": [asdict(one) for one in slices]}
    card = write_card(tiny_store, test=record(score(predictions), slices=summary))

    assert "| store: a\\|b | 580 |" in card
    assert "1 slice; `slices.csv` has it, too:" in card
    assert "1 slices" not in card


def test_the_commands_of_a_card_can_be_pasted_where_a_folder_has_a_space(tiny_store: Store) -> None:
    origin = replace(ORIGIN, best_dir="my runs/grid/best", data_dir="data/it's mine")
    line = next(line for line in write_card(tiny_store, origin=origin).splitlines() if "report evaluate" in line)
    words = shlex.split(line, comments=True)

    assert words[:3] == ["python", "-m", "ferray.report"]
    options = report._parse(words[3:], "report")
    assert (str(options.best_dir), options.data) == (origin.best_dir, [origin.data_dir])  # type: ignore[union-attr]


def test_the_shares_of_a_split_add_up(tiny_store: Store) -> None:
    manifest = replace(tiny_store.manifest, dataset="folders", split=(0.125, 0.125, 0.75))

    assert "Split 12.5%/12.5%/75% by photograph" in write_card(tiny_store, manifest=manifest)


def test_searched_settings_come_first_in_the_recipe(tiny_store: Store) -> None:
    rows = write_card(tiny_store).split("| setting | value |")[1].splitlines()[2:]

    assert rows[:2] == ["| **learning_rate** (searched) | **1e-4** |", "| **dropout** (searched) | **0.5** |"]
    assert sum("learning_rate" in row for row in rows) == 1
    assert not any("searched" in row for row in rows[2:])


def test_a_split_that_was_read_before_is_not_called_untouched(tiny_store: Store) -> None:
    scores = score(make_predictions(*draw_predictions(50), class_names=tiny_store.class_names))
    for num_readings, is_clean in ((1, True), (2, False)):
        card = " ".join(write_card(tiny_store, test=record(scores, test_readings=num_readings)).split())
        assert ("not in choosing the model" in card) is is_clean
        assert ("The test split was not used to choose." in card) is is_clean
        assert ("may be too high" in card) is not is_clean


def test_one_epoch_of_one_trial_was_not_selected(tiny_store: Store) -> None:
    only = replace(SELECTION, num_trials=1, num_epochs=1)

    assert "optimistic" not in write_card(tiny_store, selection=only)
    assert "nothing was selected" in write_card(tiny_store, selection=only)


def test_the_card_of_a_training_run_names_the_command_that_scores_it(tiny_store: Store) -> None:
    origin = replace(ORIGIN, kind="training run", command="python -m ferray.train --out alone", best_dir="alone/best")
    card = write_card(tiny_store, origin=origin, test=None)

    assert "Not tested: `ferray train` reads no test split" in card
    assert "evaluate alone/best --data data/tiny --split test    # a test score, once" in card
    assert "this search" not in card
    assert "# the training run" in card


def check_tables(card: str) -> None:
    lines = card.splitlines()
    for above, below in itertools.pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|"), below
