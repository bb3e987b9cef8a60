"""Files that are whole or not there: atomic writes, locks and the cache folder.

A reader of a path written by `write_bytes` finds the old content or the new one, never a part, even after a power loss.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ferray.errors import StorageError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, through a temporary name in the same folder.

    Raises:
        StorageError: The folder cannot be written, or the disk is full; the old file is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written: {error.strerror or error}", "Free space or name another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # there only if it was not renamed: Ctrl-C leaves nothing either


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
        return json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be read: {error.strerror or error}", "Check the name and the folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StorageError(
            str(path), f"not JSON: {error}", "Restore the file, or remove its folder and run again"
        ) from error


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


def cache_dir() -> Path:
    """The node's cache folder: `FERRAY_CACHE`, or `ferray` under the user's cache folder."""
    named = os.environ.get("FERRAY_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ferray"
