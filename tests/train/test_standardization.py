"""Standardized features: measured on training pictures alone, kept with the model, alike for weights of any size."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe
from numpy.typing import NDArray
from safetensors.torch import load_file

from ferray.model.classifier import build_classifier
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.train.checkpoints.export import export_best, load_model, predict_probabilities
from ferray.train.spec import RunSpec

STANDARDIZED: dict[str, Any] = {"feature_scaling": "standardize", "epochs": 1}


def tensors_after(recipe: Recipe, store: SmallStore, weights: Weights, folder: Path) -> dict[str, torch.Tensor]:
    list(fit_in(folder, recipe, store, weights))
    return dict(load_file(folder / "best.safetensors"))


def trunk_output(recipe: Recipe, store: SmallStore, weights: Weights) -> NDArray[np.float64]:
    """What the whole trunk gives for the training pictures, before the first step."""
    spec = RunSpec(recipe, store, weights)  # type: ignore[arg-type]
    model = build_classifier(recipe, spec.trunk_tensors, num_classes=7)
    with torch.no_grad():
        frozen = model.frozen(torch.from_numpy(store.faces[store.rows("train")]))
        output: NDArray[np.float64] = model.free.trunk_output(frozen).double().numpy()
    return output


@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "none"])
def test_channels_are_standardized_by_their_mean_and_deviation_over_the_training_pictures(
    freeze: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(freeze=freeze, **STANDARDIZED)
    found = tensors_after(recipe, store, weights, tmp_path / "trial")
    values = trunk_output(recipe, store, weights)
    variance = values.var(axis=(0, 2, 3))
    expected = np.sqrt(variance + 1e-3 * variance.mean())
    np.testing.assert_allclose(found["head.mean"][:, 0, 0], values.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["head.deviation"][:, 0, 0], expected, rtol=1e-3, atol=1e-4)


def test_labels_and_validation_pictures_have_no_part_in_it(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    recipe = small_recipe(**STANDARDIZED)
    other = SmallStore()
    other.faces[other.rows("validation")] = 255
    other.labels[:] = np.roll(other.labels, 1)
    one, two = (tensors_after(recipe, some, weights, tmp_path / str(some is store)) for some in (store, other))
    assert torch.equal(one["head.mean"], two["head.mean"])
    assert torch.equal(one["head.deviation"], two["head.deviation"])


@pytest.mark.parametrize("freeze", ["trunk", "none"])
def test_a_head_learns_the_same_however_large_the_trunks_output_is(
    freeze: str, store: SmallStore, weights: Weights
) -> None:
    last = [name for name in weights.tensors if name.endswith("weight")][-1]
    bias = last.replace("weight", "bias")
    large = {name: tensor * (8 if name in (last, bias) else 1) for name, tensor in weights.tensors.items()}
    eightfold = dataclasses.replace(weights, tensors=large, fingerprint="eightfold")

    def losses(scaling: str, of: Weights) -> list[float]:
        # A trunk that learns is another one afterwards: only its first epoch is compared, at a rate that is almost 0.
        recipe = small_recipe(feature_scaling=scaling, freeze=freeze, trunk_lr_factor=1e-9, epochs=2)
        return [row.train_loss for row in fit_in(None, recipe, store, of)]

    assert losses("standardize", eightfold) == pytest.approx(losses("standardize", weights), rel=1e-4)
    assert losses("none", eightfold) != pytest.approx(losses("none", weights), rel=1e-2)


def test_an_exported_model_standardizes_as_it_did_in_training(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(**STANDARDIZED, learning_rate=0.01)
    rows = list(fit_in(tmp_path / "trial", recipe, store, weights))
    export_best(tmp_path / "best", checkpoints=tmp_path / "trial", recipe=recipe, store=store, weights=weights)  # type: ignore[arg-type]
    probabilities = predict_probabilities(load_model(tmp_path / "best"), store.faces[store.rows("validation")])
    labels = store.labels[store.rows("validation")]
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(rows[0].val_loss, rel=1e-3)


def test_a_longer_run_goes_on_from_a_checkpoint_with_the_same_bits(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(feature_scaling="standardize", augmentation="light")
    whole = list(fit_in(tmp_path / "whole", recipe, store, weights))
    cut = fit_in(tmp_path / "cut", recipe, store, weights)
    next(cut)
    cut.close()
    rest = list(fit_in(tmp_path / "cut", recipe, store, weights))
    assert [row.train_loss for row in rest] == [row.train_loss for row in whole[1:]]
    ends = (load_file(tmp_path / name / "last.safetensors") for name in ("cut", "whole"))
    assert same_tensors(*ends)
