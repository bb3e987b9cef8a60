"""Standard streams that cannot end a command: a reader may leave, a disk fill up, a terminal close or lack characters.

A search or a training run goes on for hours after `tee` was killed, and its folder is what counts. So what cannot be
written is dropped, and the exit code says so, unless the reader only left, as `head` does. Begin at `kept_streams`.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

READER_LEFT = (errno.EPIPE, errno.EIO)
"""A pipe without a reader, and a terminal that was closed."""


class LossyStream:
    """A text stream that goes on to nowhere once it cannot be written.

    Args:
        stream: What it writes to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.fault: OSError | None = None
        """Why something that was printed is lost; None as long as nothing is."""

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, or drop them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """From now on the stream's descriptor leads nowhere, also for libraries that write to it directly."""
        self.fault = self.fault or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def kept_streams() -> Iterator[tuple[LossyStream, LossyStream]]:
    """While the block runs, `sys.stdout` and `sys.stderr` are lossy; characters that they lack are written as escapes.

    Yields:
        Both, whose `fault` says whether anything was lost; they are flushed at the end of the block.
    """
    before = sys.stdout, sys.stderr
    streams = _lossy(1, sys.stdout), _lossy(2, sys.stderr)
    sys.stdout, sys.stderr = streams  # they have all that is used of a text stream
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            stream.flush()


def _lossy(number: int, stream: Any) -> LossyStream:
    """A stream of the process, lossy; one that was closed (`>&-`) leads nowhere, and no file gets its number."""
    if isinstance(stream, LossyStream):
        return stream
    if stream is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- for as long as the process
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return LossyStream(stream)
