"""How folders are named."""

from pathlib import Path

import pytest

from ferray.errors import StorageError
from ferray.files.location import local_path, read_location, short_location, to_address


@pytest.mark.parametrize(
    "text, path",
    [
        ("runs", "runs"),
        ("/shared/runs", "/shared/runs"),
        ("a:b/c", "a:b/c"),
        ("file:///shared/my%20runs", "/shared/my runs"),
        ("FILE://localhost/shared", "/shared"),
    ],
)
def test_a_path_is_a_path_and_so_is_a_file_address(text: str, path: str) -> None:
    assert local_path(text, option="--out") == path


def test_data_may_lie_in_a_bucket_and_are_recorded_in_one_way() -> None:
    assert read_location("S3://faces//stores/expw/", option="--data") == "s3://faces/stores/expw"
    assert read_location("file:///shared/expw", option="--data") == "/shared/expw"
    assert read_location("data/expw", option="--data") == "data/expw"
    address = to_address("s3://faces/expw", option="--data")
    assert str(address / "faces.npy") == "s3://faces/expw/faces.npy"
    assert short_location("s3://faces/expw") == "s3://faces/expw"
    assert short_location(str(Path.cwd() / "data" / "expw")) == "data/expw"


@pytest.mark.parametrize(
    "text, words",
    [
        ("s3://", "cannot be the name of a bucket"),
        ("s3://faces", "has no key"),
        ("s3://Faces/expw", "cannot be the name of a bucket"),
        ("s3://faces/a//b", "empty parts"),
        ("s3://faces/a/../b", "dots alone"),
        (f"s3://faces/{'a' * 1000}", "longer than the 1024 bytes"),
        ("gs://faces/expw", "Google's storage was never tried"),
        ("hdfs://faces/expw", "not supported"),
    ],
)
def test_an_address_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        read_location(text, option="--data")


@pytest.mark.parametrize(
    "text",
    ["s3://AKIA:very-secret@faces/expw", "s3://faces/expw?X-Amz-Signature=very-secret", "gs://me:very-secret@b/k"],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    for read in (read_location, local_path):
        with pytest.raises(StorageError) as caught:
            read(text, option="--data")
        assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["s3://bucket/runs", "s3:///x", "gs://b", "hdfs://x/y", "https://x/y", "file://host/x", "file://"]
)
def test_what_is_no_path_is_refused_with_its_name_and_what_is_supported(text: str) -> None:
    with pytest.raises(StorageError, match=rf"(?s)--out {text}.*file:///shared/runs"):
        local_path(text, option="--out")
