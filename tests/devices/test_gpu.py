"""What only a real GPU shows: `pytest -m gpu`. Without one everything here is skipped.

The pretended GPU of the other tests computes on the CPU. Here kernels round in their own way, copies and kernels
overlap, and memory ends.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.device_recipes import RECIPES
from fixtures.train import SmallStore, fit_in, small_recipe, small_weights
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ferray.data.store.reader import Store
from ferray.errors import TrainError
from ferray.model.weights import load_weights
from ferray.recipe import Recipe
from ferray.records.run import Run
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.export import export_best, load_model, predict_probabilities
from ferray.train.settle import measure_precision
from ferray.train.totals import PassAccumulator
from ferray.train.transfer import to_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = "cuda:0"
BIG = 4096
"""Side of matrices that keep a GPU at work while the CPU goes on."""


def train(recipe: Recipe, store: SmallStore, *, device: str = GPU, **named: Any) -> list[EpochResult]:
    weights = load_weights("none", recipe.backbone) if recipe.weights == "none" else small_weights(recipe.backbone)
    return list(fit_in(named.pop("checkpoints", None), recipe, store, weights, device=device, **named))


@pytest.fixture
def steps_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From the first step of a pass to its end, torch raises where the CPU waits for the GPU."""
    add, totals = PassAccumulator.add, PassAccumulator.totals

    def watched_add(self: PassAccumulator, *args: Any) -> None:
        add(self, *args)
        torch.cuda.set_sync_debug_mode("error")

    def watched_totals(self: PassAccumulator, *args: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        return totals(self, *args)

    monkeypatch.setattr(PassAccumulator, "add", watched_add)
    monkeypatch.setattr(PassAccumulator, "totals", watched_totals)
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_every_kind_of_recipe_trains_on_a_gpu_without_a_wait_to_nearly_the_cpus_losses(
    recipe: Recipe, store: SmallStore, small_rows: None, steps_that_do_not_wait: None, tmp_path: Path
) -> None:
    rows = train(recipe, store, checkpoints=tmp_path)

    tolerance = 2e-2 if recipe.precision == "bfloat16" else 5e-3
    for row, expected in zip(rows, train(recipe, store, device="cpu"), strict=True):
        assert row.train_loss == pytest.approx(expected.train_loss, rel=tolerance)
        assert row.val_loss == pytest.approx(expected.val_loss, rel=tolerance)


@pytest.mark.parametrize("first, then", [("cpu", GPU), (GPU, "cpu"), (GPU, GPU)])
@pytest.mark.parametrize("kind", ["a head", "block 5", "the whole trunk in bfloat16, clipped", "sgd by steps"])
def test_a_run_continues_on_another_device(
    kind: str, first: str, then: str, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    part = fit_in(tmp_path, RECIPES[kind], store, small_weights(), device=first)
    next(part)
    part.close()
    rows = train(RECIPES[kind], store, device=then, checkpoints=tmp_path, recorded_epochs=1)

    assert rows[-1].val_loss == pytest.approx(train(RECIPES[kind], store, device="cpu")[-1].val_loss, rel=2e-2)


@pytest.mark.parametrize(
    "kind", ["block 5 in bfloat16, mixed", "the whole trunk", "blocks 4 and 5 on altered pictures"]
)
def test_no_kernel_rearranges_a_picture(kind: str, store: SmallStore, small_rows: None, tmp_path: Path) -> None:
    train(RECIPES[kind], store, cache=tmp_path)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        train(RECIPES[kind], store, cache=tmp_path)

    kernels = {event.key for event in profiled.key_averages()}
    assert kernels
    assert not [name for name in kernels if "nchwToNhwc" in name or "nhwcToNchw" in name]


def test_uploads_that_are_not_waited_for_have_their_content_while_the_gpu_is_busy() -> None:
    matrix = torch.randn(BIG, BIG, device=GPU)
    random = np.random.default_rng(0)
    sources, uploaded = [], []
    for _ in range(50):
        matrix = matrix @ matrix.softmax(dim=1)
        source = torch.from_numpy(random.integers(0, 255, (32, 224, 224, 3), dtype=np.uint8))
        sources.append(source)
        uploaded.append(to_device(source, torch.device(GPU)))

    assert all(torch.equal(one.cpu(), other) for one, other in zip(uploaded, sources, strict=True))


def test_a_full_gpu_fails_the_run_with_the_settings_to_lower_and_the_next_run_trains(tmp_path: Path) -> None:
    store, weights = SmallStore(128, 8, size_px=224), load_weights("none", "vgg16")
    recipe = small_recipe(weights="none", freeze="none", image_size=224, batch_size=128, epochs=1)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(0.9 * free, 3 * 2**30) / total)
    try:
        with pytest.raises(
            TrainError, match=r"(?s)memory is full, with batch_size 128, image_size 224.*Lower batch_size"
        ):
            list(fit_in(tmp_path, recipe, store, weights, device=GPU))
        small = small_recipe(weights="none", freeze="none", image_size=224, batch_size=4, epochs=1)
        assert len(list(fit_in(tmp_path / "small", small, SmallStore(8, 8, size_px=224), weights, device=GPU))) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_an_exported_model_answers_nearly_alike_on_both_devices(
    store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe = RECIPES["block 5"]
    train(recipe, store, checkpoints=tmp_path)
    export_best(tmp_path / "best", checkpoints=tmp_path, recipe=recipe, store=store, weights=small_weights())
    answers = [
        predict_probabilities(load_model(tmp_path / "best", device=device), store.faces) for device in (GPU, "cpu")
    ]

    np.testing.assert_allclose(*answers, atol=5e-3)


def test_the_precision_of_a_gpu_with_tensor_cores_is_bfloat16() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("older GPUs compute bfloat16 slowly")
    assert measure_precision(GPU) == "bfloat16"


FAULTS: dict[str, Callable[[Tensor], object]] = {  # of those that the pretended GPU knows, what is an error here too
    "two devices": lambda tensor: tensor + torch.ones(3),
    "numpy": lambda tensor: tensor.numpy(),
    "asarray": lambda tensor: np.asarray(tensor),
    "a device that is not seen": lambda tensor: tensor.to("cuda:99"),
    "pinning the GPU's memory": lambda tensor: tensor.pin_memory(),
    "a number on the CPU where the operation is not elementwise": lambda tensor: torch.cat(
        [tensor, torch.ones(())[None]]
    ),
}


@pytest.mark.parametrize("act", FAULTS.values(), ids=FAULTS.keys())
def test_what_the_pretended_gpu_refuses_a_gpu_refuses(act: Callable[[Tensor], object]) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        act(torch.ones(3, device=GPU))


@pytest.mark.slow
@pytest.mark.parametrize("share", ["1", "0.25", "0"])
def test_a_search_trains_on_as_much_of_the_gpu_as_it_is_given(share: str, tiny_store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ferray.search", "--space", "smoke", "--data", str(tiny_store.folder)]
    command += ["--weights", "none", "--out", str(tmp_path), "--name", "first", "--gpus-per-worker", share]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr

    devices = {record.device for record in Run(tmp_path / "first").read_trials()}
    if share == "0":
        assert all(device.startswith("cpu") for device in devices)
    else:
        assert devices == {torch.cuda.get_device_name()}
