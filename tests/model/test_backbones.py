"""The table of backbones agrees with recipes and with torchvision."""

from typing import get_args

import pytest
import torch
import torchvision
from fixtures.train import small_weights
from torch import nn

from ferray.model.backbones import BACKBONES, FROZEN_BLOCKS, build_trunk_layers
from ferray.model.weights import Weights, first_tensors
from ferray.recipe import NO_WEIGHTS, BackboneName, Freeze

NAMES = get_args(BackboneName)


def test_backbones_and_freezes_are_those_that_recipes_name() -> None:
    assert set(BACKBONES) == set(NAMES)
    assert set(FROZEN_BLOCKS) == set(get_args(Freeze))


@pytest.mark.parametrize("name", NAMES)
def test_a_trunk_has_the_tensors_of_torchvisions_model(name: str) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    expected = {
        key: tensor.shape
        for key, tensor in model.state_dict().items()
        if key.startswith("features.") and not key.endswith("num_batches_tracked")
    }

    assert BACKBONES[name].tensor_shapes() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_trunk_has_the_layers_of_torchvisions_model(name: str) -> None:
    with torch.device("meta"):
        expected, layers = getattr(torchvision.models, name)().features, BACKBONES[name].build_layers()

    assert str(layers) == str(expected)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_end_just_after_their_pooling_and_the_last_ends_the_trunk(name: str) -> None:
    layers = BACKBONES[name].build_layers()
    poolings = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]

    assert list(BACKBONES[name].block_ends) == poolings
    assert poolings[-1] == len(layers)


@pytest.mark.parametrize("name", NAMES)
def test_freezing_more_keeps_more_layers(name: str) -> None:
    row = BACKBONES[name]
    layers = [row.frozen_layers(freeze) for freeze in ("none", "blocks1-3", "blocks1-4", "trunk")]

    assert layers == [0, row.block_ends[2], row.block_ends[3], row.block_ends[4]]


@pytest.mark.parametrize("size_px", [32, 63, 64, 224])
@pytest.mark.parametrize("name", NAMES)
def test_the_output_has_the_shape_of_the_table(name: str, size_px: int) -> None:
    with torch.device("meta"):
        output = BACKBONES[name].build_layers()(torch.empty(1, 3, size_px, size_px))

    assert tuple(output.shape[1:]) == BACKBONES[name].output_shape(size_px)


def test_batch_norm_keeps_the_statistics_of_the_weights_whatever_the_batch(small_rows: None) -> None:
    layers = build_trunk_layers(BACKBONES["vgg16_bn"], small_weights("vgg16_bn").tensors)
    faces = torch.rand(6, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    together = layers(faces)
    apart = torch.cat([layers(faces[:1]), layers(faces[1:])])

    torch.testing.assert_close(together, apart)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers.state_dict().items())


def test_layers_get_copies_since_weights_are_shared_by_all_runs(weights: Weights) -> None:
    layers = build_trunk_layers(BACKBONES["vgg16"], weights.tensors)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(7)

    assert not any((tensor == 7).any() for tensor in weights.tensors.values())


def test_random_weights_depend_on_the_seed_alone(small_rows: None) -> None:
    none = Weights(name="none", backbone="vgg16", fingerprint=NO_WEIGHTS, tensors={})
    torch.manual_seed(1)
    first = first_tensors(none, seed=3)
    torch.manual_seed(2)
    again, other = first_tensors(none, seed=3), first_tensors(none, seed=4)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])
