"""Promises of the Python functions about addresses in a bucket, on loopback, and about places that cannot be one."""

from pathlib import Path

import pandas as pd
import pytest
from fixtures.buckets import BucketService
from fixtures.expw import ExpW
from fixtures.history import make_search_file
from fixtures.records import trial

import ferray
from ferray.api import searching
from ferray.commands.data import main as data
from ferray.commands.fit import main as fit
from ferray.commands.predict import main as predict
from ferray.commands.report import main as report
from ferray.commands.train import main as train
from ferray.errors import BucketError, StorageError
from ferray.predict.model import find_folder
from ferray.records.bucket.run import find_run
from ferray.records.bucket.trial import TrialObject

SPACE = {
    "method": "grid",
    "metric": {"name": "val_accuracy", "goal": "maximize"},
    "parameters": {"learning_rate": {"values": [1e-4, 1e-5]}, "epochs": {"value": 2}},
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache of its own, in a folder of its own."""
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_store_that_prepare_has_sent_is_what_a_search_plans_with(bucket: BucketService, tmp_path: Path) -> None:
    expw = ExpW(tmp_path / "expw")
    store = ferray.prepare(expw.images, labels=expw.labels, out="s3://faces/stores/expw", size_px=32)
    assert "stores/expw/manifest.json" in bucket.list_keys()
    assert store.folder.is_relative_to(tmp_path / "cache")
    planned = ferray.plan(SPACE, data="s3://faces/stores/expw", weights="none", out="s3://faces/runs", name="first")
    assert planned["new_points"] == 2
    assert not (tmp_path / "s3:").exists()


def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in the bucket, written by another machine."""
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "head"))
    run = find_run("s3://faces/runs", "first")
    run.write_search(make_search_file(openings=1, name="first"))
    worker = TrialObject(run.address, trial().trial_id)  # type: ignore[attr-defined]
    worker.take((1, 0))
    worker.write(trial(0.5, 0.6))
    (run.best_dir).mkdir()
    (run.best_dir / "model.safetensors").write_bytes(b"model")
    run.send_files()
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("bucket")
def test_a_search_in_a_bucket_is_opened_and_its_model_found_by_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, monkeypatch)
    search = ferray.open("s3://faces/runs/first")
    assert search.name == "first"
    pd.testing.assert_series_equal(
        search.epochs["val_accuracy"], pd.Series([0.5, 0.6]), check_names=False, check_dtype=False
    )
    for place in ("s3://faces/runs/first", "s3://faces/runs/first/best"):
        assert (find_folder(place) / "model.safetensors").read_bytes() == b"model"
    with pytest.raises(ferray.FerrayError, match="Known names: first"):
        ferray.open("s3://faces/runs/second")
    with pytest.raises(BucketError, match="there is no bucket nobodys"):
        ferray.open("s3://nobodys/runs/first")


def test_a_search_is_resumed_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict.fromkeys(("space", "overrides", "on_epoch", "data", "weights"), None)
    options = searching._to_options({**given, "out": "runs", "resume": "s3://faces/runs/first"})
    assert (options.out, options.resume) == ("s3://faces/runs", "first")


@pytest.mark.parametrize(
    "command, words",
    [
        (predict, "best pictures --out {}"),
        (report, "export best --out {}"),
        (report, "page runs/first --out {}"),
        (report, "evaluate best --data store --predictions {}"),
        (report, "fetch s3://faces/runs/first --out {}"),
        (data, "prepare folders --images {} --out store"),
        (data, "prepare csv --table {} --out store"),
        (data, "merge {} other --out store"),
        (data, "demo --out {}"),
        (train, "--recipe {} --data store"),
        (fit, "{}"),
        (fit, "pictures --out {}"),
    ],
)
def test_an_address_where_only_a_path_can_be_is_refused_and_makes_no_folder_of_that_name(
    command: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(command)
    place = "s3://faces/there"
    assert command(words.format(place).split()) == 2
    err = capsys.readouterr().err
    assert place in err
    assert "is not supported; a path would be taken for a folder of that name" in err
    assert not list(tmp_path.glob("*:"))


def test_functions_refuse_an_address_where_only_a_path_can_be(tmp_path: Path) -> None:
    for call in (
        lambda: ferray.prepare("s3://faces/pictures", out=tmp_path / "store"),
        lambda: ferray.prepare("pictures", table="s3://faces/a.csv", out=tmp_path / "store"),
        lambda: ferray.fit_folder("s3://faces/pictures"),
        lambda: ferray.fit_folder("pictures", out="s3://faces/runs"),
        lambda: ferray.open("gs://faces/runs/first"),
    ):
        with pytest.raises(StorageError, match="not supported"):
            call()
