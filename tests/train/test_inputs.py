"""Inputs: every face once an epoch, altered for training only, from the cache or not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_fixtures import SmallStore, small_recipe

from ferray.model.classifier import build_frozen, trunk_tensors
from ferray.model.weights import Weights
from ferray.train.inputs import CachedInputs, Inputs, PictureInputs, open_inputs, order_batches


@given(num_faces=st.integers(1, 200), batch_size=st.integers(1, 64), epoch=st.integers(1, 5))
def test_an_epoch_has_every_face_once_in_full_batches_but_the_last(num_faces: int, batch_size: int, epoch: int) -> None:
    batches = order_batches(num_faces, recipe=small_recipe(batch_size=batch_size), epoch=epoch)

    assert sorted(np.concatenate(batches)) == list(range(num_faces))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= batch_size


def test_every_epoch_and_seed_has_an_order_of_its_own_that_does_not_depend_on_the_batch_size() -> None:
    def order(epoch: int, **settings: int) -> list[int]:
        return list(np.concatenate(order_batches(50, recipe=small_recipe(**settings), epoch=epoch)))

    assert order(1) == order(1) == order(1, batch_size=3)
    assert len({tuple(order(1)), tuple(order(2)), tuple(order(1, seed=1))}) == 3


BATCHES = [np.array([3, 0, 7]), np.array([11])]


def open_some(freeze: str, augmentation: str, store: SmallStore, weights: Weights, cache: Path) -> Inputs:
    recipe = small_recipe(freeze=freeze, augmentation=augmentation)
    return open_inputs(
        recipe,
        store,
        weights,
        trunk_tensors=lambda: trunk_tensors(recipe, weights),
        device=torch.device("cpu"),
        cache=cache,
    )


@pytest.mark.parametrize("augmentation", ["none", "strong"])
@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "none"])
def test_training_faces_are_altered_anew_each_epoch_and_validation_faces_never(
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
