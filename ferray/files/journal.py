"""A journal: an append-only file of JSON lines with checksums. Begin at `Journal`."""

import errno
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.errors import RecordError, StorageError
from ferray.files import storage, untrusted

log = logging.getLogger(__name__)

MAX_BYTES = 2**30
"""Largest size of a journal; a line has about 200 bytes."""


@dataclass(frozen=True)
class JournalContent:
    """What a journal's file holds."""

    lines: list[dict[str, Any]]
    """The lines before the first damaged one."""
    damaged: RecordError | None
    """The error of the first damaged line; None if all lines are whole, but for an incomplete last one."""
    num_bytes: int
    """Bytes of `lines`; the file is longer if a damaged or incomplete line follows them."""


class Journal:
    """An append-only file of JSON objects, one per line, each with a checksum.

    A line that a crash has torn is the last one; `repair` cuts it off. Another damaged line ends what the journal says:
    `repair` sets it and the rest aside. `scan` reads the file once, for `repair` too.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[dict[str, Any]]:
        """All complete lines, in order.

        Raises:
            RecordError: A line before the last is damaged.
        """
        content = self.scan()
        if content.damaged is not None:
            raise content.damaged
        return content.lines

    def append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        """Add one line.

        Args:
            event: A JSON object.
            durable: Whether the line must be on the disk when this returns, not only with the next durable one.
        """
        text = json.dumps(storage.with_checksum(event), separators=(",", ":"), allow_nan=False)
        line = (text + "\n").encode()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    if file.write(line) != len(line):  # a full disk takes a part of the line without an error
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    if durable:
                        os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise RecordError(
                str(self.file), f"cannot be written: {error.strerror}", "Free space, then resume"
            ) from error

    def repair(self, content: JournalContent | None = None) -> None:
        """Cut off what cannot be read; to be called once by the one writer before it appends.

        A torn last line is dropped. Where a line before it is damaged, the whole file is copied to a file beside it,
        with a warning, before that line and all after it are cut off.

        Args:
            content: From `scan`; None to read the file now.
        """
        content = content or self.scan()
        if content.damaged is not None:
            kept = self.file.with_name(f"{self.file.name}.broken")
            shutil.copyfile(self.file, kept)
            place, what, _ = content.damaged.args
            log.warning(
                "%s: %s; the search goes on from the %d lines before it, and the file is kept as %s",
                place, what, len(content.lines), kept,
            )  # fmt: skip
        if self.file.exists() and content.num_bytes != self.file.stat().st_size:
            os.truncate(self.file, content.num_bytes)

    def scan(self) -> JournalContent:
        """Read the file, which need not exist."""
        data = untrusted.read_bytes(self.file, max_bytes=MAX_BYTES) if self.file.exists() else b""
        lines = data.splitlines(keepends=True)
        found: list[dict[str, Any]] = []
        num_bytes = 0
        for number, line in enumerate(lines, start=1):
            if number == len(lines) and not line.endswith(b"\n"):
                break
            where = f"{self.file}:{number}"
            try:
                found.append(_to_line(line, where=where))
            except (ValueError, RecursionError, StorageError) as error:
                what = error.args[1] if isinstance(error, StorageError) else "not a JSON object"
                way_out = "Resume the search, which goes on from the lines before, or restore the file"
                return JournalContent(found, RecordError(where, what, way_out), num_bytes)
            num_bytes += len(line)
        return JournalContent(found, None, num_bytes)


def _to_line(line: bytes, *, where: str) -> dict[str, Any]:
    """The object of a line; lines of the first version have no checksum.

    Raises:
        StorageError: The checksum does not match.
        ValueError: The line is not a JSON object.
    """
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return storage.open_checked(event, where=where) if "checksum" in event else event
