"""The files for KubeRay, as far as they can be checked without Kubernetes: what must agree in them, and with ferray."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[2]


def read(name: str) -> dict[str, Any]:
    value = yaml.safe_load((REPOSITORY / "clusters" / name).read_text())
    assert isinstance(value, dict)
    return value


@pytest.fixture
def job() -> dict[str, Any]:
    return dict(read("kuberay-job.yaml")["spec"])


CLUSTERS = [read("kuberay-cluster.yaml")["spec"], read("kuberay-job.yaml")["spec"]["rayClusterSpec"]]


@pytest.fixture(params=CLUSTERS, ids=["cluster", "job"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def container(group: dict[str, Any]) -> dict[str, Any]:
    (found,) = group["template"]["spec"]["containers"]
    return dict(found)


def variables(group: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(group)["env"] if "value" in one}


def test_the_version_of_ray_is_the_one_that_is_installed(cluster: dict[str, Any]) -> None:
    pin = re.search(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pin is not None
    assert cluster["rayVersion"] == pin[1]


def test_a_token_is_asked_for_everywhere(cluster: dict[str, Any]) -> None:
    assert cluster["authOptions"] == {"mode": "token"}


def test_all_pods_see_one_folder_with_one_image_and_the_same_settings_of_grpc(cluster: dict[str, Any]) -> None:
    head, *groups = cluster["headGroupSpec"], *cluster["workerGroupSpecs"]
    assert groups
    keepalive = {name: value for name, value in variables(head).items() if "keepalive" in name}
    assert len(keepalive) == 2
    for group in groups:
        assert container(group)["image"] == container(head)["image"]
        assert container(group)["volumeMounts"] == container(head)["volumeMounts"]
        assert group["template"]["spec"]["volumes"] == head["template"]["spec"]["volumes"]
        assert variables(group) == keepalive
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_head_trains_nothing_and_each_worker_has_a_gpu(cluster: dict[str, Any]) -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        resources = container(group)["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"


def test_the_settings_for_lost_machines_are_those_of_the_other_cluster_files(cluster: dict[str, Any]) -> None:
    (start,) = (one for one in read("local.yaml")["head_start_ray_commands"] if "ray start" in one)
    expected = dict(re.findall(r"(RAY_(?:health|grpc)\w+)=(\d+)", start))

    assert variables(cluster["headGroupSpec"]) == expected


def test_no_secret_is_in_the_files() -> None:
    for name in ("kuberay-cluster.yaml", "kuberay-job.yaml"):
        text = (REPOSITORY / "clusters" / name).read_text()
        assert not re.search(r"\b[0-9a-f]{32,}\b|[A-Za-z0-9+]{40}", text)


@pytest.mark.parametrize("exists, words", [(False, ["--name", "first", "--space"]), (True, ["--resume", "first"])])
def test_the_job_begins_a_search_or_goes_on_with_it(
    job: dict[str, Any], exists: bool, words: list[str], tmp_path: Path
) -> None:
    if exists:
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "search.json").touch()
    (tmp_path / "python").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    command = shlex.split(job["entrypoint"].replace("/shared/runs", str(tmp_path)))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    given = done.stdout.split()
    assert given[:6] == ["-m", "ferray.search", "--address", "auto", "--out", str(tmp_path)]
    assert given[6 : 6 + len(words)] == words
