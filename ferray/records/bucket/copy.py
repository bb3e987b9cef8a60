"""The copy of a search on this machine: what has changed in the bucket is fetched, what has changed here is sent.

    files/    space.yaml, live.json, tables, pictures, the page, best/: all of the folder that has no object of its own
    .copied.json    ETags of what the copy has

Begin at `Copy`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from ferray.errors import RecordError, StorageError
from ferray.files import buckets, storage
from ferray.files.buckets import FoundObject
from ferray.files.location import Address
from ferray.files.outage import patiently
from ferray.records.bucket.index import Entry, read_index, read_many
from ferray.records.bucket.trial import RECORDS, parse_trial
from ferray.records.run import Run

FILES = "files"

OWN_OBJECTS = ("trials", "search.json", "search.json.previous", "journal.jsonl", "finals.jsonl")
"""Of the folder, what has objects of its own."""

ONE_BY_ONE = 50
"""So many records are fetched without a look into the index."""

STATE = ".copied.json"


class Copy:
    """A folder with the content of a bucket.

    Args:
        address: Of the search.
        run: The folder.
    """

    def __init__(self, address: Address, run: Run) -> None:
        self._address, self._run = address, run
        self._etags: dict[str, str] = {}
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of files, by name

    def fetch(self) -> None:
        """Bring all but the checkpoints, `search.json` and the journals up to date.

        Raises:
            BucketError: The bucket cannot be read.
            StorageError: The folder cannot be written.
        """
        self._etags = _read_state(self._run.folder / STATE)
        try:
            self._fetch_records()
            self._fetch_files()
        finally:
            storage.write_json(self._run.folder / STATE, self._etags)

    def bring(self, trial_ids: set[str]) -> dict[str, Entry]:
        """Bring some records up to date; returns their objects."""
        entries = read_many(self._addresses(trial_ids), max_bytes=storage.MAX_JSON_BYTES)
        for trial_id in trial_ids:
            self._keep(trial_id, entries.get(trial_id))
        return entries

    def send_files(self) -> None:
        """Send the files that have changed since the last time.

        Raises:
            BucketError: The bucket cannot be written.
        """
        names = list(self._files())
        for name in names:
            patiently(partial(self.send_file, name))
        known = [name for name in self._sent if name not in names]
        for name in known:
            patiently(partial(buckets.remove_object, self._address / f"{FILES}/{name}"))
            del self._sent[name]

    def send_file(self, name: str) -> None:
        """Send a file, if it has changed since the last time and is there.

        Raises:
            BucketError: The bucket cannot be written.
        """
        file = self._run.folder / name
        with suppress(FileNotFoundError):
            status = file.stat()
            state = (status.st_size, status.st_mtime_ns)
            if self._sent.get(name) != state:
                buckets.send_file(file, self._address / f"{FILES}/{name}")
                self._sent[name] = state

    def _fetch_records(self) -> None:
        """From the index, where it has them as they are now and there are many."""
        prefix = self._address / RECORDS
        found = {one.address.name.removesuffix(".json"): one.etag for one in buckets.list_objects(prefix)}
        found = {trial_id: etag for trial_id, etag in found.items() if trial_id.isalnum()}
        for file in self._run.record_files():
            if file.parent.name not in found:
                file.unlink()
        wanted = {
            trial_id: etag
            for trial_id, etag in found.items()
            if self._etags.get(f"{RECORDS}/{trial_id}") != etag or not self._run.record_file(trial_id).exists()
        }
        entries = read_index(self._address / "index", wanted) if len(wanted) > ONE_BY_ONE else {}
        for trial_id, entry in entries.items():
            self._keep(trial_id, entry)
        self.bring(wanted.keys() - entries.keys())

    def _keep(self, trial_id: str, entry: Entry | None) -> None:
        """Write a record as a folder has it."""
        file, key = self._run.record_file(trial_id), f"{RECORDS}/{trial_id}"
        self._etags.pop(key, None)
        if entry is None:
            file.unlink(missing_ok=True)
            return
        try:
            _, _, record = parse_trial(entry.data, trial_id=trial_id, where=str(self._address / f"{key}.json"))
        except RecordError as error:  # it is named, and set aside, when it is read
            storage.write_bytes(file, f"{error.args[0]}: {error.args[1]}".encode())
            return
        if record is None:
            file.unlink(missing_ok=True)
        else:
            Run.write_trial(self._run, record, durable=False)
        self._etags[key] = entry.etag

    def _fetch_files(self) -> None:
        prefix = self._address / FILES
        found = {one.address.key.removeprefix(f"{prefix.key}/"): one for one in buckets.list_objects(prefix)}
        changed = {
            name: one
            for name, one in found.items()
            if _is_plain(name)
            and (self._etags.get(f"{FILES}/{name}") != one.etag or not (self._run.folder / name).exists())
        }
        with ThreadPoolExecutor(buckets.NUM_CONNECTIONS) as pool:
            list(pool.map(self._fetch_file, changed, changed.values()))
        for name in found:
            with suppress(FileNotFoundError):
                status = (self._run.folder / name).stat()
                self._sent[name] = (status.st_size, status.st_mtime_ns)

    def _fetch_file(self, name: str, found: FoundObject) -> None:
        file = self._run.folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if found.num_bytes == 0:
                file.write_bytes(b"")
            else:
                buckets.fetch_object(found, file)
        except OSError as error:
            what = f"cannot be written: {error.strerror or error}"
            raise StorageError(str(file), what, storage.CACHE_WAY_OUT) from error
        self._etags[f"{FILES}/{name}"] = found.etag

    def _files(self) -> Iterator[str]:
        """The names of the files that are sent."""
        for file in sorted(self._run.folder.rglob("*")):
            name = file.relative_to(self._run.folder)
            if file.is_file() and name.parts[0] not in OWN_OBJECTS and _is_plain(str(name)):
                yield name.as_posix()

    def _addresses(self, trial_ids: set[str]) -> dict[str, Address]:
        return {trial_id: self._address / f"{RECORDS}/{trial_id}.json" for trial_id in sorted(trial_ids)}


def _is_plain(name: str) -> bool:
    """Whether no part of a path is hidden or leads upwards, and it is none of what has objects of its own."""
    parts = Path(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and not any(part.startswith(".") for part in parts)
        and (parts[0] not in OWN_OBJECTS)
    )


def _read_state(file: Path) -> dict[str, str]:
    try:
        value = storage.read_json(file)
    except StorageError:
        return {}
    return {str(key): str(etag) for key, etag in value.items()} if isinstance(value, dict) else {}
