"""The process that decodes: one file after another, from the standard input to the standard output.

Its standard error stream is a file in memory, so that what a decoder writes there belongs to one photograph. No other
thread runs here. A request is a `REQUEST` and a file's bytes. The answer is an `ANSWER` and pixels, or JSON with a
reason and what is wrong. It ends with its input, or after `IDLE_S` without a request. Begin at `serve`.
"""

import json
import os
import select
import struct
import warnings
from collections.abc import Callable
from typing import BinaryIO

REQUEST = struct.Struct("<Q?")
"""Number of bytes, and whether the picture is turned upright."""
ANSWER = struct.Struct("<?QII")
"""Whether there is a picture; number of bytes, height, width."""
IDLE_S = 20.0
"""An unused process ends after so many seconds."""


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer requests until the input ends."""
    import cv2

    from ferray.data.decoding.decode import decode
    from ferray.data.decoding.formats import BadPhotographError, check_whole

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # of Pillow, about tags; what concerns pixels is an error
    read_stderr = _catch_stderr()
    while select.select([incoming], [], [], IDLE_S)[0] and (head := incoming.read(REQUEST.size)):
        length, upright = REQUEST.unpack(head)
        content = incoming.read(length)
        try:
            pixels = decode(content, check_whole(content), upright=upright, read_stderr=read_stderr)
        except BadPhotographError as error:
            text = json.dumps([error.reason, error.what]).encode()
            outgoing.write(ANSWER.pack(False, len(text), 0, 0) + text)
        else:
            height, width = pixels.shape[:2]
            outgoing.write(ANSWER.pack(True, pixels.nbytes, height, width))
            outgoing.write(pixels.data)
        outgoing.flush()


def _catch_stderr() -> Callable[[], str]:
    """Replace the standard error stream by a file in memory.

    Returns:
        A function that returns what was written since its last call.
    """
    file = os.memfd_create("stderr")
    os.dup2(file, 2)

    def read() -> str:
        size = os.lseek(file, 0, os.SEEK_CUR)  # the two numbers share one place in the file
        if not size:
            return ""
        text = os.pread(file, min(size, 10_000), 0).decode("utf-8", "replace")
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        return text

    return read


if __name__ == "__main__":
    with open(0, "rb") as requests, open(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # nothing that a library prints gets among the answers
        serve(requests, answers)
