"""A trial in a bucket: its record is one object, whose replacement is the one moment in which anything changes.

    records/ID.json                    the lease, the record, and the names of the checkpoints that belong to it
    checkpoints/ID/last-3-7-12.safetensors, best-3-7-12.safetensors
                                       written by the holder of lease 3, 7 after epoch 12; never replaced

A writer reads the record with its version and replaces it only while it is that version. Who takes the trial over
writes a higher lease into the record, so that the version of the former writer is gone: whatever that one still sends
changes nothing, since its checkpoints have names that no record mentions. Begin at `TrialObject`.
"""

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ferray.errors import BucketError, FencedError, RecordError, StorageError
from ferray.files import buckets, storage
from ferray.files.buckets import Version
from ferray.files.location import Address
from ferray.files.outage import patiently
from ferray.records.trial import TrialRecord, record_from_json, record_to_json

log = logging.getLogger(__name__)

FORMAT_VERSION = 1

LAST, BEST = "last.safetensors", "best.safetensors"
"""A trial's checkpoints, by their names in a folder."""

SENT = ".sent.json"
"""In a trial's folder: which of its checkpoints are in the bucket, under which names."""

RECORDS = "records"

NO_LEASE = (-1, -1)
"""Below all leases."""

_WAY_OUT = "Remove the object: the trial is then run again"


class TrialObject:
    """What a bucket has of a trial, as this process knows it.

    Args:
        run: Where the search is.
        trial_id: Of the trial.

    Attributes:
        record: The trial's; None before its first epoch.
        lease: Of the last writer.
        checkpoints: Names of the objects that hold its checkpoints, by the name in a folder.
    """

    def __init__(self, run: Address, trial_id: str) -> None:
        self.record: TrialRecord | None = None
        self.lease = NO_LEASE
        self.checkpoints: Mapping[str, str] = {}
        self.trial_id = trial_id
        self._run = run
        self._address = run / f"{RECORDS}/{trial_id}.json"
        self._folder = run / f"checkpoints/{trial_id}"
        self._version: Version | None = None

    @property
    def etag(self) -> str:
        """Of the version that is known; empty where there is none."""
        return "" if self._version is None else self._version.etag

    def read(self) -> None:
        """Bring all attributes up to date.

        Raises:
            RecordError: The object is no record of this trial.
            BucketError: The bucket cannot be read.
        """
        self._set(buckets.read_version(self._address, max_bytes=storage.MAX_JSON_BYTES, known=self._version))

    def take(self, lease: tuple[int, int]) -> None:
        """Take the trial over.

        Args:
            lease: Higher than all before it, as `ferray.files.storage.Lease.take`.

        Raises:
            FencedError: The trial has this lease already, or a higher one.
            RecordError: As `read`.
            BucketError: The bucket cannot be read or written.
        """
        while True:
            self.read()
            if self.lease >= lease:
                raise self._fenced(lease)
            if self._replace(lease, self.record, self.checkpoints):
                return

    def write(self, record: TrialRecord) -> None:
        """Replace the record, with the checkpoints that it has.

        Raises:
            FencedError: Another writer has replaced it since it was read here; nothing is changed.
            BucketError: The bucket cannot be written.
        """
        if not self._replace(self.lease, record, self.checkpoints):
            raise self._fenced(self.lease)

    def commit(self, record: TrialRecord, folder: Path, *, note: Callable[[], None] = lambda: None) -> None:
        """Send the checkpoints of a folder that are not in the bucket yet, then the record that they belong to.

        Args:
            record: The trial's.
            folder: Where its checkpoints are, which nobody writes meanwhile.
            note: Called while the service is down.

        Raises:
            FencedError: Another writer has taken the trial; its record and checkpoints are unchanged.
            BucketError: The bucket cannot be written.
            StorageError: A checkpoint cannot be read.
        """
        sent, files = _read_sent(folder), dict(self.checkpoints)
        session, count = self.lease
        for name in (BEST, LAST):
            state = _state_of(folder / name)
            if state is None or sent.get(name) == [files.get(name), *state]:
                continue
            stem, _, end = name.partition(".")
            files[name] = f"{stem}-{session}-{count}-{len(record.epochs)}.{end}"
            address = self._folder / files[name]
            patiently(partial(buckets.send_file, folder / name, address), note=note)
            sent[name] = [files[name], *state]
        before = self.checkpoints
        if not patiently(lambda: self._replace(self.lease, record, files), note=note):
            raise self._fenced(self.lease)
        storage.write_json(folder / SENT, sent)
        for name in set(before.values()) - set(files.values()):
            with suppress(BucketError):  # it costs money, but no record mentions it
                buckets.remove_object(self._folder / name)

    def fetch_checkpoints(self, folder: Path) -> None:
        """Bring the checkpoints that belong to the record into a folder, unless they are there.

        Args:
            folder: The trial's, which nobody else writes.

        Raises:
            RecordError: A checkpoint is not in the bucket.
            BucketError: The bucket cannot be read.
            StorageError: The folder cannot be written.
        """
        sent = _read_sent(folder)
        for name, remote in self.checkpoints.items():
            if sent.get(name) == [remote, *(_state_of(folder / name) or ())]:
                continue
            found = buckets.find_object(self._folder / remote)
            if found is None:
                raise RecordError(str(self._folder / remote), "is not there, but the record names it", _WAY_OUT)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                buckets.fetch_object(found, folder / name)
            except OSError as error:
                what = f"cannot be written: {error.strerror or error}"
                raise StorageError(str(folder / name), what, storage.CACHE_WAY_OUT) from error
            sent[name] = [remote, *(_state_of(folder / name) or ())]
        if self.checkpoints:
            storage.write_json(folder / SENT, sent)

    def _replace(self, lease: tuple[int, int], record: TrialRecord | None, checkpoints: Mapping[str, str]) -> bool:
        """Replace the object if it is still the version that is known here."""
        value = {
            "format": FORMAT_VERSION,
            "lease": list(lease),
            "checkpoints": dict(checkpoints),
            "record": None if record is None else record_to_json(record),
        }
        data = json.dumps(storage.with_checksum(value), allow_nan=False).encode()
        version = buckets.replace_version(self._address, data, before=self._version)
        if version is None:
            return False
        self._version, self.lease, self.record, self.checkpoints = version, lease, record, checkpoints
        return True

    def _set(self, version: Version | None) -> None:
        if version is not None and version is self._version:
            return
        self._version = version
        self.record, self.lease, self.checkpoints = None, NO_LEASE, {}
        if version is not None:
            self.lease, self.checkpoints, self.record = parse_trial(
                version.data, trial_id=self.trial_id, where=str(self._address)
            )

    def _fenced(self, lease: tuple[int, int]) -> FencedError:
        now = TrialObject(self._run, self.trial_id)  # what is known here stays the version that is gone
        with suppress(BucketError, RecordError):
            now.read()
        what = f"taken over by writer {list(now.lease)}, so writer {list(lease)} must stop"
        return FencedError(str(self._address), what, "Nothing is lost: the new writer continues")


def parse_trial(
    data: bytes, *, trial_id: str, where: str
) -> tuple[tuple[int, int], dict[str, str], TrialRecord | None]:
    """Lease, names of checkpoints, and record of an object.

    Args:
        data: Its content.
        trial_id: Of the trial that it must be of.
        where: Its address, for errors.

    Raises:
        RecordError: It is damaged, or no record of this trial.
    """
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        value = storage.open_checked(value, where=where)
        if value["format"] != FORMAT_VERSION:
            way_out = "Use the version of ferray that wrote it, or remove the object"
            raise RecordError(where, f"not a record of format {FORMAT_VERSION}", way_out)
        session, count = value["lease"]
        checkpoints = {str(name): str(remote) for name, remote in value["checkpoints"].items()}
        if not set(checkpoints) <= {LAST, BEST} or any("/" in remote for remote in checkpoints.values()):
            raise ValueError("names of checkpoints that are none")
        record = None if value["record"] is None else record_from_json(value["record"], where=where)
        if record is not None and record.trial_id != trial_id:
            raise ValueError(f"the record of trial {record.trial_id!r}")
        return (int(session), int(count)), checkpoints, record
    except StorageError as error:
        raise RecordError(error.args[0], error.args[1], _WAY_OUT) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RecordError(where, f"not a trial's record: {error}", _WAY_OUT) from error


def _state_of(file: Path) -> list[int] | None:
    """What tells one version of a file from another; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _read_sent(folder: Path) -> dict[str, Any]:
    try:
        value = storage.read_json(folder / SENT)
    except StorageError:
        return {}
    return value if isinstance(value, dict) else {}
