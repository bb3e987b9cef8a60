"""Reading files that anybody may have written: only regular files are opened, and only up to a size limit.

A pipe in place of a file would block its reader, a device never ends, a link may lead elsewhere, and a file may be
larger than the memory. Begin at `read_bytes`.
"""

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from ferray.errors import StorageError


def read_bytes(file: Path, *, max_bytes: int, inside: Path | None = None) -> bytes:
    """All of a file.

    Args:
        file: The file to read.
        max_bytes: A larger file is refused without reading it.
        inside: The folder that must contain it when all links are followed; None for any.

    Raises:
        StorageError: The file is missing, unreadable, not a regular file, outside the folder, or too large.
    """
    with open_file(file, max_bytes=max_bytes, inside=inside) as opened:
        return opened.read(max_bytes)


def digest_file(file: Path, *, max_bytes: int) -> bytes:
    """SHA-256 of a file, which may be larger than the memory; arguments and errors as `read_bytes`."""
    digest = hashlib.sha256()
    with open_file(file, max_bytes=max_bytes) as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.digest()


@contextmanager
def open_file(file: Path, *, max_bytes: int, inside: Path | None = None) -> Iterator[BinaryIO]:
    """A regular file, open for reading while the block runs; arguments and errors as `read_bytes`."""
    try:
        if inside is not None and not file.resolve().is_relative_to(inside.resolve()):
            raise StorageError(
                str(file), f"leads out of {inside}", "Put the file itself there, or link the whole folder"
            )
        opened = open(file, "rb", opener=open_nonblocking)  # noqa: SIM115 -- closed below
    except (OSError, RuntimeError, ValueError) as error:  # such as a cycle of links, or a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise StorageError(str(file), f"cannot be read: {reason}", "Check the name and the folder") from error
    with opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(str(file), "cannot be read: it is a pipe or a device", "Put a plain file in its place")
        if status.st_size > max_bytes:
            what = f"has {status.st_size:,} bytes; at most {max_bytes:,} are read"
            raise StorageError(str(file), what, "Check the name, or make it smaller")
        yield opened


@contextmanager
def open_text(file: Path, *, max_bytes: int) -> Iterator[TextIO]:
    """A file of UTF-8 with its line ends unchanged, open while the block runs; arguments and errors as `read_bytes`."""
    with open_file(file, max_bytes=max_bytes) as opened, io.TextIOWrapper(opened, "utf-8-sig", newline="") as text:
        yield text


def open_nonblocking(path: str, flags: int) -> int:
    """An opener for `open` that does not wait for a writer where the path is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
