"""`live.json` in a search's folder: the view that its driver wrote last, and which process that was.

The driver replaces the file every `WRITE_S` seconds, so that it is a sign of life, too. Whether the process is still
there can be proved on its machine alone, by its number and start time, and only within its container.

Begin at `read_status`.
"""

import os
import socket
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray.errors import StorageError
from ferray.files import storage, untrusted
from ferray.report.watch.view import SearchView, Shown

STATUS_FILE = "live.json"

WRITE_S = 2.0
"""Seconds between two versions of the file."""

MAX_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process, so that it cannot be mistaken for another of the same number."""

    host: Shown
    pid: Annotated[int, Field(ge=0)]
    place: Shown = ""
    """The machine since it was started, and its space of process numbers; empty where the system does not say."""
    started: Shown = ""
    """When it was started, in the system's ticks."""

    @classmethod
    def own(cls) -> "ProcessIdentity":
        """That of this process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, place=_place(), started=_start_of(pid) or "")

    def is_alive(self) -> bool | None:
        """Whether it is still there; None where that cannot be seen from here."""
        if not self.place or self.place != _place():
            return None
        return _start_of(self.pid) == self.started


@dataclass(frozen=True, kw_only=True)
class LiveStatus:
    """The content of `live.json`."""

    view: SearchView
    process: ProcessIdentity
    session: Annotated[int, Field(ge=0)] = field(default=0)
    """How often the search had been begun or resumed."""


_STATUS = TypeAdapter(LiveStatus)


def write_status(folder: Path, status: LiveStatus) -> None:
    """Replace the file; a power loss may lose the last versions of it.

    Raises:
        StorageError: It cannot be written.
    """
    storage.write_bytes(folder / STATUS_FILE, _STATUS.dump_json(status), durable=False)


def read_status(folder: Path) -> LiveStatus | None:
    """The content of the file; None where there is none, or where it cannot be read or is no status."""
    try:
        data = untrusted.read_bytes(folder / STATUS_FILE, max_bytes=MAX_BYTES)
        return _STATUS.validate_json(data)
    except (StorageError, ValidationError, RecursionError):
        return None


def _place() -> str:
    """This machine since it was started, and this container's process numbers; empty where it is not Linux."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """The start time of a process; None if there is none of this number, or it has ended and waits for its parent."""
    try:
        # The name, in parentheses, may have any signs: the fields are counted after its last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return None
