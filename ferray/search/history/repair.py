"""What a resumed search puts right before it goes on: failed trials that are to run again, and records that were lost.

A trial that has ended by the journal must have a record with as many epochs. Where it has none, or a broken one, it is
trained again up to that epoch, without a word to searcher and scheduler, who know what it came to. Mostly nothing is
trained: its epochs come back from its last checkpoint.

Begin at `set_aside`, `wounds` and `retry`; `lose` is for what shows only at the end.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ferray.errors import CheckpointError, FerrayError, RecordError, SearchError
from ferray.records.run import Run
from ferray.records.trial import FINISHED, EpochResult, State, TrialRecord
from ferray.search.history.points import Suggestion, ended_trials, known_trials
from ferray.space import Space

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wound:
    """A trial that has ended, but whose record is lost."""

    suggestion: Suggestion
    state: State
    epoch: int
    """Its last."""
    score: float | None


def set_aside(run: Run) -> None:
    """Rename the records that cannot be read, and those that have fewer epochs than the journals say; each is named.

    Args:
        run: The search's folder, which nobody else writes.
    """
    wanted = {event["trial_id"]: event["epoch"] for event in _ended(run) if event["state"] in FINISHED}
    for file in sorted((run.folder / "trials").glob("*/record.json")):
        trial_id = file.parent.name
        try:
            record = run.read_trial(trial_id)
        except FerrayError as error:
            _rename(file, error.args[1])
        else:
            num_epochs = 0 if record is None else len(record.epochs)
            if num_epochs < wanted.get(trial_id, 0):
                _rename(file, f"it has {num_epochs} epochs, the journal {wanted[trial_id]}")


def lose(run: Run, error: CheckpointError) -> SearchError:
    """A trial's best checkpoint turned out to be damaged after the trial had ended: its record is set aside.

    Args:
        run: The search's folder, which nobody else writes.
        error: Names the checkpoint.

    Returns:
        What to tell the user: a resumed search trains the trial again.
    """
    where, what, way_out = error.args
    record = Path(where).with_name("record.json")
    if record.parent.parent == run.folder / "trials" and record.exists():
        _rename(record, "its best checkpoint is damaged")
        way_out = f"The trial is trained again: python -m ferray.search --resume {run.name}"
    return SearchError(where, what, way_out)


def wounds(run: Run, space: Space, *, seed: int) -> list[Wound]:
    """The trials of the search proper that have ended, but have no record; the finals ask for theirs by themselves.

    Args:
        run: After `set_aside`.
        space: What is searched.
        seed: Of the search.
    """
    events = run.journal().read()
    lost = {
        event["trial_id"]: event
        for event in ended_trials(events)
        if event["state"] in FINISHED and not (run.trial_dir(event["trial_id"]) / "record.json").exists()
    }
    if not lost:
        return []
    known = known_trials(events, space, seed=seed)
    found = []
    for trial_id, event in lost.items():
        number, epoch, score = event["number"], event["epoch"], event.get("score")
        if number not in known:
            raise RecordError(f"journal: {event}", f"no trial {number} began", "Start the search under another name")
        suggestion = Suggestion(number, trial_id, known[number].values)
        found.append(Wound(suggestion=suggestion, state=event["state"], epoch=epoch, score=score))
        log.warning("trial %d (%s) has no record; it is trained again up to epoch %d", number, trial_id, epoch)
    return found


def retry(run: Run) -> Iterator[str]:
    """Open the failed trials of a search and of its finals again, once; a line on each.

    Args:
        run: The search's folder, which nobody else writes.
    """
    num_failed = 0
    for journal in (run.journal(), run.finals_journal()):
        for event in ended_trials(journal.read()):
            if event["state"] != "failed":
                continue
            number, trial_id = event["number"], event["trial_id"]
            record = run.read_trial(trial_id)
            reason = "" if record is None else record.reason
            if record is not None and record.state == "failed":  # before the journal: a crash leaves it as failed there
                run.write_trial(dataclasses.replace(record, state="queued", reason=""))
            journal.append({"event": "retry", "number": number, "trial_id": trial_id, "reason": reason})
            num_failed += 1
            epochs = 0 if record is None else len(record.epochs)
            yield f"trial {number} ({trial_id}) is run again; it failed after {epochs} epochs: {_first_line(reason)}"
    if not num_failed:
        yield "no trial has failed; there is nothing to run again"


def failures(run: Run) -> list[str]:
    """Trials that have failed and are not to be run again, by number."""
    return [f"{event['number']} ({event['trial_id']})" for event in _ended(run) if event["state"] == "failed"]


class Reasons:
    """Writes down why a trial failed where its worker could not, being dead; an observer of the tuner.

    Args:
        run: The search's folder.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def trial_started(self, record: TrialRecord) -> None:
        """Of no interest."""

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """Of no interest."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A failed trial's record gets the reason, unless it has one."""
        if record.state != "failed":
            return
        known = self._run.read_trial(record.trial_id)
        if known is None or not known.reason:
            self._run.write_trial(dataclasses.replace(known or record, state="failed", reason=record.reason))


class Mending:
    """Trials whose records are lost, as the tuner asks for them; each stops where it did.

    Args:
        wounds: What is to be made good.
    """

    def __init__(self, wounds: Sequence[Wound]) -> None:
        self._wounds = {wound.suggestion.number: wound for wound in wounds}
        self._left = [wound.suggestion for wound in wounds]

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial."""
        return self._left.pop(0) if self._left else "none left"

    def hear(self, number: int, epoch: int, score: float) -> bool:
        """Stop where the scheduler had stopped it."""
        return self._wounds[number].state == "stopped" and epoch >= self._wounds[number].epoch

    def end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        """A trial is whole again, or is not what it was."""
        wound = self._wounds[number]
        if (state, epoch, score) != (wound.state, wound.epoch, wound.score):
            log.warning(
                "trial %d came to %s after %d epochs (%s) this time, to %s after %d (%s) on record: %s",
                number, score, epoch, state, wound.score, wound.epoch, wound.state,
                "the search goes on as it was decided then",
            )  # fmt: skip


def _ended(run: Run) -> list[Mapping[str, Any]]:
    """Of the search and its finals."""
    return ended_trials([*run.journal().read_whole(), *run.finals_journal().read_whole()])


def _rename(file: Path, why: str) -> None:
    aside = file.with_name(f"{file.name}.broken")
    file.replace(aside)
    log.warning("%s: %s; it is kept as %s", file, why, aside.name)


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "no reason is on record")
