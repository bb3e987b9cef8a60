"""The choice of a mode: no question, no long wait, whatever there is."""

import http.server
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.tracking import KEY

from ferray.errors import TrackingError
from ferray.tracking import mode
from ferray.tracking.mode import choose_mode, has_key


@pytest.fixture(autouse=True)
def no_setting(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither key nor mode, no terminal for questions, and no proxy between a test and its server."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def ask(*_: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("getpass.getpass", ask)
    yield
    for file in (wandb_home / ".netrc", wandb_home / ".config" / "wandb" / "settings"):
        file.unlink(missing_ok=True)


@pytest.fixture
def server() -> Iterator[str]:
    """One that knows nothing, and says so."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


class Refusing(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def silent_server() -> Iterator[str]:
    """One that lets callers in and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def no_server() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_without_a_key_it_is_offline_at_once_and_no_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "_reachable", lambda server: pytest.fail(f"{server} was asked"))
    began = time.monotonic()
    chosen, sentence = choose_mode(None, folder=Path("runs/first"))

    assert chosen == "offline"
    assert "no key" in sentence
    assert "wandb sync runs/first/wandb/offline-run-*" in sentence
    assert time.monotonic() - began < 1


def test_online_asked_for_without_a_key_is_offline_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_mode("online")[0] == "offline"
    assert "no key" in caplog.text


@pytest.mark.parametrize("named, chosen", [("dryrun", "offline"), ("run", "offline"), ("disabled", "disabled")])
def test_the_variable_has_wandbs_names_of_modes(named: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", named)
    assert choose_mode(None)[0] == chosen, "offline for want of a key"


def test_a_misspelled_mode_is_refused_and_not_taken_for_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(TrackingError, match="WANDB_MODE: 'ofline' is no mode"):
        choose_mode(None)
    assert choose_mode("disabled")[0] == "disabled"


@pytest.mark.parametrize("asked", [None, "online"])
def test_with_a_key_and_an_answer_it_is_online(asked: str | None, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    chosen, sentence = choose_mode(asked)

    assert chosen == "online"
    assert server in sentence
    assert KEY not in sentence


@pytest.mark.parametrize("place", ["netrc", "settings file"])
def test_the_key_and_the_server_are_also_looked_for_in_files(place: str, server: str, wandb_home: Path) -> None:
    settings = wandb_home / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[default]\nbase_url = {server}\n")
    host = server.removeprefix("http://") if place == "netrc" else "another.example"
    netrc = wandb_home / ".netrc"
    netrc.write_text(f"machine {host}\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)

    assert choose_mode(None)[0] == ("online" if place == "netrc" else "offline")


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_a_key_for_the_public_server_counts_under_both_its_names(host: str, wandb_home: Path) -> None:
    assert not has_key()
    netrc = wandb_home / ".netrc"
    netrc.write_text(f"machine {host}\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)

    assert has_key()


def test_a_broken_netrc_is_no_key(wandb_home: Path) -> None:
    (wandb_home / ".netrc").write_text("machine\nmachine login")

    assert not has_key()


def test_a_missing_server_means_offline(no_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", no_server)
    chosen, sentence = choose_mode("online")

    assert chosen == "offline"
    assert f"no answer from {no_server}" in sentence


def test_a_server_that_never_answers_is_not_waited_for(silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setattr(mode, "REACH_S", 0.05)
    began = time.monotonic()

    assert choose_mode(None)[0] == "offline"
    assert time.monotonic() - began < 2


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        released.wait(20)
        raise OSError("at last")

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("urllib.request.urlopen", look_up)
    monkeypatch.setattr(mode, "REACH_S", 0.05)
    began = time.monotonic()

    assert choose_mode(None)[0] == "offline"
    assert time.monotonic() - began < 10
    released.set()


@pytest.mark.parametrize(
    "asked, variable, expected",
    [
        ("offline", "", "offline"),
        ("disabled", "", "disabled"),
        ("disabled", "offline", "disabled"),
        (None, "offline", "offline"),
        (None, "dryrun", "offline"),
        (None, "disabled", "disabled"),
        ("offline", "disabled", "offline"),
    ],
)
def test_what_is_asked_for_holds_then_the_variable(
    asked: str | None, variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setattr(mode, "_reachable", lambda server: pytest.fail(f"{server} was asked"))

    assert choose_mode(asked)[0] == expected


def test_the_default_server_is_wandbs_own() -> None:
    from wandb.sdk.lib.urls import DEFAULT_BASE_URL

    assert mode.DEFAULT_SERVER == DEFAULT_BASE_URL
