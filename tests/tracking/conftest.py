"""A home of wandb's own, with a key in sight that is to show up nowhere."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.tracking import KEY
from fixtures.wandb_server import WandbServer

from ferray.records.run import Run


@pytest.fixture(autouse=True)
def wandb_home(
    clean_environment: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    for name, value in {"HOME": home, "XDG_CACHE_HOME": home / ".cache", "XDG_CONFIG_HOME": home / ".config"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)  # before wandb-core starts, which inherits it
    return home


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "first")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server in W&B's place, in the environment of the test and of the processes that it starts."""
    with WandbServer(KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        for name in ("http_proxy", "HTTP_PROXY", "WANDB_MODE"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture
def inspect(capfd: pytest.CaptureFixture[str]) -> Callable[[Path], dict[str, Any]]:
    """What `wandb leet inspect --summary --json FOLDER` says of a run's folder."""
    from wandb.cli.cli import cli

    def inspect_folder(folder: Path) -> dict[str, Any]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["leet", "inspect", "--summary", "--json", str(folder)], standalone_mode=False)
        assert not ended.value.code
        seen = json.loads(capfd.readouterr().out)
        assert isinstance(seen, dict)
        return seen

    return inspect_folder


@pytest.fixture
def sync(server: WandbServer, tmp_path: Path) -> Callable[..., None]:
    """`wandb sync` of some folders of runs."""

    def sync_folders(*folders: Path) -> None:
        command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, folders)]
        # It leaves a log in a folder `wandb` of the current one.
        subprocess.run(command, cwd=tmp_path, timeout=120, check=True, stdout=subprocess.DEVNULL)

    return sync_folders
