"""Atomic writes, checksums, locks, leases, and the cache folder.

A reader of a path written by `write_bytes` finds the old content or the new one, never a part, even after a power loss.
A `Lease` lets one process after the other write a folder: a file of a process that has lost the lease is discarded.
"""

import errno
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ferray.errors import FencedError, LockedError, StorageError
from ferray.files import untrusted

PARTIAL = ".partial"
"""Suffix of temporary files; a process that is killed while it writes leaves one behind."""

MAX_JSON_BYTES = 64 * 2**20
"""A larger JSON file is refused: ferray writes none."""

LEASE_WAIT_S = 60.0
"""Longest wait for another process that renames a file."""


def write_bytes(
    path: Path, data: bytes, *, lease: "Lease | None" = None, keep_previous: bool = False, durable: bool = True
) -> None:
    """Write a file whole or not at all, through a temporary name in the same folder.

    Args:
        path: The file.
        data: All of its content.
        lease: The lease on its folder; it must still be held when the file is renamed to its final name.
        keep_previous: Keep the file that is replaced, under the name `previous(path)`.
        durable: Whether it must be on the disk when this returns; else a power loss may leave the old or an empty file.

    Raises:
        FencedError: Another process holds the lease by now; nothing is changed.
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
            if durable:
                os.fsync(file.fileno())
        with nullcontext() if lease is None else lease.held():
            if keep_previous and path.exists():
                _keep_previous(path)
            temporary.replace(path)
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written: {error.strerror or error}", "Free space or name another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # it still exists if it was not renamed, also after Ctrl-C


def previous(path: Path) -> Path:
    """Where `write_bytes` keeps the file that it replaces, with `keep_previous`."""
    return path.with_name(f"{path.name}.previous")


def _keep_previous(path: Path) -> None:
    """Link a file to its second name, so that it remains when the first name is given to a new file."""
    link = path.with_name(f".{path.name}.link{PARTIAL}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copyfile(path, link)  # a file system without hard links
    link.replace(previous(path))
    link.unlink(missing_ok=True)  # after a kill at this point both are one file, and renaming did nothing


def remove_partial(folder: Path) -> None:
    """Remove the temporary files of killed processes, in a folder and below.

    To be called where no other process writes.
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
        return json.loads(untrusted.read_bytes(path, max_bytes=MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            str(path), f"not JSON: {error}", "Restore the file, or remove its folder and run again"
        ) from error


def write_checked_json(
    path: Path,
    value: dict[str, Any],
    *,
    lease: "Lease | None" = None,
    keep_previous: bool = False,
    durable: bool = True,
) -> None:
    """Write a JSON object as `write_json` does, with a checksum of the content as its last key.

    Args:
        path: The file.
        value: An object without a key `checksum`.
        lease: As `write_bytes`.
        keep_previous: As `write_bytes`.
        durable: As `write_bytes`.

    Raises:
        FencedError: As `write_bytes`.
        StorageError: As `write_bytes`.
    """
    text = json.dumps(with_checksum(value), indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), lease=lease, keep_previous=keep_previous, durable=durable)


def with_checksum(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with one more key, `checksum`, as the last."""
    return value | {"checksum": _checksum(value)}


def open_checked(value: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The object that `with_checksum` was given.

    Args:
        value: Read from JSON.
        where: The file, for errors.

    Raises:
        StorageError: The object has no checksum, or one that does not match its content.
    """
    content = {key: entry for key, entry in value.items() if key != "checksum"}
    given, found = value.get("checksum"), _checksum(content)
    if given != found:
        what = f"damaged: its checksum is {given!r}, its content has {found!r}"
        raise StorageError(where, what, "Restore the file, or remove its folder and run again")
    return content


def _checksum(value: dict[str, Any]) -> str:
    """CRC-32 of an object's JSON, the same before it is written and after it is read: JSON keeps floats exactly."""
    return f"{zlib.crc32(json.dumps(value, separators=(',', ':')).encode()):08x}"


@contextmanager
def lock(path: Path, *, wait_s: float = -1) -> Iterator[None]:
    """Hold a lock file while the block runs; the lock of a dead process is free.

    Args:
        path: The lock file; it is not removed afterwards.
        wait_s: Longest wait in seconds; negative waits forever, 0 does not wait.

    Raises:
        LockedError: Another process holds the lock after `wait_s`.
        StorageError: The folder cannot be written.
    """
    try:
        held = _file_lock(path)
        held.acquire(timeout=wait_s)
    except Timeout as error:
        raise LockedError(
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
    """Hold a lock file while the block runs, unless another process holds it; yields whether the lock is held.

    Args:
        path: The lock file; it is not removed afterwards.

    Raises:
        OSError: The folder cannot be written.
    """
    held = _file_lock(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _file_lock(path: Path) -> FileLock:
    """A lock file that all who may write its folder can lock; where it is new, it is created by locking it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, mode=0o600 | path.parent.stat().st_mode & 0o666)


def share_with_folder(path: Path) -> None:
    """Give a new file or folder to all who may write the folder that it lies in, such as those of a group.

    Raises:
        OSError: It is not this user's.
    """
    mode = path.parent.stat().st_mode
    path.chmod(0o700 | mode & 0o2777 if path.is_dir() else 0o600 | mode & 0o666)


class Lease:
    """The right to write files of a folder, until another process takes it with a higher number.

    A process that was disconnected, stopped or believed dead may come back and continue to write. The process that took
    over its work has a higher number, and a file of the old one is discarded: the number is checked and the file is
    renamed under one lock, which is released if the process is killed. (The number is a fencing token.)

    Args:
        folder: The folder.
        number: As given to `take`.
    """

    def __init__(self, folder: Path, number: tuple[int, int]) -> None:
        self._file = folder / "lease.json"
        self._number = number

    @classmethod
    def take(cls, folder: Path, number: tuple[int, int]) -> "Lease":
        """Take the lease on a folder over.

        Args:
            folder: The folder; it is created if it is missing.
            number: Higher than all before it: the session of the search, and a count within the session.

        Raises:
            FencedError: The lease has this number already, or a higher one.
            LockedError: The lock is not free within `LEASE_WAIT_S`.
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
        """While the block runs, no other process can take the lease.

        Raises:
            FencedError: Another process has taken it already.
            LockedError: The lock is not free within `LEASE_WAIT_S`.
        """
        with self._locked():
            if self._holder() != self._number:
                raise self._fenced()
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock: a writer that is stopped in the middle of a rename holds up this folder alone."""
        with ExitStack() as stack:
            try:
                stack.enter_context(lock(self._file.parent / ".lease.lock", wait_s=LEASE_WAIT_S))
            except LockedError as error:
                what = f"a writer that is stopped or does not answer has held it for {LEASE_WAIT_S:.0f} s"
                raise LockedError(str(self._file.parent), what, "End that process, or see its disk") from error
            yield

    def _holder(self) -> tuple[int, int]:
        """The number of the current holder; below all numbers where there is none, or where the file is damaged."""
        try:
            session, count = read_json(self._file)
            return int(session), int(count)
        except (StorageError, TypeError, ValueError):
            return (-1, -1)

    def _fenced(self) -> FencedError:
        what = f"taken over by writer {list(self._holder())}, so writer {list(self._number)} must stop"
        return FencedError(str(self._file.parent), what, "Nothing is lost: the new writer continues")


CACHE_WAY_OUT = "Free space, or name another cache folder with FERRAY_CACHE"


def cache_dir() -> Path:
    """The node's cache folder: `FERRAY_CACHE`, or `ferray` under the user's cache folder.

    Raises:
        StorageError: None is named, and the user has no home folder.
    """
    named = os.environ.get("FERRAY_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "ferray"
    except RuntimeError as error:
        what = f"there is no home folder: HOME is not set, and user {os.getuid()} is not known here"
        raise StorageError("the cache folder", what, "Name a folder with FERRAY_CACHE") from error


def check_folder(folder: Path, way_out: str) -> None:
    """That a folder exists and can be written, or can be made; nothing is made yet.

    Raises:
        StorageError: It cannot.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise StorageError(str(folder), f"{existing} is a file", way_out)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(str(folder), f"{existing} cannot be written by this user", way_out)


def give_home() -> None:
    """A user without a home folder, as in a container that runs as any user, gets the cache folder for one, if named.

    Libraries ask for a home folder while they are imported: Ray for a folder in it that is not used here.
    """
    try:
        has_home = Path.home() != Path("/") or os.getuid() == 0
    except RuntimeError:
        has_home = False
    if not has_home and os.environ.get("FERRAY_CACHE"):
        os.environ["HOME"] = str(cache_dir())


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Errors of the block, which writes into the cache, name the variable that moves it.

    Args:
        folder: The part of the cache that is written.

    Raises:
        StorageError: For any error of a file that is not about its content.
    """
    try:
        yield
    except StorageError as error:
        where, what, way_out = error.args
        if "FERRAY_CACHE" in way_out:
            raise
        raise type(error)(where, what, CACHE_WAY_OUT) from error
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise StorageError(str(error.filename or folder), what, CACHE_WAY_OUT) from error
