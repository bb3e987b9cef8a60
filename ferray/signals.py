"""Ctrl-C, SIGTERM and a closed terminal as a request to stop, which is answered at once. Begin at `catch_signals`."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class StopRequest(threading.Event):
    """Set by the first request to stop; work that can be left at any moment is interrupted by it."""

    def __init__(self) -> None:
        super().__init__()
        self._num_raising = 0

    @property
    def is_raised(self) -> bool:
        """Whether the work of this moment can be left."""
        return self._num_raising > 0

    @contextmanager
    def raised(self) -> Iterator[None]:
        """While the block runs, the request raises KeyboardInterrupt; one that was made before does so at its start."""
        self._num_raising += 1
        try:
            if self.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._num_raising -= 1


@contextmanager
def catch_signals(*, on_first: Callable[[], None] | None = None, echo_s: float = 0.0) -> Iterator[StopRequest]:
    """A request that the first Ctrl-C, SIGTERM or SIGHUP makes while the block runs; the next raises KeyboardInterrupt.

    A terminal that is closed sends SIGHUP. Where it is ignored already, as under `nohup`, it stays ignored. In another
    thread than the main one, which alone can have handlers, no signal makes the request.

    Args:
        on_first: Called at the first one; it may print with `say_from_handler`.
        echo_s: Signals that follow the first one within so many seconds are copies of it: torchrun repeats Ctrl-C.
    """
    requested = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
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
        if requested.is_raised:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_from_handler(text: str) -> None:
    """Print a line on stderr from a signal handler: `sys.stderr` may be in use at that moment, its descriptor not.

    A terminal that is closed, or a reader that has left, is no error. While `receive_from_handlers` is in use, the line
    goes there instead.
    """
    if _receivers:
        _receivers[-1](text)
        return
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


@contextmanager
def receive_from_handlers(receive: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, lines of signal handlers are not printed, which would disturb a screen that is drawn.

    Args:
        receive: Is given the line, within the handler: it must take no lock.
    """
    _receivers.append(receive)
    try:
        yield
    finally:
        _receivers.remove(receive)


_receivers: list[Callable[[str], None]] = []
