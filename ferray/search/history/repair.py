"""What a resumed search repairs before it goes on: unusable and missing records, and failed trials that run again.

A trial that has ended by the journal must have a record with as many epochs. Where its record is missing or cannot be
read, it is trained again up to that epoch, without telling searcher and scheduler, who know what it came to. Mostly
nothing is trained: its epochs come back from its last checkpoint.

Begin at `set_aside_unusable`, `find_missing_records` and `retry_failed`; `discard_record` is for damage that shows only
at the end of a search.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ferray.errors import CheckpointError, RecordError, SearchError
from ferray.records.events import EndEvent, EndState, RetryEvent
from ferray.records.trial import FINISHED
from ferray.search.history.points import Suggestion, known_trials
from ferray.search.history.recorded import History
from ferray.space import Space
from ferray.wording import count_of, first_line, option_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MissingRecord:
    """A trial that has ended, but has no record."""

    suggestion: Suggestion
    end: EndEvent


def set_aside_unusable(history: History) -> None:
    """Rename the records that cannot be read, and those that have fewer epochs than the journals say; each is named."""
    for found in history.unusable:
        history.run.set_aside(found.file.parent.name, found.reason)
    history.unusable.clear()


def discard_record(history: History, error: CheckpointError) -> SearchError:
    """Set aside the record of a trial whose best checkpoint turned out to be damaged after the trial had ended.

    Args:
        history: The search.
        error: Names the checkpoint.

    Returns:
        What to tell the user: a resumed search trains the trial again.
    """
    where, what, way_out = error.args
    record, run = Path(where).with_name("record.json"), history.run
    if record.parent.parent == run.folder / "trials" and record.exists():
        run.set_aside(record.parent.name, "its best checkpoint is damaged")
        history.forget_record(record.parent.name)
        way_out = f"The trial is trained again by {option_text('--resume', run.name)}"
    return SearchError(where, what, way_out)


def find_missing_records(history: History, space: Space) -> list[MissingRecord]:
    """The trials of the search proper that have ended, but have no record; the finals ask for theirs by themselves.

    Args:
        history: After `set_aside_unusable`.
        space: What is searched.
    """
    on_record = {record.trial_id for record in history.records}
    ends = [event for event in history.decisions.ended() if event.state in FINISHED]
    lost = {event.trial_id: event for event in ends if event.trial_id not in on_record}
    if not lost:
        return []
    known = known_trials(history.decisions.events, space, seed=history.search.options.seed)
    found = []
    for trial_id, end in lost.items():
        if end.number not in known:
            where = f"{history.decisions.journal.file}, end of trial {end.number}"
            raise RecordError(where, f"no trial {end.number} began", "Start the search under another name")
        suggestion = Suggestion(end.number, trial_id, known[end.number].values)
        found.append(MissingRecord(suggestion=suggestion, end=end))
        log.warning("trial %d (%s) has no record; it is trained again up to epoch %d", end.number, trial_id, end.epoch)
    return found


def retry_failed(history: History) -> Iterator[str]:
    """Open the failed trials of a search and of its finals again, once; a line on each."""
    num_failed = 0
    for events in (history.decisions, history.finals):
        for end in events.ended():
            if end.state != "failed":
                continue
            record = history.record(end.trial_id)
            reason = "" if record is None else record.reason
            if record is not None and record.state == "failed":  # before the event: a crash leaves it as failed there
                history.write_record(dataclasses.replace(record, state="queued", reason=""))
            events.append(RetryEvent(number=end.number, trial_id=end.trial_id, reason=reason))
            num_failed += 1
            epochs = 0 if record is None else len(record.epochs)
            why = first_line(reason, default="no reason is on record")
            failed = f"it failed after {count_of(epochs, 'epoch')}: {why}"
            yield f"trial {end.number} ({end.trial_id}) is run again; {failed}"
    if not num_failed:
        yield "no trial has failed; there is nothing to run again"


def failed_trials(history: History) -> list[str]:
    """Trials that have failed and are not to be run again, each with number and id."""
    return [f"{event.number} ({event.trial_id})" for event in history.ended() if event.state == "failed"]


class RecordRecovery:
    """Trials whose records are missing, as `ferray.search.tune.loop` asks for them; each stops where it did.

    Args:
        missing: What is to be trained again.
    """

    def __init__(self, missing: Sequence[MissingRecord]) -> None:
        self._ends = {one.suggestion.number: one.end for one in missing}
        self._left = [one.suggestion for one in missing]

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""
        return self._left.pop(0) if self._left else "none left"

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        """Stop where the scheduler had stopped it."""
        return self._ends[number].state == "stopped" and epoch >= self._ends[number].epoch

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """Warn of a trial that did not come to what is on record."""
        end = self._ends[number]
        if (state, epoch, score) != (end.state, end.epoch, end.score):
            log.warning(
                "trial %d came to %s after %d epochs (%s) this time, to %s after %d (%s) on record: %s",
                number, score, epoch, state, end.score, end.epoch, end.state,
                "the search goes on as it was decided then",
            )  # fmt: skip
