"""A journal: the decisions of a search, one per line, so that they can be repeated in the same order.

Begin at `Journal`.
"""

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from ferray.errors import RecordError, StorageError
from ferray.files import storage, untrusted

log = logging.getLogger(__name__)


MAX_BYTES = 2**30
"""Largest size of a journal; a line has about 200 bytes."""


class Journal:
    """An append-only file of JSON objects, one per line, each with a checksum.

    A crash may leave an incomplete last line, which is removed before the next append. Where another line is damaged,
    the journal ends before it, and `repair` keeps the rest in a copy.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[dict[str, Any]]:
        """All complete lines, in order.

        Raises:
            RecordError: A line before the last is damaged.
        """
        events, damaged, _ = self._scan()
        if damaged is not None:
            raise damaged
        return events

    def read_whole(self) -> list[dict[str, Any]]:
        """The lines before the first damaged one, which are those that `repair` keeps, without changing the file."""
        return self._scan()[0]

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

    def repair(self) -> None:
        """Remove what cannot be read; to be called once by the only writer before it appends.

        An incomplete last line is dropped. Where an earlier line is damaged, it and all later lines are removed with a
        warning, and kept in a copy of the journal beside it: their decisions are made again.
        """
        if not self.file.exists():
            return
        events, damaged, num_bytes = self._scan()
        if damaged is not None:
            kept = self.file.with_name(f"{self.file.name}.broken")
            shutil.copyfile(self.file, kept)
            place, what, _ = damaged.args
            log.warning(
                "%s: %s; it goes on from the %d lines before, all are kept in %s", place, what, len(events), kept
            )
        if num_bytes != self.file.stat().st_size:
            os.truncate(self.file, num_bytes)

    def _scan(self) -> tuple[list[dict[str, Any]], RecordError | None, int]:
        """The complete lines before the first damaged one; its error, None where only the last is incomplete; bytes."""
        data = untrusted.read_bytes(self.file, max_bytes=MAX_BYTES) if self.file.exists() else b""
        lines = data.splitlines(keepends=True)
        events: list[dict[str, Any]] = []
        num_bytes = 0
        for number, line in enumerate(lines, start=1):
            if number == len(lines) and not line.endswith(b"\n"):
                break
            where = f"{self.file}:{number}"
            try:
                events.append(_to_event(line, where=where))
            except (ValueError, RecursionError, StorageError) as error:
                what = error.args[1] if isinstance(error, StorageError) else "not a JSON object"
                way_out = "Resume the search, which goes on from the lines before, or restore the file"
                return events, RecordError(where, what, way_out), num_bytes
            num_bytes += len(line)
        return events, None, num_bytes


def _to_event(line: bytes, *, where: str) -> dict[str, Any]:
    """A line of a journal; lines of the first version have no checksum.

    Raises:
        StorageError: The checksum does not match.
        ValueError: The line is not a JSON object.
    """
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return storage.open_checked(event, where=where) if "checksum" in event else event
