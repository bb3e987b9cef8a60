"""How a cluster is divided into worker groups."""

from typing import Any

import pytest

from ferray.errors import SearchError
from ferray.search.fleet.allocation import MAX_CPU_GROUPS, Allocation, GroupRequest, allocate
from ferray.search.fleet.cluster import Cluster

LAPTOP = Cluster(cpus=8, gpus=0, nodes=1, joined=False)
SERVER = Cluster(cpus=32, gpus=4, nodes=1, joined=True)
THREE = Cluster(cpus=12, gpus=0, nodes=3, joined=True, per_node=((4, 0.0),) * 3)
UNEQUAL = Cluster(cpus=18, gpus=2, nodes=3, joined=True, per_node=((2, 0.0), (8, 1.0), (8, 1.0)))

FROM_ZERO = Cluster(
    cpus=0, gpus=0, nodes=1, joined=True, per_node=((0, 0.0),), can_grow=True, largest=((0, 0.0), *((4, 1.0),) * 4)
)
"""As in cluster.yaml: a head that trains nothing, and an autoscaler that may start four nodes."""


def allocation(cluster: Cluster, **request: Any) -> Allocation:
    return allocate(cluster, GroupRequest(**request))


def test_without_gpus_one_group_has_all_cpus() -> None:
    assert allocation(LAPTOP) == Allocation(num_groups=1, workers=1, cpus_per_worker=8, gpus_per_worker=0)
    assert allocation(LAPTOP, workers=2) == Allocation(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=0)


def test_heads_are_trained_by_one_group_per_core_unless_told_otherwise() -> None:
    assert allocation(LAPTOP, heads_only=True) == Allocation(8, workers=1, cpus_per_worker=1, gpus_per_worker=0)
    assert allocation(LAPTOP, heads_only=True, workers=3).num_groups == 2
    of_three = allocation(LAPTOP, heads_only=True, num_trials=3)
    assert of_three == Allocation(3, workers=1, cpus_per_worker=2, gpus_per_worker=0)
    assert allocation(LAPTOP, heads_only=True, num_groups=1).num_groups == 1
    assert allocation(SERVER, heads_only=True, gpus_per_worker=0).num_groups == MAX_CPU_GROUPS
    assert allocation(SERVER, heads_only=True).num_groups == 4
    servers = Cluster(cpus=48, gpus=0, nodes=3, joined=True, per_node=((16, 0.0),) * 3)
    assert allocation(servers, heads_only=True).num_groups == 3 * MAX_CPU_GROUPS, "of each node"


def test_with_gpus_there_are_as_many_groups_as_fit() -> None:
    assert allocation(SERVER) == Allocation(num_groups=4, workers=1, cpus_per_worker=8, gpus_per_worker=1)
    assert allocation(SERVER, workers=2).num_groups == 2
    assert allocation(SERVER, gpus_per_worker=0.5).num_groups == 8
    assert allocation(SERVER, gpus_per_worker=0).num_groups == 1


def test_no_worker_is_larger_than_a_node() -> None:
    assert allocation(THREE) == Allocation(num_groups=3, workers=1, cpus_per_worker=4, gpus_per_worker=0)
    assert allocation(THREE, workers=2) == Allocation(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=0)
    assert allocation(THREE, num_groups=1).cpus_per_worker == 4
    assert allocation(THREE, num_groups=4).cpus_per_worker == 2
    assert allocation(UNEQUAL) == Allocation(num_groups=2, workers=1, cpus_per_worker=8, gpus_per_worker=1)
    halves = allocation(UNEQUAL, gpus_per_worker=0.5)
    assert halves == Allocation(num_groups=4, workers=1, cpus_per_worker=4, gpus_per_worker=0.5)


@pytest.mark.parametrize(
    "cluster, request_, words",
    [
        (UNEQUAL, {"gpus_per_worker": 2.0}, "each must be on one node, but with 1 CPU and 2 GPUs each, only 0 fit"),
        (LAPTOP, {"gpus_per_worker": 1.0}, "need 1 GPUs, but this machine has 0"),
        (SERVER, {"workers": 5, "gpus_per_worker": 1.0, "num_groups": 3}, "need 5 GPUs, but the cluster has 4"),
        (FROM_ZERO, {"gpus_per_worker": 2.0}, "each must be on one node, but with 1 CPU and 2 GPUs each, only 0 fit"),
        (FROM_ZERO, {"workers": 5}, "need 5 GPUs, but the cluster can grow only to 4"),
        (LAPTOP, {"workers": 3, "num_groups": 3}, "need 9 CPUs, but this machine has 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_missing_resource(
    cluster: Cluster, request_: dict[str, Any], words: str
) -> None:
    with pytest.raises(SearchError, match=words):
        allocation(cluster, **request_)


def test_a_cluster_without_a_node_is_divided_as_it_is_when_it_has_grown() -> None:
    assert allocation(FROM_ZERO) == Allocation(num_groups=4, workers=1, cpus_per_worker=4, gpus_per_worker=1)
    assert allocation(FROM_ZERO, num_trials=2).num_groups == 2
    assert allocation(FROM_ZERO, num_groups=1).cpus_per_worker == 4


def test_more_groups_than_have_room_wait_for_nodes_on_a_cluster_that_was_joined() -> None:
    assert allocation(THREE, num_groups=20) == Allocation(20, workers=1, cpus_per_worker=1, gpus_per_worker=0)
    assert allocation(SERVER, num_groups=6).gpus_per_worker == 1
    with pytest.raises(SearchError, match="need 20 CPUs, but this machine has 8"):
        allocation(LAPTOP, num_groups=20)
