"""Searches whose results are in a bucket, on loopback, which are killed, resumed elsewhere, and cut off from it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from fixtures.buckets import BucketService
from fixtures.process import wait_until
from fixtures.search import LONG_EPOCHS, LONG_GRID, OnOneCore, finish, kill, table

from ferray.commands.report import main as report
from ferray.commands.search import main
from ferray.data.store.reader import Store
from ferray.files import buckets
from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = "s3://faces/runs"


class InBucket(OnOneCore):
    """Searches with `--out s3://`, of a machine with a cache of its own."""

    def command(self, *options: str) -> list[str]:
        return [RUNS if one == str(self.folder / "runs") else one for one in super().command(*options)]


@pytest.fixture
def searches(bucket: BucketService, tmp_path: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> InBucket:
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "head"))
    return InBucket(tmp_path, tiny_store)


def home(folder: Path) -> Run:
    """The search as `fetch` brings it."""
    assert report(["fetch", f"{RUNS}/long", "--out", str(folder), "--checkpoints"]) == 0
    return Run(folder / "long")


def num_epochs(bucket: BucketService) -> int:
    keys = [key for key in bucket.list_keys() if key.startswith("runs/long/records/")]
    return sum(len((json.loads(bucket.get(key))["record"] or {"epochs": []})["epochs"]) for key in keys)


def begin(searches: InBucket, bucket: BucketService) -> "subprocess.Popen[str]":
    """A search in the middle of its second trial."""
    process = searches.start(LONG_GRID, "long", "--wandb", "disabled")
    wait_until(lambda: process.poll() is not None or num_epochs(bucket) > LONG_EPOCHS + 20, every_s=0.2)
    assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_store: Store) -> Run:
    """The same search in a folder, undisturbed."""
    return OnOneCore(tmp_path_factory.mktemp("plain"), tiny_store).run(LONG_GRID, "long", "--wandb", "disabled")


def test_a_search_whose_machine_is_lost_ends_on_another_one_with_the_table_of_an_undisturbed_one(
    searches: InBucket, bucket: BucketService, plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(begin(searches, bucket))
    before = num_epochs(bucket)
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "another machine"))
    lock = json.loads(bucket.get("runs/long/lock.json"))
    bucket.put("runs/long/lock.json", json.dumps({**lock, "held": False}).encode())  # it would expire in a minute
    searches.resume("long")
    assert num_epochs(bucket) == 6 * LONG_EPOCHS > before
    fetched = home(tmp_path / "home")
    assert table(fetched) == table(plain)
    assert fetched.read_search().best == plain.read_search().best
    own, other = (run.best_dir / "model.safetensors" for run in (fetched, plain))
    assert own.read_bytes() == other.read_bytes()
    assert {file.name for file in plain.folder.iterdir() if file.name[0] != "."} - {"search.json.previous"} <= {
        file.name for file in fetched.folder.iterdir()
    }


def test_a_search_waits_while_its_bucket_is_down_and_loses_nothing(
    searches: InBucket, bucket: BucketService, plain: Run, tmp_path: Path
) -> None:
    process = begin(searches, bucket)
    bucket.asked.clear()
    bucket.is_down.set()
    wait_until(lambda: len(bucket.of("/records/") + bucket.of("/checkpoints/")) > 2 * buckets.TRIES, every_s=0.2)
    assert process.poll() is None
    bucket.is_down.clear()
    finish(process)
    assert table(home(tmp_path / "home")) == table(plain)


def test_a_search_goes_on_while_its_bucket_takes_seconds_for_every_answer_and_loses_nothing(
    searches: InBucket, bucket: BucketService, plain: Run, tmp_path: Path
) -> None:
    process = begin(searches, bucket)
    bucket.asked.clear()
    bucket.delay_s = 3.0
    wait_until(lambda: process.poll() is not None or len(bucket.of("PUT")) > 25, within_s=600, every_s=0.2)
    assert process.poll() is None
    assert num_epochs(bucket) < 6 * LONG_EPOCHS, "it is slow in the middle of the search"
    bucket.delay_s = 0.0
    finish(process)
    assert table(home(tmp_path / "home")) == table(plain)


def test_a_second_search_of_the_name_is_refused_while_the_first_runs_and_ctrl_c_leaves_all_in_the_bucket(
    searches: InBucket,
    bucket: BucketService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = begin(searches, bucket)
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "another machine"))
    assert main(["--out", RUNS, "--resume", "long"]) == 2
    assert "in use by process" in capsys.readouterr().err
    assert main(["--out", RUNS, "--name", "long", "--space", str(tmp_path / "long.yaml")]) == 2
    assert "a search of this name is there" in capsys.readouterr().err
    assert report(["watch", f"{RUNS}/long", "--once"]) == 0
    os.kill(process.pid, signal.SIGINT)
    _, err = finish(process, code=130)
    assert f"--resume long --out {RUNS}" in err
    fetched = home(tmp_path / "home")
    assert {record.state for record in fetched.read_trials()} <= {"done", "interrupted", "queued"}
    assert (fetched.folder / "report.html").exists()
    assert sum(len(record.epochs) for record in fetched.read_trials()) == num_epochs(bucket)
