"""What a search waits for is named, and a GPU that cannot be used is refused; no cluster is started."""

import re
import threading

import pytest
import ray
from fixtures.output import NotedOutput
from fixtures.pretended import PretendedGpu

from ferray import waiting
from ferray.errors import SearchError
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.launch import WorkerGroups, _describe_wait, _wait_for_groups
from ferray.train.device import device_of_worker

ALLOCATION = Allocation(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=1.0)


class FakeRay:
    """Ray that answers when so many lines were printed, and before that times out: others hold the cluster."""

    def __init__(self, output: NotedOutput) -> None:
        self.output = output

    def get(self, answer: str, timeout: float) -> list[str]:
        if not self.output.has_lines.wait(60):
            raise ray.exceptions.GetTimeoutError(f"no answer within {timeout} s")
        return [answer]


class FakeMethod:
    """A method of the dispatcher."""

    def remote(self, num_groups: int) -> str:
        return f"{num_groups} ready"


class FakeDispatcher:
    """The dispatcher, as far as it is asked which groups are ready."""

    wait_for_groups = FakeMethod()


def wait(monkeypatch: pytest.MonkeyPatch, *, free: dict[str, float], num_lines: int, own: str = "PENDING") -> list[str]:
    """The lines while a group is waited for, whose placement group is in a state, with some resources free."""
    output = NotedOutput(num_lines)
    monkeypatch.setattr("sys.stderr", output)
    monkeypatch.setattr(ray, "get", FakeRay(output).get)
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: {"own": {"state": own}})
    monkeypatch.setattr(waiting, "QUIET_S", 0.001 if num_lines else 600)
    monkeypatch.setattr(waiting, "REPEAT_S", 0.002)
    groups = WorkerGroups(FakeDispatcher(), "dispatcher", ALLOCATION)
    assert _wait_for_groups(groups, 1, threading.Event()) == ["1 ready"]  # type: ignore[comparison-overlap]
    return output.text.splitlines()


@pytest.mark.parametrize(
    "free, words",
    [
        ({"CPU": 8, "GPU": 1}, "one needs 2 GPU, of which 1 free"),
        ({"CPU": 3, "GPU": 2}, "one needs 8 CPU, of which 3 free"),
        ({}, "one needs 8 CPU, of which 0 free and 2 GPU, of which 0 free"),
        ({"CPU": 8, "GPU": 2}, "they are starting"),
    ],
)
def test_what_others_use_is_waited_for_and_named_again_and_again(
    free: dict[str, float], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = wait(monkeypatch, free=free, num_lines=3)
    assert first == f"no worker group is ready yet: {words} ..."
    assert len(others) >= 2
    assert all(re.fullmatch(re.escape(first) + r" \(\d+ s so far\)", line) for line in others)


def test_a_group_that_has_its_resources_is_not_reported_as_waiting_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = wait(monkeypatch, free={}, num_lines=1, own="CREATED")
    assert lines[0] == "no worker group is ready yet: they are starting ..."


def test_a_search_whose_groups_are_ready_in_time_logs_nothing_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, free={}, num_lines=0) == []


def test_a_cluster_that_is_gone_is_no_error_of_the_line_that_says_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise ray.exceptions.RaySystemError("gone")

    monkeypatch.setattr(ray.util, "placement_group_table", fail)
    assert _describe_wait(ALLOCATION) == "no worker group is ready yet: they are starting"


def test_a_worker_with_a_gpu_that_its_torch_does_not_see_is_refused_with_the_way_out() -> None:
    with PretendedGpu(count=0), pytest.raises(SearchError, match=r"(?s)torch sees none.*--gpus-per-worker 0"):
        device_of_worker(["0"])
