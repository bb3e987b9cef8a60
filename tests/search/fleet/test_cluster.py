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
    user = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "known", "RAY_AIR_NEW_OUTPUT": "1", "RAY_USE_TLS": "1"}
    monkeypatch.setattr(os, "environ", dict(user))
    set_environment(None)
    assert os.environ["RAY_AUTH_MODE"] == "token", "Ray's own default since 2.59 only"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert os.environ["RAY_AIR_NEW_OUTPUT"] == "1", "the user's"
    assert "RAY_USE_TLS" not in os.environ, "it has no certificates"

    monkeypatch.setattr(os, "environ", dict(user))
    set_environment("auto")
    assert user.items() <= os.environ.items(), "a cluster that is joined has its own token"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


def test_variables_with_which_no_search_could_run_have_no_effect_and_are_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = {
        "TUNE_RESULT_DIR": "/results",
        "TUNE_RESULT_BUFFER_LENGTH": "10",
        "RAY_AIR_LOCAL_CACHE_DIR": "/results",
        "RAY_TRAIN_V2_ENABLED": "0",
        "RAY_LOG_TO_STDERR": "1",
        "GLOO_SOCKET_IFNAME": "eth9",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}",
    }
    monkeypatch.setattr(os, "environ", dict(user))
    with cluster.ray_environment(None):
        found = {name: os.environ.get(name) for name in user}
        assert found == {**dict.fromkeys(user), "RAY_TRAIN_V2_ENABLED": "1"}
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert os.environ == user
    with cluster.ray_environment("auto"):
        assert os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] == "{}", "of the job that this is"
        assert os.environ["RAY_TRAIN_V2_ENABLED"] == "1"
        assert "TUNE_RESULT_DIR" not in os.environ
    assert os.environ == user


@pytest.mark.parametrize(
    "usual", ["/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T", "/\u8868\u60c5\u8868\u60c5\u8868\u60c5"]
)
def test_a_temporary_folder_with_too_long_a_name_gives_way_to_a_shorter_one(usual: str) -> None:
    assert ray_patches.short_parent(usual) == "/tmp"
    assert ray_patches.short_parent("/tmp") == "/tmp"
    assert ray_patches.short_parent("/scratch") == "/scratch"
    assert ray_patches.temp_dir_option(f"{ray_patches.short_parent(usual)}/ferray-12345678")


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
