"""A journal in a bucket: segments that are added to by one process at a time.

    journal/000000.jsonl    a line `{"session": 3}`, then lines as in the journal of a folder
    journal/000001.jsonl    begun when the one before has `SEGMENT_BYTES`

A driver works with the file on its own disk and sends each durable line, with the lines before it, by replacing the
last segment. Whoever goes on with the search writes its own session's number into that segment first, so that the
version of a former driver is gone and nothing that it still sends is accepted. Begin at `BucketJournal`.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferray.errors import FencedError, RecordError
from ferray.files import buckets, storage
from ferray.files.buckets import Version
from ferray.files.journal import Journal, JournalContent
from ferray.files.location import Address
from ferray.files.outage import patiently

log = logging.getLogger(__name__)

SEGMENT_BYTES = 256 * 2**10
"""A segment that has as many is not added to; each line that is sent costs the sending of its segment."""

MAX_SEGMENTS = 10_000


class BucketJournal(Journal):
    """A journal whose lines are on this machine, and in a bucket as soon as a durable one is appended.

    Args:
        file: On this machine.
        folder: The prefix of its segments.
        session: Tells the number of the session that appends.
    """

    def __init__(self, file: Path, folder: Address, session: Callable[[], int]) -> None:
        super().__init__(file)
        self._folder, self._session = folder, session
        self._number = 0  # of the last segment
        self._version: Version | None = None
        self._begin = 0  # where that begins in the file
        self._num_sent = 0  # bytes of the file that are in the bucket
        self._owner = -1  # the session that the last segment names

    def fetch(self) -> None:
        """Bring the file up to date with the bucket; lines that were never sent are dropped.

        Raises:
            RecordError: A segment is none.
            BucketError: The bucket cannot be read.
            StorageError: The file cannot be written.
        """
        parts: list[bytes] = []
        self._number, self._version, self._begin, self._owner = 0, None, 0, -1
        for number in range(MAX_SEGMENTS):
            address = self._segment(number)
            version = buckets.read_version(address, max_bytes=16 * SEGMENT_BYTES)
            if version is None:
                break
            self._owner, lines = _parse(version.data, where=str(address))
            self._number, self._version, self._begin = number, version, sum(map(len, parts))
            parts.append(lines)
        content = b"".join(parts)
        if content or self.file.exists():
            storage.write_bytes(self.file, content)
        self._num_sent = len(content)

    def append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        """As `Journal.append`; a durable line is in the bucket, too, when this returns.

        Raises:
            FencedError: Another process goes on with the search.
            BucketError: The bucket cannot be written.
        """
        super().append(event, durable=durable)
        if durable:
            self.send()

    def repair(self, content: JournalContent | None = None) -> None:
        """As `Journal.repair`; segments with what was cut off are replaced with the next line."""
        super().repair(content)
        size = self.file.stat().st_size if self.file.exists() else 0
        self._num_sent = min(self._num_sent, size)
        if size < self._begin:
            where, what = str(self._folder), "damaged before its last segment"
            raise RecordError(where, what, "Start the search under another name")

    def send(self) -> None:
        """Send what was appended since.

        Raises:
            FencedError: As `append`.
            BucketError: As `append`.
        """
        size = self.file.stat().st_size if self.file.exists() else 0
        if size == self._num_sent and (self._owner == self._session() or self._version is None):
            return
        if self._num_sent - self._begin >= SEGMENT_BYTES and self._owner == self._session():
            self._number, self._version, self._begin = self._number + 1, None, self._num_sent
        with self.file.open("rb") as file:
            file.seek(self._begin)
            lines = file.read()
        data = json.dumps({"session": self._session()}).encode() + b"\n" + lines
        address, before = self._segment(self._number), self._version
        version = patiently(lambda: buckets.replace_version(address, data, before=before))
        if version is None:
            what = f"another process goes on with the search, so session {self._session()} must stop"
            raise FencedError(str(address), what, "Nothing is lost; see who it is: the object lock.json")
        self._version, self._num_sent, self._owner = version, self._begin + len(lines), self._session()

    def _segment(self, number: int) -> Address:
        return self._folder / f"{number:06d}.jsonl"


def _parse(data: bytes, *, where: str) -> tuple[int, bytes]:
    """The session and the lines of a segment."""
    first, _, lines = data.partition(b"\n")
    try:
        return int(json.loads(first)["session"]), lines
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(where, "not a segment of a journal", "Restore the object") from error
