"""How worker groups and Ray come up and go; no cluster is started: Ray's answers are set."""

import subprocess
import sys
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
from ferray.search.fleet import cluster as clusters
from ferray.search.fleet import launch
from ferray.search.fleet.cluster import Cluster, connect
from ferray.search.fleet.dispatcher import Hello

HERE = Cluster(cpus=2, gpus=0.0, nodes=1, joined=False, per_node=((2, 0.0),))


class Answers:
    """The dispatcher: every method answers what it was given, at once."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *_: self._answers.get(name))


@contextmanager
def assembled(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, lost: str, fault: FerrayError | None, stopped: bool
) -> Iterator[None]:
    """Two groups for a search, of which one may be lost, that may be stopped before its end."""
    dispatcher = Answers(greetings=[Hello(device="cpu", precision="float32")], fault=fault)
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)
    monkeypatch.setattr(clusters, "start_dispatcher", lambda *_, **__: dispatcher)
    monkeypatch.setattr(launch, "Groups", lambda *_, **__: SimpleNamespace(lost=lost, join=lambda timeout_s: None))
    plan: Any = SimpleNamespace(
        run=Run(folder / "first"), weights="none", max_failures=2, workers_per_trial=1, gpus_per_worker=None,
        concurrent_trials=2, num_trials=4,
    )  # fmt: skip
    stop = threading.Event()
    search = {"id": "0123abcd", "openings": 1}
    with launch.assemble(plan, search, folder, HERE, decides=False, heads_only=True, scratch=folder, stop=stop):
        yield
        if stopped:
            stop.set()


def test_a_search_that_came_to_its_end_is_none_the_worse_for_a_group_that_was_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with assembled(monkeypatch, tmp_path, lost="killed by signal 9", fault=None, stopped=False):
        pass


@pytest.mark.parametrize(
    "lost, fault, words",
    [
        ("killed by signal 9", None, "worker groups: killed by signal 9"),
        ("", StorageError("runs/first", "cannot be written: No space left", "Free space"), "No space left"),
    ],
)
def test_a_search_that_could_not_go_on_says_why_and_how_to(
    lost: str, fault: FerrayError | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        pytest.raises(SearchError, match=rf"(?s){words}.*--resume first"),
        assembled(monkeypatch, tmp_path, lost=lost, fault=fault, stopped=True),
    ):
        pass


@pytest.mark.parametrize("failures", [1, 2])
def test_ray_is_started_twice_before_it_is_given_up(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def init(**options: Any) -> None:
        calls.append(options["address"])
        if len(calls) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(clusters.ray_patches, "start_autoscaling_coordinator", lambda: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False}])
    if failures == 1:
        with connect(None) as there:
            assert there == HERE
    else:
        with pytest.raises(SearchError, match="timed out during startup"), connect(None):
            pass
    assert calls == ["local", "local"]


def test_who_asks_ray_before_or_after_a_cluster_starts_and_joins_none() -> None:
    code = (
        "from ferray.search.fleet.cluster import set_environment; set_environment(None); import ray\n"
        "try:\n    ray.get(ray.put(1))\nexcept ray.exceptions.RaySystemError:\n    print(ray.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "False\n", done.stderr[-2000:]
