"""What a search waits for is said, and a GPU that cannot be used is refused; no cluster is started."""

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from ferray.errors import SearchError
from ferray.search.fleet import launch
from ferray.search.fleet.cluster import Share
from ferray.search.fleet.launch import Team, _greet
from ferray.search.fleet.worker import _check_device

SHARE = Share(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=1.0)


class Answer:
    """What Ray knows, while others hold the cluster and after they have left."""

    def __init__(self, turns: int, free: dict[str, float]) -> None:
        self.turns = turns
        self.free = free

    def get(self, greetings: str, timeout: float) -> list[str]:
        self.turns -= 1
        if self.turns >= 0:
            raise ray.exceptions.GetTimeoutError(f"nobody greeted within {timeout} s")
        return [greetings]


class Method:
    """A method of the dispatcher."""

    def remote(self, num_groups: int) -> str:
        return f"{num_groups} up"


class Desk:
    """The dispatcher, as far as it is asked who is up."""

    greetings = Method()


def greet(
    monkeypatch: pytest.MonkeyPatch, *, free: dict[str, float], turns: int, pending_s: float, ours: str = "PENDING"
) -> Any:
    answer = Answer(turns, free)
    monkeypatch.setattr(ray, "get", answer.get)
    monkeypatch.setattr(ray, "available_resources", lambda: answer.free)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: {"ours": {"state": ours}})
    monkeypatch.setattr(launch, "PENDING_S", pending_s)
    return _greet(Team(Desk(), "dispatcher", SHARE), 1, threading.Event())


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
    free: dict[str, float], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert greet(monkeypatch, free=free, turns=3, pending_s=-1) == ["1 up"]
    assert caplog.messages == [f"no worker group is up yet: {words}"] * 3


def test_a_group_that_has_its_place_is_not_said_to_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    greet(monkeypatch, free={}, turns=1, pending_s=-1, ours="CREATED")
    assert caplog.messages == ["no worker group is up yet: they are starting"]


def test_a_search_whose_groups_come_up_in_time_says_nothing_of_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert greet(monkeypatch, free={}, turns=3, pending_s=600) == ["1 up"]
    assert caplog.messages == []


@pytest.mark.parametrize("given, seen, refused", [(["0"], False, True), (["0"], True, False), ([], False, False)])
def test_a_worker_with_a_gpu_that_its_torch_does_not_see_is_refused_with_the_way_out(
    given: list[str], seen: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": given})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    expected = pytest.raises(SearchError, match=r"(?s)torch sees none.*--gpus-per-worker 0")
    with expected if refused else contextlib.nullcontext():
        _check_device()
