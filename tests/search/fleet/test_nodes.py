"""Where one more worker group fits, and what is missing where it does not: plain values in, decisions out."""

from typing import Any

import pytest

from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.nodes import ClusterNode, FleetState, describe_missing, find_place

ONE = Allocation(num_groups=4, workers=1, cpus_per_worker=2, gpus_per_worker=0)
PAIR = Allocation(num_groups=2, workers=2, cpus_per_worker=4, gpus_per_worker=1)


def node(name: str, *, cpus: int = 4, gpus: float = 0.0, free: float | None = None) -> ClusterNode:
    return ClusterNode(
        id=name, name=name, cpus=cpus, gpus=gpus, free_cpus=cpus if free is None else free, free_gpus=gpus
    )  # fmt: skip


def test_a_group_gets_the_node_with_most_room_and_workers_of_one_group_as_few_nodes_as_possible() -> None:
    assert find_place([node("a", free=2), node("b", free=4)], ONE, busy=()) == ("b",)
    assert find_place([node("a", cpus=4, gpus=1), node("b", cpus=8, gpus=2)], PAIR, busy=()) == ("b", "b")
    assert find_place([node("a", gpus=1), node("b", gpus=1)], PAIR, busy=()) == ("a", "b")


def test_no_group_gets_what_others_hold_or_a_node_where_one_is_starting_or_half_of_its_workers() -> None:
    assert find_place([node("a", free=1)], ONE, busy=()) == ()
    assert find_place([node("a"), node("b")], ONE, busy={"a"}) == ("b",)
    assert find_place([node("a")], ONE, busy={"a"}) == ()
    assert find_place([node("a", gpus=1)], PAIR, busy=()) == ()
    assert find_place([], ONE, busy=()) == ()


@pytest.mark.parametrize(
    "state, allocation, words",
    [
        ({"can_grow": True}, ONE, "no node has 2 CPUs; the autoscaler was asked for one"),
        ({"can_grow": True}, PAIR, "no node has 2 x (4 CPUs and 1 GPU); the autoscaler was asked for one"),
        ({}, ONE, "no node has 2 CPUs, and no autoscaler is running that could start one"),
        ({"nodes": (node("a", free=1),)}, ONE, "a worker group needs 2 CPUs, which others hold"),
        ({"starting": {"group-0": "h2"}}, ONE, "group-0 is starting on h2"),
        (
            {"left_out": {"h3": "/shared/runs is not the folder of this search"}, "unchecked": ("h4",)},
            ONE,
            "no node has 2 CPUs, and no autoscaler is running that could start one; node h4 has joined and is being"
            " checked; node h3 is left out: /shared/runs is not the folder of this search",
        ),
        (
            {"can_grow": True, "launching": ("the autoscaler starts 2 x gpu_worker",)},
            ONE,
            "no node has 2 CPUs; the autoscaler was asked for one; the autoscaler starts 2 x gpu_worker",
        ),
        ({"num_waiting": 0}, ONE, "the worker groups wait for the next trial"),
        ({"nodes": (node("a"),)}, ONE, "a worker group is about to start"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(state: dict[str, Any], allocation: Allocation, words: str) -> None:
    assert describe_missing(FleetState(**state), allocation) == words
