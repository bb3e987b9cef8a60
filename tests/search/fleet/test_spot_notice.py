"""A notice of EC2's is found with every answer that its metadata service may give."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from fixtures.imds import MetadataService, metadata_service

from ferray.search.fleet import spot_notice
from ferray.search.fleet.spot_notice import Metadata, Notice, watch


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataService]:
    monkeypatch.setattr(spot_notice, "ASK_S", 0.01)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody answers: the service is never behind one
    with metadata_service() as made:
        yield made


def wait_for(service: MetadataService, act: str) -> Notice | None:
    """What the watch returns if something happens once it has asked for the first time."""
    found: list[Notice | None] = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: found.append(watch(Metadata(service.address), stop)))
    thread.start()
    assert service.was_asked.wait(30)
    if act == "notice":
        service.begin_notice()
    else:
        stop.set()
    thread.join(30)
    assert found
    return found[0]


def test_a_notice_is_found_with_its_action_and_the_time_that_is_left(service: MetadataService) -> None:
    service.begin_notice(seconds=90, action="stop")
    found = Metadata(service.address).notice()

    assert found is not None
    assert found.action == "stop"
    assert 85 <= found.remaining_s <= 90


def test_without_a_notice_there_is_none(service: MetadataService) -> None:
    assert Metadata(service.address).notice() is None


def test_the_watch_ends_with_the_notice(service: MetadataService) -> None:
    found = wait_for(service, "notice")

    assert found is not None
    assert found.action == "terminate"


def test_the_watch_can_be_ended(service: MetadataService) -> None:
    assert wait_for(service, "stop") is None


def test_one_token_serves_many_questions_until_it_expires(service: MetadataService) -> None:
    metadata = Metadata(service.address)
    for _ in range(3):
        metadata.notice()
    assert service.asked.count("PUT /latest/api/token") == 1
    service.token = "token-2"
    service.begin_notice()

    assert metadata.notice() is not None
    assert service.asked.count("PUT /latest/api/token") == 2


def test_a_service_that_fails_at_times_is_asked_again(service: MetadataService) -> None:
    service.faults = [404, 500, 503] + [500] * (2 * spot_notice.MAX_SILENT)
    service.begin_notice()

    assert watch(Metadata(service.address), threading.Event()) is not None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"terminate", b'{"action": "terminate", "time": "soon"}', b"\xff"]
)
def test_a_notice_that_cannot_be_read_is_one_still(service: MetadataService, content: bytes) -> None:
    service.content = content

    assert Metadata(service.address).notice() == Notice(action="take", remaining_s=spot_notice.DEFAULT_REMAINING_S)


def test_a_time_that_has_passed_leaves_no_second(service: MetadataService) -> None:
    service.begin_notice(seconds=-50)
    found = Metadata(service.address).notice()

    assert found is not None
    assert found.remaining_s == 0


def test_a_machine_that_is_not_ec2s_is_told_from_one_that_is(service: MetadataService) -> None:
    service.faults = [500] * spot_notice.MAX_SILENT

    with pytest.raises(OSError, match="500"):
        watch(Metadata(service.address), threading.Event())


def test_the_command_names_a_service_that_does_not_answer(service: MetadataService) -> None:
    command = """
import sys
from ferray.search.fleet import spot_notice
spot_notice.ASK_S = spot_notice.TIMEOUT_S = 0.01
sys.exit(spot_notice.main([]))
"""
    environment = {**os.environ, spot_notice.ENDPOINT_VARIABLE: "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "http://127.0.0.1:9 does not answer" in done.stderr


def test_a_node_that_ray_does_not_drain_at_once_is_drained_at_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot_notice, "RETRY_S", 0.0)
    asked: list[str] = []

    def own_node(address: str) -> str:
        asked.append(address)
        if len(asked) == 1:
            raise ConnectionError("the node does not answer")
        return "ab12"

    def run(command: list[str], **options: object) -> None:
        if len(asked) == 2:
            raise subprocess.CalledProcessError(1, command, stderr="not accepted")
        assert command[command.index("--node-id") + 1] == "ab12"

    monkeypatch.setattr(spot_notice, "_own_node", own_node)
    monkeypatch.setattr(subprocess, "run", run)
    assert spot_notice.drain(Notice(action="terminate", remaining_s=60))
    assert len(asked) == 3
    monkeypatch.setattr(spot_notice, "_own_node", lambda address: asked.clear() or own_node(address))
    assert not spot_notice.drain(Notice(action="terminate", remaining_s=0))
