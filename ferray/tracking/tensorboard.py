"""TensorBoard: event files of every trial in `runs/NAME/tensorboard`, written while the search runs.

    tensorboard --logdir runs/NAME/tensorboard

A trial's folder is written from the beginning whenever the trial begins or continues, from its record. So no epoch
stands there twice, none is missing after a kill, and a search that was not written at first is written when it is
resumed. The times of the epochs are those of the training.

Begin at `TensorBoardLog`.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ferray import recipe as recipes
from ferray.records.run import Run
from ferray.records.tables import best_columns
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.summary_pb2 import Summary

STATUSES: dict[State, str] = {
    "done": "STATUS_SUCCESS",
    "stopped": "STATUS_SUCCESS",
    "failed": "STATUS_FAILURE",
    "interrupted": "STATUS_UNKNOWN",
}
"""What TensorBoard calls the ends of a trial."""


@dataclass
class _Open:
    """A trial that is being written."""

    record: TrialRecord
    writer: "EventsWriter"
    num_epochs: int = 0
    time: float = 0.0
    """When the last epoch that was written ended, in seconds since 1970."""


class TensorBoardLog:
    """Writes a search for TensorBoard; a context manager, and an observer of `ferray.search.tune.loop`.

    Args:
        run: The search's folder.
    """

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / "tensorboard"
        self._open: dict[str, _Open] = {}
        self._complete: dict[str, tuple[State, int]] = {}
        """State and number of epochs of the trials that were written to their end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for trial in self._open.values():
            trial.writer.close()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins or continues: write the epochs that it has."""
        if record.trial_id not in self._open:  # two points may be the same trial
            self._begin(record)

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial has one more epoch."""
        trial = self._open[trial_id]
        if row.epoch == trial.num_epochs + 1:
            _write_epochs(trial, [row])

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        trial = self._open.get(record.trial_id)
        if trial is None or trial.num_epochs < len(record.epochs):
            trial = self._begin(record)
        _write_end(trial, record)
        trial.writer.close()
        del self._open[record.trial_id]
        self._complete[record.trial_id] = record.state, trial.num_epochs

    def search_ended(self, records: Sequence[TrialRecord]) -> None:
        """Write every trial on record that this session has not written to its end."""
        for record in records:
            if record.state in STATUSES and self._complete.get(record.trial_id) != (record.state, len(record.epochs)):
                self.trial_ended(record)

    def _begin(self, record: TrialRecord) -> _Open:
        """A trial's folder with all epochs of its record."""
        from tensorboardX.event_file_writer import EventsWriter  # and not FileWriter, whose thread may write later
        from tensorboardX.summary import hparams

        before = self._open.pop(record.trial_id, None)
        if before is not None:
            before.writer.close()
        folder = self.folder / f"{record.number:05}-{record.trial_id}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        writer = EventsWriter(str(folder / "events"))
        trial = self._open[record.trial_id] = _Open(record, writer, time=record.began_s() or time.time())
        settings = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in recipes.to_values(record.recipe).items()
            if value is not None
        }
        metrics = dict.fromkeys((f"best_{record.recipe.monitor}", *METRIC_FIELDS), 0.0)
        for summary in hparams(settings, metrics)[:2]:
            _write(trial, summary)
        _write_epochs(trial, record.epochs)
        return trial


def _write_epochs(trial: _Open, rows: Sequence[EpochResult]) -> None:
    from tensorboardX.summary import scalar

    for row in rows:
        trial.time += row.seconds
        for name in METRIC_FIELDS:
            _write(trial, scalar(name, getattr(row, name)), epoch=row.epoch)
        trial.num_epochs = row.epoch
    trial.writer.flush()


def _write_end(trial: _Open, record: TrialRecord) -> None:
    """The best score and how the trial ended."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboardX.summary import scalar

    best = best_columns(record)
    name = f"best_{record.recipe.monitor}"
    if best[name] is not None:
        _write(trial, scalar(name, best[name]), epoch=best["best_epoch"])
    end = SessionEndInfo(status=Status.Value(STATUSES[record.state]), end_time_secs=trial.time)
    content = HParamsPluginData(session_end_info=end, version=0).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    value = Summary.Value(tag="_hparams_/session_end_info", metadata=SummaryMetadata(plugin_data=plugin))
    _write(trial, Summary(value=[value]))


def _write(trial: _Open, summary: "Summary", *, epoch: int = 0) -> None:
    from tensorboardX.proto.event_pb2 import Event

    trial.writer.write_event(Event(summary=summary, step=epoch, wall_time=trial.time))
