"""Weights: the same from every kind of file, and every fault of a file named."""

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from ferray.errors import WeightsError
from ferray.model.backbones import BACKBONES
from ferray.model.weights import Weights, load_weights
from ferray.recipe import NO_WEIGHTS


@pytest.fixture
def state(weights: Weights) -> dict[str, torch.Tensor]:
    """Tensors that half precision holds exactly."""
    return {name: tensor.half().float() for name, tensor in weights.tensors.items()}


def test_the_same_weights_are_the_same_whatever_the_file(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.safetensors")
    torch.save(dict(reversed(state.items())), tmp_path / "b.pth")
    torch.save(state | {"classifier.0.weight": torch.ones(3, 4)}, tmp_path / "whole.pt")
    loaded = [
        load_weights(tmp_path / name, "vgg16") for name in ("a.safetensors", "half.safetensors", "b.pth", "whole.pt")
    ]

    assert len({weights.fingerprint for weights in loaded}) == 1
    for weights in loaded:
        assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in state.items())
        assert all(tensor.dtype == torch.float32 for tensor in weights.tensors.values())


def test_another_number_is_another_fingerprint(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    state["features.0.bias"][0] += 1
    save_file(state, tmp_path / "b.safetensors")

    some, other = (load_weights(tmp_path / name, "vgg16").fingerprint for name in ("a.safetensors", "b.safetensors"))
    assert some != other


def test_batch_norms_count_of_steps_is_left_unread(small_rows: None, tmp_path: Path) -> None:
    from fixtures.train import small_weights

    weights = small_weights("vgg16_bn")
    torch.save(dict(weights.tensors) | {"features.1.num_batches_tracked": torch.tensor(9)}, tmp_path / "bn.pt")

    assert load_weights(tmp_path / "bn.pt", "vgg16_bn").tensors.keys() == weights.tensors.keys()


def without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: without(state, "features.3.bias"), "features.3.bias is missing"),
        (lambda state: state | {"features.3.bias": torch.ones(9)}, r"features.3.bias has shape \(9,\), not \(8,\)"),
        (lambda state: state | {"stem.weight": torch.ones(1)}, "stem.weight is not one of its tensors"),
        (lambda state: state | {"features.0.bias": torch.full((8,), torch.nan)}, "features.0.bias has .* not finite"),
        (lambda state: state | {"features.0.bias": torch.ones(8, dtype=torch.int64)}, "features.0.bias has .* no real"),
        (lambda state: state | {"features.0.bias": "eight"}, "features.0.bias is a str"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    change: Any, message: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(change(state), tmp_path / "weights.pt")

    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(tmp_path / "weights.pt", "vgg16")
    assert str(tmp_path / "weights.pt") in str(caught.value)


def test_a_file_of_another_model_is_named_in_one_short_line(small_rows: None, tmp_path: Path) -> None:
    torch.save({f"layer{number}": torch.ones(1) for number in range(300)}, tmp_path / "other.pt")

    with pytest.raises(WeightsError, match="and 305 more") as caught:
        load_weights(tmp_path / "other.pt", "vgg16")
    assert len(str(caught.value)) < 800


class Trap:
    """Unpickling one would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_file_that_carries_code_is_refused_and_the_code_not_run(save: Any, small_rows: None, tmp_path: Path) -> None:
    save({"features.0.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")

    with pytest.raises(WeightsError, match=r"trap\.pt"):
        load_weights(tmp_path / "trap.pt", "vgg16")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["torn.safetensors", "torn.pt"])
def test_a_truncated_file_is_refused(name: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, file)
    else:
        torch.save(state, file)
    file.write_bytes(file.read_bytes()[:-500])

    with pytest.raises(WeightsError, match=r"torn.*cannot be read"):
        load_weights(file, "vgg16")


@pytest.mark.parametrize("value", [[1, 2], torch.ones(3)])
def test_a_file_that_is_no_state_dict_is_refused(value: Any, small_rows: None, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "list.pt")

    with pytest.raises(WeightsError, match="not a state dict"):
        load_weights(tmp_path / "list.pt", "vgg16")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.safetensors: no such file"):
        load_weights(tmp_path / "nothing.safetensors", "vgg16")


@pytest.mark.parametrize(
    "fault", [URLError("no route to host"), RuntimeError("invalid hash value"), OSError(28, "full")]
)
def test_a_failed_download_says_what_was_tried_and_how_to_give_a_file(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **named: object) -> None:
        raise fault

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(WeightsError, match=r"https://download\.pytorch\.org/models/vgg16-.*\.pth") as caught:
        load_weights("imagenet", "vgg16")
    assert "--weights FILE" in str(caught.value)


def test_a_download_is_checked_like_a_file(state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(url: str, **named: Any) -> dict[str, torch.Tensor]:
        asked.update(named)
        return state | {"classifier.6.bias": torch.ones(1000)}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    weights = load_weights("imagenet", "vgg16")

    assert weights.name == "imagenet"
    assert weights.tensors.keys() == state.keys()
    assert asked["check_hash"]
    assert asked["weights_only"]


def test_none_has_no_tensors(small_rows: None) -> None:
    weights = load_weights("none", "vgg16_bn")

    assert (weights.name, weights.fingerprint, weights.tensors) == ("none", NO_WEIGHTS, {})


def test_the_half_precision_file_of_the_oxford_release_is_read(shared_dir: Path) -> None:
    weights = load_weights(shared_dir / "weights" / "vgg16-imagenet-features-fp16.safetensors", "vgg16")

    assert weights.fingerprint.startswith("3bbfa1a413b6")
    assert len(weights.tensors) == 26


def test_a_folder_has_a_file_for_each_backbone(small_rows: None, tmp_path: Path) -> None:
    from fixtures.train import small_weights

    torch.save(dict(small_weights("vgg16").tensors), tmp_path / "vgg16.pth")
    row = BACKBONES["resnet18"]
    tensors = {row.name_in_files(name): tensor for name, tensor in small_weights("resnet18").tensors.items()}
    assert "layer1.0.conv1.weight" in tensors
    save_file(tensors | {"fc.weight": torch.ones(9, 512)}, tmp_path / "resnet18.safetensors")

    assert load_weights(tmp_path, "vgg16").tensors.keys() == small_weights("vgg16").tensors.keys()
    read, drawn = load_weights(tmp_path, "resnet18").tensors, small_weights("resnet18").tensors
    assert all(torch.equal(read[name], drawn[name]) for name in drawn)
    with pytest.raises(WeightsError, match="no file of weights for vgg16_bn") as caught:
        load_weights(tmp_path, "vgg16_bn")
    assert "vgg16_bn.safetensors" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("vgg")])
def test_the_download_of_every_backbone_is_torchvisions_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **named: Any) -> None:
        raise URLError(f"no route to {url}")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(WeightsError, match=rf"the ImageNet weights of {name} could not be downloaded") as caught:
        load_weights("imagenet", name)
    assert caught.value.args[0].split("/")[-1].startswith(name)
