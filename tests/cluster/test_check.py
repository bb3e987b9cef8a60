"""clusters/check.py: faults of a cluster file that Ray would find at the first machine only, or never."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = [REPOSITORY / "cluster.yaml", *sorted((REPOSITORY / "clusters").glob("*.yaml"))]
LAUNCHED = [file for file in FILES if "provider" in (yaml.safe_load(file.read_text().split("\n---")[0]) or {})]


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("check", REPOSITORY / "clusters" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository as the current folder, and a home with a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    monkeypatch.chdir(REPOSITORY)
    return tmp_path


@pytest.mark.parametrize("file", LAUNCHED, ids=lambda file: file.name)
def test_the_files_that_are_shipped_lack_what_is_to_be_filled_in_at_most(check: Any, file: Path, place: Path) -> None:
    found = [fault for fault in check.faults(file) if "a place to fill in" not in fault]

    assert not found


def node(config: dict[str, Any], name: str = "gpu_worker") -> dict[str, Any]:
    found: dict[str, Any] = config["available_node_types"][name]["node_config"]
    return found


EDITS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (
        lambda c: node(c).update(InstanceTyp="g5.xlarge"),
        "node_config.InstanceTyp: 'InstanceTyp' is unknown; InstanceType?",
    ),
    (lambda c: node(c).update(InstanceType="g5.xlrge"), "node_config.InstanceType: 'g5.xlrge' is unknown; g5.xlarge?"),
    (lambda c: node(c)["InstanceMarketOptions"].update(MarketType="sport"), "MarketType: 'sport' is unknown; spot?"),
    (lambda c: node(c)["BlockDeviceMappings"][0]["Ebs"].update(VolumSize=1), "BlockDeviceMappings[0].Ebs.VolumSize"),
    (lambda c: node(c)["BlockDeviceMappings"][0]["Ebs"].update(VolumeSize="150"), "VolumeSize is '150', and AWS takes"),
    (lambda c: node(c)["BlockDeviceMappings"][0]["Ebs"].update(Encrypted=1), "Encrypted is 1, and AWS takes a boolean"),
    (lambda c: node(c).pop("InstanceType"), "gpu_worker.node_config.InstanceType is missing"),
    (lambda c: c["auth"].pop("ssh_user"), "auth.ssh_user is missing"),
    (lambda c: c["provider"].update(regoin="us-west-2"), "provider.regoin: 'regoin' is unknown; region?"),
    (lambda c: c["provider"].update(type="awss"), "provider.type is 'awss'"),
    (lambda c: c.update(max_workers=2), "gpu_worker.max_workers is 4, above that of all, 2"),
    (lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=5), "are 5 together, above max_workers, 4"),
    (lambda c: c.update(head_node_type="haed"), "head_node_type is 'haed', which is none of"),
    (lambda c: c["file_mounts"].update({"~/x": "no-such-folder"}), "no-such-folder, for ~/x, is not there"),
    (lambda c: c.update(idle_timeout=5), "Ray refuses it: Additional properties are not allowed ('idle_timeout'"),
]


@pytest.mark.parametrize("edit, fault", EDITS, ids=[fault for _, fault in EDITS])
def test_a_fault_is_named_with_its_place(
    check: Any, edit: Callable[[dict[str, Any]], Any], fault: str, place: Path
) -> None:
    config = copy.deepcopy(yaml.safe_load((REPOSITORY / "cluster.yaml").read_text()))
    config = yaml.load(yaml.dump(config, Dumper=NoAliases), yaml.SafeLoader)
    edit(config)
    file = place / "edited.yaml"
    file.write_text(yaml.safe_dump(config))

    found = list(check.faults(file))
    assert any(fault in one for one in found), found


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_an_image_that_is_to_be_filled_in_and_a_missing_token_are_named(
    check: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / ".ray" / "auth_token").unlink()

    assert check.main([str(REPOSITORY / "cluster.yaml")]) == 1
    out = capsys.readouterr().out
    assert "ImageId is ami-00000000000000000, a place to fill in: python clusters/aws.py image FILE" in out
    assert "ray get-auth-token --generate makes it" in out


@pytest.mark.parametrize(
    "addresses, fault",
    [
        ({"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.1"]}, "an address is there twice"),
        ({"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2,10.0.0.3"]}, "neither an address nor a name"),
        ({"worker_ips": ["10.0.0.2"]}, "None is neither an address nor a name"),
    ],
)
def test_addresses_of_own_machines_are_checked(check: Any, addresses: dict[str, Any], fault: str, place: Path) -> None:
    config = yaml.safe_load((REPOSITORY / "clusters" / "local.yaml").read_text())
    config["provider"] = {"type": "local", **addresses}
    file = place / "local.yaml"
    file.write_text(yaml.safe_dump(config))

    assert any(fault in found for found in check.faults(file))


def test_what_is_no_cluster_file_is_refused(check: Any, place: Path) -> None:
    for text in ("", "[1]", "a: {", "provider: aws"):
        (place / "x.yaml").write_text(text)
        assert list(check.faults(place / "x.yaml"))
    assert list(check.faults(place / "none.yaml"))
