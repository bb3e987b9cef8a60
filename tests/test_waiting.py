"""Waits that are long enough to be named."""

import re
import threading

import pytest
from fixtures.output import NotedOutput

from ferray import waiting as module
from ferray.waiting import waiting


def test_a_long_wait_is_named_again_and_again_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.001)
    monkeypatch.setattr(module, "REPEAT_S", 0.002)
    output = NotedOutput(num_lines=3)
    monkeypatch.setattr("sys.stderr", output)
    with waiting("starting Ray"):
        assert output.has_lines.wait(60)
    lines = output.text.splitlines()
    assert lines[0] == "starting Ray ..."
    assert all(re.fullmatch(r"starting Ray \.\.\. \(\d+ s so far\)", line) for line in lines[1:])


def test_what_is_waited_for_may_change_from_line_to_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.001)
    monkeypatch.setattr(module, "REPEAT_S", 0.002)
    output = NotedOutput(num_lines=2)
    monkeypatch.setattr("sys.stderr", output)
    names = iter(["8 CPU", "3 CPU", *["1 CPU"] * 10_000])
    with waiting(lambda: next(names)):
        assert output.has_lines.wait(60)
    first, second, *_ = output.text.splitlines()
    assert first == "8 CPU ..."
    assert re.fullmatch(r"3 CPU \.\.\. \(\d+ s so far\)", second)


def test_a_short_wait_is_not_named_and_an_error_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not to be had"), waiting("starting Ray"):
        raise ValueError("not to be had")
    assert capsys.readouterr().err == ""
    assert "waiting" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_while_the_thread_is_started_leaves_nothing_that_goes_on_printing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []

    class Interrupted(threading.Thread):
        """A thread whose starter is interrupted as soon as it runs."""

        def start(self) -> None:
            threads.append(self)
            super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr("threading.Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt), waiting("starting Ray"):
        pytest.fail("the block ran after Ctrl-C")
    assert not threads[0].is_alive()


def test_a_thread_that_cannot_be_started_is_the_error_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread", Refused)
    with pytest.raises(RuntimeError, match="can't start new thread"), waiting("starting Ray"):
        pytest.fail("the block ran")
