"""Files that are whole or not there: atomic writes, checksums, locks, leases and the cache folder.

A reader of a path written by `write_bytes` finds the old content or the new one, never a part, even after a power loss.
A `Lease` lets one process after the other write a folder: the file of whoever lost it does not get its name.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ferray.errors import FencedError, StorageError
from ferray.files import untrusted

PARTIAL = ".partial"
"""How the names of files end that are being written; a process that is killed leaves one behind."""

MAX_JSON_BYTES = 64 * 2**20
"""A larger JSON file is nobody's that ferray knows of."""

LEASE_WAIT_S = 60.0
"""Longest wait for whoever is giving a file its name."""


def write_bytes(path: Path, data: bytes, *, lease: "Lease | None" = None, keep_previous: bool = False) -> None:
    """Write a file whole or not at all, through a temporary name in the same folder.

    Args:
        path: The file.
        data: All of its content.
        lease: On its folder; it must still be held when the file gets its name.
        keep_previous: Leave the file that is replaced beside it, under the name `previous(path)`.

    Raises:
        FencedError: Somebody else holds the lease by now; nothing is changed.
        StorageError: The folder cannot be written, or the disk is full; the old file is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        with nullcontext() if lease is None else lease.held():
            if keep_previous and path.exists():
                _keep(path)
            temporary.replace(path)
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written: {error.strerror or error}", "Free space or name another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # there only if it was not renamed: Ctrl-C leaves nothing either


def previous(path: Path) -> Path:
    """Where `write_bytes` leaves the file that it replaces, if asked to."""
    return path.with_name(f"{path.name}.previous")


def _keep(path: Path) -> None:
    """Give a file its second name, which it keeps when the first goes to another."""
    link = path.with_name(f".{path.name}.link{PARTIAL}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copyfile(path, link)  # a file system without hard links
    link.replace(previous(path))
    link.unlink(missing_ok=True)  # where a process was killed here before, both are one file: renaming does nothing


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing, in a folder and below.

    To be called where nobody else writes.
    """
    for file in folder.rglob(f".*{PARTIAL}"):
        with suppress(OSError):
            file.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all, indented, keys in the given order.

    Raises:
        StorageError: As `write_bytes`.
    """
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        StorageError: The file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(untrusted.read_bytes(path, most_bytes=MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            str(path), f"not JSON: {error}", "Restore the file, or remove its folder and run again"
        ) from error


def write_checked_json(
    path: Path, value: dict[str, Any], *, lease: "Lease | None" = None, keep_previous: bool = False
) -> None:
    """As `write_json`, with a checksum of the content as its last key.

    Args:
        path: The file.
        value: An object without a key `checksum`.
        lease: As `write_bytes`.
        keep_previous: As `write_bytes`.

    Raises:
        FencedError: As `write_bytes`.
        StorageError: As `write_bytes`.
    """
    text = json.dumps(with_checksum(value), indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), lease=lease, keep_previous=keep_previous)


def with_checksum(value: dict[str, Any]) -> dict[str, Any]:
    """An object of JSON with one key more, `checksum`, the last."""
    return value | {"checksum": _checksum(value)}


def open_checked(value: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The object that `with_checksum` was given.

    Args:
        value: Read from JSON.
        where: The file, for errors.

    Raises:
        StorageError: It has no checksum, or its content is not what was written.
    """
    content = {key: entry for key, entry in value.items() if key != "checksum"}
    given, found = value.get("checksum"), _checksum(content)
    if given != found:
        what = f"damaged: its checksum is {given!r}, its content has {found!r}"
        raise StorageError(where, what, "Restore the file, or remove its folder and run again")
    return content


def _checksum(value: dict[str, Any]) -> str:
    """CRC-32 of an object's JSON, the same before it is written and after it is read: floats come back as they went."""
    return f"{zlib.crc32(json.dumps(value, separators=(',', ':')).encode()):08x}"


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be read: {error.strerror or error}", "Check the name and the folder"
        ) from error


@contextmanager
def lock(path: Path, *, wait_s: float = -1) -> Iterator[None]:
    """Hold a lock file while the block runs; the lock of a dead process counts as free.

    Args:
        path: The lock file; it is left in place.
        wait_s: Longest wait in seconds; negative waits for ever, 0 does not wait.

    Raises:
        StorageError: Another process holds the lock after `wait_s`, or the folder cannot be written.
    """
    held = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=wait_s)
    except Timeout as error:
        raise StorageError(
            str(path), "another process is using this folder", "Wait for it to end, or choose another name"
        ) from error
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be locked: {error.strerror or error}", "Check the folder, or name another"
        ) from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs, if nobody else does; tells whether.

    Args:
        path: The lock file; it is left in place.

    Raises:
        OSError: The folder cannot be written.
    """
    held = FileLock(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


class Lease:
    """The right to give files of a folder their names, until somebody with a higher number takes it.

    A process that was cut off, stopped or believed dead may come back and go on writing. Whoever takes over its work
    has a higher number, and the file of the one who comes back does not get its name: the check and the renaming
    happen under one lock, which a killed process lets go.

    Args:
        folder: What is written.
        number: From `take`.
    """

    def __init__(self, folder: Path, number: tuple[int, int]) -> None:
        self._file = folder / "lease.json"
        self._number = number

    @classmethod
    def take(cls, folder: Path, number: tuple[int, int]) -> "Lease":
        """Take a folder over.

        Args:
            folder: What is to be written; made where it is missing.
            number: Higher than all that were given before: the session of the search, and a count in it.

        Raises:
            FencedError: A number as high, or a higher one, has it.
            StorageError: The folder cannot be written.
        """
        lease = cls(folder, number)
        with lease._locked():
            if lease._holder() >= number:
                raise lease._fenced()
            write_bytes(lease._file, json.dumps(number).encode())
        return lease

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody takes the lease while the block runs.

        Raises:
            FencedError: Somebody has it already.
            StorageError: The lock cannot be had.
        """
        with self._locked():
            if self._holder() != self._number:
                raise self._fenced()
            yield

    def _locked(self) -> AbstractContextManager[None]:
        return lock(self._file.parent.parent / ".lease.lock", wait_s=LEASE_WAIT_S)

    def _holder(self) -> tuple[int, int]:
        """Whose it is; below all numbers where nobody's, or where the file is damaged."""
        try:
            session, count = read_json(self._file)
            return int(session), int(count)
        except (StorageError, TypeError, ValueError):
            return (-1, -1)

    def _fenced(self) -> FencedError:
        what = f"taken over by {list(self._holder())}; {list(self._number)} writes no more"
        return FencedError(str(self._file.parent), what, "Nothing is lost: whoever has it goes on")


def cache_dir() -> Path:
    """The node's cache folder: `FERRAY_CACHE`, or `ferray` under the user's cache folder."""
    named = os.environ.get("FERRAY_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ferray"
