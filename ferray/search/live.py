"""How a search looks while it runs: one table in a terminal, plain lines in a log."""

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

MAX_ROWS = 16
"""Rows of the table; the rest is counted in its caption."""

QUIET_S = 30.0
"""In a log, a line is written at least this often."""


class LiveView:
    """An observer that shows the search on stderr.

    Args:
        space: Its metric is shown.
        columns: Settings that tell trials apart.
        total: Points in all; None where unknown.
        ended: Points that ended in an earlier run of the search.
        notes: What the worker groups are doing now, by trial; asked about once a second.
    """

    def __init__(
        self,
        space: Space,
        *,
        columns: Sequence[str],
        total: int | None,
        ended: int,
        notes: Callable[[], dict[str, str]],
    ) -> None:
        self._searched = columns
        self._metric = space.metric.name
        self._total = total
        self._ask_notes = notes
        self._notes: dict[str, str] = {}
        self._running: dict[int, TrialRecord] = {}
        self._best: list[TrialRecord] = []  # of those that ended, no more than the table has rows
        self._ended = self._ended_before = ended
        self._new_epochs = 0
        self._began = time.monotonic()
        self._last_line = self._began
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if sys.stderr.isatty() else None
        self._thread = threading.Thread(target=self._refresh, name="live", daemon=True)

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
        """A trial is to be trained next."""
        with self._lock:
            self._running[record.number] = record

    def epoch(self, trial_id: str, row: EpochResult) -> None:
        """A trial has come one epoch further."""
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
            self._best = sorted([*self._best, record], key=_worst_last)[:MAX_ROWS]
            self._ended += 1
        if self._live is None:
            self._line(f"{self._progress()}: {self._words(record)}")

    def _words(self, record: TrialRecord) -> str:
        best = record.best()
        settings = ", ".join(f"{name} {_short(getattr(record.recipe, name))}" for name in self._searched)
        head = f"trial {record.number} {record.state}"
        if best is None:
            return f"{head} ({settings}): {record.reason.splitlines()[0] if record.reason else 'no epoch'}"
        score = f"{self._metric} {record.score():.4f} in epoch {best.epoch} of {len(record.epochs)}"
        return f"{head} ({settings}): {score}, {record.seconds():.1f} s"

    def _progress(self) -> str:
        return f"{self._ended}/{self._total if self._total is not None else '?'}"

    def _caption(self) -> str:
        spent = time.monotonic() - self._began
        words = [f"{self._progress()} trials", f"{self._new_epochs} epochs", f"{_clock(spent)} spent"]
        ended_now = self._ended - self._ended_before
        if self._total is not None and ended_now and self._ended < self._total:
            words.append(f"about {_clock(spent / ended_now * (self._total - self._ended))} left")
        return ", ".join(words)

    def _refresh(self) -> None:
        """Once a second: ask for notes, draw the table; in a log, break long silences."""
        while not self._closing.wait(1.0):
            try:
                self._notes = self._ask_notes()
            except Exception:  # noqa: BLE001  the dispatcher may be gone at the end; a picture is not worth a search
                self._notes = {}
            if self._live is not None:
                self._live.update(self._table(), refresh=True)
            elif time.monotonic() - self._last_line > QUIET_S:
                self._line("; ".join([self._caption(), *self._long_work()]))

    def _long_work(self) -> list[str]:
        """What groups are at that is not training."""
        numbers = {record.trial_id: number for number, record in self._running.items()}
        return [
            f"trial {numbers.get(trial, trial)}: {note}" for trial, note in self._notes.items() if note != "training"
        ]

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        """Running trials first, then the best of those that ended."""
        with self._lock:
            records = [*self._running.values(), *self._best]
            total = len(self._running) + self._ended - self._ended_before
        table = Table(caption="\n".join([self._caption(), *self._long_work()]), caption_justify="left", pad_edge=False)
        for name in ("trial", "state", *self._searched, "epoch", self._metric, "faces/s", "left"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=name in ("trial", "state"))
        for record in records[:MAX_ROWS]:
            table.add_row(*self._cells(record), style=None if record.state == "running" else "dim")
        if total > MAX_ROWS:
            table.add_row("...", Text(f"{total - MAX_ROWS} more"))
        return table

    def _cells(self, record: TrialRecord) -> list[str]:
        done, of = len(record.epochs), record.recipe.epochs
        score = record.score()
        rate = f"{record.epochs[-1].images_per_s:,.0f}" if record.epochs else ""
        left = _clock(record.seconds() / done * (of - done)) if record.state == "running" and done else ""
        held = "training" if record.trial_id in self._notes else "waiting"
        state = held if record.state == "running" else record.state
        settings = [_short(getattr(record.recipe, name)) for name in self._searched]
        return [
            str(record.number),
            state,
            *settings,
            f"{done}/{of}",
            "" if score is None else f"{score:.4f}",
            rate,
            left,
        ]


def _worst_last(record: TrialRecord) -> tuple[bool, float]:
    score = record.score()
    return (score is None, 0.0 if score is None else (-score if record.recipe.maximize else score))


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else (f"{minutes} min {rest:02d} s" if minutes else f"{rest} s")
