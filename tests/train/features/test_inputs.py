"""Inputs: every face once an epoch, altered for training only, from the cache or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.train import SmallStore, small_recipe
from hypothesis import given
from hypothesis import strategies as st

from ferray.model.classifier import build_frozen
from ferray.model.weights import Weights
from ferray.train.environment import Environment
from ferray.train.features.inputs import CachedInputs, Inputs, PictureInputs, open_inputs, order_batches
from ferray.train.folds import split_rows
from ferray.train.spec import RunSpec


@given(num_faces=st.integers(1, 200), batch_size=st.integers(1, 64), epoch=st.integers(1, 5))
def test_an_epoch_has_every_face_once_in_full_batches_but_the_last(num_faces: int, batch_size: int, epoch: int) -> None:
    labels = np.arange(num_faces) % 7
    batches = order_batches(labels, recipe=small_recipe(batch_size=batch_size), epoch=epoch)

    assert sorted(np.concatenate(batches)) == list(range(num_faces))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= batch_size


def test_every_epoch_and_seed_has_an_order_of_its_own_that_does_not_depend_on_the_batch_size() -> None:
    def order(epoch: int, **settings: int) -> list[int]:
        return list(np.concatenate(order_batches(np.arange(50) % 7, recipe=small_recipe(**settings), epoch=epoch)))

    assert order(1) == order(1) == order(1, batch_size=3)
    assert len({tuple(order(1)), tuple(order(2)), tuple(order(1, seed=1))}) == 3


@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=7).filter(any),
    epoch=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_balanced_sampling_draws_as_many_faces_as_there_are_and_only_those(
    counts: list[int], epoch: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    recipe = small_recipe(class_balance="balanced_sampling", seed=seed)
    drawn = np.concatenate(order_batches(labels, recipe=recipe, epoch=epoch))

    assert len(drawn) == len(labels)
    assert ((drawn >= 0) & (drawn < len(labels))).all()
    np.testing.assert_array_equal(drawn, np.concatenate(order_batches(labels, recipe=recipe, epoch=epoch)))


def test_balanced_sampling_draws_classes_alike_and_faces_of_a_class_alike() -> None:
    labels = np.repeat([0, 2, 3], [4, 40, 356])  # class 1 has no face
    recipe = small_recipe(class_balance="balanced_sampling")
    epochs = [np.concatenate(order_batches(labels, recipe=recipe, epoch=epoch)) for epoch in range(1, 101)]
    times = np.bincount(np.concatenate(epochs), minlength=400)

    assert len({tuple(epoch) for epoch in epochs}) == 100
    for places in (slice(0, 4), slice(4, 44), slice(44, 400)):
        expected = 40_000 / 3 / len(times[places])
        assert times[places].sum() == pytest.approx(40_000 / 3, abs=5 * 95)  # 95: one standard deviation
        assert np.abs(times[places] - expected).max() < 5 * expected**0.5


BATCHES = [np.array([3, 0, 7]), np.array([11])]


def open_some(
    freeze: str, augmentation: str, store: SmallStore, weights: Weights, cache: Path, **settings: Any
) -> Inputs:
    recipe = small_recipe(freeze=freeze, augmentation=augmentation, **settings)
    return open_inputs(RunSpec(recipe, store, weights), Environment(cache=cache))


@pytest.mark.parametrize("augmentation", ["none", "strong"])
@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "none"])
def test_training_faces_are_altered_differently_in_each_epoch_and_validation_faces_never(
    freeze: str, augmentation: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    inputs = open_some(freeze, augmentation, store, weights, tmp_path)
    frozen = build_frozen(small_recipe(freeze=freeze), weights.tensors)
    faces = torch.from_numpy(store.faces)
    epochs = []
    for epoch in (1, 2):
        inputs.open_epoch(epoch)
        epochs.append(torch.cat(list(inputs.train(BATCHES))))
        validated = torch.cat(list(inputs.validation(BATCHES)))
        torch.testing.assert_close(validated, frozen(faces[24:][np.concatenate(BATCHES)]), rtol=1e-2, atol=1e-2)

    plain = frozen(faces[np.concatenate(BATCHES)])
    close = [torch.allclose(trained.float(), plain.float(), rtol=1e-2, atol=1e-2) for trained in epochs]
    assert close == [augmentation == "none"] * 2
    assert torch.equal(*epochs) == (augmentation == "none")


@pytest.mark.parametrize("settings", [{"augmentation": "strong"}, {"random_erasing": 1.0}])
@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "none"])
def test_a_fold_trains_on_altered_faces_of_the_other_folds_and_validates_with_its_own(
    freeze: str, settings: dict[str, Any], store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    settings = {"augmentation": "none", **settings, "folds": 3, "fold": 1}
    inputs = open_some(freeze=freeze, store=store, weights=weights, cache=tmp_path, **settings)
    split = split_rows(small_recipe(**settings), store)
    frozen = build_frozen(small_recipe(freeze=freeze), weights.tensors)
    batches = [np.array([2, 0]), np.array([5])]
    inputs.open_epoch(1)
    trained, validated = (torch.cat(list(read(batches))).float() for read in (inputs.train, inputs.validation))
    plain, plain_validated = (
        frozen(torch.from_numpy(store.faces[part.rows[np.concatenate(batches)]])).float()
        for part in (split.train, split.validation)
    )

    torch.testing.assert_close(validated, plain_validated, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(trained, plain, rtol=1e-2, atol=1e-2)
    assert (trained - plain).abs().mean() < (trained - plain.roll(1, 0)).abs().mean(), "they are the same faces"


@pytest.mark.parametrize(
    "freeze, augmentation, kind",
    [
        ("trunk", "none", CachedInputs),
        ("trunk", "strong", CachedInputs),
        ("blocks1-4", "none", CachedInputs),
        ("blocks1-3", "light", PictureInputs),
        ("none", "none", PictureInputs),
    ],
)
def test_features_are_cached_where_that_is_worth_its_room(
    freeze: str, augmentation: str, kind: type, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    assert isinstance(open_some(freeze, augmentation, store, weights, tmp_path), kind)
