"""A request to stop: Ctrl-C, SIGTERM, a terminal that is closed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ferray.signals import StopRequest, catch_signals, say_from_handler


@pytest.fixture(autouse=True)
def without_nohup() -> Iterator[None]:
    """As in a terminal, also where the tests themselves were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_request_and_the_second_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    said = []
    with catch_signals(on_first=lambda: said.append("stopping")) as stop:
        signal.raise_signal(number)
        assert (stop.is_set(), said) == (True, ["stopping"])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_work_that_can_be_left_is_left_at_the_first_signal_and_not_begun_after_one() -> None:
    with catch_signals() as stop:
        with pytest.raises(KeyboardInterrupt), stop.raised():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), stop.raised():
            pytest.fail("it was begun")
    assert not StopRequest().is_raised


NOHUP = """\
import os, signal
from ferray.signals import catch_signals
with catch_signals() as stop:
    signal.raise_signal(signal.SIGHUP)
    print(stop.is_set())
"""


@pytest.mark.parametrize("words, answer", [((), "True"), (("nohup",), "False")])
def test_a_closed_terminal_is_a_request_unless_the_command_was_started_with_nohup(
    words: tuple[str, ...], answer: str
) -> None:
    done = subprocess.run([*words, sys.executable, "-c", NOHUP], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{answer}\n"


def test_a_handler_can_speak_while_the_stream_is_in_use_and_where_nobody_reads(
    capfd: pytest.CaptureFixture[str],
) -> None:
    say_from_handler("stopping")
    assert capfd.readouterr().err == "stopping\n"
    reading, writing = os.pipe()
    os.close(reading)
    before = os.dup(2)
    os.dup2(writing, 2)
    try:
        say_from_handler("stopping")
    finally:
        os.dup2(before, 2)
        os.close(writing)
        os.close(before)


def test_in_another_thread_than_the_main_one_no_handler_is_set_and_nothing_fails() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[bool] = []

    def work() -> None:
        with catch_signals() as stop, stop.raised():
            found.append(signal.getsignal(signal.SIGINT) == before and not stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
