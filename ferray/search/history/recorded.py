"""What is on record of a search: read once, handed on as one value, and appended to here.

    search.json      `History.search`     changed by `History.update`
    journal.jsonl    `History.decisions`  appended to by `ferray.search.tune.decisions`
    finals.jsonl     `History.finals`     appended to by `ferray.search.outcome.finals`
    record.json      `History.records`    written by the worker that trains the trial

While a search runs, its workers rewrite the records of the trials that they train. `History` observes which trials
those are, and reads their records again when they are asked for; all other files are read only when it is opened.

Begin at `read_history`, for which the caller holds the folder's lock unless it only looks.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.errors import FerrayError
from ferray.files.journal import JournalContent
from ferray.records.events import EndEvent, EventLog
from ferray.records.run import Run
from ferray.records.search_file import SearchFile
from ferray.records.trial import FINISHED, EpochResult, TrialRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unusable:
    """A file that a search cannot go on from; the trial is trained again."""

    file: Path
    reason: str


class History:
    """All that is on record of one search; an observer of `ferray.search.tune.loop`.

    Args:
        run: The folder.
        search: The content of `search.json`.
        decisions: The journal of the search proper.
        finals: The journal of the finals.
        records: The trials on record.
    """

    def __init__(
        self, run: Run, search: SearchFile, decisions: EventLog, finals: EventLog, records: list[TrialRecord]
    ) -> None:
        self.run = run
        self.decisions = decisions
        self.finals = finals
        self._search = search
        self._records = {record.trial_id: record for record in records}
        self._stale: set[str] = set()  # trials whose records workers may have written since they were read
        self._unread: list[tuple[EventLog, JournalContent]] = []
        self.unusable: list[Unusable] = []
        """Records to be set aside before the search goes on; see `ferray.search.history.repair`."""

    @classmethod
    def new(cls, run: Run, search: SearchFile) -> "History":
        """That of a search that begins; nothing is written."""
        return cls(run, search, EventLog(run.journal()), EventLog(run.finals_journal()), [])

    @property
    def search(self) -> SearchFile:
        """The content of `search.json`."""
        return self._search

    def update(self, **values: Any) -> None:
        """Replace values of `search.json`, in the file too.

        Raises:
            StorageError: It cannot be written.
        """
        self._search = self._search.changed(**values)
        self.run.write_search(self._search)

    def update_last_session(self, **values: Any) -> None:
        """Replace values of the session that began last, as `update`."""
        *before, last = self._search.sessions
        self.update(sessions=(*before, last.changed(**values)))

    @property
    def records(self) -> list[TrialRecord]:
        """The trials on record, by number."""
        for trial_id in list(self._stale):
            self.record(trial_id)
        return sorted(self._records.values(), key=lambda record: (record.number, record.trial_id))

    def record(self, trial_id: str) -> TrialRecord | None:
        """The record of a trial; None where none was written.

        Raises:
            RecordError: A worker has left a file that is no record of this trial.
        """
        if trial_id in self._stale:
            self._stale.remove(trial_id)
            if (read := self.run.read_trial(trial_id)) is not None:
                self._records[trial_id] = read
        return self._records.get(trial_id)

    def write_record(self, record: TrialRecord) -> None:
        """Replace a trial's record, which no worker is writing.

        Raises:
            StorageError: It cannot be written.
        """
        self.run.write_trial(record)
        self._stale.discard(record.trial_id)
        self._records[record.trial_id] = record

    def forget_record(self, trial_id: str) -> None:
        """A trial's record was set aside."""
        self._stale.discard(trial_id)
        self._records.pop(trial_id, None)

    def ended(self) -> list[EndEvent]:
        """The last end of each trial of the search and of its finals that has ended and was not opened again since."""
        return [*self.decisions.ended(), *self.finals.ended()]

    def repair_journals(self) -> None:
        """Cut off what could not be read of the journals; the folder's lock must be held."""
        for events, content in self._unread:
            events.journal.repair(content)
        self._unread.clear()

    def trial_started(self, record: TrialRecord) -> None:
        """From here on a worker writes the trial's record."""
        self._stale.add(record.trial_id)

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """The worker has written the record before it reported the epoch."""

    def trial_ended(self, record: TrialRecord) -> None:
        """The worker has written the record, unless it died: then the reason of the failure is added here."""
        self._stale.add(record.trial_id)
        if record.state == "failed":
            known = self.record(record.trial_id)
            if known is None or not known.reason:
                self.write_record(dataclasses.replace(known or record, state="failed", reason=record.reason))


def read_history(run: Run) -> History:
    """Read every file of a search once; nothing is changed.

    Raises:
        RecordError: There is no search, or a file is none of ferray's.
        StorageError: `search.json` cannot be read, nor the one before it.
    """
    search = run.read_search()
    journals = (run.journal(), run.finals_journal())
    contents = [journal.scan() for journal in journals]
    logs = [EventLog.of(journal, content) for journal, content in zip(journals, contents, strict=True)]
    records, unusable = [], []
    num_epochs = {event.trial_id: event.epoch for log in logs for event in log.ended() if event.state in FINISHED}
    for file in run.record_files():
        trial_id = file.parent.name
        try:
            record = run.read_trial(trial_id)
        except FerrayError as error:
            unusable.append(Unusable(file, error.args[1]))
            continue
        if record is None:
            continue
        if len(record.epochs) < num_epochs.get(trial_id, 0):
            what = f"it has {len(record.epochs)} epochs, the journal {num_epochs[trial_id]}"
            unusable.append(Unusable(file, what))
        else:
            records.append(record)
    decisions, finals = logs
    history = History(run, search, decisions, finals, records)
    history.unusable = unusable
    history._unread = list(zip(logs, contents, strict=True))
    return history
