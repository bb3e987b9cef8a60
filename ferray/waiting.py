"""Waits that would look like a hang: what is waited for is printed once they take longer. Begin at `waiting`."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

QUIET_S = 3.0
"""A shorter wait is not worth a line."""

REPEAT_S = 30.0
"""A longer one is named again this often, with its time so far."""


@contextmanager
def waiting(what: str | Callable[[], str]) -> Iterator[None]:
    """While the block runs, print on stderr what it waits for: after `QUIET_S`, then every `REPEAT_S`.

    Args:
        what: Such as `starting Ray`; a function is called for each line, in a thread of its own.
    """
    ended = threading.Event()

    def speak() -> None:
        began, wait_s = time.monotonic(), QUIET_S
        while not ended.wait(wait_s):
            note = "" if wait_s == QUIET_S else f" ({time.monotonic() - began:.0f} s so far)"
            print(f"{what if isinstance(what, str) else what()} ...{note}", file=sys.stderr, flush=True)
            wait_s = REPEAT_S

    thread = threading.Thread(target=speak, name="waiting", daemon=True)
    try:
        thread.start()
        yield
    finally:
        ended.set()
        if thread.is_alive():  # Ctrl-C may come before it is started
            thread.join()


def waiting_for_first(items: Iterator[Item], what: str) -> Iterator[Item]:
    """The items of an iterator; the wait for the first one is named as by `waiting`."""
    with waiting(what):
        first = next(items, None)
    if first is not None:
        yield first
        yield from items
