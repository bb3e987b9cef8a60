"""Folders of searches in every state."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import write_run

from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.report.watch.status import LiveStatus, ProcessIdentity, write_status
from ferray.report.watch.view import SearchView


@pytest.fixture
def going_run(tmp_path: Path, tiny_store: Store) -> Run:
    """A search of six trials, two of which are running, without a `live.json`."""
    states = ("done", "running", "stopped")
    return write_run(tmp_path / "going", tiny_store, 6, states=states, is_finished=False)


@pytest.fixture
def report() -> Callable[..., LiveStatus]:
    """Writes a `live.json`, as a driver does."""

    def write(run: Run, *, age_s: float = 0.0, process: ProcessIdentity | None = None, **facts: Any) -> LiveStatus:
        now = time.time()
        facts = {"phase": "training", "metric": "val_accuracy", "began": now - 100, "at": now - age_s, **facts}
        view = SearchView(name=run.name, **facts)
        status = LiveStatus(view=view, process=process or ProcessIdentity.own(), session=1)
        write_status(run.folder, status)
        return status

    return write


GONE = dataclasses.replace(ProcessIdentity.own(), started="never")
"""A process of this machine that has ended."""
ELSEWHERE = dataclasses.replace(ProcessIdentity.own(), host="node-7", place="another machine")
