"""The cached trunk: named by all that decides its numbers, computed once, the same with a cache and without."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.errors import WeightsError
from ferray.model.classifier import FrozenPart, build_frozen
from ferray.model.weights import Weights, load_weights
from ferray.train.features import view as views
from ferray.train.features.cache import Features
from ferray.train.features.view import View, make_view, open_or_compute
from ferray.train.spec import RunSpec

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


def view_of(store: SmallStore, weights: Weights, **changes: Any) -> View:
    usual: dict[str, Any] = {"recipe": small_recipe(), "split": "train", "epoch": 1, "device": "cpu"}
    named = usual | changes
    return make_view(RunSpec(named.pop("recipe"), store, weights), **named)


def compute(
    store: SmallStore, weights: Weights, cache: Path | None, build: Callable[[], Any], recipe: Any = ALTERED
) -> Features:
    view = view_of(store, weights, recipe=recipe)
    return open_or_compute(view, RunSpec(recipe, store, weights), cache=cache, build_frozen=build)


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
        {"split": "train+validation"},
        {"device": "cuda:1"},
        {"recipe": small_recipe(image_size=64)},
        {"recipe": small_recipe(precision="bfloat16")},
        {"recipe": ALTERED},
        {"recipe": small_recipe(random_erasing=0.5)},
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
        {"mixup_alpha": 1.0},
        {"class_balance": "balanced_sampling"},
        {"shuffle_labels": True},
    ],
)
def test_what_does_not_change_the_numbers_shares_the_view(
    change: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    some = view_of(store, weights, epoch=1)

    assert view_of(store, weights, recipe=small_recipe(**change), epoch=2) == some


@pytest.mark.parametrize(
    "change", [{"seed": 3}, {"augmentation_strength": 0.5}, {"augmentation": "light"}, {"random_erasing": 0.2}]
)
def test_altered_pictures_have_a_view_an_epoch_a_seed_a_policy_and_a_strength(
    change: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    some = view_of(store, weights, recipe=ALTERED)

    assert view_of(store, weights, recipe=dataclasses.replace(ALTERED, **change)) != some
    assert view_of(store, weights, recipe=ALTERED, epoch=2) != some


def test_altered_copies_that_are_used_in_turn_come_back(store: SmallStore, weights: Weights) -> None:
    recipe = dataclasses.replace(ALTERED, augmentation_views=3)
    views = [view_of(store, weights, recipe=recipe, epoch=epoch) for epoch in range(1, 8)]

    assert views[3:6] == views[:3]
    assert views[6] == views[0]
    assert views[:3] == [view_of(store, weights, recipe=ALTERED, epoch=epoch) for epoch in (1, 2, 3)]


def test_strength_0_shares_the_view_of_no_augmentation(store: SmallStore, weights: Weights) -> None:
    recipe = dataclasses.replace(ALTERED, augmentation_strength=0.0)

    assert view_of(store, weights, recipe=recipe, epoch=5) == view_of(store, weights)


def test_other_versions_of_the_libraries_that_alter_pictures_have_other_views_of_altered_pictures_alone(
    store: SmallStore, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered, plain = view_of(store, weights, recipe=ALTERED), view_of(store, weights)
    validated = view_of(store, weights, recipe=ALTERED, split="validation", epoch=None)
    monkeypatch.setattr(views, "altering_libraries", lambda: "albumentations 3.0, OpenCV 4")

    assert view_of(store, weights, recipe=ALTERED).view_id != altered.view_id
    assert view_of(store, weights).view_id == plain.view_id
    assert view_of(store, weights, recipe=ALTERED, split="validation", epoch=None).view_id == validated.view_id


def test_validation_faces_are_never_altered(store: SmallStore, weights: Weights) -> None:
    plain = view_of(store, weights, split="validation")

    for recipe in (ALTERED, small_recipe(random_erasing=1.0)):
        assert view_of(store, weights, recipe=recipe, split="validation", epoch=None) == plain


def test_a_views_name_does_not_change_from_version_to_version() -> None:
    view = View(
        data="d",
        split="train",
        weights="w",
        backbone="vgg16",
        freeze="trunk",
        image_size=64,
        precision="float32",
        device="cpu",
        policy="none",
        strength=0.0,
        seed=None,
        epoch=None,
    )

    assert view.view_id == "a99f3859b9cca68891998c6b3de59156"


def test_random_weights_have_a_view_a_seed(store: SmallStore, weights: Weights) -> None:
    names = {view_of(store, weights, recipe=small_recipe(weights="none", seed=seed)).view_id for seed in (0, 0, 1)}

    assert len(names) == 2


def test_where_there_is_no_room_the_same_numbers_are_computed_for_the_run_alone(
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = compute(store, weights, tmp_path / "a", Trunk(weights)).tobytes()
    monkeypatch.setenv("FERRAY_CACHE_GB", "0")

    assert compute(store, weights, tmp_path / "b", Trunk(weights)).tobytes() == kept
    assert "no room for a view" in caplog.text
    assert not list(tmp_path.glob("b/views/*/features.npy"))


def test_a_trunk_whose_output_does_not_fit_is_named_and_nothing_of_it_is_kept(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    wild = dataclasses.replace(weights, tensors={name: 1e6 * tensor for name, tensor in weights.tensors.items()})
    with pytest.raises(WeightsError, match="does not fit float16"):
        compute(store, weights, tmp_path, Trunk(wild))

    assert (
        compute(store, weights, tmp_path, Trunk(weights)).tobytes()
        == compute(store, weights, None, Trunk(weights)).tobytes()
    )
