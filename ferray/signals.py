"""Ctrl-C and SIGTERM as a request to stop, which work can answer when it is ready. Begin at `catch_signals`."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def catch_signals(*, on_first: Callable[[], None] | None = None, echo_s: float = 0.0) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets while the block runs; a second one raises KeyboardInterrupt.

    Args:
        on_first: Called at the first one.
        echo_s: Signals that follow the first one within so many seconds are copies of it: torchrun repeats Ctrl-C.
    """
    requested = threading.Event()
    first_at = 0.0

    def handle(number: int, frame: object) -> None:
        nonlocal first_at
        if requested.is_set():
            if time.monotonic() - first_at >= echo_s:
                raise KeyboardInterrupt
            return
        first_at = time.monotonic()
        requested.set()
        if on_first is not None:
            on_first()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
