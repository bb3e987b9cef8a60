"""MLflow: an experiment per search and a run per trial, sent to a tracking server while the search runs.

A thread of its own makes all calls, so that MLflow can neither end nor delay a search. What a run lacks is read from
MLflow when the trial begins or continues, and for every trial when the search ends. So each epoch is sent once, also
after a kill, and a search that was not sent at first is sent when it is resumed.

Begin at `MlflowLog`.
"""

import logging
import os
import queue
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ferray import recipe as recipes
from ferray.errors import SearchError
from ferray.records.run import Run
from ferray.records.tables import best_columns
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord
from ferray.waiting import waiting
from ferray.wording import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Entity

log = logging.getLogger(__name__)

EXIT_S = 30.0
"""Longest wait for MLflow when a search is over."""

MAX_FAULTS = 3
"""Errors after which a session sends nothing more."""

STATUSES: dict[State, str] = {"done": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

TRIAL_TAG, STATE_TAG, EPOCHS_TAG = "ferray.trial_id", "ferray.state", "ferray.epochs"

VARIABLES = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own default waits for minutes
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where `--json` prints
    "MLFLOW_DISABLE_TELEMETRY": "true",  # or it tells its makers of its use
}
"""Of MLflow's client, where the user has not set them."""

SCHEMES = ("http", "https", "databricks")
"""What the client serves by itself. Databases and folders need all of MLflow, which has a server for them."""


def check_tracking_uri(uri: str) -> None:
    """That a tracking URI can be recorded and used.

    Raises:
        SearchError: It holds a password, its scheme is unknown, or MLflow's client is not installed.
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.password is not None or parts.username is not None:
        shown = uri.replace(parts.netloc.rpartition("@")[0], "...", 1)
        way_out = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: the command is recorded"
        raise SearchError(f"--mlflow {shown}", "has a user or password", way_out)
    if parts.scheme not in SCHEMES:
        way_out = "Give that of a tracking server, such as http://HOST:PORT; for a file or folder start `mlflow server`"
        raise SearchError(f"--mlflow {uri}", f"does not begin with {', '.join(SCHEMES)}", way_out)
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        raise SearchError("--mlflow", "needs MLflow's client", "Install it: pip install 'ferray[mlflow]'")


@dataclass
class _Open:
    """A trial whose run at MLflow is open."""

    run_id: str
    num_epochs: int
    time: float
    """When the last epoch that was sent ended, in seconds since 1970."""


class MlflowLog:
    """Sends a search to MLflow; a context manager, and an observer of `ferray.search.tune.loop`.

    Args:
        uri: MLflow's tracking URI.
        run: The search's folder; its name is that of the experiment.
        search_id: Unique to the search.
        tags: Of every run: of what space and data it is.
    """

    def __init__(self, uri: str, run: Run, *, search_id: str, tags: dict[str, str]) -> None:
        self._uri, self._name, self._search_id, self._tags = uri, run.name, search_id, tags
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._open: dict[str, _Open] = {}
        self._known: dict[str, Entity] = {}
        """The runs that MLflow has, by trial id."""
        self._faults = 0
        self._is_incomplete = False
        self._deadline = float("inf")
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline = time.monotonic() + EXIT_S * 2 / 3
        self._acts.put(self._close)
        self._acts.put(None)
        with waiting(f"sending the last to MLflow, which takes {EXIT_S:.0f} s at most"):
            self._thread.join(EXIT_S)
        if self._thread.is_alive() or self._is_incomplete:
            log.warning("MLflow: not all was sent within %.0f s; the rest is sent if the search is resumed", EXIT_S)

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins or continues."""
        self._acts.put(partial(self._begin, record))

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial has one more epoch."""
        self._acts.put(partial(self._add, trial_id, row))

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed; its run ends."""
        self._acts.put(partial(self._end, record))

    def search_ended(self, records: Sequence[TrialRecord]) -> None:
        """Send what MLflow lacks of any trial on record."""
        for record in (one for one in records if one.state in STATUSES):
            self._acts.put(partial(self._end, record))

    def _work(self) -> None:
        while (act := self._acts.get()) is not None:
            if self._faults >= MAX_FAULTS:
                continue
            if time.monotonic() > self._deadline:
                self._is_incomplete = True
                continue
            try:
                act()
            except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the search continues
                self._faults += 1
                log.warning("MLflow: %s: %s; the search continues", type(error).__name__, first_line(str(error)))
                if self._faults == MAX_FAULTS:
                    log.warning("MLflow: %d errors; nothing more is sent. A resumed search sends it", MAX_FAULTS)

    def _begin(self, record: TrialRecord) -> None:
        if record.trial_id not in self._open:
            self._find(record)
        self._send(record.trial_id, record.epochs)

    def _add(self, trial_id: str, row: EpochResult) -> None:
        if trial_id in self._open:
            self._send(trial_id, [row])

    def _end(self, record: TrialRecord) -> None:
        """The trial's run with all epochs and its state, unless it was ended so before."""
        end = {STATE_TAG: record.state, EPOCHS_TAG: str(len(record.epochs))}
        client = self._connect()
        known = self._known.get(record.trial_id)
        if known is not None and end.items() <= known.data.tags.items():
            return
        self._begin(record)
        opened = self._open[record.trial_id]
        best = {name: value for name, value in best_columns(record).items() if value is not None}
        from mlflow.entities import Metric, RunTag

        stamp, step = _stamp(opened.time), int(best.get("best_epoch", 0))
        client.log_batch(
            opened.run_id,
            metrics=[Metric(name, float(value), stamp, step) for name, value in best.items()],
            tags=[RunTag(name, value) for name, value in {**end, "ferray.reason": record.reason[:500]}.items()],
        )
        client.set_terminated(opened.run_id, STATUSES[record.state], end_time=stamp)
        del self._open[record.trial_id]
        self._known[record.trial_id] = client.get_run(opened.run_id)

    def _close(self) -> None:
        """End the runs of trials that are still open."""
        for opened in self._open.values():
            self._connect().set_terminated(opened.run_id, STATUSES["interrupted"])

    def _connect(self) -> "MlflowClient":
        """The client; the experiment is made first if it is not there, and its runs are listed."""
        if self._client is None:
            for name, value in VARIABLES.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            client = MlflowClient(self._uri)
            name = f"ferray/{self._name}-{self._search_id}"  # searches of one name in two folders are two experiments
            found = client.get_experiment_by_name(name)
            self._experiment = client.create_experiment(name) if found is None else found.experiment_id
            token: str | None = ""
            while token is not None:
                page = client.search_runs([self._experiment], max_results=1000, page_token=token or None)
                self._known |= {run.data.tags[TRIAL_TAG]: run for run in page if TRIAL_TAG in run.data.tags}
                token = page.token or None
            self._client = client
        return self._client

    def _find(self, record: TrialRecord) -> None:
        """Open the trial's run, a new one unless MLflow has it, and find out which epochs it has."""
        from mlflow.entities import Param

        client = self._connect()
        began = record.began_s() or time.time()
        known = self._known.get(record.trial_id)
        if known is None:
            num_epochs, ended = 0, began
            tags = {TRIAL_TAG: record.trial_id, "ferray.number": str(record.number), **self._tags}
            name = f"{self._name}-{record.number}"
            known = client.create_run(self._experiment, start_time=_stamp(began), tags=tags, run_name=name)
            values = recipes.to_values(record.recipe).items()
            client.log_batch(known.info.run_id, params=[Param(name, str(value)) for name, value in values])
            self._known[record.trial_id] = known
        else:
            history = client.get_metric_history(known.info.run_id, METRIC_FIELDS[-1])
            num_epochs = max((metric.step for metric in history), default=0)
            ended = max((metric.timestamp / 1000 for metric in history), default=began)
            client.update_run(known.info.run_id, status="RUNNING")
        self._open[record.trial_id] = _Open(known.info.run_id, num_epochs, ended)

    def _send(self, trial_id: str, rows: Sequence[EpochResult]) -> None:
        """Send the epochs that MLflow lacks; the last metric of an epoch shows that it has the whole epoch."""
        from mlflow.entities import Metric

        opened = self._open[trial_id]
        for row in rows:
            if row.epoch != opened.num_epochs + 1:
                continue  # it is there, or an earlier one could not be sent: the end of the search sends both
            ended = opened.time + row.seconds
            metrics = [Metric(name, getattr(row, name), _stamp(ended), row.epoch) for name in METRIC_FIELDS]
            self._connect().log_batch(opened.run_id, metrics=metrics)
            opened.num_epochs, opened.time = row.epoch, ended


def _stamp(seconds: float) -> int:
    return int(seconds * 1000)
