"""What an AWS account needs once before `ray up cluster.yaml`: an image's id in the file, and two roles.

    python clusters/aws.py image cluster.yaml               # fills in ImageId with the newest image of the region
    python clusters/aws.py roles --bucket BUCKET            # once in an account: what head and workers may do
    python clusters/aws.py roles --bucket BUCKET --print    # the same as JSON, for whoever makes roles in your account

`ferray-head` starts and ends machines, and gives new ones the role `ferray-worker` (`iam:PassRole`), which Ray's own
role for a head must not. Both read and write one bucket, and nothing else.

Begin at `main`; `policies` has the rights.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""Where AWS publishes the id of its newest image of Ubuntu 24.04 with NVIDIA's driver, in each region."""

HEAD, WORKER = "ferray-head", "ferray-worker"
"""Names of the roles and of their instance profiles; cluster.yaml has them."""

TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and act; 2 where AWS refuses, or the file has no place for an id."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").rpartition("\n\nBegin at")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    acts = parser.add_subparsers(dest="act", required=True)
    image = acts.add_parser("image", help="fill in ImageId")
    image.add_argument("file", type=Path, help="a cluster file; its region is asked")
    image.add_argument("--parameter", default=PARAMETER, help="of SSM, with the id of another image")
    roles = acts.add_parser("roles", help="make the roles and instance profiles of head and workers")
    roles.add_argument("--bucket", required=True, help="name of the one bucket that they may read and write")
    roles.add_argument("--print", action="store_true", help="print their rights, and make nothing")
    arguments = parser.parse_args(argv)
    try:
        if arguments.act == "image":
            print(fill_in(arguments.file, arguments.parameter))
        elif arguments.print:
            print(json.dumps(policies(arguments.bucket, account="ACCOUNT"), indent=2))
        else:
            print(make_roles(arguments.bucket))
    except (BotoCoreError, ClientError, ValueError) as error:
        print(f"{arguments.act}: {error}", file=sys.stderr)
        return 2
    return 0


def fill_in(file: Path, parameter: str) -> str:
    """Write the id of the newest image into a cluster file, whose comments stay.

    Args:
        file: With one line `ImageId: ami-...`; other node types refer to it by a YAML alias.
        parameter: Of SSM, whose value is the id.

    Returns:
        What was done.

    Raises:
        ValueError: There is no such line, or there are several.
    """
    text = file.read_text(encoding="utf-8")
    region = yaml.safe_load(text)["provider"]["region"]
    places = re.findall(r"ImageId:.*\bami-[0-9a-f]+", text)
    if len(places) != 1:
        raise ValueError(
            f"{file} has {len(places)} lines with `ImageId: ami-...`\n  Leave one, and let others refer to it."
        )
    value: str = boto3.client("ssm", region_name=region).get_parameter(Name=parameter)["Parameter"]["Value"]
    file.write_text(re.sub(r"(ImageId:.*\b)ami-[0-9a-f]+", rf"\g<1>{value}", text), encoding="utf-8")
    return f"{file}: ImageId is {value} ({region})"


def policies(bucket: str, *, account: str) -> dict[str, list[dict[str, Any]]]:
    """The rights of both roles, as statements of IAM.

    Args:
        bucket: Its name.
        account: Number of the AWS account.
    """
    data = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    ]
    machines = "arn:aws:ec2:*:*:instance/*"
    ours = {"StringLike": {"aws:ResourceTag/ray-cluster-name": "*"}}  # Ray gives all machines of a cluster this tag
    head = [
        {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "ec2:RunInstances"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "arn:aws:ec2:*:*:*/*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:CreateTags", "ec2:TerminateInstances"],
            "Resource": machines,
            "Condition": ours,
        },
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": f"arn:aws:iam::{account}:role/{WORKER}"},
    ]
    return {HEAD: [*head, *data], WORKER: data}


def make_roles(bucket: str) -> str:
    """Make both roles with their instance profiles, or give those that exist these rights again.

    Args:
        bucket: Its name.

    Returns:
        What was done.
    """
    iam = boto3.client("iam")
    account = boto3.client("sts", region_name="us-east-1").get_caller_identity()["Account"]
    for name, statements in policies(bucket, account=account).items():
        _unless_there(iam.create_role, RoleName=name, AssumeRolePolicyDocument=_document([TRUST]))
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=_document(statements))
        _unless_there(iam.create_instance_profile, InstanceProfileName=name)
        if not iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    try:
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")  # once in an account, for spot machines
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("InvalidInput", "EntityAlreadyExists"):
            raise
    return f"{HEAD} and {WORKER} may read and write s3://{bucket}, and {HEAD} may start machines with {WORKER}"


def _unless_there(make: Any, **arguments: str) -> None:
    try:
        make(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise


def _document(statements: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


if __name__ == "__main__":
    sys.exit(main())
