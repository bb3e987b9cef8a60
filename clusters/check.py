"""Check a cluster file for what Ray's own check lets through, without a network.

    python clusters/check.py cluster.yaml

Ray knows the shape of the file. What a cloud is told stays unchecked until a machine is asked for, which on AWS is in
the middle of a search, in a log of the head. This compares it with AWS's own description of `RunInstances`, which
boto3 brings along. Prints a line for each fault, also for what is left to fill in; ends with 1 if there is one.

Begin at `faults`.
"""

import argparse
import contextlib
import copy
import difflib
import functools
import io
import ipaddress
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

PROVIDER_KEYS = {
    "aws": {"region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "key_pair", "security_group",
            "aws_credentials", "cloudwatch", "max_terminate_nodes", "disable_node_updaters"},
    "gcp": {"region", "availability_zone", "project_id", "cache_stopped_nodes", "use_internal_ips", "gcp_credentials",
            "disable_node_updaters"},
    "local": {"head_ip", "worker_ips", "external_head_ip", "coordinator_address", "use_internal_ips",
              "disable_node_updaters"},
}  # fmt: skip
"""What Ray's code reads of `provider`, beside its type; the shape that it checks allows any other key."""

FILLED_BY_RAY = {"SubnetIds", "MinCount", "MaxCount"}
"""In a node_config: a key that is Ray's own, and two that it overwrites."""


def main(argv: list[str] | None = None) -> int:
    """Print what is wrong; 0 if nothing is, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").rpartition("\n\nBegin at")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    file = parser.parse_args(argv).file
    found = list(faults(file))
    print("\n".join(f"{file}: {fault}" for fault in found) or f"{file}: no fault was found")
    return 1 if found else 0


def faults(file: Path) -> Iterator[str]:
    """What is wrong with a cluster file, a line each: the place, the value and a way out.

    Args:
        file: As for `ray up`.
    """
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield f"cannot be read: {error}"
        return
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        yield "has no `provider`, as a file for `ray up` has; begin with cluster.yaml or clusters/local.yaml"
        return
    provider = config["provider"]
    kind = provider.get("type")
    if kind not in PROVIDER_KEYS:
        yield f"provider.type is {kind!r}, of which this check knows nothing; it knows {', '.join(PROVIDER_KEYS)}"
        return
    for key in provider.keys() - PROVIDER_KEYS[kind] - {"type"}:
        yield _unknown(f"provider.{key}", key, PROVIDER_KEYS[kind])
    for key, value in provider.items():
        if value == "fill-in":
            yield f"provider.{key} is a place to fill in"
    if not (config.get("auth") or {}).get("ssh_user"):
        yield "auth.ssh_user is missing: the user of the image, such as ubuntu"
    types = config.get("available_node_types") or {}
    yield from _numbers(config, types)
    if kind == "local":
        yield from _addresses(provider)
    if kind == "aws":
        for name, node in types.items():
            place = f"available_node_types.{name}.node_config"
            yield from _of_aws(node.get("node_config") or {}, place)
    yield from _mounts(config)
    yield from _of_ray(config)


def _numbers(config: dict[str, Any], types: dict[str, Any]) -> Iterator[str]:
    head, limit = config.get("head_node_type"), config.get("max_workers", 2)
    if types and head not in types:
        yield f"head_node_type is {head!r}, which is none of {', '.join(types)}"
    workers = {name: node for name, node in types.items() if name != head}
    lowest = sum(node.get("min_workers", 0) for node in workers.values())
    if lowest > limit:
        yield f"min_workers of all types are {lowest} together, above max_workers, {limit}"
    for name, node in workers.items():
        if node.get("max_workers", limit) < node.get("min_workers", 0):
            yield f"available_node_types.{name}: max_workers is below min_workers"
        if node.get("max_workers", limit) > limit:
            yield f"available_node_types.{name}.max_workers is {node['max_workers']}, above that of all, {limit}"


def _addresses(provider: dict[str, Any]) -> Iterator[str]:
    addresses = [provider.get("head_ip"), *(provider.get("worker_ips") or ())]
    if "coordinator_address" in provider:
        return
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", str(address or "")):
                yield f"provider: {address!r} is neither an address nor a name of a machine"
    if len(set(addresses)) < len(addresses):
        yield "provider: an address is there twice; the head does not belong in worker_ips"


def _of_aws(node: dict[str, Any], place: str) -> Iterator[str]:
    asked = {key: value for key, value in node.items() if key not in FILLED_BY_RAY}
    yield from _shape(asked, _run_instances(), place)
    if "InstanceType" not in node:
        yield f"{place}.InstanceType is missing"
    image = str(node.get("ImageId", ""))
    if image and not image.strip("ami-0"):
        yield f"{place}.ImageId is {image}, a place to fill in: python clusters/aws.py image FILE"


@functools.cache
def _run_instances() -> Any:
    """Botocore's description of what `RunInstances` takes."""
    from botocore import session

    return session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _shape(value: Any, shape: Any, place: str) -> Iterator[str]:
    """What does not fit a shape of botocore's: unknown keys, values that are none of a list, wrong types."""
    kind = shape.type_name
    types = {"structure": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool}
    if kind in types and not (isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))):
        yield f"{place} is {value!r}, and AWS takes {'an' if kind == 'integer' else 'a'} {kind}"
    elif kind == "structure":
        for key, part in value.items():
            if key in shape.members:
                yield from _shape(part, shape.members[key], f"{place}.{key}")
            else:
                yield _unknown(f"{place}.{key}", key, shape.members)
    elif kind == "list":
        for index, part in enumerate(value):
            yield from _shape(part, shape.member, f"{place}[{index}]")
    elif kind == "string" and shape.enum and value not in shape.enum:
        yield _unknown(place, value, shape.enum)


def _mounts(config: dict[str, Any]) -> Iterator[str]:
    for target, source in (config.get("file_mounts") or {}).items():
        if not Path(source).expanduser().exists():
            way_out = "; ray get-auth-token --generate makes it" if str(source).endswith("auth_token") else ""
            yield f"file_mounts: {source}, for {target}, is not there{way_out}"


def _of_ray(config: dict[str, Any]) -> Iterator[str]:
    """What Ray's own check finds."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Ray talks of each file that is mounted
            validate_config(prepare_config(copy.deepcopy(config)))
    except Exception as error:  # noqa: BLE001 - of jsonschema, or what Ray raises at a fault that its shape allows
        yield f"Ray refuses it: {str(getattr(error, 'message', error)).splitlines()[0]}"


def _unknown(place: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"{place}: {name!r} is unknown{f'; {near[0]}?' if near else ''}"


if __name__ == "__main__":
    sys.exit(main())
