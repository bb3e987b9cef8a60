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
from ferray.search.fleet.launch import WorkerGroups, _wait_for_first_group
from ferray.search.fleet.nodes import ClusterNode, FleetState, describe_missing
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


class HeldPlaces:
    """Places on a cluster, of which others hold some."""

    def __init__(self, free_cpus: float) -> None:
        node = ClusterNode(id="h1", name="h1", cpus=8, gpus=2, free_cpus=free_cpus, free_gpus=2)
        self.state = FleetState(nodes=(node,))

    def describe(self) -> str:
        return describe_missing(self.state, ALLOCATION)


def wait(monkeypatch: pytest.MonkeyPatch, *, places: HeldPlaces | None, num_lines: int) -> list[str]:
    """The lines while a group is waited for."""
    output = NotedOutput(num_lines)
    monkeypatch.setattr("sys.stderr", output)
    monkeypatch.setattr(ray, "get", FakeRay(output).get)
    monkeypatch.setattr(waiting, "QUIET_S", 0.001 if num_lines else 600)
    monkeypatch.setattr(waiting, "REPEAT_S", 0.002)
    groups = WorkerGroups(FakeDispatcher(), "dispatcher", ALLOCATION, places)  # type: ignore[arg-type]
    assert _wait_for_first_group(groups, threading.Event()) == ["1 ready"]  # type: ignore[comparison-overlap]
    return output.text.splitlines()


@pytest.mark.parametrize(
    "places, words",
    [
        (HeldPlaces(3), "a worker group needs 2 x (4 CPUs and 1 GPU), which others hold"),
        (HeldPlaces(8), "a worker group is about to start"),
        (None, "the worker groups are starting"),
    ],
)
def test_what_others_use_is_waited_for_and_named_again_and_again(
    places: HeldPlaces | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = wait(monkeypatch, places=places, num_lines=3)
    assert first == f"no worker group is ready yet: {words} ..."
    assert len(others) >= 2
    assert all(re.fullmatch(re.escape(first) + r" \(\d+ s so far\)", line) for line in others)


def test_a_search_whose_groups_are_ready_in_time_logs_nothing_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, places=None, num_lines=0) == []


def test_a_worker_with_a_gpu_that_its_torch_does_not_see_is_refused_with_the_way_out() -> None:
    with PretendedGpu(count=0), pytest.raises(SearchError, match=r"(?s)torch sees none.*--gpus-per-worker 0"):
        device_of_worker(["0"])
