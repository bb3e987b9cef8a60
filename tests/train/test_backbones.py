"""Every backbone trains, resumes and is exported, wherever it is frozen."""

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe, small_weights
from safetensors.torch import load_file

from ferray.errors import RecipeError
from ferray.predict.export import export_model
from ferray.recipe import BackboneName, Freeze, Recipe
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.export import export_best, load_model, predict_probabilities
from ferray.train.settle import settle

LITE = "timm/tf_efficientnet_lite0"
QUICK = {("mobilenet_v3_small", "blocks1-4"), (LITE, "trunk")}
NAMES = [name for name in get_args(BackboneName) if not name.startswith("vgg")]
CASES = [
    (name, freeze)
    for name in (*NAMES, LITE)
    for freeze in get_args(Freeze)
    if not (name.startswith("timm") and "blocks" in freeze)
]
each_case = pytest.mark.parametrize(
    "name, freeze", [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)


def without_times(rows: list[EpochResult]) -> list[EpochResult]:
    return [dataclasses.replace(row, images_per_s=0.0, seconds=0.0) for row in rows]


def recipe_for(name: str, freeze: Freeze) -> Recipe:
    return small_recipe(backbone=name, freeze=freeze, epochs=2, batch_size=4, learning_rate=1e-4)


@each_case
def test_a_backbone_resumes_to_the_same_bits(name: str, freeze: Freeze, tmp_path: Path) -> None:
    recipe, store, weights = recipe_for(name, freeze), SmallStore(8, 4), small_weights(name)
    whole = without_times(list(fit_in(tmp_path / "whole", recipe, store, weights)))
    cut = fit_in(tmp_path / "cut", recipe, store, weights)
    next(cut)
    cut.close()

    assert without_times(list(fit_in(tmp_path / "cut", recipe, store, weights))) == whole[1:]
    assert same_tensors(*(load_file(tmp_path / folder / "last.safetensors") for folder in ("whole", "cut")))


@each_case
def test_an_exported_backbone_scores_as_its_best_epoch_did(name: str, freeze: Freeze, tmp_path: Path) -> None:
    recipe, store, weights = recipe_for(name, freeze), SmallStore(8, 4), small_weights(name)
    rows = list(fit_in(tmp_path / "trial", recipe, store, weights))
    epoch = export_best(tmp_path / "best", checkpoints=tmp_path / "trial", recipe=recipe, store=store, weights=weights)
    validation = store.rows("validation")
    probabilities = predict_probabilities(load_model(tmp_path / "best"), store.faces[validation])
    loss = -np.log(probabilities[np.arange(len(probabilities)), store.labels[validation]]).mean()

    assert loss == pytest.approx(rows[epoch - 1].val_loss, rel=2e-3)
    exported = export_model(tmp_path / "best", tmp_path / "tensors", form="safetensors")
    assert exported.parity.max_difference < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)  # torch's export takes a minute for a model of many layers, and more on a busy machine
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize("name", [*NAMES, LITE])
def test_every_backbone_is_a_graph_for_other_programs(name: str, form: str, tmp_path: Path) -> None:
    freeze: Freeze = "trunk" if name == LITE else "blocks1-4"
    recipe, store, weights = recipe_for(name, freeze), SmallStore(8, 4), small_weights(name)
    recipe = dataclasses.replace(recipe, epochs=1)
    list(fit_in(tmp_path / "trial", recipe, store, weights))
    export_best(tmp_path / "best", checkpoints=tmp_path / "trial", recipe=recipe, store=store, weights=weights)
    exported = export_model(tmp_path / "best", tmp_path / "model", form=form)

    assert exported.parity.num_same == exported.parity.num_pictures
    assert exported.parity.max_difference < 1e-3


@pytest.mark.parametrize("name", ["swin_t", "vit_b_16"])
@pytest.mark.slow
def test_training_a_transformer_on_two_threads_has_the_same_bits_each_time(name: str) -> None:
    recipe, store, weights = recipe_for(name, "none"), SmallStore(8, 4), small_weights(name)
    torch.set_num_threads(2)
    try:
        runs = [without_times(list(fit_in(None, recipe, store, weights))) for _ in range(2)]
    finally:
        torch.set_num_threads(1)

    assert runs[0] == runs[1]


def test_a_size_that_a_backbone_cannot_take_is_refused_before_anything_is_built() -> None:
    recipe = small_recipe(backbone="vit_b_16", image_size=None)

    with pytest.raises(RecipeError, match="pictures of 40 pixels, but vit_b_16 takes multiples of 16"):
        settle(recipe, SmallStore(8, 4, size_px=40), precision="float32")  # type: ignore[arg-type]


def test_a_timm_model_is_frozen_as_a_whole_or_not_at_all() -> None:
    recipe = small_recipe(backbone="timm/tf_efficientnet_lite0", freeze="blocks1-4")

    with pytest.raises(RecipeError, match="not cut into blocks") as caught:
        settle(recipe, SmallStore(8, 4), precision="float32")  # type: ignore[arg-type]
    assert "freeze=trunk or freeze=none" in str(caught.value)
