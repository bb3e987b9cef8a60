"""Predicting and timing on a GPU, which is pretended, and training on the second of two: as in `test_training`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.device_recipes import RECIPES
from fixtures.on_gpu import GPU, MAY_WAIT, train, weights_for
from fixtures.pretended import DeviceFault, PretendedGpu
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.predict.latency import measure_latency
from ferray.recipe import Recipe
from ferray.train.checkpoints.export import export_best
from ferray.train.features.speed import measure_trunk_speed
from ferray.train.predict import predict_validation

SECOND = "cuda:1"

some_recipes = pytest.mark.parametrize(
    "name",
    [
        "a head on mixed features of a fold",
        "a head on standardized features",
        "block 5 in bfloat16, mixed",
        "the whole trunk in bfloat16, clipped",
    ],
)


def formats(gpu: PretendedGpu) -> set[tuple[torch.device, torch.dtype, bool]]:
    """Device, number format and memory format of all convolutions."""
    return {(one.device, one.dtype, one.channels_last) for one in gpu.convolutions}


def wanted_formats(recipe: Recipe, device: str) -> set[tuple[torch.device, torch.dtype, bool]]:
    dtype = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    return {(torch.device(device), dtype, True)}


@some_recipes
def test_validation_is_predicted_on_a_gpu_with_one_wait_and_the_cpus_numbers(
    name: str, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe, place = RECIPES[name], "train/predict.py predict_validation"
    weights = weights_for(recipe)
    train(recipe, store, checkpoints=tmp_path)

    def predict(device: str) -> Any:
        return predict_validation(recipe, store, weights, checkpoints=tmp_path, cache=None, device=device)

    with PretendedGpu(may_wait={*MAY_WAIT, place}) as gpu:
        answers = predict(GPU)

    assert gpu.waits[place] == 1
    assert formats(gpu) == wanted_formats(recipe, GPU)
    assert np.array_equal(answers.probabilities, predict("cpu").probabilities)


@some_recipes
def test_all_of_a_run_on_the_second_gpu_is_there(
    name: str, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe, place = RECIPES[name], "train/predict.py predict_validation"
    weights = weights_for(recipe)
    with PretendedGpu(count=2, may_wait={*MAY_WAIT, place}) as gpu:
        rows = train(recipe, store, device=SECOND, checkpoints=tmp_path)
        predict_validation(recipe, store, weights, checkpoints=tmp_path, cache=None, device=SECOND)

    assert formats(gpu) == wanted_formats(recipe, SECOND)
    assert rows == train(recipe, store)


def test_a_device_that_is_written_down_is_noticed_on_the_second_gpu(
    store: SmallStore, small_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_for(small_recipe())
    monkeypatch.setattr(
        "ferray.train.fit.to_device", lambda tensor, device: tensor.pin_memory().to("cuda", non_blocking=True)
    )
    with PretendedGpu(count=2, may_wait=MAY_WAIT), pytest.raises(DeviceFault, match="on two devices"):
        train(small_recipe(), store, device=SECOND)


def test_a_model_and_a_trunk_are_timed_on_the_gpu_that_is_named(
    store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe = RECIPES["block 5 in bfloat16, mixed"]
    weights = weights_for(recipe)
    train(recipe, store, checkpoints=tmp_path)
    export_best(tmp_path / "best", checkpoints=tmp_path, recipe=recipe, store=store, weights=weights)
    places = ["train/checkpoints/export.py load_model", "train/checkpoints/portable.py run", *MAY_WAIT]
    with PretendedGpu(count=2, may_wait=places) as gpu:
        latency = measure_latency(tmp_path / "best", device=SECOND, calls=2)
    assert latency.device_name.startswith("a pretended GPU")
    assert formats(gpu) == wanted_formats(recipe, SECOND)

    places = ["train/features/speed.py measure_trunk_speed", "train/settle.py _time_convolution", *MAY_WAIT]
    with PretendedGpu(may_wait=[*places, "train/settle.py _synchronize"]) as gpu:
        assert measure_trunk_speed(small_weights(), size_px=32, device="cuda", cache=None) > 0
    assert {(one.device, one.channels_last) for one in gpu.convolutions} == {(torch.device(GPU), True)}
