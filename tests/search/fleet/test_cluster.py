"""How Ray is started and configured; no cluster is started: Ray's answers are set."""

import os
import subprocess
import sys
import threading

import pytest

from ferray.search.fleet import cluster, ray_patches
from ferray.search.fleet.cluster import set_environment


def test_who_asks_ray_before_or_after_a_cluster_starts_and_joins_none() -> None:
    code = (
        "from ferray.search.fleet.cluster import set_environment; set_environment(None); import ray\n"
        "try:\n    ray.get(ray.put(1))\nexcept ray.exceptions.RaySystemError:\n    print(ray.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "False\n", done.stderr[-2000:]


def test_a_cluster_of_the_searchs_own_has_a_token_and_listens_on_loopback_whatever_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "known", "RAY_AIR_NEW_OUTPUT": "1"}
    monkeypatch.setattr(os, "environ", dict(user))
    set_environment(None)
    assert os.environ["RAY_AUTH_MODE"] == "token", "Ray's own default since 2.59 only"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert os.environ["RAY_AIR_NEW_OUTPUT"] == "1", "the user's"

    monkeypatch.setattr(os, "environ", dict(user))
    set_environment("auto")
    assert user.items() <= os.environ.items(), "a cluster that is joined has its own token"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


def test_a_release_of_ray_that_names_no_draining_nodes_ends_neither_the_search_nor_its_thread_silently(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    was_asked = threading.Event()

    def fail() -> list[str]:
        was_asked.set()
        raise AttributeError("module 'ray._private.state' has no attribute 'state'")

    monkeypatch.setattr(cluster, "DRAIN_POLL_S", 0.0)
    monkeypatch.setattr(ray_patches, "draining_nodes", fail)
    with cluster.watch_draining_nodes(None):
        assert was_asked.wait(60)
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "nodes that are about to leave the cluster are not noticed"
    ]


@pytest.mark.parametrize("allowed, options", [({0, 1}, {}), ({1}, {"num_cpus": 1})])
def test_ray_gets_the_cores_that_the_process_may_use(
    allowed: set[int], options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert cluster._allowed_cores() == options
