"""Promises of cluster.yaml, checked by Ray's own code and without a network."""

import copy
import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "cluster.yaml"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"asked the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cluster() -> dict[str, Any]:
    value = yaml.safe_load(FILE.read_text())
    assert isinstance(value, dict)
    return value


@pytest.fixture
def head(cluster: dict[str, Any]) -> dict[str, Any]:
    return dict(cluster["available_node_types"][cluster["head_node_type"]])


@pytest.fixture
def workers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    types = cluster["available_node_types"]
    return [types[name] for name in types if name != cluster["head_node_type"]]


def validate(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any], no_network: None) -> None:
    prepared = validate(cluster)

    assert prepared["setup_commands"] == cluster["setup_commands"]  # nothing of Ray's own was put in their place


def test_ray_would_not_accept_any_file(cluster: dict[str, Any], no_network: None) -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate({**cluster, "idle_timeout": 5})


def test_the_head_trains_nothing(head: dict[str, Any]) -> None:
    assert head["resources"] == {"CPU": 0, "GPU": 0}


def test_gpu_workers_come_from_zero_on_spot_machines(cluster: dict[str, Any], workers: list[dict[str, Any]]) -> None:
    assert workers
    for worker in workers:
        assert worker["min_workers"] == 0
        assert worker["max_workers"] <= cluster["max_workers"]
        assert worker["resources"]["GPU"] >= 1
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert cluster["idle_timeout_minutes"] <= 15
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_mounted_is_what_an_installation_needs_and_nothing_large_which_ray_would_read_at_every_start(
    cluster: dict[str, Any],
) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "LICENSE", "constraints.txt"}
    needed.add(project["project"]["readme"])
    mounted = {to: REPOSITORY / source for to, source in cluster["file_mounts"].items() if to != "~/.ray/auth_token"}

    assert mounted == {f"~/ferray/{name}": REPOSITORY / name for name in needed}
    files = [file for source in mounted.values() for file in [source, *source.rglob("*")] if file.is_file()]
    assert sum(file.stat().st_size for file in files if file.suffix != ".pyc") < 5_000_000


def test_every_machine_runs_this_ferray_with_its_exact_versions(cluster: dict[str, Any]) -> None:
    (install,) = (command for command in cluster["setup_commands"] if "pip install" in command)
    assert "-c ~/ferray/constraints.txt" in install
    assert '-e "$HOME/ferray[cluster]"' in install
    pins = (REPOSITORY / "constraints.txt").read_text()
    assert re.search(r"^boto3==", pins, re.MULTILINE)


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_is_started_with_its_token(cluster: dict[str, Any], key: str) -> None:
    (start,) = (command for command in cluster[key] if "ray start" in command)

    assert start.index("export RAY_AUTH_MODE=token") < start.index("ray start")
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in cluster["setup_commands"]


def test_the_dashboard_listens_on_loopback_only(cluster: dict[str, Any]) -> None:
    (start,) = (command for command in cluster["head_start_ray_commands"] if "ray start" in command)

    assert "--dashboard-host=127.0.0.1" in start


def test_the_machines_ask_for_a_session_before_they_hand_out_their_role(
    head: dict[str, Any], workers: list[dict[str, Any]]
) -> None:
    for node in (head, *workers):
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["node_config"]["BlockDeviceMappings"])


def test_no_secret_is_in_the_file() -> None:
    text = FILE.read_text()

    assert not re.search(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b", text)
    assert not re.search(r"(secret|password|api_?key|access_?key)\s*[:=]", text, re.IGNORECASE)
    assert not re.search(r"\b[0-9a-f]{32,}\b", text)
    assert not re.search(r"[A-Za-z0-9+]{40}", text)
