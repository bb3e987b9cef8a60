"""How folders are named."""

import pytest

from ferray.errors import StorageError
from ferray.files.location import local_path


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


@pytest.mark.parametrize(
    "text", ["s3://bucket/runs", "s3:///x", "gs://b", "hdfs://x/y", "https://x/y", "file://host/x", "file://"]
)
def test_what_is_no_path_is_refused_with_its_name_and_what_is_supported(text: str) -> None:
    with pytest.raises(StorageError, match=rf"(?s)--out {text}.*file:///shared/runs"):
        local_path(text, option="--out")
