"""Reading the files `run-ID.wandb` that W&B writes to disk, online and offline, without importing wandb.

Such a file is a log in LevelDB's format: a header of 7 bytes, then blocks of 32 KiB with frames of
(checksum, length, kind, data). The frames of one record, joined, are a protocol buffer message of wandb_internal.proto.
Only a dozen of its fields are needed; their numbers are listed below, and protocol buffers never renumber fields.

A run that was opened several times has several files, the segments of one history. A file that ends in the middle of a
record, because its writer was killed, is read up to there.

Begin at `read_offline_runs`.
"""

import dataclasses
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferray.errors import StorageError, TrackingError
from ferray.files import untrusted

HEADER_BYTES = 7
BLOCK_BYTES = 32768
FRAME = struct.Struct("<IHB")
MAX_BYTES = 2**30
"""Largest size of a file; one with a thousand epochs has 1 MB."""
LAST_KINDS = (1, 4)
"""Kinds of frames that complete a record: a whole record, and the last part of one."""

# Fields of wandb_internal.proto
_RECORD_HISTORY, _RECORD_SUMMARY, _RECORD_CONFIG, _RECORD_RUN, _RECORD_EXIT = 2, 3, 5, 17, 18
_RUN_ID, _RUN_PROJECT, _RUN_CONFIG, _RUN_GROUP, _RUN_JOB_TYPE, _RUN_NAME, _RUN_TAGS = 1, 3, 4, 6, 7, 8, 10
_LIST_UPDATE, _LIST_REMOVE = 1, 2  # the same in ConfigRecord and SummaryRecord; in HistoryRecord 1 is the items
_ITEM_KEY, _ITEM_NESTED_KEY, _ITEM_JSON = 1, 2, 16
_EXIT_CODE = 1


@dataclass(frozen=True, kw_only=True)
class OfflineRun:
    """The content of a run's files."""

    id: str
    name: str
    project: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    """Without W&B's own key `_wandb`."""
    history: tuple[dict[str, Any], ...] = ()
    """One row per call of `log`, of all segments; without the keys that W&B adds, which begin with an underscore."""
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    """The exit code of the last segment; None while the run is open, or if its writer was killed."""


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs below a folder `wandb`, each with all its segments, in the order in which they were first opened.

    Args:
        folder: Contains folders `offline-run-TIME-ID` or `run-TIME-ID`; may be missing.

    Raises:
        TrackingError: As `read_segment`.
    """
    runs: dict[str, OfflineRun] = {}
    for file in segment_files(folder):
        segment = read_segment(file)
        if segment is not None:
            runs[segment.id] = segment if segment.id not in runs else _join(runs[segment.id], segment)
    return list(runs.values())


def segment_files(folder: Path, run_id: str | None = None) -> list[Path]:
    """The `.wandb` files below a folder `wandb`, of one run or of all, oldest first."""
    files = folder.glob("*run-*/run-*.wandb" if run_id is None else f"*run-*-{run_id}*/run-{run_id}.wandb")

    def when(file: Path) -> tuple[str, int, str]:
        name = file.parent.name.removeprefix("offline-")  # then run-DAY_SECOND-ID, or with -1, -2 if in one second
        return name[: len("run-20260101_000000")], len(name), name

    return sorted((file for file in files if not file.parent.is_symlink()), key=when)


def read_segment(file: Path) -> OfflineRun | None:
    """One file as a run; None if the file ends before the record that names the run.

    Raises:
        TrackingError: The file cannot be read, or has valid checksums but not the records of W&B.
    """
    try:
        return _to_run(untrusted.read_bytes(file, max_bytes=MAX_BYTES))
    except StorageError as error:
        raise TrackingError(*error.args) from error
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        what = f"not a file of W&B's: {type(error).__name__} {error}"
        raise TrackingError(str(file), what, "Move its folder out of `wandb`") from error


def _to_run(data: bytes) -> OfflineRun | None:
    run: dict[int, list[Any]] | None = None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    exit_code = None
    for record in map(_fields, _records(data)):
        for message in map(_fields, record.get(_RECORD_RUN, ())):  # written again when tags or name change
            run = message
            for inner in message.get(_RUN_CONFIG, ()):
                _apply(config, _fields(inner))
        for message in map(_fields, record.get(_RECORD_CONFIG, ())):
            _apply(config, message)
        for message in map(_fields, record.get(_RECORD_SUMMARY, ())):
            _apply(summary, message)
        for message in map(_fields, record.get(_RECORD_HISTORY, ())):
            row: dict[str, Any] = {}
            _apply(row, message)
            history.append(row)
        for message in map(_fields, record.get(_RECORD_EXIT, ())):
            exit_code = message.get(_EXIT_CODE, [0])[-1]
    if run is None:
        return None
    return OfflineRun(
        id=_text(run, _RUN_ID),
        name=_text(run, _RUN_NAME),
        project=_text(run, _RUN_PROJECT),
        group=_text(run, _RUN_GROUP),
        job_type=_text(run, _RUN_JOB_TYPE),
        tags=tuple(tag.decode() for tag in run.get(_RUN_TAGS, ())),
        config=_own(config),
        history=tuple(row for row in map(_own, history) if row),
        summary=_own(summary),
        exit_code=exit_code,
    )


def _join(first: OfflineRun, second: OfflineRun) -> OfflineRun:
    """A run and its next segment as one: rows in order, later values in place of earlier ones."""
    return dataclasses.replace(
        second,
        config=first.config | second.config,
        history=first.history + second.history,
        summary=first.summary | second.summary,
    )


def _own(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_")}


def _records(data: bytes) -> Iterator[bytes]:
    """The complete records of a log file."""
    position, parts = HEADER_BYTES, b""
    while True:
        if BLOCK_BYTES - position % BLOCK_BYTES < FRAME.size:  # too little room for a frame: the block was padded
            position += BLOCK_BYTES - position % BLOCK_BYTES
        start = position + FRAME.size
        if start > len(data):
            return
        checksum, length, kind = FRAME.unpack_from(data, position)
        position = start + length
        part = data[start:position]
        if zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:  # incomplete, or zeros where nothing was written
            return
        parts += part
        if kind in LAST_KINDS:
            yield parts
            parts = b""


def _fields(message: bytes) -> dict[int, list[Any]]:
    """A protocol buffer message as field number -> values in order: numbers, or bytes of texts and inner messages."""
    values: dict[int, list[Any]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, position = _varint(message, position)
        else:
            length, position = _varint(message, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
            value = message[position : position + length]
            position += length
        values.setdefault(number, []).append(value)
    return values


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _text(message: dict[int, list[Any]], number: int) -> str:
    values = message.get(number, [b""])
    return bytes(values[-1]).decode()


def _apply(values: dict[str, Any], message: dict[int, list[Any]]) -> None:
    """Put a message's items, each a path of keys and a JSON text, into nested dictionaries."""
    for item in map(_fields, message.get(_LIST_UPDATE, ())):
        place = values
        *outer, last = [key.decode() for key in item.get(_ITEM_NESTED_KEY) or item.get(_ITEM_KEY, [b""])]
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(_text(item, _ITEM_JSON) or "null")
