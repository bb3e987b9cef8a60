"""Files that anybody may have written: only regular ones are opened, and no more is read than was agreed to.

A pipe in place of a file blocks its reader, a device never ends, a link leads elsewhere, and a file may be larger than
the memory. Begin at `read_bytes`.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from ferray.errors import StorageError


def read_bytes(file: Path, *, most_bytes: int, inside: Path | None = None) -> bytes:
    """All of a file.

    Args:
        file: Its name.
        most_bytes: A larger one is refused unread.
        inside: The folder that it must lie in when all links are followed; None for any.

    Raises:
        StorageError: Missing, unreadable, no regular file, outside the folder, or too large.
    """
    with open_file(file, most_bytes=most_bytes, inside=inside) as opened:
        return opened.read(most_bytes)


@contextmanager
def open_file(file: Path, *, most_bytes: int, inside: Path | None = None) -> Iterator[BinaryIO]:
    """A regular file, open for reading while the block runs; arguments and errors as `read_bytes`."""
    try:
        if inside is not None and not file.resolve().is_relative_to(inside.resolve()):
            raise StorageError(
                str(file), f"leads out of {inside}", "Put the file itself there, or link the whole folder"
            )
        opened = open(file, "rb", opener=open_at_once)  # noqa: SIM115 -- closed below
    except (OSError, RuntimeError, ValueError) as error:  # a ring of links; a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise StorageError(str(file), f"cannot be read: {reason}", "Check the name and the folder") from error
    with opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(str(file), "cannot be read: it is a pipe or a device", "Put a plain file in its place")
        if status.st_size > most_bytes:
            what = f"has {status.st_size:,} bytes; at most {most_bytes:,} are read"
            raise StorageError(str(file), what, "Check the name, or make it smaller")
        yield opened


@contextmanager
def open_text(file: Path, *, most_bytes: int) -> Iterator[TextIO]:
    """A file of UTF-8, its line ends as they are; arguments and errors as `read_bytes`."""
    with open_file(file, most_bytes=most_bytes) as opened, io.TextIOWrapper(opened, "utf-8-sig", newline="") as text:
        yield text


def open_at_once(path: str, flags: int) -> int:
    """An opener for `open` that waits for nobody at the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
