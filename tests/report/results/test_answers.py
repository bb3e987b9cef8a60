"""Promise of winners with checkpoints: they are compared picture by picture, and no trunk is passed for it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fixtures.compared import compared
from fixtures.data import write_tiny_store
from fixtures.train import small_backbone

from ferray.data.store.reader import Store
from ferray.errors import WeightsError
from ferray.files.storage import cache_dir
from ferray.metrics.intervals import wilson_interval
from ferray.model.backbones import BACKBONES
from ferray.model.weights import load_weights, unloaded_weights
from ferray.recipe import NO_WEIGHTS, Recipe, trial_id
from ferray.records.points import Point
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.report.results.answers import PointAnswers
from ferray.report.results.compared.searches import ComparedSearch
from ferray.report.results.compared.winners import compare_winners
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.fit import fit
from ferray.train.predict import ValidationAnswers

RECIPE = Recipe(weights="none", precision="float32", image_size=32, hidden_units=8, epochs=2, batch_size=16)


def trained(letter: str, store: Store, parent: Path, *, learning_rate: float, cache: Path | None) -> ComparedSearch:
    """A search of one trial that was trained."""
    recipe = dataclasses.replace(RECIPE, learning_rate=learning_rate)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=NO_WEIGHTS)
    run = Run(parent / letter)
    weights = load_weights("none", "vgg16")
    rows = fit(
        recipe, store, weights,
        checkpointing=Checkpointing(run.trial_dir(name)), environment=Environment(cache=cache),
    )  # fmt: skip
    record = TrialRecord(trial_id=name, number=0, recipe=recipe, state="done", epochs=tuple(rows))
    data = {"folder": str(store.folder), "fingerprint": store.fingerprint, "size_px": 32}
    search = compared(letter, [record], data=data, weights={"vgg16": NO_WEIGHTS})
    return dataclasses.replace(search, results=dataclasses.replace(search.results, run=run, manifest=store.manifest))


@pytest.mark.parametrize("is_cached", [True, False])
def test_winners_are_compared_picture_by_picture_where_features_are_cached(
    is_cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "vgg16", small_backbone())
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    store = write_tiny_store(tmp_path / "store", per_class=(4, 4, 1))
    cache = cache_dir() if is_cached else None
    searches = [
        trained("A", store, tmp_path, learning_rate=1e-3, cache=cache),
        trained("B", store, tmp_path, learning_rate=0.1, cache=cache),
    ]
    (contrast,) = compare_winners(searches)
    scores = {one.letter: one.results.points[0].mean for one in searches}

    assert contrast.basis == ("paired" if is_cached else "separate intervals")
    assert contrast.difference == pytest.approx(abs(scores["A"] - scores["B"]))
    if is_cached:
        assert (contrast.seeds, contrast.is_approximate, contrast.note) == (1, False, "")
    else:
        assert "not in the cache of this machine" in contrast.note


def test_weights_that_were_not_loaded_are_never_taken_for_weights() -> None:
    weights = unloaded_weights({"vgg16": "0123"})["vgg16"]

    with pytest.raises(WeightsError, match="the features of the frozen trunk are damaged"):
        dict(weights.tensors)


def test_the_error_of_a_winner_that_is_always_right_is_that_of_so_many_photographs(
    tiny_store: Store, tmp_path: Path
) -> None:
    rows = np.arange(len(tiny_store.labels))[tiny_store.rows("validation")]
    right = np.eye(len(tiny_store.class_names), dtype=np.float32)[tiny_store.labels[rows]]
    answers = PointAnswers(
        Run(tmp_path / "one"), tiny_store, {}, predict=lambda _: ValidationAnswers(rows=rows, probabilities=right)
    )
    record = TrialRecord(trial_id="0" * 12, number=0, recipe=RECIPE)

    error = answers.standard_error(Point(records=(record,)), "accuracy")

    low, _ = wilson_interval(1.0, len(set(tiny_store.groups("validation").tolist())))
    assert error == pytest.approx((1 - low) / 1.96)
