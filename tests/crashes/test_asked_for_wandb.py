"""W&B with a server that does not do its part, on loopback, in place of W&B's own; and as few processes as can be."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.process import wait_until
from fixtures.tracking import KEY, drain, make_record, make_row
from fixtures.wandb_server import WandbServer

from ferray.records.run import Run
from ferray.tracking import mirror
from ferray.tracking.offline import read_offline_runs
from ferray.tracking.wandb import Tracker

SEARCH = "5ea7c4"
EPOCHS = 3


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return Run(tmp_path / "runs" / "first")


@pytest.fixture
def server(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer(KEY) as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        yield made


def track(run: Run, mode: Any = "online") -> Tracker:
    return Tracker(run, mode=mode, search_id=SEARCH, config={})


def tell(tracker: Tracker, run: Run, name: str, number: int, *, begun: int = 0) -> float:
    """A trial to its end, of which so many epochs have been told; seconds that the search had to wait."""
    began = time.monotonic()
    done = make_record(name, number=number, epochs=EPOCHS, state="done")
    if not begun:
        tracker.trial_started(make_record(name, number=number))
    for epoch in range(1 + begun, EPOCHS + 1):
        tracker.epoch_ended(name, make_row(epoch, number=number))
    run.write_trial(done)
    tracker.trial_ended(done)
    return time.monotonic() - began


def epochs(run: Run) -> dict[str, list[int]]:
    """What lies in W&B's own files, for `wandb sync` if the server does not have it."""
    found = {one.id.removeprefix(f"{SEARCH}-"): one for one in read_offline_runs(run.folder / "wandb")}
    return {name: [row["epoch"] for row in one.history] for name, one in found.items() if name != "search"}


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["with 500", "never"])
@pytest.mark.parametrize("when", ["from the start", "in the middle"])
def test_a_server_that_fails_holds_nothing_up_and_nothing_is_lost(
    answers: str, when: str, server: WandbServer, run: Run
) -> None:
    with track(run) as tracker:
        if when == "in the middle":
            tracker.trial_started(make_record("open"))
            tracker.epoch_ended("open", make_row(1))
            drain(tracker)
        fault = server.fail(held=threading.Event()) if answers == "never" else server.fail(status=500)
        waited = [tell(tracker, run, "open", 0, begun=1)] if when == "in the middle" else []
        waited += [tell(tracker, run, name, number) for number, name in enumerate("abc", start=1)]
        ended = time.monotonic()
    ended = time.monotonic() - ended
    print(f"the search waited {max(waited):.3f} s for a trial and {ended:.1f} s at its end; left: {epochs(run)}")
    assert fault.num_seen > 0
    assert max(waited) < 1
    assert ended < mirror.EXIT_S + 5

    # A search would end its process here, and its wandb-core with it: this process is to be as a new one.
    wait_until(lambda: not any(thread.name == "wandb-mirror" for thread in threading.enumerate()))
    with track(run, "offline") as tracker:
        tracker.search_ended(records=run.read_trials(), best=None, files=[], summary={})
        drain(tracker)
    assert epochs(run) == {record.trial_id: list(range(1, EPOCHS + 1)) for record in run.read_trials()}


def cores() -> list[int]:
    """Processes wandb-core that are ours."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, fields = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue  # it has just ended
        if name == "wandb-core" and fields.split()[1] == str(os.getpid()) and fields.split()[0] != "Z":
            found.append(int(folder.name))
    return found


def test_all_runs_of_a_search_share_one_process_that_ends_with_it(run: Run) -> None:
    with track(run, "offline") as tracker:
        for number in range(4):
            tracker.trial_started(make_record(f"t{number}", number=number))
        drain(tracker)
        assert len(cores()) == 1
    assert cores() == []
    assert epochs(run) == {f"t{number}": [] for number in range(4)}
