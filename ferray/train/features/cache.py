"""Views on the node's disk: filled by any number of processes together, whole or absent, bounded in size.

    CACHE/views/ID/features.npy          float16, shape (faces, channels, height, width)
    CACHE/views/ID/view.json             the view's facts and a checksum of every shard; touched when the view is used
    CACHE/views/ID.parts/features.npy    a view that is being filled
    CACHE/views/ID.parts/0003.json       the checksum of its shard 3, which is on the disk
    CACHE/views/.locks/shard-017.lock    held by the process that computes a certain shard

Each process that needs a view computes the shards that no other process is computing, so that two worker groups fill
it in half the time. Finished shards survive the death of the process. The process that finds the last shard finished
renames the folder to its final name.

A finished view is read without a lock, so a cache that can only be read is of use. Users share a cache whose folder
they may all write: what is created in it has the permissions of that folder, whatever the umask.

Begin at `fill`; `open_view` reads a finished view.
"""

import errno
import json
import logging
import math
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
"""Largest size of all views together, unless the variable `FERRAY_CACHE_GB` names another."""

RESERVE_BYTES = 1 << 30
"""Space on the disk that views leave free."""

STALE_S = 86_400.0
"""Age after which an unfinished view may be removed."""

MAX_FACTS_BYTES = 2**24
"""Largest size of a view.json; one of a million faces has 50 kB."""

NUM_LOCKS = 512
"""Lock files of a cache, which shards share by their hash; fixed, since removing a lock file in use would break it."""

_verified: set[tuple[Path, int, tuple[int, ...]]] = set()
"""Views whose checksums this process has verified, with the time of their last write and the checksums."""


class NoRoomError(StorageError):
    """The disk, or the part of it that views may use, is too small for a view."""


def shards(num_faces: int) -> list[slice]:
    """The parts of a view, in order."""
    return [slice(begin, min(begin + SHARD_FACES, num_faces)) for begin in range(0, num_faces, SHARD_FACES)]


def open_view(folder: Path, shape: tuple[int, ...]) -> Features | None:
    """A finished view, memory-mapped and read-only; None where there is none, or a damaged one, which is logged.

    Args:
        folder: CACHE/views/ID.
        shape: The expected shape.
    """
    file = folder / "features.npy"
    try:
        if not folder.exists():
            return None
        facts = untrusted.read_bytes(folder / "view.json", max_bytes=MAX_FACTS_BYTES)
        checksums = json.loads(facts)["checksums"]
        features: Features = open_array(file, shape=shape, dtype="<f2")
        version = (file, file.stat().st_mtime_ns, tuple(checksums))
        if version not in _verified:
            if checksums != [zlib.crc32(features[shard].data) for shard in shards(shape[0])]:
                raise ValueError("a checksum differs")
            _verified.add(version)
        with suppress(OSError):  # another user's view, or a cache that can only be read
            os.utime(folder / "view.json")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DataError, StorageError) as error:
        log.warning("%s is damaged: the view is computed again (%s)", folder, error)
        return None
    return features


def fill(
    folder: Path, shape: tuple[int, ...], *, facts: dict[str, Any], compute: Callable[[slice, int], Features]
) -> Features:
    """Compute a view on the disk, together with all processes that need it at this moment, and open it.

    Args:
        folder: CACHE/views/ID.
        shape: The shape of the whole view.
        facts: The fields of the view, for `view.json`.
        compute: Returns the features of a slice of faces; its second argument is the number of finished faces.

    Raises:
        NoRoomError: The view does not fit; nothing of it is on the disk.
        StorageError: The cache cannot be written.
    """
    parts = folder.with_suffix(".parts")
    with _disk_errors(folder):
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
                storage.share_with_folder(parts / "view.json")
                parts.rename(folder)
                for marker in markers:
                    (folder / marker.name).unlink()
            features = open_view(folder, shape)
    if features is None:
        raise StorageError(
            str(folder), "damaged although it was just written", "Check the disk; " + storage.CACHE_WAY_OUT
        )
    return features


def _fill_shards(folder: Path, parts: Path, shape: tuple[int, ...], compute: Callable[[slice, int], Features]) -> None:
    """Compute every unfinished shard that no other process is computing; return when all are finished."""
    all_shards = shards(shape[0])

    def is_done(number: int) -> bool:
        return (parts / _marker(number)).exists() or folder.exists()

    while unfinished := [number for number in range(len(all_shards)) if not is_done(number)]:
        has_progressed = False
        for number in unfinished:
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
                has_progressed = has_progressed or held
        if not has_progressed:  # other processes compute all of them: wait for one, and look again
            with storage.lock(_lock_file(folder, unfinished[0])):
                pass


def _lock_file(folder: Path, shard: int | None = None) -> Path:
    """The lock of a shard, or of the view's folders while they are created or renamed."""
    bucket = zlib.crc32(f"{folder.name} {shard}".encode()) % NUM_LOCKS
    return folder.parent / ".locks" / f"{'view' if shard is None else 'shard'}-{bucket:03}.lock"


def _marker(number: int) -> str:
    return f"{number:04}.json"


def _write_shard(file: Path, begin: int, features: Features) -> None:
    """Write some rows of an .npy file; not through a memory map, where a disk error would kill the process."""
    with file.open("r+b") as out:
        np.lib.format.read_magic(out)
        np.lib.format.read_array_header_1_0(out)
        out.seek(begin * features[0].nbytes, os.SEEK_CUR)
        out.write(features.data)
        out.flush()
        os.fsync(out.fileno())


def _allocate(parts: Path, shape: tuple[int, ...]) -> None:
    """Create the file of a view in its full size, so that a full disk is an error now and not in the middle."""
    views = parts.parent
    num_bytes = int(np.prod(shape)) * np.dtype(np.float16).itemsize
    with storage.lock(views / ".locks" / "room.lock"):
        for abandoned in views.glob(f".{parts.name}.*"):  # by a process that died: this one holds the view's lock
            shutil.rmtree(abandoned, ignore_errors=True)
        _make_room(views, num_bytes)
        temporary = Path(tempfile.mkdtemp(dir=views, prefix=f".{parts.name}."))
        try:
            storage.share_with_folder(temporary)
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
            storage.share_with_folder(temporary / "features.npy")
            temporary.rename(parts)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _make_room(views: Path, num_bytes: int) -> None:
    """Remove the least recently used views until a new one fits; the caller holds `room.lock`.

    A view that another process has mapped stays readable to it.

    Raises:
        NoRoomError: It does not fit even then.
    """
    limit = limit_bytes()
    kept = []
    for folder in views.iterdir():
        file = folder / ("features.npy" if folder.suffix == ".parts" else "view.json")
        with suppress(OSError):  # removed meanwhile, or no view at all
            kept.append((file.stat().st_mtime, (folder / "features.npy").stat().st_size, folder))
    kept.sort()
    total = sum(size for _, size, _ in kept)
    removable = [view for view in kept if view[2].suffix != ".parts" or time.time() - view[0] > STALE_S]

    def fits() -> bool:
        return total + num_bytes <= limit and num_bytes + RESERVE_BYTES <= shutil.disk_usage(views).free

    while removable and num_bytes <= limit and not fits():
        _, size, folder = removable.pop(0)
        log.info("%s is removed: it is the least recently used view, and a new one needs its room", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        total -= size
    if not fits():
        free = shutil.disk_usage(views).free
        raise NoRoomError(
            str(views),
            f"no room for a view of {num_bytes / 1e6:,.0f} MB: {free / 1e6:,.0f} MB are free on the disk, of which"
            f" {RESERVE_BYTES / 1e6:,.0f} are reserved, and all views may use {limit / 1e6:,.0f} MB",
            "Free space, name another cache folder with FERRAY_CACHE, or raise FERRAY_CACHE_GB",
        )


def num_bytes(num_faces: int, shape: tuple[int, ...]) -> int:
    """Size of a view.

    Args:
        num_faces: Faces in it.
        shape: Of the features of one face.
    """
    return num_faces * math.prod(shape) * np.dtype(np.float16).itemsize


def capacity_bytes(cache: Path) -> int:
    """The largest view that fits into a cache when all others are removed; 0 or less for none.

    Args:
        cache: Its folder, which need not exist.

    Raises:
        StorageError: `FERRAY_CACHE_GB` is not a number.
    """
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    removable = sum(view_sizes(cache))
    return min(limit_bytes(), shutil.disk_usage(existing).free + removable - RESERVE_BYTES)


def view_sizes(cache: Path) -> list[int]:
    """Sizes in bytes of all files of features in a cache, of unfinished ones too.

    Args:
        cache: Its folder, which need not exist.
    """
    sizes = []
    for file in (cache / "views").glob("*/features.npy"):
        with suppress(OSError):  # removed meanwhile
            sizes.append(file.stat().st_size)
    return sizes


def limit_bytes() -> int:
    """The size that all views together may have: `FERRAY_CACHE_GB`, or `DEFAULT_LIMIT_GB`.

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
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the cache."""
    views = folder.parent
    with storage.cache_errors(folder):
        try:
            views.parent.mkdir(parents=True, exist_ok=True)
            for shared in (views, views / ".locks"):
                with suppress(FileExistsError):
                    shared.mkdir()
                    storage.share_with_folder(shared)
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = f"cannot be written: {error.strerror or error}"
                raise NoRoomError(str(folder), what, storage.CACHE_WAY_OUT) from error
            raise
