"""A journal: what was decided, line by line, so that it can be decided again in the same order.

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
"""Of a journal; a line has some 200."""


class Journal:
    """An append-only file of JSON objects, one a line with a checksum, each in the file at once and mostly on the disk.

    A line that was torn by a crash is the last one; it is cut off before the next append. Another line that is damaged
    ends what the journal says: `repair` sets the rest aside.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[dict[str, Any]]:
        """All whole lines, in order.

        Raises:
            RecordError: A line before the last is damaged.
        """
        events, damaged, _ = self._scan()
        if damaged is not None:
            raise damaged
        return events

    def read_whole(self) -> list[dict[str, Any]]:
        """The lines before the first damaged one: what `repair` leaves, for those who may not write."""
        return self._scan()[0]

    def append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        """Add one line; it is on the disk when this returns, or with the next durable one."""
        text = json.dumps(storage.with_checksum(event), separators=(",", ":"), allow_nan=False)
        line = (text + "\n").encode()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    if file.write(line) != len(line):  # a full disk takes a part of the line without a complaint
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
        """Cut off what cannot be read; to be called once by the one writer before it appends.

        A torn last line is dropped. Where a line before is damaged, it and all after it are kept in a file beside the
        journal, with a warning: what they decided is decided anew.
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
        """The whole lines before the first damaged one, its error (None for a torn last one or none), their bytes."""
        data = untrusted.read_bytes(self.file, most_bytes=MAX_BYTES) if self.file.exists() else b""
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
    """A line of a journal; those of the first version have no checksum.

    Raises:
        StorageError: Its checksum is wrong.
        ValueError: It is no JSON object.
    """
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return storage.open_checked(event, where=where) if "checksum" in event else event
