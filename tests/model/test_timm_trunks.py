"""timm's models by name: their own features, in one block, and every way to fail named."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from ferray.errors import FerrayError, RecipeError, WeightsError
from ferray.libraries import building_library
from ferray.model import timm_trunks
from ferray.model.backbones import build_trunk_layers, find_backbone
from ferray.model.weights import first_tensors, load_weights
from ferray.recipe import Recipe, make_recipe, trial_id

LITE = "timm/tf_efficientnet_lite0"
UNPOOLED = "timm/mobilenetv3_small_050"  # timm has its last convolution after pooling
TOKENS = "timm/vit_tiny_patch16_224"
LAST = "timm/swin_tiny_patch4_window7_224"


@pytest.mark.parametrize("name", [LITE, UNPOOLED, TOKENS])
def test_a_trunk_gives_timms_own_features(name: str) -> None:
    row = find_backbone(name)
    layers = build_trunk_layers(row, first_tensors(load_weights("none", name), seed=1))
    settings = {"dynamic_img_size": True} if name == TOKENS else {}
    model: Any = timm.create_model(name.removeprefix("timm/"), **settings).eval()
    own = {row.name_in_files(f"features.{key}"): tensor for key, tensor in layers.state_dict().items()}
    assert not model.load_state_dict(own, strict=False).unexpected_keys
    pictures = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        expected, features = model.forward_features(pictures), layers(pictures)
    assert torch.equal(features.flatten(1), (expected[:, 0] if name == TOKENS else expected).flatten(1))
    assert tuple(features.shape[1:]) == row.output_shape(64)


def test_every_parameter_of_a_trunk_has_a_part_in_its_features() -> None:
    layers = build_trunk_layers(find_backbone(UNPOOLED), first_tensors(load_weights("none", UNPOOLED), seed=1))
    layers(torch.randn(2, 3, 64, 64)).sum().backward()

    assert all(parameter.grad is not None for parameter in layers.parameters())
    assert sum(parameter.numel() for parameter in layers.parameters()) == find_backbone(UNPOOLED).num_parameters


def test_colors_are_scaled_as_timms_configuration_says() -> None:
    assert (find_backbone(LITE).mean, find_backbone(LITE).std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert find_backbone(UNPOOLED).mean == (0.485, 0.456, 0.406)


@pytest.mark.slow
def test_a_size_that_a_model_cannot_take_is_refused() -> None:
    row = find_backbone(LAST)

    with pytest.raises(RecipeError, match="takes no pictures of 64 pixels"):
        row.check(size_px=64, freeze="trunk", where="here")


def test_weights_with_timms_names_are_read_and_the_classifier_in_them_is_not(tmp_path: Path) -> None:
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    (tmp_path / "timm").mkdir()
    save_file(state, tmp_path / f"{LITE}.safetensors")
    weights = load_weights(tmp_path, LITE)

    assert weights.tensors.keys() == find_backbone(LITE).tensor_shapes().keys()
    assert torch.equal(weights.tensors["features.trunk.body.conv_stem.weight"], state["conv_stem.weight"])


def test_an_unknown_model_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(RecipeError, match="timm has no such model") as caught:
        find_backbone("timm/tf_efficientnet_lite00")
    assert "tf_efficientnet_lite0" in str(caught.value)


def test_without_timm_the_way_out_is_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    building_library.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(FerrayError, match=r"pip install 'ferray\[timm\]'"):
        timm_trunks.make_backbone(LITE)


def test_a_download_that_fails_says_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class UnreachableError(Exception):
        """As of a client for the network, of no kind that is known here."""

    def fail(*args: object, **named: object) -> None:
        raise UnreachableError("no route to the hub")

    find_backbone(LITE)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match="no route to the hub") as caught:
        load_weights("imagenet", LITE)
    assert "--weights FILE" in str(caught.value)


def test_timms_version_is_in_the_identity_and_torchvisions_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def identities() -> list[str]:
        building_library.cache_clear()
        names = (LITE, "resnet18", "vgg16")
        recipes = [Recipe(backbone=name, image_size=64, precision="float32") for name in names]
        return [trial_id(one, data_fingerprint="data", weights_fingerprint="weights") for one in recipes]

    before, real = identities(), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{real(name)}.1")
    after = identities()
    building_library.cache_clear()

    assert before[0] != after[0]
    assert before[1:] == after[1:]


@pytest.mark.parametrize("name", ["timm/", "timm/no such", "timm/../x", "resnet19"])
def test_a_name_that_cannot_be_a_backbone_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(RecipeError, match="backbone") as caught:
        make_recipe({"backbone": name}, where="here")
    assert "resnet18" in str(caught.value)
    assert "timm/NAME" in str(caught.value)
