"""Tells Ray when AWS is about to take a spot machine away; one runs on each worker, started by `cluster.yaml`.

    python -m ferray.search.fleet.spot_notice

EC2 says so two minutes before, in the metadata that only the machine itself can read, and nothing in Ray reads it. This
asks every five seconds, as AWS recommends, and then has Ray drain the node until that time: a search takes its trial
off the machine within a step, and it goes on elsewhere. Sources: "Spot Instance interruption notices" and "Use the
Instance Metadata Service", Amazon EC2 User Guide.

Begin at `watch`.
"""

import argparse
import datetime
import json
import logging
import os
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

ENDPOINT = "http://169.254.169.254"
"""Of the metadata service, version 2, on every EC2 machine."""

ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""Names another one, as for AWS's own programs."""

ASK_S = 5.0
TIMEOUT_S = 2.0
TOKEN_S = 21_600
"""Life of a session token; six hours is the longest that there is."""

MAX_SILENT = 12
"""Questions without an answer, at the start, after which this is taken for no EC2 machine."""

RETRY_S = 1.0
DRAIN_LIMIT_S = 30.0
"""Longest wait for Ray's answer."""

DEFAULT_REMAINING_S = 120
"""From a notice to the end where the notice names no time."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What EC2 is going to do."""

    action: str
    """`terminate`, `stop` or `hibernate`."""
    remaining_s: int
    """Seconds until then; 0 where it is due."""


class Metadata:
    """The metadata of this machine, as far as notices are concerned.

    Args:
        endpoint: Address of the service.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on the machine itself

    def notice(self) -> Notice | None:
        """The notice; None while there is none.

        Raises:
            OSError: The service does not answer, or refuses.
        """
        for is_last in (False, True):
            if not self._token:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
                self._token = self._ask("/latest/api/token", ttl, method="PUT").decode().strip()
            try:
                content = self._ask("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code == 401 and not is_last:  # the token has expired
                    self._token = ""
                    continue
                raise
            return _read_notice(content)
        raise AssertionError("the second try returns or raises")

    def _ask(self, path: str, headers: dict[str, str], *, method: str = "GET") -> bytes:
        request = urllib.request.Request(self._endpoint + path, headers=headers, method=method)
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(10_000)
            return content


def watch(metadata: Metadata, stop: threading.Event) -> Notice | None:
    """Wait for the notice.

    Args:
        metadata: Of this machine.
        stop: Ends the wait.

    Returns:
        The notice; None if `stop` came first.

    Raises:
        OSError: The service has never answered.
    """
    silent = 0
    while not stop.is_set():
        try:
            notice = metadata.notice()
        except OSError:
            silent += 1
            if silent == MAX_SILENT:
                raise
        else:
            silent = MAX_SILENT + 1  # it is an EC2 machine: it may fail to answer at times
            if notice is not None:
                return notice
        stop.wait(ASK_S)
    return None


def drain(notice: Notice, *, node_id: str | None = None, address: str = "auto") -> bool:
    """Have Ray drain this node until the time of the notice; tried again until Ray accepts it or the time is up.

    Args:
        notice: Why, and until when.
        node_id: Of another node, in hexadecimal digits.
        address: Of the cluster.

    Returns:
        Whether Ray has accepted it.
    """
    deadline = time.monotonic() + notice.remaining_s
    while True:
        remaining_s = max(0, round(deadline - time.monotonic()))
        try:
            _ask_to_drain(notice, remaining_s, node_id=node_id or _own_node(address), address=address)
        except Exception as error:  # noqa: BLE001 - whatever fails now may work in a second
            reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            log.warning("Ray did not accept that the node is drained: %s", reason.strip()[-500:])
        else:
            return True
        if remaining_s == 0:
            return False
        time.sleep(RETRY_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Watch until the notice comes; 0 if Ray then drains the node, 1 if not, or where there is no metadata service."""
    parser = argparse.ArgumentParser(
        prog="python -m ferray.search.fleet.spot_notice",
        description="Wait for the notice that AWS takes this spot machine away, and have Ray drain its node.",
    )
    parser.add_argument("--address", default="auto", help="of the Ray cluster (default: that of this machine)")
    parser.add_argument("--node-id", help="node to drain, in hexadecimal digits (default: this one)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s")
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
    try:
        notice = watch(Metadata(endpoint), threading.Event())
    except OSError as error:
        log.error("%s does not answer (%s): no EC2 machine, whose notices could be read", endpoint, error)
        return 1
    assert notice is not None
    log.warning("EC2 will %s this machine in %d s: its Ray node is drained", notice.action, notice.remaining_s)
    return 0 if drain(notice, node_id=arguments.node_id, address=arguments.address) else 1


def _ask_to_drain(notice: Notice, remaining_s: int, *, node_id: str, address: str) -> None:
    asked = ["drain-node", "--address", address, "--node-id", node_id, "--deadline-remaining-seconds", str(remaining_s)]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", f"EC2 will {notice.action} it"]
    ray = Path(sysconfig.get_path("scripts")) / "ray"
    subprocess.run([ray, *asked, *reason], capture_output=True, text=True, check=True, timeout=DRAIN_LIMIT_S)


def _read_notice(content: bytes) -> Notice:
    """What a notice says; one that cannot be read is a notice still."""
    try:
        values = json.loads(content)
        action, due = str(values["action"]), datetime.datetime.fromisoformat(values["time"])
        remaining_s = (due - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (ValueError, TypeError, KeyError):
        return Notice(action="take", remaining_s=DEFAULT_REMAINING_S)
    return Notice(action=action, remaining_s=max(0, round(remaining_s)))


def _own_node(address: str) -> str:
    """The id of this machine's node in the cluster."""
    import ray

    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    try:
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
