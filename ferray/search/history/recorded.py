"""What is on record of a search: read once, handed on as one value, and appended to here.

    search.json      `History.search`     changed by `History.update`
    journal.jsonl    `History.decisions`  appended to by `ferray.search.tune.decisions`
    finals.jsonl     `History.finals`     appended to by `ferray.search.outcome.finals`
    record.json      `History.records`    written by the worker that trains the trial

The first three are read when a `History` is made, the records when the first of them is asked for.
While a search runs, its workers rewrite the records of the trials that they train. `History` observes which trials
those are, and reads their records again when they are asked for. Nothing else is read twice.

Begin at `read_history`, for which the caller holds the folder's lock unless it only looks.
"""

import dataclasses
import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.errors import FerrayError
from ferray.records.events import EndEvent, EventLog, SuggestEvent
from ferray.records.run import Run
from ferray.records.search_file import SearchFile
from ferray.records.trial import FINISHED, EpochResult, State, TrialRecord

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
    """

    def __init__(self, run: Run, search: SearchFile, decisions: EventLog, finals: EventLog) -> None:
        self.run = run
        self.decisions = decisions
        self.finals = finals
        self._search = search
        self._stale: set[str] = set()  # trials whose records workers may have written since they were read

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
        return sorted(self._read.records.values(), key=lambda record: (record.number, record.trial_id))

    def record(self, trial_id: str) -> TrialRecord | None:
        """The record of a trial; None where none was written.

        Raises:
            RecordError: A worker has left a file that is no record of this trial.
        """
        records = self._read.records
        if trial_id in self._stale:
            self._stale.remove(trial_id)
            if (read := self.run.read_trial(trial_id)) is not None:
                records[trial_id] = read
        return records.get(trial_id)

    def write_record(self, record: TrialRecord) -> None:
        """Replace a trial's record, which no worker is writing.

        Raises:
            StorageError: It cannot be written.
        """
        records = self._read.records
        self.run.write_trial(record)
        self._stale.discard(record.trial_id)
        records[record.trial_id] = record

    def forget_record(self, trial_id: str) -> None:
        """A trial's record was set aside."""
        self._stale.discard(trial_id)
        self._read.records.pop(trial_id, None)

    @property
    def unusable(self) -> list[Unusable]:
        """Records that are none, or have fewer epochs than the journals say; they are not among `records`."""
        return self._read.unusable

    def ended(self) -> list[EndEvent]:
        """The last end of each trial of the search and of its finals that has ended and was not opened again since."""
        return [*self.decisions.ended(), *self.finals.ended()]

    def repair_journals(self) -> None:
        """Cut off what could not be read of the journals; the folder's lock must be held."""
        self.decisions.repair()
        self.finals.repair()

    def trial_started(self, record: TrialRecord) -> None:
        """From here on a worker writes the trial's record."""
        self._stale.add(record.trial_id)
        self.run.note_running(record.trial_id)

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """The worker has written the record before it reported the epoch."""

    def trial_ended(self, record: TrialRecord) -> None:
        """The worker has written the record, unless it died: then the reason of the failure is added here."""
        self._stale.add(record.trial_id)
        self.run.note_ended(record.trial_id)
        if record.state == "failed":
            known = self.record(record.trial_id)
            if known is None or not known.reason:
                self.write_record(dataclasses.replace(known or record, state="failed", reason=record.reason))

    def write_final_states(self) -> list[TrialRecord]:
        """All records, now that nobody writes them: the journals say how a trial ended, the others were interrupted."""
        ended = {event.trial_id: event for event in self.ended()}
        for record in self.records:
            event = ended.get(record.trial_id)
            state: State = "interrupted" if event is None else event.state
            # Its record was lost, and the trial was not trained again in this session.
            if event is not None and len(record.epochs) < event.epoch:
                event, state = None, "failed" if record.state == "failed" else "interrupted"
            if record.state not in FINISHED and record.state != state:
                self.write_record(dataclasses.replace(record, state=state, reason=record.reason if event else ""))
        return self.records

    @functools.cached_property
    def _read(self) -> "_Records":
        """The records as they were when the first was asked for, with what workers have changed since."""
        num_epochs = {event.trial_id: event.epoch for event in self.ended() if event.state in FINISHED}
        found = _Records(records={}, unusable=[])
        for file in self.run.record_files():
            trial_id = file.parent.name
            try:
                record = self.run.read_trial(trial_id)
            except FerrayError as error:
                found.unusable.append(Unusable(file, error.args[1]))
                continue
            if record is None:
                continue
            if len(record.epochs) < num_epochs.get(trial_id, 0):
                what = f"it has {len(record.epochs)} epochs, the journal {num_epochs[trial_id]}"
                found.unusable.append(Unusable(file, what))
            else:
                found.records[trial_id] = record
        return found


@dataclass(frozen=True, kw_only=True)
class _Records:
    records: dict[str, TrialRecord]
    """By trial id."""
    unusable: list[Unusable]


def read_history(run: Run) -> History:
    """Read what a search was asked for and what it decided; nothing is changed.

    Raises:
        RecordError: There is no search, or a file is none of ferray's.
        StorageError: `search.json` cannot be read, nor the one before it.
    """
    history = History(run, run.read_search(), EventLog(run.journal()), EventLog(run.finals_journal()))
    for events in (history.decisions, history.finals):
        for trial_id in {event.trial_id for event in events.of_kind(SuggestEvent) + events.of_kind(EndEvent)}:
            run.trial_dir(trial_id)  # refuses an id that is none, before a worker makes a folder of it
    return history
