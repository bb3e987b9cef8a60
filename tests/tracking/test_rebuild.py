"""Runs that are made again from the records are those that were lost."""

import dataclasses
import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import write_run
from fixtures.tracking import make_record, make_row
from fixtures.wandb_server import WandbServer

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import StorageError
from ferray.records.run import Run
from ferray.space import read_space
from ferray.tracking import rebuild
from ferray.tracking.offline import OfflineRun, read_offline_runs
from ferray.tracking.wandb import track_search

Inspect = Callable[[Path], dict[str, Any]]


@pytest.fixture
def search(tiny_store: Store, tmp_path: Path) -> Run:
    """A search with a trial in each state, whose runs were sent as it went on."""
    run = write_run(
        tmp_path / "runs" / "first", tiny_store, 4, states=("done", "stopped", "failed", "interrupted"), reason="broke"
    )
    space = dataclasses.replace(read_space(run.space_file), name="made-up")  # as the search's file says
    with track_search(run, run.read_search(), space, mode="offline") as tracker:
        for record in run.read_trials():
            tracker.trial_started(dataclasses.replace(record, state="running", epochs=()))
            for row in record.epochs:
                tracker.epoch_ended(record.trial_id, row)
            if record.state != "interrupted":
                tracker.trial_ended(record)
        best = run.read_trials()[0]
        tracker.search_ended(records=run.read_trials(), best=best, files=[run.best_dir], summary={})
    return run


def lose(run: Run) -> dict[str, OfflineRun]:
    """What was there."""
    lost = {found.id.split("-")[-1]: found for found in read_offline_runs(run.folder / "wandb")}
    shutil.rmtree(run.folder / "wandb")
    (run.folder / "wandb.jsonl").unlink()
    return lost


def test_rebuilt_runs_are_those_that_were_lost(
    search: Run, capfd: pytest.CaptureFixture[str], inspect: Inspect
) -> None:
    lost = lose(search)
    assert main(["wandb", "--rebuild", str(search.folder), "--wandb", "offline"]) == 0
    printed = capfd.readouterr().out
    found = {one.id.split("-")[-1]: one for one in read_offline_runs(search.folder / "wandb")}

    assert "runs of 4 trials" in printed
    assert "wandb sync" in printed
    assert found.keys() == lost.keys()
    for name, one in found.items():
        assert one.id != lost[name].id
        if name != "search":  # its own run has the scores of the model beside, which this search did not send
            assert dataclasses.replace(one, id="") == dataclasses.replace(lost[name], id="")
    for record in search.read_trials():
        (folder,) = (search.folder / "wandb").glob(f"offline-run-*-{record.trial_id}")
        seen = inspect(folder)
        assert seen["state"] == {"failed": "failed", "interrupted": "crashed"}.get(record.state, "finished")
        assert seen["step"] == len(record.epochs) - 1


def test_rebuilt_runs_have_the_times_of_the_records_and_a_sweep_of_their_own(search: Run, server: WandbServer) -> None:
    assert main(["wandb", "--rebuild", str(search.folder)]) == 0

    (sweep,) = server.sweeps.values()
    assert sweep.state == "FINISHED"
    runs = {run.id.split("-")[-1]: run for run in server.runs.values()}
    for record in search.read_trials():
        sent = runs[record.trial_id]
        began = datetime.datetime.fromisoformat(record.began).timestamp()
        ends = [began + sum(row.seconds for row in record.epochs[: row.epoch]) for row in record.epochs]
        assert [row["_timestamp"] for row in sent.history] == pytest.approx(ends, abs=1e-3)
        assert sent.sweep == sweep.name
        assert sent.rows() == [dataclasses.asdict(row) for row in record.epochs]


def test_rebuilt_files_are_complete_runs_once_they_are_synced(
    search: Run, server: WandbServer, sync: Callable[..., None]
) -> None:
    assert main(["wandb", "--rebuild", str(search.folder), "--wandb", "offline"]) == 0
    rebuilt = [folder for folder in (search.folder / "wandb").glob("offline-run-*") if "-r" in folder.name[12:]]
    sync(*rebuilt)
    runs = {run.id.split("-")[-1]: run for run in server.runs.values()}

    assert runs.keys() == {*(record.trial_id for record in search.read_trials()), "search"}
    for record in search.read_trials():
        sent = runs[record.trial_id]
        assert sent.rows() == [dataclasses.asdict(row) for row in record.epochs]
        assert (sent.summary["state"], sent.config["trial_id"]) == (record.state, record.trial_id)
        assert sent.state == {"failed": "failed", "interrupted": "crashed"}.get(record.state, "finished")


def test_a_search_goes_on_with_its_rebuilt_runs(search: Run) -> None:
    lose(search)
    rebuild.rebuild_runs(search, mode="offline", files=[], summary={})
    with track_search(search, search.read_search(), read_space(search.space_file), mode="offline") as tracker:
        tracker.trial_started(make_record("fff", number=4))
        tracker.epoch_ended("fff", make_row(1))
    prefixes = {one.id.rsplit("-", 1)[0] for one in read_offline_runs(search.folder / "wandb")}

    assert len(prefixes) == 1


def test_nothing_is_rebuilt_while_the_search_is_running(search: Run) -> None:
    with search.lock(), pytest.raises(StorageError):
        rebuild.rebuild_runs(search, mode="offline", files=[], summary={})


def test_a_rebuilding_that_fails_says_how_much_is_missing(
    search: Run, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr("wandb.init", fail)

    assert main(["wandb", "--rebuild", str(search.folder)]) == 2
    assert "4 of 4 runs are not in W&B" in capsys.readouterr().err
