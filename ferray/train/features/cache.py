"""Views on the node's disk: filled by any number of processes together, whole or not there, bounded in size.

    CACHE/views/ID/features.npy          float16, shape (faces, channels, height, width)
    CACHE/views/ID/view.json             what it is of, and a checksum of every shard; touched when the view is used
    CACHE/views/ID.parts/features.npy    a view that is being filled
    CACHE/views/ID.parts/0003.json       its shard 3 is on the disk, with this checksum
    CACHE/views/.locks/shard-017.lock    held by the process that computes a certain shard

Whoever needs a view computes the shards that nobody else is at, so that two worker groups fill it in half the time and
none of them computes what the other does. Shards that are done survive the death of the process. Whoever finds the last
one done gives the folder its name.

Begin at `fill`; `open_view` reads what is there.
"""

import errno
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.arrays import open_array
from ferray.errors import DataError, StorageError
from ferray.files import storage, untrusted

log = logging.getLogger(__name__)

Features = NDArray[np.float16]

SHARD_FACES = 256
"""Faces of a shard, a multiple of the trunk's micro-batch; some seconds of a core."""

DEFAULT_LIMIT_GB = 100.0
"""Of all views together; the variable `FERRAY_CACHE_GB` says otherwise."""

RESERVE_BYTES = 1 << 30
"""What views leave free on the disk for others."""

STALE_S = 86_400.0
"""Age after which the parts of a view that nobody finished may be removed."""

MAX_FACTS_BYTES = 2**24
"""Of a view.json; one of a million faces has 50 kB."""

NUM_LOCKS = 512
"""Lock files of a cache, shared by all shards by their hash: removing a lock file while it is in use breaks it."""

WAY_OUT = "Free space, or name another cache folder with FERRAY_CACHE"

_verified: set[tuple[Path, int, tuple[int, ...]]] = set()
"""Views whose checksums this process has compared, with the time of their last write and the checksums."""


class NoRoomError(StorageError):
    """The disk, or the share of it that views may take, is too small for a view."""


def shards(num_faces: int) -> list[slice]:
    """The parts of a view, in order."""
    return [slice(begin, min(begin + SHARD_FACES, num_faces)) for begin in range(0, num_faces, SHARD_FACES)]


def open_view(folder: Path, shape: tuple[int, ...]) -> Features | None:
    """A view, mapped and read-only; None where there is none, or a damaged one, which is told.

    Args:
        folder: CACHE/views/ID.
        shape: That it must have.
    """
    file = folder / "features.npy"
    try:
        if not folder.exists():
            return None
        facts = untrusted.read_bytes(folder / "view.json", most_bytes=MAX_FACTS_BYTES)
        checksums = json.loads(facts)["checksums"]
        features: Features = open_array(file, shape=shape, dtype="<f2")
        written = (file, file.stat().st_mtime_ns, tuple(checksums))
        if written not in _verified:
            if checksums != [zlib.crc32(features[shard].data) for shard in shards(shape[0])]:
                raise ValueError("a checksum differs")
            _verified.add(written)
        os.utime(folder / "view.json")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DataError, StorageError) as error:
        log.warning("%s is damaged: the view is computed again (%s)", folder, error)
        return None
    return features


def fill(
    folder: Path, shape: tuple[int, ...], *, facts: dict[str, Any], compute: Callable[[slice, int], Features]
) -> Features:
    """Bring a view onto the disk, together with all who do the same at this moment, and open it.

    Args:
        folder: CACHE/views/ID.
        shape: Of the whole view.
        facts: What the view is of, for `view.json`.
        compute: Gives the features of some faces; also told how many faces of the view are done.

    Raises:
        NoRoomError: The view does not fit; nothing of it is on the disk.
        StorageError: The cache cannot be written.
    """
    parts = folder.with_suffix(".parts")
    with _told(folder):
        with storage.lock(_lock_file(folder)):
            features = open_view(folder, shape)
            if features is not None:
                return features
            shutil.rmtree(folder, ignore_errors=True)  # damaged
        _fill_shards(folder, parts, shape, compute)
        with storage.lock(_lock_file(folder)):
            if parts.exists() and not folder.exists():
                markers = [parts / _marker(number) for number in range(len(shards(shape[0])))]
                checksums = [json.loads(marker.read_bytes()) for marker in markers]
                storage.write_json(parts / "view.json", facts | {"checksums": checksums})
                parts.rename(folder)
                for marker in markers:
                    (folder / marker.name).unlink()
            features = open_view(folder, shape)
    if features is None:
        raise StorageError(str(folder), "was damaged as soon as it was written", "Check the disk; " + WAY_OUT)
    return features


def _fill_shards(folder: Path, parts: Path, shape: tuple[int, ...], compute: Callable[[slice, int], Features]) -> None:
    """Compute every shard that is not done and that nobody else is at; return when all are done."""
    all_shards = shards(shape[0])

    def is_done(number: int) -> bool:
        return (parts / _marker(number)).exists() or folder.exists()

    while left := [number for number in range(len(all_shards)) if not is_done(number)]:
        moved = False
        for number in left:
            with storage.lock_if_free(_lock_file(folder, number)) as held:
                if held and not is_done(number):
                    done = sum(shard.stop - shard.start for n, shard in enumerate(all_shards) if is_done(n))
                    features = compute(all_shards[number], done)
                    with storage.lock(_lock_file(folder)):
                        if not parts.exists():
                            _allocate(parts, shape)
                    _write_shard(parts / "features.npy", all_shards[number].start, features)
                    checksum = zlib.crc32(features.data)
                    storage.write_bytes(parts / _marker(number), json.dumps(checksum).encode())
                moved = moved or held
        if not moved:  # others are at all that is left: wait for one of them, and look again
            with storage.lock(_lock_file(folder, left[0])):
                pass


def _lock_file(folder: Path, shard: int | None = None) -> Path:
    """The lock of a shard, or of a whole view while it gets or changes its place."""
    bucket = zlib.crc32(f"{folder.name} {shard}".encode()) % NUM_LOCKS
    return folder.parent / ".locks" / f"{'view' if shard is None else 'shard'}-{bucket:03}.lock"


def _marker(number: int) -> str:
    return f"{number:04}.json"


def _write_shard(file: Path, begin: int, features: Features) -> None:
    """Write some rows of an .npy file; not through a memory map, which a bad disk would answer by killing us."""
    with file.open("r+b") as out:
        np.lib.format.read_magic(out)
        np.lib.format.read_array_header_1_0(out)
        out.seek(begin * features[0].nbytes, os.SEEK_CUR)
        out.write(features.data)
        out.flush()
        os.fsync(out.fileno())


def _allocate(parts: Path, shape: tuple[int, ...]) -> None:
    """An empty view with all its room on the disk, so that a full disk shows now and not in the middle."""
    views = parts.parent
    num_bytes = int(np.prod(shape)) * np.dtype(np.float16).itemsize
    with storage.lock(views / ".locks" / "room.lock"):
        for left in views.glob(f".{parts.name}.*"):  # of a process that died: we hold the view's lock
            shutil.rmtree(left, ignore_errors=True)
        _make_room(views, num_bytes)
        temporary = Path(tempfile.mkdtemp(dir=views, prefix=f".{parts.name}."))
        try:
            temporary.chmod(0o755)
            with (temporary / "features.npy").open("wb") as out:
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
                    "fortran_order": False,
                    "shape": shape,
                }
                np.lib.format.write_array_header_1_0(out, header)
                out.flush()
                if num_bytes:
                    os.posix_fallocate(out.fileno(), out.tell(), num_bytes)
            temporary.rename(parts)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _make_room(views: Path, num_bytes: int) -> None:
    """Remove the views that were not used for longest until a new one fits; the caller holds the room's lock.

    A view that another process has mapped stays readable to it.

    Raises:
        NoRoomError: It does not fit even so.
    """
    limit = limit_bytes()
    kept = []
    for folder in views.iterdir():
        file = folder / ("features.npy" if folder.suffix == ".parts" else "view.json")
        with suppress(OSError):  # removed meanwhile, or no view at all
            kept.append((file.stat().st_mtime, (folder / "features.npy").stat().st_size, folder))
    kept.sort()
    total = sum(size for _, size, _ in kept)
    can_go = [view for view in kept if view[2].suffix != ".parts" or time.time() - view[0] > STALE_S]

    def fits() -> bool:
        return total + num_bytes <= limit and num_bytes + RESERVE_BYTES <= shutil.disk_usage(views).free

    while can_go and num_bytes <= limit and not fits():
        _, size, folder = can_go.pop(0)
        log.info("%s makes room for a new view", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        total -= size
    if not fits():
        free = shutil.disk_usage(views).free
        raise NoRoomError(
            str(views),
            f"no room for a view of {num_bytes / 1e6:,.0f} MB: {free / 1e6:,.0f} MB are free on the disk, of which"
            f" {RESERVE_BYTES / 1e6:,.0f} stay so, and all views may take {limit / 1e6:,.0f}",
            "Free space, name another cache folder with FERRAY_CACHE, or raise FERRAY_CACHE_GB",
        )


def limit_bytes() -> int:
    """What all views together may take: `FERRAY_CACHE_GB`, or `DEFAULT_LIMIT_GB`.

    Raises:
        StorageError: The variable is not a number.
    """
    named = os.environ.get("FERRAY_CACHE_GB")
    try:
        gigabytes = DEFAULT_LIMIT_GB if named is None else float(named)
        if not 0 <= gigabytes < float("inf"):
            raise ValueError
    except ValueError as error:
        raise StorageError("FERRAY_CACHE_GB", f"{named!r} is not a size", "Give gigabytes, such as 20") from error
    return int(gigabytes * 1e9)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Faults of the disk as errors that name the cache."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        kind = NoRoomError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(str(folder), f"cannot be written: {error.strerror or error}", WAY_OUT) from error
