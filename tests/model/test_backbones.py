"""The table of backbones agrees with recipes and with torchvision; a trunk is the same function wherever it is cut."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

import pytest
import torch
import torchvision
from fixtures.train import small_weights
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ferray.errors import RecipeError
from ferray.model.backbone import Backbone
from ferray.model.backbones import BACKBONES, FROZEN_BLOCKS, build_trunk_layers
from ferray.model.classifier import build_free, build_frozen
from ferray.model.size import count_parameters
from ferray.model.weights import Weights, first_tensors, load_weights
from ferray.recipe import NO_WEIGHTS, BackboneName, Freeze, Recipe
from ferray.space import find_space, read_space

NAMES = get_args(BackboneName)
OWN = [name for name in NAMES if name.startswith("vgg")]
"""Built by ferray's own code."""
LIGHT = ("vgg16", "resnet18", "mobilenet_v3_small", "efficientnet_b0")
BY_WEIGHT = [
    name if name in LIGHT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "vgg16_bn"
]
HEADS = {"vit_b_16": "heads"}
"""The module of torchvision's model that gets the features; `avgpool` where it is not named."""


def torchvisions(name: str, **settings: Any) -> Any:
    build = getattr(torchvision.models, name)
    try:
        return build(weights=None, **settings).eval()
    except NotImplementedError:  # on the device `meta`, where a model computes while it is built
        with torch.device("cpu"):
            return build(weights=None, **settings).eval()


def torchvisions_features(name: str, size_px: int) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """torchvision's own model, and what its head gets in its own forward pass."""
    settings = {"image_size": size_px} if name.startswith("vit") else {}
    model = torchvisions(name, **settings)
    head = model.get_submodule(HEADS.get(name, "avgpool"))
    seen: list[Tensor] = []
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def run(pictures: Tensor) -> Tensor:
        seen.clear()
        with torch.no_grad():
            model(pictures)
        return seen[0]

    return model, run


@cache
def without_memory(name: str) -> nn.Sequential:
    """The layers of a trunk on the device `meta`, built once for all tests, which leave them as they are."""
    with torch.device("meta"):
        return BACKBONES[name].build_layers().eval().to("meta")


@cache
def random_tensors(name: str, seed: int) -> dict[str, Tensor]:
    """Drawn once for all tests, which leave them as they are."""
    return first_tensors(load_weights("none", name), seed=seed)


def random_layers(name: str, seed: int = 3) -> tuple[Backbone, nn.Sequential]:
    row = BACKBONES[name]
    return row, build_trunk_layers(row, random_tensors(name, seed))


def test_backbones_and_freezes_are_those_that_recipes_name() -> None:
    assert set(BACKBONES) == set(NAMES)
    assert set(FROZEN_BLOCKS) == set(get_args(Freeze))


def test_the_shipped_space_compares_all_backbones() -> None:
    space = read_space(find_space("backbones"), {})
    compared = next(one.values for one in space.parameters if one.name == "backbone")

    assert set(compared) == set(NAMES)


def test_every_trunk_has_five_blocks() -> None:
    assert all(len(row.block_ends) == len(row.block_channels) == 5 for row in BACKBONES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_trunk_has_the_tensors_of_torchvisions_model_but_for_its_classifier(name: str) -> None:
    with torch.device("meta"):
        state = torchvisions(name).state_dict()
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in state.items()
        if not key.startswith(("classifier.", "fc.", "head.", "heads.")) and tensor.is_floating_point()
    }

    assert BACKBONES[name].shapes_in_files() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_knows_how_many_tensors_and_parameters_a_trunk_has(name: str) -> None:
    row = BACKBONES[name]
    shapes = row.tensor_shapes()

    num_parameters = sum(parameter.numel() for parameter in without_memory(name).parameters())
    counted = (len(shapes), sum(math.prod(shape) for shape in shapes.values()), num_parameters)
    assert row.counts == counted or row.name in OWN
    assert row.num_parameters == num_parameters


@pytest.mark.parametrize("name", OWN)
def test_a_trunk_has_the_layers_of_torchvisions_model(name: str) -> None:
    with torch.device("meta"):
        expected, layers = torchvisions(name).features, BACKBONES[name].build_layers()

    assert str(layers) == str(expected.train())


@pytest.mark.parametrize("name", OWN)
def test_blocks_end_just_after_their_pooling_and_the_last_ends_the_trunk(name: str) -> None:
    layers = without_memory(name)
    poolings = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]

    assert list(BACKBONES[name].block_ends) == poolings
    assert poolings[-1] == len(layers)


@pytest.mark.parametrize("name", NAMES)
def test_freezing_more_keeps_more_layers(name: str) -> None:
    row = BACKBONES[name]
    layers = [row.frozen_layers(freeze) for freeze in ("none", "blocks1-3", "blocks1-4", "trunk")]

    assert layers == [0, row.block_ends[2], row.block_ends[3], len(without_memory(name))]
    assert layers == sorted(set(layers))


@pytest.mark.parametrize(
    "size_px", [32, 63, 224, *(pytest.param(size_px, marks=pytest.mark.slow) for size_px in (48, 64, 100))]
)
@pytest.mark.parametrize("name", NAMES)
def test_the_output_of_every_block_has_the_shape_of_the_table(name: str, size_px: int) -> None:
    row = BACKBONES[name]
    if size_px % row.multiple_px:
        pytest.skip("the size is refused")
    layers, begin = without_memory(name), 0
    with torch.device("meta"), torch.no_grad():
        output = torch.empty(2, 3, size_px, size_px)
        for freeze, end in (("blocks1-3", row.block_ends[2]), ("blocks1-4", row.block_ends[3]), ("trunk", None)):
            output, begin = layers[begin:end](output), end or len(layers)
            joined = row.joint()[0](output) if row.joint is not None and end is not None else output
            assert tuple(joined.shape[1:]) == row.output_shape(size_px, freeze)  # type: ignore[arg-type]


@given(size_px=st.integers(32, 512), name=st.sampled_from(NAMES))
def test_features_shrink_from_block_to_block_and_none_vanishes(size_px: int, name: str) -> None:
    sides = BACKBONES[name].block_sides(size_px)

    assert all(height >= 1 and width >= 1 for height, width in sides)
    assert sorted(sides, reverse=True) == list(sides)


@pytest.mark.parametrize("name", BY_WEIGHT)
@pytest.mark.parametrize("size_px", [64, 224])
def test_a_trunk_gives_what_torchvisions_own_classifier_gets(name: str, size_px: int) -> None:
    if size_px == 224 and name not in ("mobilenet_v3_small", "vit_b_16", "swin_t"):
        pytest.skip("one size is enough where nothing depends on it")
    row, layers = random_layers(name)
    model, run = torchvisions_features(name, size_px)
    own = {row.name_in_files(f"features.{key}"): tensor for key, tensor in layers.state_dict().items()}
    if name.startswith("vit") and size_px != 224:
        own["encoder.pos_embedding"] = layers.tokens._positions(size_px // 16, size_px // 16)
    missing, foreign = model.load_state_dict(own, strict=False)
    assert not foreign
    assert all(key.startswith(("classifier.", "fc.", "head.", "heads.")) for key in missing)
    pictures = torch.randn(3, 3, size_px, size_px)

    with torch.no_grad():
        features = layers(pictures)
    assert torch.equal(features.flatten(1), run(pictures).flatten(1))


@pytest.mark.parametrize("name", BY_WEIGHT)
@pytest.mark.parametrize("freeze", ["blocks1-3", "blocks1-4"])
def test_both_parts_one_after_the_other_are_the_whole_trunk(name: str, freeze: Freeze) -> None:
    row, layers = random_layers(name)
    tensors = {f"features.{key}": tensor for key, tensor in layers.state_dict().items()}
    tensors = {key: tensors[key] for key in row.tensor_shapes()}
    recipe = Recipe(backbone=name, freeze=freeze, image_size=64, precision="float32")
    frozen = build_frozen(recipe, tensors).layers
    free = build_free(recipe, tensors, num_classes=7).features
    pictures = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        parts, whole = free(frozen(pictures)), layers.to(memory_format=torch.channels_last)(pictures)
    if name == "vit_b_16":  # whose attention torch rounds otherwise where the weights ask for no gradient
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(parts, whole)


@pytest.mark.parametrize("name", BY_WEIGHT)
def test_random_weights_give_features_that_differ_and_fit_float16(name: str) -> None:
    recipe = Recipe(backbone=name, weights="none", image_size=64, precision="float32")
    tensors = random_tensors(name, 0)
    noise = torch.rand(6, 8, 8, 3, generator=torch.Generator().manual_seed(0)).mul(255).to(torch.uint8)
    faces = noise.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    features = build_frozen(recipe, tensors)(faces).float().flatten(1)
    unit = features / features.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T

    assert (cosines.sum() - 6) / 30 < 0.93
    assert 0.01 < features.square().mean().sqrt() < 1000


@pytest.mark.parametrize("name", BY_WEIGHT)
def test_random_weights_depend_on_the_seed_alone(name: str) -> None:
    none = Weights(name="none", backbone=name, fingerprint=NO_WEIGHTS, tensors={})
    torch.manual_seed(1)
    expected_next = torch.rand(3)
    torch.manual_seed(1)
    first = first_tensors(none, seed=3)
    assert torch.equal(torch.rand(3), expected_next), "torch's own generator is left as it was"
    torch.manual_seed(2)
    again, other = random_tensors(name, 3), random_tensors(name, 0)

    assert first.keys() == BACKBONES[name].tensor_shapes().keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("size_px", [33, 72, 100])
def test_a_vision_transformer_takes_multiples_of_its_patches_alone(size_px: int) -> None:
    with pytest.raises(RecipeError, match=f"pictures of {size_px} pixels.*multiples of 16") as caught:
        BACKBONES["vit_b_16"].check(size_px=size_px, freeze="trunk", where="here")
    words = str(caught.value).split("image_size=")[1].split(" or ")
    assert all(int(side) % 16 == 0 for side in words)


@pytest.mark.slow
def test_positions_of_a_transformer_are_those_of_a_scaled_picture() -> None:
    _, layers = random_layers("vit_b_16")
    with torch.no_grad():
        layers.tokens.pos_embedding[:, 1:] = torch.arange(14.0).repeat_interleave(14)[None, :, None]
        rows = layers.tokens._positions(4, 4)[0, 1:, 0].view(4, 4)

    torch.testing.assert_close(rows[:, 0], rows[:, 3])
    assert (rows[1:, 0] - rows[:-1, 0] > 2).all(), "four rows have the range of fourteen"


def test_batch_norm_keeps_the_statistics_of_the_weights_whatever_the_batch(small_rows: None) -> None:
    layers = build_trunk_layers(BACKBONES["vgg16_bn"], small_weights("vgg16_bn").tensors)
    faces = torch.rand(6, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    together = layers(faces)
    apart = torch.cat([layers(faces[:1]), layers(faces[1:])])

    torch.testing.assert_close(together, apart)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers.state_dict().items())


@pytest.mark.parametrize("name", ["efficientnet_b0", pytest.param("swin_t", marks=pytest.mark.slow)])
def test_nothing_is_dropped_within_a_trunk(name: str) -> None:
    recipe = Recipe(backbone=name, freeze="none", weights="none", image_size=32, precision="float32")
    free = build_free(recipe, random_tensors(name, 0), num_classes=7)
    pictures = torch.randn(2, 3, 32, 32)

    assert torch.equal(free(pictures), free(pictures))
    assert not any(module.training for module in free.features.modules() if module is not free.features)


def test_layers_get_copies_since_weights_are_shared_by_all_runs(weights: Weights) -> None:
    layers = build_trunk_layers(BACKBONES["vgg16"], weights.tensors)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(7)

    assert not any((tensor == 7).any() for tensor in weights.tensors.values())


@pytest.mark.parametrize(
    "settings", [{"head_pooling": "average"}, {"head_pooling": "flatten"}, {"hidden_units": None, "image_size": 48}]
)
@pytest.mark.parametrize("name", ["vgg16_bn", "mobilenet_v3_small"])
def test_parameters_are_counted_without_the_model(name: str, settings: dict[str, Any]) -> None:
    recipe = Recipe(backbone=name, precision="float32", freeze="none", **({"image_size": 64} | settings))
    free = build_free(recipe, random_tensors(name, 0), num_classes=5)
    built = [sum(tensor.numel() for tensor in part.parameters()) for part in (free.features, free.head)]

    assert list(count_parameters(recipe, num_classes=5)) == built
