"""The folder `runs/NAME`: all that is on record of a search, and all that a later run needs to continue it.

    search.json              command, versions, seeds, fingerprints, times
    space.yaml               the search-space file as given
    journal.jsonl            the decisions of the search in order, one per line; only the driver appends
    trials/ID/record.json    one trial: recipe, state, epochs; one writer at a time
    trials/ID/last.safetensors, best.safetensors
    live.json                how far the search is; see `ferray.report.watch.status`
    trials.parquet, trials.csv, heatmap.png, curves.png
    best/                    the best model and its one test score

Begin at `Run`. Every file is written whole or not at all, with a checksum; an incomplete last line of the journal is
dropped when the journal is read.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from ferray.errors import BucketError, FencedError, FerrayError, RecordError, StorageError
from ferray.files import storage
from ferray.files.journal import Journal
from ferray.files.location import Address
from ferray.files.storage import Lease
from ferray.records.search_file import SearchFile, to_search_file
from ferray.records.trial import TrialRecord, record_from_json, record_to_json
from ferray.wording import DEFAULT_OUT, option_text, short_path

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
FIRST_FORMAT = 1
"""Has no checksums; it can be read."""


class Run:
    """A folder `runs/NAME`.

    Args:
        folder: Need not exist yet.
    """

    address: Address | None = None
    """Where it is, if it is in a bucket and the folder is a copy."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).resolve()

    @property
    def name(self) -> str:
        """The name of the search and of its folder."""
        return self.folder.name

    @property
    def resume_command(self) -> str:
        """The command that goes on with the search, from the folder where the user is; options can be added."""
        out = "" if self.out == DEFAULT_OUT else f" {option_text('--out', self.out)}"
        return f"python -m ferray.search {option_text('--resume', self.name)}{out}"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(short_path(self.folder))

    @property
    def out(self) -> str:
        """What `--out` is for a command that goes on with it."""
        return str(short_path(self.folder.parent))

    @property
    def best_dir(self) -> Path:
        """The folder of the best model; it exists once the search has ended."""
        return self.folder / "best"

    def trial_dir(self, trial_id: str) -> Path:
        """The folder of one trial.

        Raises:
            RecordError: It is not an id of a trial. A manipulated journal must not lead out of the search's folder.
        """
        if not trial_id.isalnum():
            raise RecordError(str(self.folder), f"{trial_id[:50]!r} is no trial", "Restore the file that names it")
        return self.folder / "trials" / trial_id

    @property
    def space_file(self) -> Path:
        """The space that is searched; for people, since the journal has it too."""
        return self.folder / "space.yaml"

    def record_file(self, trial_id: str) -> Path:
        """The file of one trial's record; errors as `trial_dir`."""
        return self.trial_dir(trial_id) / "record.json"

    def exists(self) -> bool:
        """Whether a search has begun here."""
        return self._search_file.exists()

    def check_exists(self) -> None:
        """Refuse a folder without a search.

        Raises:
            RecordError: There is none; the error names the searches beside it.
        """
        if not self.exists():
            known = ", ".join(self.names_beside()) or "none"
            raise RecordError(self.place, "no search here", f"Known names: {known}")

    def names_beside(self) -> list[str]:
        """The names of the searches in the same parent folder."""
        return sorted(path.parent.name for path in self.folder.parent.glob("*/search.json"))

    def read_search(self) -> SearchFile:
        """The content of `search.json`; of the one before it, with a warning, where the last one is damaged.

        Raises:
            RecordError: There is no search here, or it was written by an incompatible version.
        """
        file = self._search_file
        if not file.exists():
            self.check_exists()
        try:
            return to_search_file(_read_object(file, "search"), where=file)
        except StorageError as error:  # damaged on the disk, since it is never half written
            previous = storage.previous(file)
            if not previous.exists():
                raise
            log.warning("%s; %s is used", error.args[1], previous)
            return to_search_file(_read_object(previous, "search"), where=previous)

    def write_search(self, search: SearchFile) -> None:
        """Replace `search.json`; the previous version is kept beside it."""
        value = search.to_json() | {"format": FORMAT_VERSION}
        storage.write_checked_json(self._search_file, value, keep_previous=True)

    def write_trial(self, record: TrialRecord, *, lease: Lease | None = None, durable: bool = True) -> None:
        """Replace a trial's record.

        Args:
            record: The trial's.
            lease: On its folder, where workers may write it.
            durable: As `ferray.files.storage.write_bytes`; not for a copy of what is elsewhere.

        Raises:
            FencedError: Another writer has taken over the trial's folder, so `lease` is no longer valid.
            StorageError: The record cannot be written.
        """
        values = {"format": FORMAT_VERSION, **record_to_json(record)}
        storage.write_checked_json(self.record_file(record.trial_id), values, lease=lease, durable=durable)

    def read_trial(self, trial_id: str) -> TrialRecord | None:
        """A trial's record; None where none was written.

        Raises:
            RecordError: The file is damaged, or is not a record of this trial.
        """
        file = self.record_file(trial_id)
        if not file.exists():
            return None
        try:
            record = record_from_json(_read_object(file, "trial record"), where=str(file))
        except StorageError as error:
            raise RecordError(*error.args) from error
        if record.trial_id != trial_id:
            raise RecordError(
                str(file), f"the record of trial {record.trial_id!r}", "Remove the folder; it is run again"
            )
        return record

    def read_trials(self) -> list[TrialRecord]:
        """All trials on record, by number.

        Raises:
            RecordError: As `read_trial`.
        """
        records = (self.read_trial(file.parent.name) for file in self.record_files())
        return sorted(filter(None, records), key=lambda record: (record.number, record.trial_id))

    def record_files(self) -> list[Path]:
        """The files of all trials' records, by trial id."""
        return sorted((self.folder / "trials").glob("*/record.json"))

    def lock(self) -> AbstractContextManager[None]:
        """The folder for one process at a time.

        Raises:
            StorageError: On entering, if another process has it.
        """
        return storage.lock(self.folder / ".lock", wait_s=0)

    def fetch(self) -> None:
        """Bring what is here up to date with a bucket; a folder is always up to date."""

    def check_unused(self) -> None:
        """Refuse a folder with a journal, but without a search: a second history must not be appended to the first.

        Raises:
            RecordError: There is one.
        """
        if self.journal().file.exists():
            way_out = "Restore search.json, or choose another --name"
            raise RecordError(self.place, "has a journal, but no search.json", way_out)

    def clear(self) -> None:
        """Remove what is left of another search, where this is only a copy; to be called under the lock."""

    def send_files(self) -> None:
        """Send tables, pictures and the best model to a bucket, if the search is in one."""

    def checkpoints(self, trial_id: str) -> Path:
        """The folder with the checkpoints of a trial.

        Raises:
            RecordError: As `trial_dir`.
        """
        return self.trial_dir(trial_id)

    def set_aside(self, trial_id: str, why: str) -> None:
        """Rename the record of a trial that cannot be gone on with; a message in the log names it."""
        file = self.record_file(trial_id)
        aside = file.with_name(f"{file.name}.broken")
        file.replace(aside)
        log.warning("%s: %s; it is kept as %s", file, why, aside.name)

    def note_running(self, trial_id: str) -> None:
        """From here on a worker replaces the trial's record."""

    def note_ended(self, trial_id: str) -> None:
        """A worker has replaced the trial's record for the last time."""

    def journal(self) -> Journal:
        """The search's journal."""
        return Journal(self.folder / "journal.jsonl")

    def finals_journal(self) -> Journal:
        """The journal of the finals: their trials that have ended, and those that failed and are run again."""
        return Journal(self.folder / "finals.jsonl")

    @property
    def _search_file(self) -> Path:
        return self.folder / "search.json"


@contextmanager
def sent_at_the_end(run: Run) -> Iterator[None]:
    """However the block ends, what it has left in the folder is in the bucket, too, if the search is in one.

    Not where another process goes on with the search, or where nothing can be sent.
    """
    try:
        yield
    except (FencedError, BucketError):
        raise
    except BaseException:
        with suppress(FerrayError):
            run.send_files()
        raise
    run.send_files()


def _read_object(file: Path, what: str) -> dict[str, Any]:
    """A JSON object of one of the formats, with a matching checksum.

    Args:
        file: `record.json` or `search.json`.
        what: What the file should hold, for the error.

    Raises:
        RecordError: The file holds no JSON object of these formats.
        StorageError: The file cannot be read, or is damaged.
    """
    value = storage.read_json(file)
    version = value.get("format") if isinstance(value, dict) else None
    if version == FIRST_FORMAT and "checksum" not in value:
        return dict(value)
    if version == FORMAT_VERSION or (isinstance(value, dict) and "checksum" in value):
        value = storage.open_checked(value, where=str(file))  # before the format: a wrong bit may look like another
    if version != FORMAT_VERSION:
        way_out = "Use the version of ferray that wrote it, or restore the file"
        raise RecordError(str(file), f"not a {what} of format {FORMAT_VERSION}", way_out)
    return dict(value)
