"""What a search is refused for before anything is made or loaded."""

from pathlib import Path

import pytest

from ferray.errors import StorageError
from ferray.search.options import SearchOptions
from ferray.search.session import open_plan


@pytest.mark.parametrize(
    "option, address", [("out", "gs://bucket/x"), ("data", "gs://bucket/x"), ("weights", "gs://bucket/x")]
)
def test_a_bucket_is_refused_and_no_folder_of_its_name_is_made(
    option: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=rf"--{option} {address}: {address[:2]}:// is not supported"):
        open_plan(SearchOptions(space="smoke", **{option: address})).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_file_address_is_the_folder_that_it_names(tmp_path: Path) -> None:
    with open_plan(SearchOptions(space="smoke", name="a", out=f"file://{tmp_path}/runs")) as (plan, _):
        assert plan.run.folder == tmp_path / "runs" / "a"
