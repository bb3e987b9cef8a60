"""The runs of Ray Train that worker groups are, and the hosts that they run in; none is started."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError
from ray.train import ControllerError
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from ferray.search.fleet import groups
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.groups import GroupSupervisor, Hosts
from ferray.search.fleet.host import GroupRun, describe_death, make_trainer
from ferray.search.fleet.messages import GroupConfig

CONFIG = GroupConfig(
    run_dir=Path("runs/some"), search_id="some", data_dir=None, fingerprint="", weights="none", cache=None,
    cpus_per_worker=1, has_scheduler=False,
)  # fmt: skip


def group_run(scratch: Path, *, workers: int, is_pinned: bool) -> GroupRun:
    return GroupRun(
        group="group-0",
        attempt=1,
        config=CONFIG,
        dispatcher=None,
        allocation=Allocation(num_groups=1, workers=workers, cpus_per_worker=1, gpus_per_worker=0.0),
        placement_group="the placement group",
        is_pinned=is_pinned,
        scratch=scratch,
        environment={},
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's, of its own settings
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("is_pinned", [False, True])
def test_a_group_has_no_actor_for_data_sets_nor_for_its_placement_group(
    is_pinned: bool, workers: int, tmp_path: Path
) -> None:
    trainer = make_trainer(group_run(tmp_path, workers=workers, is_pinned=is_pinned))
    kinds = {type(callback) for callback in trainer._create_default_callbacks()}
    assert not kinds & {DatasetsCallback, PlacementGroupCleanerCallback}
    assert len(kinds) > 2, "those that a group needs"
    failures = trainer.run_config.failure_config
    assert (failures.max_failures == 0) == (failures.controller_failure_limit == 0) == is_pinned


class FakeActorClass:
    """Makes a new handle with each call, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def options(self, **options: Any) -> "FakeActorClass":
        self.asked.append(options)
        return self

    def remote(self) -> SimpleNamespace:
        return SimpleNamespace(number=len(self.asked))


def test_groups_with_the_same_first_node_share_a_host_until_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    made, killed = FakeActorClass(), list[Any]()
    monkeypatch.setattr(groups.ray, "remote", lambda _: made)
    monkeypatch.setattr(ray, "kill", killed.append)
    hosts = Hosts()
    first = hosts.on("a" * 56)
    assert hosts.on("a" * 56) is first
    other = hosts.on("b" * 56)
    assert other is not first
    hosts.forget("a" * 56, first)
    successor = hosts.on("a" * 56)
    assert successor is not first
    hosts.forget("a" * 56, first)  # another group of the dead host notices later
    assert hosts.on("a" * 56) is successor
    assert [one["scheduling_strategy"].node_id for one in made.asked] == ["a" * 56, "b" * 56, "a" * 56]
    hosts.end()
    assert killed == [other, successor]


class FakeDispatcher:
    """Lets a group start twice, and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.restarts = iter([True, False])

    def __getattr__(self, name: str) -> SimpleNamespace:
        def remote(*arguments: Any) -> bool:
            self.calls.append((name, *arguments))
            return next(self.restarts) if name == "should_restart" else True

        return SimpleNamespace(remote=remote)


def test_where_a_host_has_died_its_trials_are_free_its_resources_returned_and_the_group_starts_on_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reserved, removed, used = list[str](), list[str](), list[int]()

    def reserve(bundles: list[dict[str, float]], **_: Any) -> str:
        assert bundles == [{"CPU": 1.0}]
        reserved.append(f"placement group {len(reserved)}")
        return reserved[-1]

    def run_in(host: SimpleNamespace, run: GroupRun) -> str:
        used.append(host.number)
        assert run.placement_group == reserved[-1]
        if host.number == 1:
            raise ray.exceptions.ActorDiedError
        return ""

    made = FakeActorClass()
    monkeypatch.setattr(ray, "remote", lambda _: made)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "kill", lambda _: None)
    monkeypatch.setattr(ray.util, "placement_group", reserve)
    monkeypatch.setattr(ray.util, "remove_placement_group", removed.append)
    monkeypatch.setattr(FakeActorClass, "remote", lambda self: with_run(self, run_in))
    dispatcher, allocation = FakeDispatcher(), Allocation(1, 1, cpus_per_worker=1, gpus_per_worker=0.0)
    supervisor = GroupSupervisor(CONFIG, dispatcher, places=None, allocation=allocation, scratch=tmp_path)
    supervisor.join(10.0)
    assert used == [1, 2]
    assert removed == reserved == ["placement group 0", "placement group 1"]
    assert [name for name, *_ in dispatcher.calls] == [
        "wait_for_start", "group_died", "should_restart", "wait_for_start", "should_restart", "group_ended",
    ]  # fmt: skip


def with_run(made: FakeActorClass, run_in: Any) -> SimpleNamespace:
    """A handle of a host that runs groups so."""
    host = SimpleNamespace(number=len(made.asked))
    host.run = SimpleNamespace(remote=lambda run: run_in(host, run))
    return host


def test_a_death_is_described_by_its_cause_in_one_line() -> None:
    error = RuntimeError("The actor died unexpectedly.\n  class_name: Worker\n  Worker exit type: SYSTEM_ERROR\n")
    assert describe_death(error) == "RuntimeError: Worker exit type: SYSTEM_ERROR"
    task = RayTaskError("ray::worker", "ray::worker()\n  File ...\nRuntimeError: no eth9", RuntimeError("no eth9"))
    assert describe_death(ControllerError(task)) == "RuntimeError: no eth9"
    assert describe_death(ControllerError(ValueError("no room"))) == "ValueError: no room"
    assert describe_death(ValueError("first\nsecond")) == "ValueError: first"
    assert describe_death(ValueError()) == "ValueError: "
