"""clusters/hosts.py without a machine: what the head answers is set."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The machines of clusters/local.yaml, and the module."""
    spec = importlib.util.spec_from_file_location("hosts", REPOSITORY / "clusters" / "hosts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    return module


def answer(text: str, code: int = 0) -> Any:
    return lambda *_, **__: subprocess.CompletedProcess([], code, text, "")


@pytest.mark.parametrize(
    "text, alive",
    [
        (
            '[2026-12-01 13:00:00,000 W 67 67] a line of Ray\n\nalive:["192.168.1.11"]\n[2026-12-01 13:00:01 E] x',
            ["192.168.1.11"],
        ),
        ("alive:[]", []),
        ("[2026-12-01 13:00:00,000 W 67 67] a line of Ray", None),
    ],
)
def test_the_nodes_are_read_among_lines_of_rays_own(hosts: Any, text: str, alive: list[str] | None) -> None:
    machines = hosts.Hosts(REPOSITORY / "clusters" / "local.yaml")
    machines.run = answer(text)
    assert machines.alive() == alive
    machines.run = answer(text, code=1)
    assert machines.alive() is None, "no cluster answers"


def test_a_worker_whose_start_failed_is_started_again_and_then_named(
    hosts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = hosts.Hosts(REPOSITORY / "clusters" / "local.yaml")
    joined: list[str] = []
    machines.join = lambda host: joined.append(host) or ""
    machines.alive = lambda: ["192.168.1.11", "192.168.1.12"][: 1 + len(joined)]
    assert hosts.start(machines) == 1
    assert joined.count("192.168.1.13") == hosts.TRIES
    assert joined.count("192.168.1.12") == 1, "it is there since the first try"
    assert "not in the cluster: 192.168.1.13" in capsys.readouterr().err
