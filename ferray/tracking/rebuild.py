"""Making the W&B runs of a search again from its records, after they were lost.

Begin at `rebuild_runs`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.errors import TrackingError
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.space import parse_settings, read_space
from ferray.tracking.mirror import EXIT_CODES
from ferray.tracking.mode import Mode
from ferray.tracking.names import SearchNames
from ferray.tracking.sent_log import SentLog
from ferray.tracking.wandb import track_search


@dataclass(frozen=True, kw_only=True)
class RebuiltRuns:
    """What was made."""

    num_trials: int
    prefix: str
    """What the ids of all its runs begin with."""


def rebuild_runs(run: Run, *, mode: Mode, files: Sequence[Path], summary: Mapping[str, Any]) -> RebuiltRuns:
    """Make a run of each trial on record and one of the search, whatever W&B had before, under new ids.

    The runs have the settings, epochs, summaries, states and tags of those that were lost, and their epochs the times
    of the records. A search that is resumed goes on with them. Online they get a sweep of their own.

    Args:
        run: The search's folder; no search may run in it.
        mode: Not `disabled`.
        files: Pictures, and the folder of the best model.
        summary: Numbers on the best model.

    Raises:
        RecordError: There is no search.
        StorageError: The search is running.
        TrackingError: Not all was sent.
    """
    run.check_exists()
    with run.lock():
        search = run.read_search()
        space = read_space(run.space_file, parse_settings(search.options.set))
        space = dataclasses.replace(space, name=search.options.space or space.name)
        records = [_ended(record) for record in run.read_trials() if record.state in EXIT_CODES or record.epochs]
        best = next((record for record in records if search.best and record.trial_id == search.best.trial_id), None)
        log = SentLog(run.folder)
        log.begin_rebuilding()
        with track_search(run, search, space, mode=mode, has_original_times=True) as tracker:
            tracker.search_ended(records=records, best=best, files=files, summary=summary)
            tracker.wait()
        return _check_sent(run, SearchNames(name=run.name, search_id=search.id, sent_log=SentLog(run.folder)), records)


def _check_sent(run: Run, names: SearchNames, records: Sequence[TrialRecord]) -> RebuiltRuns:
    missing = sum(names.sent_log.logged(names.run_id(one.trial_id)).state != one.state for one in records)
    if missing:
        what = f"{missing} of {len(records)} runs are not in W&B"
        raise TrackingError(str(run.folder), what, f"To send the rest: {run.resume_command}")
    return RebuiltRuns(num_trials=len(records), prefix=f"{names.run_id('')}-")


def _ended(record: TrialRecord) -> TrialRecord:
    """A trial that nobody trains."""
    return record if record.state in EXIT_CODES else dataclasses.replace(record, state="interrupted")
