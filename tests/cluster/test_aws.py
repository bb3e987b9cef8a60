"""clusters/aws.py with moto: an image's id in the file, and roles that may do what they need and nothing else."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
"""moto knows this one, and not that of the deep learning images."""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, and an account of moto's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    spec = importlib.util.spec_from_file_location("aws", REPOSITORY / "clusters" / "aws.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with mock_aws():
        yield module


def test_the_newest_image_of_the_region_is_filled_in_and_all_else_stays(aws: Any, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    before = (REPOSITORY / "cluster.yaml").read_text()
    file.write_text(before)

    assert aws.main(["image", str(file), "--parameter", IMAGE]) == 0
    newest = boto3.client("ssm", "us-west-2").get_parameter(Name=IMAGE)["Parameter"]["Value"]
    assert file.read_text() == before.replace("ami-00000000000000000", newest)
    types = yaml.safe_load(file.read_text())["available_node_types"]
    assert {node["node_config"]["ImageId"] for node in types.values()} == {newest}
    assert aws.main(["image", str(file), "--parameter", IMAGE]) == 0, "also where one was filled in before"


def test_a_file_without_a_place_for_an_image_and_an_unknown_image_are_refused_and_nothing_is_written(
    aws: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text((REPOSITORY / "cluster.yaml").read_text())
    assert aws.main(["image", str(file), "--parameter", "/aws/service/none"]) == 2
    assert file.read_text() == (REPOSITORY / "cluster.yaml").read_text()
    file.write_text("provider: {region: us-west-2}\n")
    assert aws.main(["image", str(file)]) == 2
    assert "has 0 lines with `ImageId: ami-...`" in capsys.readouterr().err


def test_the_roles_of_the_cluster_file_are_made_and_made_again(aws: Any) -> None:
    assert aws.main(["roles", "--bucket", "faces"]) == 0
    assert aws.main(["roles", "--bucket", "others"]) == 0

    types = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())["available_node_types"]
    iam = boto3.client("iam")
    for name, node in (("ferray-head", types["head"]), ("ferray-worker", types["gpu_worker"])):
        assert node["node_config"]["IamInstanceProfile"] == {"Name": name}
        (role,) = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
        assert role["RoleName"] == name
        policy = iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
        assert "others" in json.dumps(policy)
        assert "faces" not in json.dumps(policy), "of the last call alone"
    (spot,) = iam.list_roles(PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]
    assert "spot" in spot["RoleName"].lower()


def test_a_worker_may_do_nothing_on_ec2_and_the_head_may_give_a_machine_the_role_of_a_worker_alone(aws: Any) -> None:
    rights = aws.policies("faces", account="1234")
    acts = {name: json.dumps([one["Action"] for one in statements]) for name, statements in rights.items()}

    assert "ec2:" not in acts["ferray-worker"]
    assert "iam:" not in acts["ferray-worker"]
    (passed,) = [one["Resource"] for one in rights["ferray-head"] if one["Action"] == "iam:PassRole"]
    assert passed == "arn:aws:iam::1234:role/ferray-worker"
    for statement in [one for statements in rights.values() for one in statements if "s3:" in str(one["Action"])]:
        assert statement["Resource"] in ("arn:aws:s3:::faces", "arn:aws:s3:::faces/*")


def test_a_worker_reads_and_writes_its_bucket_and_no_other(aws: Any) -> None:
    s3 = boto3.client("s3")
    for name in ("faces", "others"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    aws.make_roles("faces")
    arn = boto3.client("iam").get_role(RoleName="ferray-worker")["Role"]["Arn"]
    keys = boto3.client("sts").assume_role(RoleArn=arn, RoleSessionName="machine")["Credentials"]
    names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
    names["aws_session_token"] = "SessionToken"
    worker = boto3.session.Session(region_name="us-west-2", **{name: keys[key] for name, key in names.items()})

    @set_initial_no_auth_action_count(0)  # type: ignore[untyped-decorator]
    def as_worker() -> None:
        client = worker.client("s3")
        client.put_object(Bucket="faces", Key="a", Body=b"x")
        assert client.get_object(Bucket="faces", Key="a")["Body"].read() == b"x"
        assert client.list_objects_v2(Bucket="faces")["KeyCount"] == 1
        for refused in (
            lambda: client.put_object(Bucket="others", Key="a", Body=b"x"),
            lambda: client.list_objects_v2(Bucket="others"),
            lambda: worker.client("ec2").describe_instances(),
            lambda: worker.client("iam").list_users(),
        ):
            with pytest.raises(ClientError, match=r"AccessDenied|UnauthorizedOperation"):
                refused()

    as_worker()


def test_the_rights_are_printed_for_whoever_makes_roles(aws: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert aws.main(["roles", "--bucket", "faces", "--print"]) == 0

    assert set(json.loads(capsys.readouterr().out)) == {"ferray-head", "ferray-worker"}
    with pytest.raises(ClientError):
        boto3.client("iam").get_role(RoleName="ferray-head")
