"""What a recipe leaves open is settled once, and measured once a device."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.train import SmallStore, small_backbone, small_recipe, small_weights

from ferray.errors import RecipeError
from ferray.model.backbones import BACKBONES
from ferray.model.classifier import build_free, build_frozen, trunk_tensors
from ferray.recipe import Recipe
from ferray.train import settle as module
from ferray.train.settle import device_name, measure_precision, settle


def test_unset_values_are_taken_from_the_store_and_the_measurement() -> None:
    settled = settle(Recipe(dropout=0.2), SmallStore(size_px=48), precision="bfloat16")

    assert (settled.image_size, settled.precision, settled.dropout) == (48, "bfloat16", 0.2)


def test_values_that_the_recipe_sets_stay() -> None:
    recipe = Recipe(image_size=64, precision="float32")

    assert settle(recipe, SmallStore(size_px=48), precision="bfloat16") == recipe


def test_a_store_of_faces_too_small_for_a_trunk_is_refused() -> None:
    with pytest.raises(RecipeError, match="image_size"):
        settle(Recipe(), SmallStore(size_px=16), precision="float32")


@pytest.mark.parametrize("speedup, precision", [(1.1, "float32"), (1.3, "bfloat16"), (0.1, "float32")])
def test_bfloat16_must_be_clearly_faster(speedup: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "_time_convolution", lambda device, dtype: 1 / (speedup if dtype == torch.bfloat16 else 1)
    )

    assert measure_precision("cpu") == precision


def test_a_device_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[torch.dtype] = []

    def measure(device: torch.device, dtype: torch.dtype) -> float:
        measured.append(dtype)
        return 1.0

    monkeypatch.setattr(module, "_time_convolution", measure)
    assert [measure_precision("cpu", cache=tmp_path) for _ in range(3)] == ["float32"] * 3
    assert len(measured) == 2

    (file,) = (tmp_path / "precision").iterdir()
    assert json.loads(file.read_text())["device"] == device_name(torch.device("cpu"))
    for damage in ("", "[]", '{"device": "another", "precision": "bfloat16"}'):
        file.write_text(damage)
        assert measure_precision("cpu", cache=tmp_path) == "float32"
    assert len(measured) == 8


def test_a_real_measurement_is_short_and_leaves_torchs_own_generator_alone() -> None:
    before = torch.get_rng_state()
    begun = time.process_time()

    assert measure_precision("cpu") in ("float32", "bfloat16")
    assert time.process_time() - begun < 5  # a second or two on one thread
    assert torch.equal(torch.get_rng_state(), before)


def test_float32_is_computed_in_full_also_where_a_gpu_would_use_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe says of its number format holds: on a CPU the setting has no effect, but can be read."""
    recipe = small_recipe(precision="float32")
    acts: list[Callable[[], object]] = [
        lambda: measure_precision("cpu"),
        lambda: build_free(recipe, trunk_tensors(recipe, small_weights()), num_classes=7),
        lambda: build_frozen(recipe, trunk_tensors(recipe, small_weights())),
    ]
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(module, "_time_convolution", lambda device, dtype: 1.0)
    monkeypatch.setitem(BACKBONES, "vgg16", small_backbone())
    try:
        for act in acts:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
            act()
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
