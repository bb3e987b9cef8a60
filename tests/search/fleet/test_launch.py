"""How worker groups are started and ended; no cluster is started: Ray's answers are set."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from ferray.errors import FerrayError, SearchError, StorageError
from ferray.records.run import Run
from ferray.search.fleet import launch
from ferray.search.fleet.cluster import Cluster
from ferray.search.fleet.launch import LaunchSettings
from ferray.search.fleet.messages import GroupInfo

CLUSTER = Cluster(cpus=2, gpus=0.0, nodes=1, joined=False, per_node=((2, 0.0),))


class FakeDispatcher:
    """Every method answers what was given for it, at once."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *_: self._answers.get(name))


@contextmanager
def two_groups(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, failure: str, error: FerrayError | None, stopped: bool
) -> Iterator[None]:
    """Two groups of a search, one of which may have failed; the search may be stopped before its end."""
    dispatcher = FakeDispatcher(wait_for_groups=[GroupInfo(device="cpu", precision="float32")], error=error)
    supervisor = SimpleNamespace(failure=failure, join=lambda timeout_s: None)
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)
    monkeypatch.setattr(launch, "start_dispatcher", lambda *_, **__: dispatcher)
    monkeypatch.setattr(launch, "GroupSupervisor", lambda *_, **__: supervisor)
    plan: Any = SimpleNamespace(
        resume_command="python -m ferray.search --resume first",
        run=Run(folder / "first"), weights="none", max_failures=2, workers_per_trial=1, gpus_per_worker=None,
        concurrent_trials=2, num_trials=4,
    )  # fmt: skip
    stop = threading.Event()
    settings = LaunchSettings(
        search_id="0123abcd", session=1, data_dir=folder, fingerprint="", has_scheduler=False, heads_only=True
    )
    with launch.start_worker_groups(plan, settings, CLUSTER, scratch=folder, stop=stop):
        yield
        if stopped:
            stop.set()


def test_a_search_that_came_to_its_end_has_not_failed_because_a_group_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with two_groups(monkeypatch, tmp_path, failure="killed by signal 9", error=None, stopped=False):
        pass


@pytest.mark.parametrize(
    "failure, error, words",
    [
        ("killed by signal 9", None, "worker groups: killed by signal 9"),
        ("", StorageError("runs/first", "cannot be written: No space left", "Free space"), "No space left"),
    ],
)
def test_a_search_that_could_not_go_on_says_why_and_how_to(
    failure: str, error: FerrayError | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        pytest.raises(SearchError, match=rf"(?s){words}.*--resume first"),
        two_groups(monkeypatch, tmp_path, failure=failure, error=error, stopped=True),
    ):
        pass
