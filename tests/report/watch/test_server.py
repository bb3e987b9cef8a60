"""The page that follows a search: to whom it is served, and when it is made anew."""

import dataclasses
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ferray.errors import StorageError
from ferray.records.run import Run
from ferray.report.watch import server as module
from ferray.report.watch.server import PageServer


@contextmanager
def serving(run: Run) -> Iterator[PageServer]:
    with PageServer(run) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: PageServer, path: str, *, host: str | None = None, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.fixture
def server(going_run: Run) -> Iterator[PageServer]:
    with serving(going_run) as started:
        yield started


def test_only_this_machine_is_listened_to(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_name_of_another_site_that_leads_here_is_refused(server: PageServer) -> None:
    port = server.server_port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1.evil.example:{port}",
        f"[::1]:{port}",
    ):
        status, _, body = ask(server, "/version", host=host)
        assert status == 421, host
        assert server._run.name.encode() not in body
    assert ask(server, "/version", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/search.json",
        "/live.json",
        "/../going/search.json",
        "/%2e%2e/",
        "//etc/passwd",
        "/trials/",
        "/report.html",
        "*",
    ],
)
def test_no_file_is_served(path: str, server: PageServer) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(method: str, server: PageServer) -> None:
    assert ask(server, "/", method=method)[0] == 501


def test_the_page_is_that_of_the_search_and_asks_its_server_alone_for_more(server: PageServer) -> None:
    status, headers, body = ask(server, "/")
    page = body.decode()
    version = json.loads(ask(server, "/version")[2])["version"]
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "connect-src &#39;self&#39;" in page
    assert f'data-version="{version}"' in page
    assert not (server._run.folder / "report.html").exists()


def test_a_new_record_makes_a_new_page_and_its_line_says_how_far_the_search_is(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "render_watched_page", lambda run, *, version: f"page {version}".encode())
    first = ask(server, "/")[2]
    record = server._run.read_trials()[1]
    server._run.write_trial(dataclasses.replace(record, state="done"))
    now = 1.5
    answer = json.loads(ask(server, "/version")[2])
    assert f"page {answer['version']}".encode() == first, "not every second"
    assert answer["line"].startswith("nothing new (")
    assert "5/? trials" in answer["line"]
    now = 6.0
    answer = json.loads(ask(server, "/version")[2])
    assert f"page {answer['version']}".encode() != first
    assert ask(server, "/")[2] == f"page {answer['version']}".encode()


def test_a_folder_that_cannot_be_read_is_no_page_yet_and_later_one(server: PageServer) -> None:
    file = server._run.folder / "search.json"
    data = file.read_bytes()
    file.write_text("[")
    file.with_name("search.json.previous").unlink(missing_ok=True)
    status, headers, _ = ask(server, "/")
    assert (status, headers["Refresh"]) == (503, "3")
    file.write_bytes(data)
    assert ask(server, "/")[0] == 200
    file.write_text("[")
    assert ask(server, "/")[0] == 200, "the last page stays"


def test_a_port_that_is_taken_is_an_error_with_a_way_out(server: PageServer) -> None:
    with pytest.raises(StorageError, match=f"--port {server.server_port}: cannot be listened on"):
        PageServer(server._run, port=server.server_port)
