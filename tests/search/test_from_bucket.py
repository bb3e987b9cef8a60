"""Searches whose data are in a bucket, on loopback."""

import json
import shutil
from pathlib import Path

import pytest
from fixtures.buckets import BucketService
from fixtures.search import OnOneCore, finish, table

from ferray.commands.report import main as report_main
from ferray.commands.search import main
from ferray.data.store.fetched import send_store
from ferray.data.store.reader import Store
from ferray.files.location import Address, to_address
from ferray.records.run import Run
from ferray.search.options import SearchOptions
from ferray.search.session import open_plan

TINY = "s3://faces/stores/tiny"

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.01, 0.001]}
  epochs: {value: 2}
  batch_size: {value: 16}
"""


@pytest.fixture
def sent(bucket: BucketService, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketService:
    """A bucket with a store, and a cache without one."""
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    send_store(tiny_store.folder, Address("faces", "stores/tiny"))
    bucket.asked.clear()
    return bucket


def test_a_dry_run_fetches_the_manifest_alone_and_says_what_it_could_not_check(
    sent: BucketService, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    sent.put("weights/vgg16.pth", b"not looked into")
    asked = ["--space", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--data", f"{TINY}/", "--dry-run"]
    assert main([*asked, "--weights", "s3://faces/weights"]) == 0
    printed = capsys.readouterr()
    assert f"data      {TINY}\n" in printed.out
    assert "weights   s3://faces/weights\n" in printed.out
    assert "only its manifest was read" in printed.err + caplog.text
    assert [one for one in sent.asked if one.startswith("GET")] == ["GET stores/tiny/manifest.json"]
    assert main([*asked, "--weights", "s3://faces/none"]) == 2
    assert main([*asked[:-2], f"{TINY}/none", "--dry-run"]) == 2


def test_a_plan_has_the_address_for_the_records_and_a_folder_for_this_machine(
    sent: BucketService, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    options = SearchOptions(space=str(tmp_path / "grid.yaml"), data=TINY, weights="none", out=str(tmp_path), name="a")
    with open_plan(options) as (plan, _):
        assert plan.data == TINY
        assert plan.data_dir is not None
        assert plan.data_dir.parent == tmp_path / "cache" / "stores"


@pytest.mark.slow
def test_a_search_on_a_store_in_a_bucket_has_the_table_of_one_on_the_folder(
    sent: BucketService, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searches = OnOneCore(tmp_path, tiny_store)
    from_folder = searches.run(GRID, "folder")
    run = begin_on_bucket(searches)
    assert table(run) == table(from_folder) != {}
    assert len(sent.of("GET stores/tiny/faces.npy")) == 1
    search = run.read_search()
    assert search.data.folder == search.options.data == TINY
    assert f"--data {TINY} --split test" in (run.best_dir / "README.md").read_text()
    for file in (run.folder / "search.json", run.folder / "report.html"):
        assert "a-secret-of-nobody" not in file.read_text()
    assert report_main(["evaluate", str(run.best_dir), "--data", TINY, "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert len(sent.of("GET stores/tiny/faces.npy")) == 1


@pytest.mark.slow
def test_a_search_on_a_store_in_a_bucket_is_resumed_also_where_the_store_has_moved(
    sent: BucketService, tiny_store: Store, tmp_path: Path
) -> None:
    searches = OnOneCore(tmp_path, tiny_store)
    run = begin_on_bucket(searches)
    moved = "s3://faces/moved/tiny"
    send_store(tiny_store.folder, to_address(moved, option="--data"))
    _, err = searches.resume("bucket", "--data", moved, "--set", "learning_rate=[0.01, 0.001, 0.1]")
    assert run.read_search().data.folder == moved, err
    assert len(run.read_trials()) == 3
    assert not sent.of("GET moved/tiny/faces.npy")  # it is the same store
    shutil.rmtree(tmp_path / "cache")
    searches.resume("bucket")
    assert len(sent.of("GET moved/tiny/faces.npy")) == 1


def begin_on_bucket(searches: OnOneCore) -> Run:
    space = searches.folder / "folder.yaml"
    space.write_text(GRID)
    finish(
        searches.begin(searches.command("--space", str(space), "--name", "bucket", "--data", TINY, "--weights", "none"))
    )
    return Run(searches.folder / "runs" / "bucket")
