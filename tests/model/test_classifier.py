"""The model in two parts: the same function as torchvision's, divided where the recipe says."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from fixtures.train import small_recipe, small_weights

from ferray.errors import WeightsError
from ferray.model.backbones import BACKBONES
from ferray.model.classifier import build_classifier, build_free, build_frozen, trunk_tensors
from ferray.model.weights import Weights, load_weights
from ferray.recipe import Freeze, Recipe

FACES = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_frozen_trunk_is_torchvisions_on_pictures_normalized_as_its_weights_expect(shared_dir: Path) -> None:
    weights = load_weights(shared_dir / "weights" / "vgg16-imagenet-features-fp16.safetensors", "vgg16")
    recipe = small_recipe()
    with torch.device("meta"):
        reference = torchvision.models.vgg16().features
    state = {name.removeprefix("features."): tensor for name, tensor in weights.tensors.items()}
    reference.load_state_dict(state, assign=True)
    normalize = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = reference(normalize(FACES.permute(0, 3, 1, 2) / 255))

    features = build_frozen(recipe, trunk_tensors(recipe, weights))(FACES)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), expected, rtol=2e-3, atol=2e-3)


QUICK = ("vgg16", "vgg16_bn", "resnet18", "vit_b_16", "mobilenet_v3_small")


@pytest.mark.parametrize(
    "backbone", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)
def test_wherever_it_is_divided_the_model_is_the_same_function(backbone: str, small_rows: None) -> None:
    weights = small_weights(backbone)
    logits = []
    for freeze in get_args(Freeze):
        recipe = small_recipe(backbone=backbone, freeze=freeze)
        logits.append(build_classifier(recipe, trunk_tensors(recipe, weights), num_classes=7)(FACES))

    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "freeze, free_layers",
    [("none", range(15)), ("blocks1-3", range(9, 15)), ("blocks1-4", range(12, 15)), ("trunk", [])],
)
def test_the_free_layers_keep_torchvisions_names(freeze: Freeze, free_layers: list[int], weights: Weights) -> None:
    recipe = small_recipe(freeze=freeze)
    free = build_free(recipe, trunk_tensors(recipe, weights), num_classes=7)

    assert [int(name) for name, _ in free.features.named_children()] == list(free_layers)
    trained = {name for name, _ in free.named_parameters() if not name.startswith("head.")}
    assert trained == {name for name in weights.tensors if int(name.split(".")[1]) in free_layers}
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_the_frozen_part_asks_for_no_gradient(weights: Weights) -> None:
    recipe = small_recipe(freeze="blocks1-4")
    frozen = build_frozen(recipe, trunk_tensors(recipe, weights))

    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen(FACES).requires_grad


@pytest.mark.parametrize("freeze", get_args(Freeze))
def test_bfloat16_computes_the_trunk_in_it_and_the_head_in_float32(freeze: Freeze, weights: Weights) -> None:
    logits = {}
    for precision in ("float32", "bfloat16"):
        recipe = small_recipe(freeze=freeze, precision=precision)
        classifier = build_classifier(recipe, trunk_tensors(recipe, weights), num_classes=7)
        logits[precision] = classifier(FACES)
        assert logits[precision].dtype == torch.float32
        assert all(parameter.dtype == torch.float32 for parameter in classifier.free.parameters())

    assert not torch.equal(logits["float32"], logits["bfloat16"])
    torch.testing.assert_close(logits["float32"], logits["bfloat16"], rtol=0.05, atol=0.05)


def test_weights_of_another_backbone_are_refused(small_rows: None) -> None:
    with pytest.raises(WeightsError, match="weights of vgg16_bn, but the recipe's backbone is vgg16"):
        trunk_tensors(small_recipe(), small_weights("vgg16_bn"))


def test_a_recipe_that_starts_from_none_does_not_look_at_the_weights(weights: Weights) -> None:
    recipe = small_recipe(weights="none", seed=9)
    tensors = trunk_tensors(recipe, weights)
    expected = trunk_tensors(recipe, load_weights("none", "vgg16"))

    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert not torch.equal(tensors["features.0.weight"], weights.tensors["features.0.weight"])


def test_the_features_of_a_random_trunk_differ_from_face_to_face() -> None:
    recipe = Recipe(weights="none", image_size=32, precision="float32")
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    trunk = build_frozen(recipe, trunk_tensors(recipe, load_weights("none", "vgg16")))
    features_BU = trunk(torch.from_numpy(noise)).float().flatten(1)
    unit_BU = features_BU / features_BU.norm(dim=1, keepdim=True)
    cosines_BB = unit_BU @ unit_BU.T

    assert cosines_BB.sub(torch.eye(8)).sum() / (8 * 7) < 0.93  # 0.99 with filters as they are drawn
    assert 0.1 < features_BU.square().mean().sqrt() < 100  # float16 has room above and below
