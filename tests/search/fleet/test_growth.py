"""What a cluster may grow to, by the configuration of its autoscaler."""

from pathlib import Path

import pytest
import yaml

from ferray.search.fleet import ray_patches
from ferray.search.fleet.growth import Growth, NodeType, largest_cluster, read_growth

REPOSITORY = Path(__file__).resolve().parents[3]
GPU, HEAD = (4, 1.0), (0, 0.0)


def test_the_workers_of_cluster_yaml_are_what_the_cluster_may_grow_to() -> None:
    growth = read_growth(yaml.safe_load((REPOSITORY / "cluster.yaml").read_text()))
    assert NodeType("gpu_worker", 4, 1.0, 4) in growth.types
    assert growth.max_workers == 4
    assert largest_cluster([HEAD], [], growth) == (HEAD, GPU, GPU, GPU, GPU)
    assert largest_cluster([HEAD], [GPU], growth) == (HEAD, GPU, GPU, GPU, GPU), "one of the four is there"


def test_the_limit_of_all_types_together_holds_and_foreign_nodes_count() -> None:
    growth = Growth((NodeType("small", 2, 0.0, 3), NodeType("large", 8, 1.0, 3)), max_workers=4)
    assert largest_cluster([HEAD], [], growth) == (HEAD, (2, 0.0), (2, 0.0), (2, 0.0), (8, 1.0))
    assert largest_cluster([HEAD], [(16, 0.0)] * 3, growth) == (HEAD, *[(16, 0.0)] * 3, (2, 0.0))


def test_machines_of_unknown_size_are_taken_for_one_that_is_there() -> None:
    growth = read_growth({"max_workers": 2, "available_node_types": {"own": {"resources": {}}}})
    assert growth.types == (NodeType("own", None, 0.0, 2),)
    assert largest_cluster([HEAD], [(8, 2.0)], growth) == (HEAD, (8, 2.0), (8, 2.0))
    assert largest_cluster([(4, 0.0)], [], growth) == ((4, 0.0),) * 3
    assert largest_cluster([HEAD], [], growth) == (HEAD,), "nothing is known before one is there"


def test_the_file_of_the_autoscaler_is_found_in_the_home_of_its_user_as_cluster_yaml_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (start,) = [
        command
        for command in yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())["head_start_ray_commands"]
        if "ray start" in command
    ]
    (option,) = [word for word in start.split() if word.startswith("--autoscaling-config=")]
    (tmp_path / "ray_bootstrap_config.yaml").write_text("max_workers: 123\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "4711").mkdir()  # as the process of Ray's monitor in /proc
    (tmp_path / "4711" / "cmdline").write_text(f"python\0/ray/autoscaler/_private/monitor.py\0{option}\0")
    monkeypatch.setattr(ray_patches, "Path", lambda place: tmp_path if place == "/proc" else Path(place))

    assert ray_patches.autoscaler_config() == {"max_workers": 123}
