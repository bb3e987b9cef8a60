"""Ray's start on a machine that is too busy for it."""

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray
from fixtures.process import MARK, new_mark

from ferray.errors import SearchError
from ferray.search.fleet import start
from ferray.search.fleet.start import start_ray

TIMED_OUT = "The current node timed out during startup."


@dataclass
class FakeRay:
    """A Ray whose starts fail, each after some time; the clock is moved and not waited for."""

    seconds: float
    failures: float
    now: float = 0.0
    calls: list[dict[str, Any]] = field(default_factory=list)

    def init(self, **options: Any) -> None:
        self.calls.append(options)
        self.now += self.seconds
        if len(self.calls) <= self.failures:
            raise Exception(TIMED_OUT)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def make_fake(monkeypatch: pytest.MonkeyPatch, *, seconds: float, failures: float) -> FakeRay:
    fake = FakeRay(seconds, failures)
    monkeypatch.setattr(ray, "init", fake.init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(start, "monotonic", lambda: fake.now)
    monkeypatch.setattr(start, "sleep", fake.sleep)
    return fake


def test_ray_is_tried_again_for_minutes_and_each_try_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake(monkeypatch, seconds=20.0, failures=9)
    start_ray(include_dashboard=False)
    assert fake.calls == [{"address": "local", "include_dashboard": False}] * 10
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0].startswith(f"Ray did not start: {TIMED_OUT}; the machine may be busy. Next try in 5 s")


def test_after_a_clear_limit_ray_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake(monkeypatch, seconds=20.0, failures=float("inf"))
    with pytest.raises(SearchError, match=rf"{TIMED_OUT}; \d+ tries in 6\d\d s"):
        start_ray()
    assert start.LIMIT_S < fake.now < start.LIMIT_S + 30.0


def test_a_ray_that_fails_at_once_is_not_tried_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake(monkeypatch, seconds=0.5, failures=float("inf"))
    with pytest.raises(SearchError, match="can be written"):
        start_ray()
    assert len(fake.calls) == 2


FAILS_ONCE = """\
from ferray.search.fleet.cluster import connect, set_environment
set_environment(None)
import os, signal, sys
sys.path.insert(0, "tests")
from fixtures.process import MARK, processes, wait_until
from ray._private import services
from ferray.search.fleet import start

def count():
    return len(processes(os.environ[MARK])) - 1  # without this process

def give_up(*arguments):
    services.get_node = get_node
    print(count() > 2)  # they were started, as on a busy machine
    raise Exception("The current node timed out during startup.")

def sleep(seconds):
    wait_until(lambda: count() == 0)  # two agents end when they miss the process that started them
    print(count())

get_node, services.get_node = services.get_node, give_up
start.sleep = sleep
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
with connect(None) as cluster:
    print(cluster.nodes)
    signal.raise_signal(signal.SIGTERM)
"""
"""Ray's own processes, whose registration Ray does not wait for at the first try; then a signal."""


@pytest.mark.slow
def test_of_a_start_that_failed_nothing_is_left_and_signals_stay_the_searchs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MARK, new_mark())
    done = subprocess.run([sys.executable, "-c", FAILS_ONCE], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.split() == ["True", "0", "1", "asked", "to", "stop"], done.stderr[-2000:]
    assert "Next try" in done.stderr
    assert "SIGTERM" not in done.stderr, "Ray's own handler prints a stack"
