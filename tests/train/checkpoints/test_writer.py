"""Epochs that are shorter than the writing of a checkpoint share one, and are reported once it holds them."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from fixtures.train import SmallStore, same_tensors, small_recipe
from safetensors.torch import load_file

from ferray.errors import DivergedError, StorageError
from ferray.files import storage
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult
from ferray.train import fit as fit_module
from ferray.train.checkpoints.checked_safetensors import read_checked
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.fit import fit

RECIPE = small_recipe(monitor="val_loss", learning_rate=0.01, epochs=6)
IN_BETWEEN = small_recipe(monitor="val_accuracy", learning_rate=0.03, epochs=6)
FILES = ("last.safetensors", "best.safetensors")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were written, in order."""
    names: list[str] = []
    write = storage.write_bytes

    def note(path: Path, *arguments: Any, **named: Any) -> None:
        write(path, *arguments, **named)
        names.append(path.name)

    monkeypatch.setattr(storage, "write_bytes", note)
    return names


def untimed(row: EpochResult) -> EpochResult:
    return dataclasses.replace(row, images_per_s=0.0, seconds=0.0)


@pytest.mark.parametrize("recipe", [RECIPE, IN_BETWEEN], ids=["the last is best", "one in between is best"])
def test_pending_epochs_have_the_same_numbers_and_files_with_one_write(
    recipe: Recipe, written: list[str], store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    usual = list(fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path / "usual")))
    assert len(written) > len(usual), "one checkpoint an epoch, and the best ones"
    assert best_epoch(usual, recipe).epoch == (6 if recipe == RECIPE else 3)
    written.clear()

    waited = list(
        fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path / "waited", min_interval_s=math.inf))
    )

    assert list(map(untimed, waited)) == list(map(untimed, usual))
    assert written == ["best.safetensors", "last.safetensors"]
    for name in FILES:
        assert same_tensors(load_file(tmp_path / "waited" / name), load_file(tmp_path / "usual" / name))
    assert read_checked(tmp_path / "waited" / "best.safetensors")[0]["epoch"] == best_epoch(usual, recipe).epoch


def test_an_epoch_is_in_a_checkpoint_when_it_is_reported(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))  # a second an epoch, or a write
    monkeypatch.setattr("ferray.train.checkpoints.writer.time.monotonic", lambda: float(next(clock)))
    held: list[int] = []
    for row in fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path, min_interval_s=3.0)):
        assert row.epoch == len(held) + 1
        held.append(len(read_checked(tmp_path / "last.safetensors")[0]["epochs"]))
    assert held == [3, 3, 3, 6, 6, 6]


FAULTS = [
    DivergedError("epoch 4", "the loss is nan", "Lower learning_rate"),
    StorageError("the cache in epoch 4", "cannot be written", "Free space"),
    RuntimeError("epoch 4: out of memory"),
]


@pytest.mark.parametrize("name, call", [("_step", 11), ("_validate", 4)])  # in epoch 4, of three steps
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_pending_epochs_are_reported_before_a_fault_and_a_run_that_continues_has_the_same_numbers(
    fault: Exception,
    name: str,
    call: int,
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = list(map(untimed, fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path / "usual"))))
    folder = tmp_path / "faulty"
    calls = itertools.count(1)
    act = getattr(fit_module, name)

    def fail_once(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise fault
        return act(*arguments, **named)

    monkeypatch.setattr(fit_module, name, fail_once)
    rows = fit(RECIPE, store, weights, checkpointing=Checkpointing(folder, min_interval_s=math.inf))
    reported: list[EpochResult] = []
    with pytest.raises(type(fault), match="epoch 4"):
        reported.extend(map(untimed, rows))
    assert reported == usual[:3]

    reported.extend(map(untimed, fit(RECIPE, store, weights, checkpointing=Checkpointing(folder, recorded_epochs=3))))
    assert reported == usual
    for file in FILES:
        assert same_tensors(load_file(folder / file), load_file(tmp_path / "usual" / file))


def test_pending_epochs_are_flushed_before_uncached_features_are_computed(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, augmentation="light")  # each epoch has its own view

    def epochs_in_the_checkpoint(folder: Path, cache: Path | None) -> list[int]:
        rows = fit(
            recipe,
            store,
            weights,
            checkpointing=Checkpointing(folder, min_interval_s=math.inf),
            environment=Environment(cache=cache),
        )
        return [len(read_checked(folder / "last.safetensors")[0]["epochs"]) for _ in rows]

    assert epochs_in_the_checkpoint(tmp_path / "cold", tmp_path / "cache") == [1, 2, 3, 4, 5, 6]
    assert epochs_in_the_checkpoint(tmp_path / "warm", tmp_path / "cache") == [6] * 6
    assert epochs_in_the_checkpoint(tmp_path / "without a cache", None) == [1, 2, 3, 4, 5, 6]


def test_an_epoch_is_reported_with_whether_its_checkpoint_holds_the_next_one(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    rows = fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path, min_interval_s=math.inf))
    assert not rows.has_more
    assert [rows.has_more for _ in rows] == [True] * 5 + [False]
    rows = fit(RECIPE, store, weights)
    assert [rows.has_more for _ in rows] == [False] * 6


def test_pending_epochs_are_trained_again_after_a_kill(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = list(map(untimed, fit(RECIPE, store, weights)))
    validate = fit_module._validate

    class KilledError(BaseException):
        """As if the process were gone."""

    def die(run: Any, epoch: int, show_progress: Any) -> Any:
        if epoch == 4:
            raise KilledError
        return validate(run, epoch, show_progress)

    monkeypatch.setattr(fit_module, "_validate", die)
    reported = []
    with pytest.raises(KilledError):
        reported.extend(fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path, min_interval_s=math.inf)))
    assert reported == []
    monkeypatch.setattr(fit_module, "_validate", validate)
    assert list(map(untimed, fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path)))) == usual
