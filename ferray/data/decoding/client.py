"""Decodes files in processes of their own, one per thread that asks. Begin at `decode_photograph`.

A decoder tells of damage only on the standard error stream, which belongs to a whole process: see
`ferray.data.decoding.decode`. A file that crashes its decoder ends that process, and is refused like any other.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.formats import BadPhotographError, bad, check_whole
from ferray.data.decoding.server import ANSWER, REQUEST
from ferray.errors import DataError


def decode_photograph(content: bytes, *, upright: bool) -> NDArray[np.uint8]:
    """Check and decode a picture file; may be called from several threads.

    Args:
        content: The bytes of the file.
        upright: Whether to follow the camera's orientation tag.

    Returns:
        BGR, shape (height, width, 3).

    Raises:
        BadPhotographError: It is cut off, damaged, too large, or no picture.
        DataError: The process that decodes does not start.
    """
    check_whole(content)  # most bad files end here
    decoder = _take()
    if decoder is not None:
        with suppress(_EndedError):  # it may have waited for too long, and ended
            return _ask(decoder, content, upright)
    try:
        return _ask(_DecoderProcess(), content, upright)
    except _EndedError:
        bad("unreadable photograph", "ends the process that decodes it")


def _ask(decoder: "_DecoderProcess", content: bytes, upright: bool) -> NDArray[np.uint8]:
    """Decode a file and put the process among the idle ones, if it has answered."""
    answered = False
    try:
        result = decoder.ask(content, upright)
        answered = True
    finally:
        if answered:
            with _lock:
                _idle.append(decoder)
        else:
            decoder.end()
    if isinstance(result, BadPhotographError):
        raise result
    return result


class _EndedError(Exception):
    """The process has ended."""


class _DecoderProcess:
    """One process that decodes.

    Raises:
        DataError: It does not start.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ferray.data.decoding.server"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment, start_new_session=True,  # Ctrl-C is for the command alone
            )  # fmt: skip
        except OSError as error:
            raise DataError("decoder", f"its process does not start: {error}", "Free memory or processes") from error

    def ask(self, content: bytes, upright: bool) -> NDArray[np.uint8] | BadPhotographError:
        """Decode one file.

        Raises:
            _EndedError: The process has ended.
        """
        incoming, outgoing = self._process.stdout, self._process.stdin
        assert incoming is not None and outgoing is not None
        try:
            outgoing.write(REQUEST.pack(len(content), upright))
            outgoing.write(content)
            outgoing.flush()
            head = incoming.read(ANSWER.size)
        except OSError as error:
            raise _EndedError from error
        if len(head) < ANSWER.size:
            raise _EndedError
        is_picture, length, height, width = ANSWER.unpack(head)
        data = incoming.read(length)
        if len(data) < length:
            raise _EndedError
        if not is_picture:
            return BadPhotographError(*json.loads(data))
        return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)

    def end(self) -> None:
        """End the process and wait for its end."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what it has not read is lost
                stream.close()
        self._process.wait()


_idle: list[_DecoderProcess] = []
_lock = threading.Lock()


def _take() -> _DecoderProcess | None:
    with _lock:
        return _idle.pop() if _idle else None


def _end_all() -> None:
    while decoder := _take():
        decoder.end()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_idle.clear)
