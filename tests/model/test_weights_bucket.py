"""Pretrained weights in a bucket."""

import os
from pathlib import Path

import pytest
from fixtures.buckets import BUCKET, BucketService

from ferray.errors import WeightsError
from ferray.files.location import Address
from ferray.model.weights_bucket import check_weights, find_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))


def test_a_file_of_weights_is_fetched_once_and_again_only_where_it_was_exchanged(bucket: BucketService) -> None:
    bucket.put("vgg16.safetensors", b"one")
    first = Path(find_weights("s3://faces/vgg16.safetensors", ["vgg16"], option="--weights"))
    assert (first.name, first.read_bytes()) == ("vgg16.safetensors", b"one")
    assert first.is_relative_to(os.environ["FERRAY_CACHE"])
    bucket.asked.clear()
    assert find_weights("s3://faces/vgg16.safetensors", ["vgg16"], option="--weights") == str(first)
    assert bucket.asked == ["HEAD vgg16.safetensors"]
    bucket.put("vgg16.safetensors", b"two")
    assert Path(find_weights("s3://faces/vgg16.safetensors", ["vgg16"], option="--weights")).read_bytes() == b"two"


def test_a_prefix_becomes_a_folder_with_the_files_that_are_needed(bucket: BucketService) -> None:
    for name in ("resnet18.pth", "vgg16.safetensors", "vgg16.pth", "timm/small.bin", "resnet50.pth"):
        bucket.put(f"weights/{name}", name.encode())
    folder = Path(find_weights("s3://faces/weights", ["vgg16", "resnet18", "timm/small"], option="--weights"))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"resnet18.pth", "vgg16.safetensors", "timm/small.bin"}
    assert (folder / "timm" / "small.bin").read_bytes() == b"timm/small.bin"


def test_weights_that_are_not_there_are_named_and_a_look_at_them_fetches_nothing(bucket: BucketService) -> None:
    with pytest.raises(WeightsError, match=r"s3://faces/weights: has no file of weights for vgg16"):
        check_weights(Address(BUCKET, "weights"), ["vgg16"])
    with pytest.raises(WeightsError, match="is not there"):
        check_weights(Address(BUCKET, "vgg16.pth"), ["vgg16"])
    bucket.put("vgg16.pth", b"one")
    check_weights(Address(BUCKET, "vgg16.pth"), ["vgg16"])
    assert not bucket.of("GET")


def test_what_is_no_address_needs_no_bucket() -> None:
    for text in ("imagenet", "none", "/shared/vgg16.pth"):
        assert find_weights(text, ["vgg16"], option="--weights") == text
