import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_fixtures import make_epoch

from ferray.data.store import SPLITS, Store
from ferray.recipe import Recipe
from ferray.report.card import model_card
from ferray.report.scores import score


def write_card(store: Store, **changes: Any) -> str:
    labels = store.labels[store.rows("test")]
    probabilities = np.eye(7)[np.where(np.arange(len(labels)) % 3, labels, 0)]
    scores = score(labels, probabilities, np.arange(len(labels)), class_names=store.class_names, train_counts=[6] * 7)
    usual = {
        "name": "grid",
        "recipe": Recipe(image_size=32, precision="float32", learning_rate=1e-4),
        "class_names": store.class_names,
        "manifest": store.manifest,
        "metrics": scores.to_json(),
        "num_trials": 24,
        "validation": make_epoch(3, 0.42),
        "search_command": "python -m ferray.search --space grid --data data/tiny",
        "data_dir": "data/tiny",
        "weights": "imagenet",
    }
    return model_card(**(usual | changes))


def test_a_card_says_what_the_score_is_worth_and_what_the_model_is_not(tiny_store: Store) -> None:
    card = write_card(tiny_store)
    for words in (
        "an annotator\nwould give it",
        "not tell what a person feels",
        "For research only",
        "best epoch of 24 trials, by validation accuracy: **0.4200** in epoch 3",
        "optimistic",
        "95 % interval",
        "most frequent training class* | 0.1429",
        "best constant answer",
        "random answer",
        "| neutral | 3 |",
        "| learning_rate | 1e-4 |",
        tiny_store.fingerprint,
        "RGB, not BGR",
        "Article 5(1)(f)",
        "not legal advice",
        "python -m ferray.search --space grid --data data/tiny",
        "python -m ferray.report evaluate runs/grid/best --data data/tiny --split test",
    ):
        assert words in card, words
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
    card = write_card(tiny_store, metrics=None, manifest=replace(tiny_store.manifest, counts=counts))

    assert "Not tested" in card
    assert "95 % interval" not in card
    assert "ferray.report evaluate" not in card
    assert "{" not in card


def test_a_class_without_test_faces_and_unknown_training_classes_are_told_as_such(tiny_store: Store) -> None:
    labels = np.array([0, 1, 1])
    scores = score(labels, np.eye(7)[[0, 1, 4]], labels, class_names=tiny_store.class_names, train_counts=None)
    card = write_card(tiny_store, metrics=scores.to_json())

    assert "| fear | 0 | no faces | |" in card.replace("|  |", "| |")
    assert "| disgust | 2 | 0.500 | sad |" in card
    assert "most frequent training class" not in card


@pytest.mark.parametrize("num_trials", [1, 2])
def test_one_trial_is_no_trials(tiny_store: Store, num_trials: int) -> None:
    assert ("of one trial," in write_card(tiny_store, num_trials=num_trials)) == (num_trials == 1)


def test_every_table_has_as_many_cells_in_each_row(tiny_store: Store) -> None:
    lines = write_card(tiny_store).splitlines()
    for above, below in itertools.pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|"), below
