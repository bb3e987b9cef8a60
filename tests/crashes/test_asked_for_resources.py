"""What a search waits for is named, and a GPU that cannot be used is refused; no cluster is started."""

import threading
from typing import Any

import pytest
import ray
from fixtures.pretended import PretendedGpu

from ferray.errors import SearchError
from ferray.search.fleet import launch
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.launch import WorkerGroups, _wait_for_groups
from ferray.train.device import device_of_worker

ALLOCATION = Allocation(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=1.0)


class FakeRay:
    """Ray whose calls time out for some turns, while others hold the cluster."""

    def __init__(self, num_timeouts: int) -> None:
        self.num_timeouts = num_timeouts

    def get(self, answer: str, timeout: float) -> list[str]:
        self.num_timeouts -= 1
        if self.num_timeouts >= 0:
            raise ray.exceptions.GetTimeoutError(f"no answer within {timeout} s")
        return [answer]


class FakeMethod:
    """A method of the dispatcher."""

    def remote(self, num_groups: int) -> str:
        return f"{num_groups} ready"


class FakeDispatcher:
    """The dispatcher, as far as it is asked which groups are ready."""

    wait_for_groups = FakeMethod()


def wait(
    monkeypatch: pytest.MonkeyPatch,
    *,
    free: dict[str, float],
    num_timeouts: int,
    message_s: float,
    own: str = "PENDING",
) -> Any:
    """Wait for a group, the first placement group of which is in a state, while some resources are free."""
    monkeypatch.setattr(ray, "get", FakeRay(num_timeouts).get)
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: {"own": {"state": own}})
    monkeypatch.setattr(launch, "REPEAT_S", message_s)
    monkeypatch.setattr(launch, "QUIET_S", message_s)
    return _wait_for_groups(WorkerGroups(FakeDispatcher(), "dispatcher", ALLOCATION), 1, threading.Event())


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
    free: dict[str, float], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(monkeypatch, free=free, num_timeouts=3, message_s=-1) == ["1 ready"]
    assert capsys.readouterr().err.splitlines() == [f"no worker group is ready yet: {words} ..."] * 3


def test_a_group_that_has_its_resources_is_not_reported_as_waiting_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wait(monkeypatch, free={}, num_timeouts=1, message_s=-1, own="CREATED")
    assert capsys.readouterr().err == "no worker group is ready yet: they are starting ...\n"


def test_a_search_whose_groups_are_ready_in_time_logs_nothing_of_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(monkeypatch, free={}, num_timeouts=3, message_s=600) == ["1 ready"]
    assert capsys.readouterr().err == ""


def test_a_worker_with_a_gpu_that_its_torch_does_not_see_is_refused_with_the_way_out() -> None:
    with PretendedGpu(count=0), pytest.raises(SearchError, match=r"(?s)torch sees none.*--gpus-per-worker 0"):
        device_of_worker(["0"])
