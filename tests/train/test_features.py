"""The cached trunk: named by all that decides its numbers, whole or not there, computed by one."""

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_fixtures import SmallStore, small_recipe, small_weights

from ferray.errors import StorageError
from ferray.model.classifier import FrozenPart, build_frozen
from ferray.model.weights import Weights, load_weights
from ferray.train import features as module
from ferray.train.features import Features, View, make_view, open_or_compute

ALTERED = small_recipe(augmentation="standard")


@pytest.fixture
def store() -> SmallStore:
    """More training faces than a micro-batch holds."""
    return SmallStore(40, 12)


class Trunk:
    """Builds the frozen part and counts how often it was asked to."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.built = 0

    def __call__(self) -> FrozenPart:
        self.built += 1
        return build_frozen(small_recipe(), self.weights.tensors)


class TornTrunk(torch.nn.Module):
    """Stops like a process that is killed after the first micro-batch."""

    mean = torch.zeros(1)

    def __init__(self, whole: FrozenPart) -> None:
        super().__init__()
        self.whole = whole
        self.calls = 0

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        result: torch.Tensor = self.whole(faces)
        return result


def view_of(store: SmallStore, weights: Weights, **changes: Any) -> View:
    usual: dict[str, Any] = {"recipe": small_recipe(), "split": "train", "epoch": 1, "device": "cpu"}
    named = usual | changes
    return make_view(named.pop("recipe"), store, weights, **named)


def compute(
    store: SmallStore, weights: Weights, cache: Path | None, build: Callable[[], Any], recipe: Any = ALTERED
) -> Features:
    view = view_of(store, weights, recipe=recipe)
    return open_or_compute(view, recipe, store, build_frozen=build, cache=cache)


def test_features_are_the_frozen_trunks_output_of_the_faces_in_their_order(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    trunk = Trunk(weights)
    features = compute(store, weights, tmp_path, trunk, recipe=small_recipe())
    by_hand = trunk()(torch.from_numpy(store.faces[:40]))

    assert features.dtype == np.float16
    assert features.shape == (40, 16, 1, 1)
    torch.testing.assert_close(torch.from_numpy(np.array(features)), by_hand, rtol=1e-3, atol=1e-3)


def test_features_are_computed_once_and_mapped_read_only(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    trunk = Trunk(weights)
    first, second = compute(store, weights, tmp_path, trunk), compute(store, weights, tmp_path, trunk)

    assert trunk.built == 1
    assert isinstance(second, np.memmap)
    assert not second.flags.writeable
    np.testing.assert_array_equal(first, second)


def test_without_a_cache_the_bits_are_the_same(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    kept, in_memory = (compute(store, weights, cache, Trunk(weights)) for cache in (tmp_path, None))

    assert kept.tobytes() == in_memory.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "validation"},
        {"device": "cuda:1"},
        {"recipe": small_recipe(image_size=64)},
        {"recipe": small_recipe(precision="bfloat16")},
        {"recipe": ALTERED},
        {"recipe": small_recipe(weights="none")},
        {"recipe": small_recipe(freeze="blocks1-4")},
    ],
)
def test_what_changes_the_numbers_changes_the_name(
    changes: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    assert view_of(store, weights, **changes).view_id != view_of(store, weights).view_id


def test_other_faces_or_weights_have_another_name(store: SmallStore, weights: Weights) -> None:
    names = {
        view_of(store, weights).view_id,
        view_of(SmallStore(40, 12, seed=1), weights).view_id,
        view_of(store, small_weights(seed=9)).view_id,
        view_of(store, load_weights("none", "vgg16")).view_id,
    }

    assert len(names) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 3},
        {"epochs": 9},
        {"dropout": 0.1},
        {"learning_rate": 0.5},
        {"batch_size": 4},
        {"head_pooling": "average"},
    ],
)
def test_what_does_not_change_the_numbers_shares_the_view(
    change: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    some = view_of(store, weights, epoch=1)

    assert view_of(store, weights, recipe=small_recipe(**change), epoch=2) == some


@pytest.mark.parametrize("change", [{"seed": 3}, {"augmentation_strength": 0.5}, {"augmentation": "light"}])
def test_altered_pictures_have_a_view_an_epoch_a_seed_a_policy_and_a_strength(
    change: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    some = view_of(store, weights, recipe=ALTERED)

    assert view_of(store, weights, recipe=dataclasses.replace(ALTERED, **change)) != some
    assert view_of(store, weights, recipe=ALTERED, epoch=2) != some


def test_strength_0_shares_the_view_of_no_augmentation(store: SmallStore, weights: Weights) -> None:
    recipe = dataclasses.replace(ALTERED, augmentation_strength=0.0)

    assert view_of(store, weights, recipe=recipe, epoch=5) == view_of(store, weights)


def test_validation_faces_are_never_altered(store: SmallStore, weights: Weights) -> None:
    plain = view_of(store, weights, split="validation")

    assert view_of(store, weights, recipe=ALTERED, split="validation", epoch=7) == plain


def test_random_weights_have_a_view_a_seed(store: SmallStore, weights: Weights) -> None:
    names = {view_of(store, weights, recipe=small_recipe(weights="none", seed=seed)).view_id for seed in (0, 0, 1)}

    assert len(names) == 2


def test_a_view_that_was_cut_off_is_not_read_and_leaves_nothing(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute(store, weights, tmp_path, lambda: TornTrunk(Trunk(weights)()))
    assert [path.suffix for path in (tmp_path / "views").iterdir()] == [".lock"]

    again = compute(store, weights, tmp_path, Trunk(weights))
    assert again.tobytes() == compute(store, weights, None, Trunk(weights)).tobytes()


def test_what_a_killed_process_left_is_removed_by_the_next(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    name = view_of(store, weights, recipe=ALTERED).view_id
    left = tmp_path / "views" / f".{name}.abc"
    left.mkdir(parents=True)
    (left / "features.npy").write_bytes(b"half of it")
    compute(store, weights, tmp_path, Trunk(weights))

    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == sorted([name, f"{name}.lock"])


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


@pytest.mark.parametrize(
    "damage",
    [shorten, Path.unlink, lambda file: file.write_bytes(b""), lambda file: np.save(file, np.zeros((40, 16, 1, 1)))],
)
def test_a_damaged_view_is_computed_again(
    damage: Callable[[Path], Any], store: SmallStore, weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = np.array(compute(store, weights, tmp_path, Trunk(weights)))
    (file,) = tmp_path.rglob("features.npy")
    damage(file)

    np.testing.assert_array_equal(compute(store, weights, tmp_path, Trunk(weights)), whole)
    assert "is damaged: the view is computed again" in caplog.text


def test_of_two_that_need_a_view_one_computes_it(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    slow, quick = Trunk(weights), Trunk(weights)

    def build() -> FrozenPart:
        begun.set()
        assert go_on.wait(timeout=30)
        return slow()

    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(compute, store, weights, tmp_path, build)
        assert begun.wait(timeout=30)
        second = pool.submit(compute, store, weights, tmp_path, quick)
        go_on.set()
        np.testing.assert_array_equal(first.result(timeout=60), second.result(timeout=60))

    assert (slow.built, quick.built) == (1, 0)


def test_a_full_disk_is_told_and_leaves_nothing(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_array", fail)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        compute(store, weights, tmp_path, Trunk(weights))
    assert "FERRAY_CACHE" in str(caught.value)
    assert [path.suffix for path in (tmp_path / "views").iterdir()] == [".lock"]
