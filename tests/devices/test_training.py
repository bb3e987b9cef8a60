"""Training on a GPU, which is pretended: nothing is on the wrong device, and the CPU waits only where that is stated.

Every kind of recipe trains two epochs. On a real GPU these tests say nothing of speed, and rounding differs.
"""

import json
import shutil
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.device_recipes import RECIPES
from fixtures.on_gpu import GPU, MAY_WAIT, train, weights_for
from fixtures.pretended import DeviceFault, PretendedGpu
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe, small_weights
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer

from ferray.errors import TrainError
from ferray.model.classifier import FreePart
from ferray.recipe import FIELD_NAMES, Recipe
from ferray.train import fit as fitting
from ferray.train.checkpoints.checkpoint import ResumeState
from ferray.train.checkpoints.export import export_best, load_model, predict_probabilities
from ferray.train.environment import Environment
from ferray.train.features import view as view_module
from ferray.train.interruption import Interrupted
from ferray.train.predict import predict_validation
from ferray.train.ranks import Ranks
from ferray.train.run import TrainingRun, open_run
from ferray.train.settle import measure_precision
from ferray.train.spec import RunSpec
from ferray.train.totals import PassTotals

DEAR = ("block 5 of a residual trunk", "the whole of a transformer", "all of shifted windows")
"""Recipes whose small trunks have as many channels or layers as the large ones; more than a second each."""

each_recipe = pytest.mark.parametrize(
    "recipe",
    [pytest.param(recipe, id=name, marks=pytest.mark.slow if name in DEAR else ()) for name, recipe in RECIPES.items()],
)
a_few = pytest.mark.parametrize(
    "recipe", [RECIPES["a head on mixed features of a fold"], RECIPES["the whole trunk in bfloat16, clipped"]]
)


def pretended(device: str) -> AbstractContextManager[Any]:
    return nullcontext() if device == "cpu" else PretendedGpu(may_wait=MAY_WAIT)


@each_recipe
def test_a_run_on_a_gpu_mixes_no_devices_waits_only_where_stated_and_has_the_cpus_numbers(
    recipe: Recipe, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    weights_for(recipe)
    with PretendedGpu(may_wait=MAY_WAIT) as gpu:
        rows = train(recipe, store, device=GPU, checkpoints=tmp_path / "gpu")

    assert rows == train(recipe, store, checkpoints=tmp_path / "cpu"), "the pretended GPU computes as the CPU does"
    for name in ("last.safetensors", "best.safetensors"):
        assert same_tensors(*(load_file(tmp_path / kind / name) for kind in ("gpu", "cpu")))
    check_convolutions(gpu, recipe)


def check_convolutions(gpu: PretendedGpu, recipe: Recipe) -> None:
    """All are on the GPU, in the recipe's format, and rearrange nothing; those of free layers have a backward pass."""
    wanted = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    assert {(one.device, one.dtype) for one in gpu.convolutions} == {(torch.device(GPU), wanted)}
    # The gradient of a transformer's patches is a part of that of its tokens: torch copies it, once a step.
    copied = {"convolution_backward"} if recipe.backbone == "vit_b_16" else set()
    assert all(one.channels_last or one.name in copied for one in gpu.convolutions), Counter(gpu.convolutions)
    has_backward = any(one.name == "convolution_backward" for one in gpu.convolutions)
    assert has_backward == (recipe.freeze != "trunk")


ONLY_NUMBERS = {
    "augmentation_strength", "effective_number_beta", "learning_rate", "logit_adjustment_tau", "monitor", "patience",
    "seed", "step_factor", "trunk_lr_factor",
}  # fmt: skip
"""Settings that decide a number and no operation."""


def test_the_recipes_use_every_setting_that_chooses_operations() -> None:
    used = {
        name for name in FIELD_NAMES for recipe in RECIPES.values() if getattr(recipe, name) != getattr(Recipe, name)
    }

    assert set(FIELD_NAMES) - used == ONLY_NUMBERS


@pytest.mark.parametrize("settings", [{}, {"freeze": "blocks1-4", "mixup_alpha": 0.4}, {"freeze": "none"}])
def test_more_steps_are_no_more_waits(settings: dict[str, Any], store: SmallStore, small_rows: None) -> None:
    waits = []
    for batch_size in (8, 3):
        with PretendedGpu(may_wait=MAY_WAIT) as gpu:
            train(small_recipe(batch_size=batch_size, epochs=1, **settings), store, device=GPU)
        waits.append(gpu.waits)

    assert waits[0] == waits[1]
    assert waits[0]["train/totals.py totals"] == 2 * 3


@pytest.mark.parametrize("free_bytes", [2**34, 1000], ids=["with room", "without room"])
def test_a_view_is_kept_on_the_gpu_where_it_leaves_room(
    free_bytes: int, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    with PretendedGpu(may_wait=MAY_WAIT, free_bytes=free_bytes) as gpu:
        rows = train(RECIPES["block 5"], store, device=GPU, cache=tmp_path)

    assert rows == train(RECIPES["block 5"], store)
    assert gpu.waits["train/features/inputs.py _to_memory"] == (2 if free_bytes > 1000 else 0)
    assert all(one.channels_last for one in gpu.convolutions)


def test_a_view_is_computed_with_one_wait_for_all_faces_of_a_shard(
    store: SmallStore, small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "MICRO_BATCH", 4)
    with PretendedGpu(may_wait=MAY_WAIT) as gpu:
        train(RECIPES["block 5"], store, device=GPU, cache=tmp_path)

    assert gpu.waits["train/features/view.py __call__"] == 2, "one shard of each view"


@a_few
@pytest.mark.parametrize("first, then", [("cpu", GPU), (GPU, "cpu"), (GPU, GPU)])
def test_a_run_continues_on_another_device_with_everything_where_it_belongs(
    first: str, then: str, recipe: Recipe, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    with pretended(first):
        part = fit_in(tmp_path / "cut", recipe, store, weights_for(recipe), device=first)
        next(part)
        part.close()
    with pretended(then):
        train(recipe, store, device=then, checkpoints=tmp_path / "cut")

    train(recipe, store, checkpoints=tmp_path / "whole")
    assert same_tensors(*(load_file(tmp_path / name / "last.safetensors") for name in ("cut", "whole")))


@a_few
def test_a_run_on_a_gpu_that_is_interrupted_in_an_epoch_continues_there(
    recipe: Recipe, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    answers = iter([False, True])
    with PretendedGpu(may_wait=MAY_WAIT), pytest.raises(Interrupted):
        train(recipe, store, device=GPU, checkpoints=tmp_path / "cut", is_interrupted=lambda: next(answers, False))
    with PretendedGpu(may_wait=MAY_WAIT):
        train(recipe, store, device=GPU, checkpoints=tmp_path / "cut")

    train(recipe, store, checkpoints=tmp_path / "whole")
    assert same_tensors(*(load_file(tmp_path / name / "last.safetensors") for name in ("cut", "whole")))


@a_few
def test_the_model_and_its_optimizer_are_all_on_the_gpu_after_a_step(
    recipe: Recipe, store: SmallStore, small_rows: None
) -> None:
    with PretendedGpu(may_wait=MAY_WAIT):
        run = open_run(RunSpec(recipe, store, weights_for(recipe)), Environment(device=GPU))
        run.inputs.open_epoch(1)
        fitting._train(run, 1, fitting.EPOCH_START, fitting.InterruptionPoller(None, run.ranks))
        moments = [value for state in run.optimizer.state.values() for value in state.values()]
        tensors = [*run.free.state_dict().values(), *moments]

        assert {tensor.device for tensor in tensors} == {torch.device(GPU)}
        assert moments


def test_a_model_that_was_trained_on_a_gpu_is_exported_loaded_and_used_on_either_device(
    store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe = RECIPES["block 5"]
    weights, answers = weights_for(recipe), []
    with PretendedGpu(may_wait=MAY_WAIT):
        train(recipe, store, device=GPU, checkpoints=tmp_path)
        export_best(tmp_path / "best", checkpoints=tmp_path, recipe=recipe, store=store, weights=weights)
    for device in (GPU, "cpu"):
        places = [
            "train/checkpoints/export.py load_model",
            "train/checkpoints/export.py predict_probabilities",
            *MAY_WAIT,
        ]
        with PretendedGpu(may_wait=places) as gpu:
            model = load_model(tmp_path / "best", device=device)
            answers.append(predict_probabilities(model, np.tile(store.faces, (3, 1, 1, 1))))
            assert len(predict_probabilities(model, store.faces[:0])) == 0
        assert gpu.waits["train/checkpoints/export.py predict_probabilities"] == (2 if device == GPU else 0)

    assert np.array_equal(*answers)


@pytest.mark.parametrize("trained_on", [GPU, "cpu"])
def test_the_answers_of_a_head_cost_no_pass_of_the_trunk_on_whatever_device_it_was_trained(
    trained_on: str, store: SmallStore, small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["a head on altered pictures"]
    weights = weights_for(recipe)
    with PretendedGpu(may_wait=MAY_WAIT):
        train(recipe, store, device=trained_on, checkpoints=tmp_path / "run", cache=tmp_path / "cache")

    for folder in (tmp_path / "cache" / "views").iterdir():  # views of training faces may be gone by then
        facts = folder / "view.json"
        if facts.exists() and json.loads(facts.read_text())["split"] == "train":
            shutil.rmtree(folder)

    def pass_of_the_trunk(*_: object) -> None:
        pytest.fail("the trunk is asked again")

    monkeypatch.setattr(view_module._ViewComputation, "__call__", pass_of_the_trunk)
    answers = predict_validation(recipe, store, weights, checkpoints=tmp_path / "run", cache=tmp_path / "cache")
    assert answers.probabilities.shape == (12, 7)
    assert answers.probabilities.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)


@pytest.mark.parametrize("fails_after", [3, 100, 200])
def test_a_full_gpu_fails_the_run_with_the_settings_to_lower_and_the_next_run_trains(
    fails_after: int, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    recipe = RECIPES["the whole trunk"]
    with PretendedGpu(may_wait=MAY_WAIT, fails_after=fails_after) as gpu:
        with pytest.raises(TrainError, match=r"(?s)cuda:0: its memory is full, with batch_size 8.*Lower batch_size"):
            train(recipe, store, device=GPU, checkpoints=tmp_path)
        gpu.fails_after = None
        rows = train(recipe, store, device=GPU, checkpoints=tmp_path)

    assert rows == train(recipe, store)[2 - len(rows) :]


class OnePinnedBuffer:
    """Uploads from pinned memory that is used again for the next batch."""

    def __init__(self) -> None:
        self._buffers: dict[Any, Tensor] = {}

    def __call__(self, tensor: Tensor, device: torch.device) -> Tensor:
        key = tensor.shape, tensor.dtype
        if key not in self._buffers:
            self._buffers[key] = tensor.pin_memory()
        return self._buffers[key].copy_(tensor).to(device, non_blocking=True)


def validate_aloud(run: TrainingRun, epoch: int, show_progress: Any) -> PassTotals:
    """The first thing that one adds when a run is not understood."""
    print(next(run.free.parameters()).sum().item())
    return VALIDATE(run, epoch, show_progress)


VALIDATE, STEP, FORWARD, RESTORE = fitting._validate, fitting._step, FreePart.forward, fitting.restore


def step_that_asks(run: TrainingRun, **named: int) -> float:
    """A step that is skipped where a gradient is not finite."""
    if all(bool(parameter.grad.isfinite().all()) for parameter in run.free.parameters() if parameter.grad is not None):
        return STEP(run, **named)
    return 0.0


def restore_to_cpu(state: ResumeState, free: FreePart, optimizer: Optimizer) -> None:
    """A state dict that is given to the optimizer as it was read."""
    RESTORE(state, free, optimizer)
    for values in optimizer.state.values():
        values.update({name: torch.zeros(value.shape) for name, value in values.items()})


FAULTS: dict[str, tuple[str, Any, str]] = {  # what is replaced, by what, and the words of the fault
    "labels stay on the CPU": ("train.fit.to_device", lambda tensor, device: tensor, "on two devices"),
    "positions stay on the CPU": ("train.features.inputs.to_device", lambda tensor, device: tensor, "from pageable"),
    "uploads are not pinned": (
        "train.fit.to_device",
        lambda tensor, device: tensor.to(device, non_blocking=True),
        "from pageable",
    ),
    "uploads wait": ("train.fit.to_device", lambda tensor, device: tensor.pin_memory().to(device), "from pinned"),
    "pinned memory is used again": ("train.features.inputs.to_device", OnePinnedBuffer(), "is overwritten"),
    "a number is printed in each epoch": ("train.fit._validate", validate_aloud, "waits for the GPU"),
    "a step looks at its gradients": ("train.fit._step", step_that_asks, "waits for the GPU"),
    "scores are taken by NumPy": (
        "train.fit.cross_entropy_sum",
        lambda logits_BK, labels_B: torch.from_numpy(logits_BK.numpy()).sum(),
        "no NumPy array",
    ),
    "the optimizer's state is on the CPU": ("train.fit.restore", restore_to_cpu, "on two devices"),
    "a device of another process": (
        "train.environment.Environment.torch_device",
        property(lambda self: torch.device("cuda:1")),
        "cuda:1 is an invalid device ordinal",
    ),
}


@pytest.mark.parametrize("place, replacement, words", FAULTS.values(), ids=FAULTS.keys())
def test_each_class_of_fault_in_training_is_noticed(
    place: str, replacement: Any, words: str, store: SmallStore, small_rows: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = small_recipe(epochs=2)
    with PretendedGpu(may_wait=MAY_WAIT):
        begun = fit_in(tmp_path, recipe, store, small_weights(), device=GPU)
        next(begun)
        begun.close()
        monkeypatch.setattr(f"ferray.{place}", replacement)
        with pytest.raises(DeviceFault, match=words):
            train(recipe, store, device=GPU, checkpoints=tmp_path)


@pytest.mark.parametrize(
    "place, replacement",
    [
        (
            "model.classifier.FreePart.forward",
            lambda self, features, mask=None: self.head(self.features(features.float()), mask),
        ),
        ("model.classifier.FreePart.forward", lambda self, *args: FORWARD(self, args[0].contiguous(), *args[1:])),
        ("train.features.inputs.CachedInputs._arrange", lambda self, features: features),
    ],
    ids=["autocast is lost", "channels last is lost", "channels last is lost in a view"],
)
def test_a_format_that_is_lost_on_the_way_is_noticed(
    place: str, replacement: Any, store: SmallStore, small_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["block 5 in bfloat16, mixed"]
    monkeypatch.setattr(f"ferray.{place}", replacement)
    with PretendedGpu(may_wait=MAY_WAIT) as gpu:
        train(recipe, store, device=GPU)
    with pytest.raises(AssertionError):
        check_convolutions(gpu, recipe)


def test_ranks_on_gpus_exchange_tensors_of_gpus_alone(store: SmallStore, small_rows: None) -> None:
    exchanged = []

    class Watched(Ranks):  # NCCL takes no others
        def all_reduce_sum(self, tensor: Tensor) -> None:
            exchanged.append(tensor.device)

        def from_first(self, value: Any) -> Any:
            return value

        def any(self, value: bool) -> bool:
            return value

        def together(self) -> AbstractContextManager[None]:
            return nullcontext()

    recipe = small_recipe(epochs=1, freeze="blocks1-4", gradient_clip=0.1)
    with PretendedGpu(may_wait=MAY_WAIT):
        train(recipe, store, device=GPU, ranks=Watched(0, 2))

    assert set(exchanged) == {torch.device(GPU)}
    assert len(exchanged) == 3 + 2, "one exchange a step, and one a pass"


def test_the_precision_of_a_gpu_is_measured_on_it(tmp_path: Path) -> None:
    places = ["train/settle.py _time_convolution", "train/settle.py _synchronize"]
    with PretendedGpu(may_wait=places) as gpu:
        measure_precision(GPU, cache=tmp_path)

    assert {(one.device, one.dtype) for one in gpu.convolutions} == {
        (torch.device(GPU), dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    assert all(one.channels_last for one in gpu.convolutions)
    assert "a pretended GPU" in next(tmp_path.rglob("*.json")).read_text()
