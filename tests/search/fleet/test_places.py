"""How groups get places while nodes come and go; no cluster is started: Ray's answers are set."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from ferray.errors import FerrayError, SearchError
from ferray.search.fleet import places, ray_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.places import Places

ALLOCATION = Allocation(num_groups=2, workers=1, cpus_per_worker=2, gpus_per_worker=0.0)
CONFIG = GroupConfig(
    run_dir=Path("runs/first"), search_id="0123abcd", data_dir=None, fingerprint="", weights="none", cache=None,
    cpus_per_worker=2, has_scheduler=False,
)  # fmt: skip


@dataclass
class FakeCluster:
    """Nodes with two CPUs each, what they answer, and the placement groups that wait."""

    nodes: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """Nodes whose CPUs somebody has."""
    faults: dict[str, str] = field(default_factory=dict)
    demand: list[str] = field(default_factory=list)
    """The state of each placement group."""
    num_asked: int = 0
    started: set[str] = field(default_factory=set)
    num_trials: int | None = None
    errors: list[FerrayError] = field(default_factory=list)
    now: float = 0.0

    def list_nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": name,
                "Alive": True,
                "Resources": {"CPU": 2.0},
                "NodeManagerHostname": name,
                "NodeManagerAddress": "::",
            }
            for name in self.nodes
        ]

    def free(self) -> dict[str, dict[str, float]]:
        return {name: {} if name in self.held else {"CPU": 2.0} for name in self.nodes}

    def dispatcher(self) -> Any:
        progress = SimpleNamespace(remote=lambda: (self.started, self.num_trials))
        return SimpleNamespace(progress=progress, abort=SimpleNamespace(remote=self.errors.append))

    def ask(self, group: Any, **_: Any) -> list[Any]:
        self.demand.append("PENDING")
        self.num_asked += 1
        return [len(self.demand) - 1]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(ray, "nodes", fake.list_nodes)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "wait", lambda answers, timeout: (answers, []))
    monkeypatch.setattr(ray.util, "placement_group", fake.ask)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda group: {"state": fake.demand[group[0]]})
    monkeypatch.setattr(ray.util, "remove_placement_group", lambda group: fake.demand.__setitem__(group[0], "REMOVED"))
    monkeypatch.setattr(ray_patches, "free_resources", fake.free)
    monkeypatch.setattr(ray_patches, "draining_nodes", list)
    monkeypatch.setattr(ray_patches, "launching_nodes", list)
    monkeypatch.setattr(places.time, "monotonic", lambda: fake.now)

    def ask(node: Any, config: GroupConfig, *, known: str) -> Any:
        return places._Probe(node.name, fake.now, answer=fake.faults.get(node.id, ""), fault=known)

    monkeypatch.setattr(places, "_ask", ask)
    return fake


def turn(fake: FakeCluster, found: Places, *, times: int = 2) -> None:
    """A node is asked in one turn, and its answer is read in the next."""
    for _ in range(times):
        fake.now += 1.0
        found._turn(fake.dispatcher())


def wish(found: Places, group: str) -> Any:
    """A group waits for a place."""
    found._wishes[group] = one = places._Wish()
    return one


def waiting_groups(fake: FakeCluster) -> int:
    return fake.demand.count("PENDING")


def test_a_group_gets_a_node_that_joins_and_one_that_does_not_see_the_folder_is_left_out_and_named(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    found = Places(CONFIG, ALLOCATION, can_grow=False)
    first = wish(found, "group-0")
    cluster.nodes, cluster.faults = ["h2"], {"h2": "/shared/runs is not the folder of this search"}
    turn(cluster, found)
    assert not first.place
    assert "node h2 (::) is left out: /shared/runs is not the folder of this search" in found.describe()
    cluster.nodes.append("h3")
    turn(cluster, found)
    assert first.place == ("h3",)
    assert first.given.is_set()
    assert len([line for line in caplog.messages if "left out" in line]) == 1, "said once"


def test_a_node_that_is_left_out_is_asked_again_and_used_when_it_sees_the_folder(cluster: FakeCluster) -> None:
    found = Places(CONFIG, ALLOCATION, can_grow=False)
    first = wish(found, "group-0")
    cluster.nodes, cluster.faults = ["h2"], {"h2": "is not there"}
    turn(cluster, found)
    cluster.faults.clear()
    cluster.now += places.PROBE_AGAIN_S
    turn(cluster, found, times=3)
    assert first.place == ("h2",)


def test_a_search_is_refused_before_it_starts_where_a_node_does_not_see_the_folder(cluster: FakeCluster) -> None:
    cluster.nodes, cluster.faults = ["h2", "h3"], {"h3": "has a disk of its own. Give a folder that all nodes share"}
    with pytest.raises(SearchError, match=r"h3 \(::\): has a disk of its own. Give a folder"):
        Places(CONFIG, ALLOCATION, can_grow=False).check_nodes(threading.Event())
    cluster.faults.clear()
    Places(CONFIG, ALLOCATION, can_grow=False).check_nodes(threading.Event())


def test_the_autoscaler_is_asked_for_every_group_that_waits_and_never_holds_what_a_group_is_to_have(
    cluster: FakeCluster,
) -> None:
    found = Places(CONFIG, ALLOCATION, can_grow=True)
    first, second = wish(found, "group-0"), wish(found, "group-1")
    turn(cluster, found)
    assert waiting_groups(cluster) == 2
    assert "no node has 2 CPUs; the autoscaler was asked for one" in found.describe()

    cluster.nodes, cluster.held, cluster.demand[0] = ["n1"], {"n1"}, "CREATED"  # the node came, and Ray gave it away
    turn(cluster, found)
    assert cluster.demand == ["REMOVED", "REMOVED"], "the other one would take it next"
    cluster.held.clear()
    turn(cluster, found)
    assert (first.place, second.place) == (("n1",), ())
    turn(cluster, found, times=20)
    assert waiting_groups(cluster) == 0, "while a group is starting"

    cluster.held, cluster.started = {"n1"}, {"group-0"}
    turn(cluster, found, times=6)
    assert waiting_groups(cluster) == 1, "for the other group"
    found.close()
    assert waiting_groups(cluster) == 0


def test_no_node_is_asked_for_that_no_trial_needs(cluster: FakeCluster) -> None:
    cluster.num_trials = 1
    found = Places(CONFIG, ALLOCATION, can_grow=True)
    for number in range(4):
        wish(found, f"group-{number}")
    turn(cluster, found)
    assert waiting_groups(cluster) == 1
    cluster.num_trials = 0
    turn(cluster, found)
    assert waiting_groups(cluster) == 0


def test_two_groups_do_not_start_at_once_on_one_node(cluster: FakeCluster) -> None:
    found = Places(CONFIG, Allocation(2, workers=1, cpus_per_worker=1, gpus_per_worker=0.0), can_grow=False)
    first, second = wish(found, "group-0"), wish(found, "group-1")
    cluster.nodes = ["h2"]
    turn(cluster, found)
    assert (first.place, second.place) == (("h2",), ())
    cluster.started = {"group-0"}
    turn(cluster, found)
    assert second.place == ("h2",)


def test_a_group_whose_node_is_gone_is_known_to_have_lost_it(cluster: FakeCluster) -> None:
    found = Places(CONFIG, ALLOCATION, can_grow=False)
    wish(found, "group-0")
    cluster.nodes = ["h2"]
    turn(cluster, found)
    assert found.give_back("group-0"), "its node is there"
    wish(found, "group-0")
    turn(cluster, found)
    cluster.nodes.clear()
    turn(cluster, found)
    assert not found.give_back("group-0")


def test_without_a_node_and_an_autoscaler_the_search_ends_after_a_clear_time(cluster: FakeCluster) -> None:
    found = Places(CONFIG, ALLOCATION, can_grow=False)
    wish(found, "group-0")
    turn(cluster, found)
    cluster.now += places.NO_NODE_LIMIT_S - 3
    turn(cluster, found, times=1)
    assert not cluster.errors
    turn(cluster, found, times=3)
    assert [error.args[1].partition(":")[0] for error in cluster.errors] == ["no node has had 2 CPUs for 10 min"]
