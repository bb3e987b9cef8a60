"""A run that is interrupted in the middle of an epoch continues at its next step, and ends with the same bits."""

import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ferray.data.store.reader import Store
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.records.trial import EpochResult
from ferray.train import interruption
from ferray.train.checkpoints.checked_safetensors import read_checked
from ferray.train.checkpoints.checkpoint import CheckpointFolder
from ferray.train.checkpoints.writer import Checkpointing, Epochs
from ferray.train.features import cache as viewcache
from ferray.train.features import inputs
from ferray.train.features import view as features
from ferray.train.fit import fit
from ferray.train.interruption import Interrupted, InterruptionPoller
from ferray.train.ranks import ALONE

RECIPES = {
    "a head by adam": small_recipe(learning_rate=0.01),
    "altered pictures by adamw with warm-up": small_recipe(
        optimizer="adamw", weight_decay=0.1, augmentation="light", warmup_epochs=1.5
    ),
    "block 5 by sgd with a cosine, clipped": small_recipe(
        freeze="blocks1-4", optimizer="sgd", learning_rate=0.05, schedule="cosine", gradient_clip=0.1
    ),
    "everything in bfloat16": small_recipe(freeze="none", precision="bfloat16"),
    "balanced sampling with mixed features": small_recipe(class_balance="balanced_sampling", mixup_alpha=0.4),
    "standardized features of altered pictures": small_recipe(feature_scaling="standardize", augmentation="light"),
    "mixed pictures of a fold": small_recipe(freeze="none", folds=3, fold=1, mixup_alpha=1.0, random_erasing=0.5),
}
FILES = ("last.safetensors", "best.safetensors")
EVERY_STEP = ("a head by adam", "block 5 by sgd with a cosine, clipped")
SOME_STEPS = (0, 2, 4)
"""Before the first step, in the first epoch and in the second."""
CASES = [
    *(pytest.param(RECIPES[name], SOME_STEPS, id=name) for name in RECIPES if name not in EVERY_STEP),
    *(
        pytest.param(
            recipe, range(9 if recipe.folds is None else 6), id=f"{name}, at every step",
            marks=() if name in EVERY_STEP else pytest.mark.slow,
        )
        for name, recipe in RECIPES.items()
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def asked_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "POLL_INTERVAL_S", 0.0)


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop after so many steps."""
    count = itertools.count()
    return lambda: next(count) >= steps


def train(
    recipe: Recipe, store: SmallStore, weights: Weights, folder: Path | None, steps: int = 1000, **named: Any
) -> list[EpochResult]:
    """Epochs until it is interrupted or ends, without their times."""
    rows = []
    try:
        for row in fit_in(folder, recipe, store, weights, is_interrupted=after(steps), **named):
            rows.append(dataclasses.replace(row, images_per_s=0.0, seconds=0.0))
    except Interrupted:
        pass
    return rows


def same_files(one: Path, other: Path) -> bool:
    return all(same_tensors(load_file(one / name), load_file(other / name)) for name in FILES)


@pytest.mark.parametrize("interval_s", [0.0, math.inf], ids=["each epoch saved", "epochs wait"])
@pytest.mark.parametrize("recipe, interrupted_after", CASES)
def test_a_run_interrupted_at_any_step_ends_with_the_bits_of_one_that_was_not(
    recipe: Recipe,
    interrupted_after: Iterable[int],
    interval_s: float,
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
) -> None:
    whole = train(recipe, store, weights, tmp_path / "whole")
    assert len(whole) == 3

    for steps in interrupted_after:
        folder = tmp_path / str(steps)
        begun = train(recipe, store, weights, folder, steps, min_interval_s=interval_s)
        assert len(begun) < 3
        assert begun + train(recipe, store, weights, folder) == whole, f"after {steps} steps"
        assert same_files(folder, tmp_path / "whole"), f"after {steps} steps"


def test_any_series_of_interruptions_gives_the_same_bits(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    recipe = small_recipe(freeze="blocks1-4", mixup_alpha=0.4, schedule="cosine", batch_size=5)
    whole = train(recipe, store, weights, tmp_path / "whole")
    folders = map(str, itertools.count())

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, math.inf])), max_size=8))
    def check(series: list[tuple[int, float]]) -> None:
        folder = tmp_path / next(folders)
        rows = []
        for steps, interval_s in series:
            rows += train(recipe, store, weights, folder, steps, min_interval_s=interval_s)
        assert rows + train(recipe, store, weights, folder) == whole
        assert same_files(folder, tmp_path / "whole")

    check()


def test_an_interruption_loses_no_step_and_keeps_what_is_on_record(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe()
    with pytest.raises(Interrupted, match="epoch 2 after 2 steps"):
        list(fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path), is_interrupted=after(5)))
    facts, _ = read_checked(tmp_path / "last.safetensors")
    before, _ = read_checked(tmp_path / "last.safetensors.previous")

    assert facts["partial"]["steps"] == 2
    assert facts["partial"]["seconds"] > 0
    assert facts["epochs"] == before["epochs"]
    assert [row["epoch"] for row in facts["epochs"]] == [1]
    assert "partial" not in before


def test_the_time_of_an_interrupted_epoch_is_that_of_its_parts(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_recipe(), store, weights, tmp_path, steps=1)
    folder = CheckpointFolder(tmp_path, read_checked(tmp_path / FILES[0])[0]["trial_id"])
    known = folder.find_last(small_recipe())
    assert known is not None
    assert known.partial.steps == 1
    slow = dataclasses.replace(known, partial=dataclasses.replace(known.partial, seconds=500.0))
    monkeypatch.setattr(CheckpointFolder, "find_last", lambda *_: slow)
    rows = list(fit(small_recipe(), store, weights, checkpointing=Checkpointing(tmp_path)))

    assert 500 < rows[0].seconds < 600
    assert 24 / 600 < rows[0].images_per_s < 24 / 500
    assert rows[1].seconds < 100


def test_a_run_that_is_interrupted_before_the_first_step_writes_nothing(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    assert train(small_recipe(), store, weights, tmp_path / "none", steps=0) == []
    assert not (tmp_path / "none").exists()

    train(small_recipe(), store, weights, tmp_path / "some", steps=4)
    before = (tmp_path / "some" / "last.safetensors").read_bytes()
    train(small_recipe(), store, weights, tmp_path / "some", steps=0)
    assert (tmp_path / "some" / "last.safetensors").read_bytes() == before


def test_a_run_can_be_interrupted_while_its_features_are_computed_and_keeps_the_finished_shards(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interruption, "FEATURE_POLL_INTERVAL_S", 0.0)
    monkeypatch.setattr(viewcache, "SHARD_FACES", 8)
    monkeypatch.setattr(features, "MICRO_BATCH", 8)
    asked = after(3)  # validation has two micro-batches, training three

    def run(is_interrupted: Callable[[], bool] | None = None) -> Epochs:
        named: dict[str, Any] = {"cache": tmp_path / "cache", "is_interrupted": is_interrupted}
        return fit_in(tmp_path / "run", small_recipe(), store, weights, **named)

    with pytest.raises(Interrupted, match="epoch 1 after 0 steps"):
        list(run(asked))

    assert not (tmp_path / "run").exists()
    views = sorted(view.name.partition(".")[2] for view in (tmp_path / "cache" / "views").glob("[!.]*"))
    assert views == ["", "parts"], "that of validation is whole, that of training begun"
    shards = (tmp_path / "cache" / "views").glob("*.parts/0*.json")
    assert [shard.name for shard in shards] == ["0000.json"]
    assert len(list(run())) == 3


def test_a_run_without_checkpoints_can_be_interrupted(store: SmallStore, weights: Weights) -> None:
    with pytest.raises(Interrupted):
        list(fit(small_recipe(), store, weights, is_interrupted=after(2)))


def test_a_damaged_partial_epoch_is_trained_from_its_start(
    store: SmallStore, weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(small_recipe(), store, weights, tmp_path / "whole")
    train(small_recipe(), store, weights, tmp_path / "cut", steps=5)
    file = tmp_path / "cut" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    assert train(small_recipe(), store, weights, tmp_path / "cut") == whole[1:]
    assert same_files(tmp_path / "cut", tmp_path / "whole")
    assert "continues after epoch 1, from" in caplog.text


@pytest.mark.parametrize("step_s, steps", [(0.001, 10_000), (0.1, 100), (0.7, 10), (5.0, 4)])
def test_the_caller_is_not_asked_much_more_often_than_once_a_second(
    step_s: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0.0, []
    monkeypatch.setattr(interruption, "POLL_INTERVAL_S", 1.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    poller = InterruptionPoller(lambda: bool(asked.append(now)), ALONE)
    for _ in range(steps):
        now += step_s
        assert not poller.should_stop()

    assert len(asked) <= steps * step_s + 10, "after twice as many steps each time, until they take a second"
    assert all(later - earlier < max(1.01, step_s + 0.01) for earlier, later in itertools.pairwise([0.0, *asked]))


def test_an_error_in_the_callers_function_ends_the_run(store: SmallStore, weights: Weights) -> None:
    def ask() -> bool:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        list(fit(small_recipe(), store, weights, is_interrupted=ask))


RECIPE: dict[str, Any] = {
    "backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32,
    "epochs": 1000, "batch_size": 4, "precision": "float32", "hidden_units": 8,
}  # fmt: skip


@contextmanager
def started(folder: Path, store: Store, *launcher: str) -> Iterator[subprocess.Popen[str]]:
    """A command that trains for long, after its first epoch; no process of it is left behind."""
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    asked = ["ferray.train", "--recipe", str(folder / "recipe.json"), "--data", str(store.folder), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", *launcher, *asked, "--out", str(folder / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch   1 of 1000")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_command_that_gets_a_signal_keeps_its_steps_and_says_how_to_continue(
    number: signal.Signals, tiny_store: Store, tmp_path: Path
) -> None:
    with started(tmp_path, tiny_store) as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130, stderr
    assert "interrupted in epoch " in stderr
    assert "run it again to continue from there" in stderr
    facts, _ = read_checked(tmp_path / "out" / "last.safetensors")
    assert 1 <= len(facts["epochs"]) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_ranks_that_torchrun_ends_keep_their_steps(
    number: signal.Signals, tiny_store: Store, tmp_path: Path
) -> None:
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    with started(tmp_path, tiny_store, *launcher) as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)

    assert "interrupted in epoch " in stderr
    facts, _ = read_checked(tmp_path / "out" / "last.safetensors")
    assert 1 <= len(facts["epochs"]) < 1000


def test_a_long_validation_shows_its_progress_and_is_not_left_in_its_middle(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a search would take a trial of many validation faces from a group that works."""
    monkeypatch.setattr(interruption, "FEATURE_POLL_INTERVAL_S", 0.0)
    asked_in: list[int] = []
    batches: list[int] = []
    read = inputs.CachedInputs.validation

    def noted(own: inputs.CachedInputs, rows: Any) -> Any:
        for features_BDHW in read(own, rows):
            batches.append(len(batches))
            yield features_BDHW

    def is_interrupted() -> bool:
        asked_in.append(len(batches))
        return bool(batches)

    monkeypatch.setattr(inputs, "VALIDATION_BATCH", 2)
    monkeypatch.setattr(inputs.CachedInputs, "validation", noted)
    rows = fit(small_recipe(epochs=1), SmallStore(), weights, is_interrupted=is_interrupted)
    assert len(list(rows)) == 1
    assert len(batches) > 2
    assert set(asked_in) >= set(range(1, len(batches) + 1)), "in every batch"
