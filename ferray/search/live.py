"""What a running search shows: one table in a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ferray.records.trial import EpochResult, TrialRecord
from ferray.space import Space
from ferray.waiting import QUIET_S
from ferray.wording import first_line

MAX_ROWS = 16
"""Trials in the table; a last row counts the others."""

LINE_S = 30.0
"""In a log, a line is written at least this often; the first one after `ferray.waiting.QUIET_S`."""


class LiveView:
    """An observer of the search that shows it on stderr.

    Args:
        space: Its metric is shown.
        columns: Settings in which the trials differ.
        total: Trials in all; None if unknown.
        ended: Trials that had ended before.
        activities: Called about once a second for what the worker groups are doing, by trial.
    """

    def __init__(
        self,
        space: Space,
        *,
        columns: Sequence[str],
        total: int | None,
        ended: int,
        activities: Callable[[], dict[str, str]],
    ) -> None:
        self._columns = columns
        self._metric = space.metric.name
        self._total = total
        self._read_activities = activities
        self._activities: dict[str, str] = {}
        self._running: dict[int, TrialRecord] = {}
        self._best: list[TrialRecord] = []  # of those that ended, no more than the table has rows
        self._ended = self._ended_before = ended
        self._new_epochs = 0
        self._began = time.monotonic()
        self._next_line = self._began + QUIET_S
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if sys.stderr.isatty() else None
        self._thread = threading.Thread(target=self._refresh_often, name="live", daemon=True)

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial waits for a worker group."""
        with self._lock:
            self._running[record.number] = record

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial was trained for one more epoch."""
        with self._lock:
            self._new_epochs += 1
            for number, record in self._running.items():
                if record.trial_id == trial_id and len(record.epochs) + 1 == row.epoch:
                    epochs = (*record.epochs, row)
                    self._running[number] = replace(record, epochs=epochs)

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        with self._lock:
            self._running.pop(record.number, None)
            self._best = sorted([*self._best, record], key=_rank)[:MAX_ROWS]
            self._ended += 1
        if self._live is None:
            self._print_line(f"{self._progress()}: {self._describe(record)}")

    def _describe(self, record: TrialRecord) -> str:
        best = record.best()
        settings = ", ".join(f"{name} {_format_value(getattr(record.recipe, name))}" for name in self._columns)
        head = f"trial {record.number} {record.state}"
        if best is None:
            return f"{head} ({settings}): {first_line(record.reason, default='no epoch')}"
        score = f"{self._metric} {record.score():.4f} in epoch {best.epoch} of {len(record.epochs)}"
        return f"{head} ({settings}): {score}, {record.seconds():.1f} s"

    def _progress(self) -> str:
        return f"{self._ended}/{self._total if self._total is not None else '?'}"

    def _caption(self) -> str:
        spent = time.monotonic() - self._began
        parts = [f"{self._progress()} trials", f"{self._new_epochs} epochs", f"{_format_duration(spent)} spent"]
        ended_now = self._ended - self._ended_before
        if self._total is not None and ended_now and self._ended < self._total:
            parts.append(f"about {_format_duration(spent / ended_now * (self._total - self._ended))} left")
        return ", ".join(parts)

    def _refresh_often(self) -> None:
        while not self._closing.wait(1.0):
            self.refresh()

    def refresh(self) -> None:
        """Read the activities and draw the table, once a second; in a log, write a line every `LINE_S`."""
        try:
            self._activities = self._read_activities()
        except Exception:  # noqa: BLE001  the dispatcher may be gone at the end; the display must not end a search
            self._activities = {}
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif time.monotonic() > self._next_line:
            self._print_line("; ".join([self._caption(), *self._other_activities()]))

    def _other_activities(self) -> list[str]:
        """What worker groups are doing besides training, such as computing features."""
        numbers = {record.trial_id: number for number, record in self._running.items()}
        return [
            f"trial {numbers.get(trial, trial)}: {activity}"
            for trial, activity in self._activities.items()
            if activity != "training"
        ]

    def _print_line(self, text: str) -> None:
        self._next_line = time.monotonic() + LINE_S
        print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        """Running trials first, then the best of those that have ended."""
        with self._lock:
            records = [*self._running.values(), *self._best]
            num_trials = len(self._running) + self._ended - self._ended_before
        table = Table(
            caption="\n".join([self._caption(), *self._other_activities()]), caption_justify="left", pad_edge=False
        )
        for name in ("trial", "state", *self._columns, "epoch", self._metric, "faces/s", "left"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=name in ("trial", "state"))
        for record in records[:MAX_ROWS]:
            table.add_row(*self._cells(record), style=None if record.state == "running" else "dim")
        if num_trials > MAX_ROWS:
            table.add_row("...", Text(f"{num_trials - MAX_ROWS} more"))
        return table

    def _cells(self, record: TrialRecord) -> list[str]:
        num_done, num_epochs = len(record.epochs), record.recipe.epochs
        score = record.score()
        rate = f"{record.epochs[-1].images_per_s:,.0f}" if record.epochs else ""
        left, state = "", str(record.state)
        if state == "running":
            state = "training" if record.trial_id in self._activities else "waiting"
            left = _format_duration(record.seconds() / num_done * (num_epochs - num_done)) if num_done else ""
        settings = [_format_value(getattr(record.recipe, name)) for name in self._columns]
        return [
            str(record.number),
            state,
            *settings,
            f"{num_done}/{num_epochs}",
            "" if score is None else f"{score:.4f}",
            rate,
            left,
        ]


def _rank(record: TrialRecord) -> tuple[bool, float]:
    """Sort key: the best score first, trials without a score last."""
    score = record.score()
    return (score is None, 0.0 if score is None else (-score if record.recipe.maximize else score))


def _format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else (f"{minutes} min {rest:02d} s" if minutes else f"{rest} s")
