"""A search whose results are in a bucket: there is all that counts, and this machine has a copy to work with.

    s3://BUCKET/RUNS/NAME/search.json     as in a folder; replaced only by the session that it names last
                          lock.json       see `ferray.records.bucket.lock`
                          journal/, finals/         see `ferray.records.bucket.journal`
                          records/, checkpoints/    see `ferray.records.bucket.trial`
                          index/          see `ferray.records.bucket.index`
                          files/          see `ferray.records.bucket.copy`

    CACHE/runs/HASH/NAME/      the copy that a driver works with; HASH is of s3://BUCKET/RUNS
    CACHE/workers/HASH/NAME/   what workers of this machine train in
    CACHE/fetched/HASH/NAME/   the copy that reports read

A copy is a folder as `ferray.records.run` describes it. Begin at `find_run`.
"""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from ferray.errors import BucketError, FencedError, RecordError, StorageError
from ferray.files import buckets, storage
from ferray.files.buckets import Version
from ferray.files.location import Address, is_address, to_address
from ferray.files.outage import patiently
from ferray.records.bucket.copy import Copy
from ferray.records.bucket.index import NUM_RECORDS, Entry, write_index
from ferray.records.bucket.journal import BucketJournal
from ferray.records.bucket.lock import BucketLock
from ferray.records.bucket.trial import RECORDS, TrialObject
from ferray.records.run import Run
from ferray.records.search_file import SearchFile, id_in
from ferray.records.trial import TrialRecord
from ferray.waiting import waiting

log = logging.getLogger(__name__)

Use = Literal["runs", "workers", "fetched"]

LIVE = "live.json"

ADDRESS = ".address"
"""In a copy: where the search is."""

INDEX_S = 300.0
"""Trials that have ended are in the index after so many seconds, while a search runs."""


def find_run(parent: str, name: str, *, use: Use = "runs") -> Run:
    """The search of a name.

    Args:
        parent: What `--out` names: a path, or an address.
        name: Of the search.
        use: Which copy, where it is in a bucket.
    """
    if is_address(parent):
        return BucketRun(to_address(parent, option="--out") / name, use)
    return Run(Path(parent) / name)


def open_folder(folder: Path) -> Run:
    """The search of a folder, which may be a copy of one in a bucket."""
    try:
        text = (folder / ADDRESS).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return Run(folder)
    address = to_address(text, option=str(folder / ADDRESS))
    for use in get_args(Use):
        if folder.resolve() == copy_folder(address, use).resolve():
            return BucketRun(address, use)
    return Run(folder)


def copy_folder(address: Address, use: Use) -> Path:
    """The folder of this machine's copy of a search."""
    digest = hashlib.sha256(str(address.parent).encode()).hexdigest()[:16]
    return storage.cache_dir() / use / digest / address.name


class BucketRun(Run):
    """A search in a bucket, and its copy on this machine.

    Args:
        address: Where it is.
        use: Which copy.
    """

    def __init__(self, address: Address, use: Use) -> None:
        super().__init__(copy_folder(address, use))
        self.address: Address = address
        self._search_version: Version | None = None
        self._session = 0
        self._journals = {
            name: BucketJournal(self.folder / f"{name}.jsonl", address / name, lambda: self._session)
            for name in ("journal", "finals")
        }
        self._copy = Copy(address, self)
        self._mutex = threading.Lock()  # of the next two, which the thread of the lock reads, too
        self._stale: dict[str, int] = {}  # trials whose records workers may have replaced, and how often that was noted
        self._ended: set[str] = set()  # trials that are not in the index yet
        self._indexed_at = time.monotonic()

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.address)

    @property
    def out(self) -> str:
        """What `--out` is for a command that goes on with it."""
        return str(self.address.parent)

    def exists(self) -> bool:
        """Whether a search has begun here."""
        return buckets.find_object(self.address / "search.json") is not None

    def names_beside(self) -> list[str]:
        """The names of the searches of the same parent."""
        return buckets.list_folders(self.address.parent)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The search for one process at a time, of all machines.

        Raises:
            LockedError: Another process has it.
            StorageError: The copy cannot be written.
            BucketError: The bucket cannot be read or written.
        """
        with super().lock(), BucketLock(self.address / "lock.json", place=str(self.folder)) as lock:
            lock.on_tick = self._tick
            yield

    def check_unused(self) -> None:
        """What the copy has of a search that is not in the bucket is removed by `clear`."""

    def fetch(self) -> None:
        """Bring the copy up to date: all but checkpoints, and what has not changed.

        Raises:
            RecordError: There is no search, or an object is none of ferray's.
            BucketError: The bucket cannot be read.
            StorageError: The copy cannot be written.
        """
        with waiting(f"fetching {self.address}"), storage.cache_errors(self.folder):
            version = buckets.read_version(self.address / "search.json", max_bytes=storage.MAX_JSON_BYTES)
            if version is None:
                self.check_exists()
                return
            self._forget_another(version)
            self._search_version = version
            storage.write_bytes(self.folder / ADDRESS, str(self.address).encode())
            storage.write_bytes(self._search_file, version.data)
            self._session = self.read_search().openings or 0
            for journal in self._journals.values():
                journal.fetch()
            self._copy.fetch()

    def write_search(self, search: SearchFile) -> None:
        """As `Run.write_search`.

        Raises:
            FencedError: Another process has changed it since it was read here.
            BucketError: The bucket cannot be written.
        """
        storage.write_bytes(self.folder / ADDRESS, str(self.address).encode())
        super().write_search(search)
        data, before = self._search_file.read_bytes(), self._search_version
        version = patiently(lambda: buckets.replace_version(self.address / "search.json", data, before=before))
        if version is None:
            what = "another process has begun a search of this name, or goes on with it, so this one must stop"
            raise FencedError(str(self.address), what, "Choose another --name, or wait for it to end")
        self._search_version = version
        if search.openings != self._session:
            self._session = search.openings or 0
            for journal in self._journals.values():
                journal.send()  # what a former session still sends is refused from here on

    def write_trial(self, record: TrialRecord, *, lease: storage.Lease | None = None, durable: bool = False) -> None:
        """As `Run.write_trial`, for a trial that no worker has."""
        trial = self._trial(record.trial_id)
        patiently(trial.read)
        patiently(lambda: trial.write(record))
        super().write_trial(record, lease=lease, durable=durable)

    def read_trial(self, trial_id: str) -> TrialRecord | None:
        """As `Run.read_trial`; fetched first where a worker may have replaced it."""
        if trial_id in self._stale:  # all of them, since one after the other would take as long for each
            patiently(lambda: self._bring(set(self._stale)))
        return super().read_trial(trial_id)

    def note_running(self, trial_id: str) -> None:
        """As `Run.note_running`."""
        with self._mutex:
            self._stale[trial_id] = self._stale.get(trial_id, 0) + 1
            self._ended.discard(trial_id)

    def note_ended(self, trial_id: str) -> None:
        """As `Run.note_ended`."""
        with self._mutex:
            self._stale[trial_id] = self._stale.get(trial_id, 0) + 1
            self._ended.add(trial_id)

    def checkpoints(self, trial_id: str) -> Path:
        """As `Run.checkpoints`: fetched, where they are not here."""
        folder, trial = self.trial_dir(trial_id), self._trial(trial_id)
        patiently(trial.read)
        with waiting(f"fetching the checkpoints of trial {trial_id}"), storage.cache_errors(folder):
            patiently(lambda: trial.fetch_checkpoints(folder))
        return folder

    def set_aside(self, trial_id: str, why: str) -> None:
        """As `Run.set_aside`; in the bucket it is removed."""
        super().set_aside(trial_id, why)
        buckets.remove_object(self.address / f"{RECORDS}/{trial_id}.json")

    def send_files(self) -> None:
        """As `Run.send_files`: what has changed in the copy since the last time, and the index."""
        with waiting(f"sending tables, pictures and models to {self.address}"):
            self._copy.send_files()
            patiently(self._write_index)

    def journal(self) -> BucketJournal:
        """The search's journal."""
        return self._journals["journal"]

    def finals_journal(self) -> BucketJournal:
        """The journal of the finals."""
        return self._journals["finals"]

    def _trial(self, trial_id: str) -> TrialObject:
        self.trial_dir(trial_id)  # refuses an id that is none
        return TrialObject(self.address, trial_id)

    def _forget_another(self, version: Version) -> None:
        """Remove a copy that is of another search, of the same name, which is not in the bucket any more."""
        if not self._search_file.exists() or self._search_file.read_bytes() == version.data:
            return
        with suppress(RecordError, StorageError):
            if self.read_search().id == id_in(version.data):
                return
        self.clear()

    def _tick(self) -> None:
        """While the search is locked, from time to time: how far it is, and what is worth an object of the index."""
        with suppress(BucketError):
            self._copy.send_file(LIVE)
        is_due = len(self._ended) >= NUM_RECORDS or time.monotonic() - self._indexed_at > INDEX_S
        if self._ended and is_due:
            self._write_index()

    def _write_index(self) -> None:
        with self._mutex:
            ended = set(self._ended)
        self._indexed_at = time.monotonic()
        if ended:
            write_index(self.address / "index", self._bring(ended))
            with self._mutex:
                self._ended -= ended

    def _bring(self, trial_ids: set[str]) -> dict[str, Entry]:
        """Bring records up to date; those that were not noted again meanwhile are so from here on."""
        with self._mutex:
            noted = dict(self._stale)
        entries = self._copy.bring(trial_ids)
        with self._mutex:
            for trial_id in trial_ids:
                if self._stale.get(trial_id) == noted.get(trial_id):
                    self._stale.pop(trial_id, None)
        return entries

    def clear(self) -> None:
        """As `Run.clear`: what is left here of a search that is not in the bucket any more."""
        for path in self.folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
