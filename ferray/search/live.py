"""What a running search shows: one table in a terminal or a notebook, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ferray.records.trial import EpochResult, TrialRecord
from ferray.search.columns import GAP, fit_settings, setting_in_a_table
from ferray.search.notebook import NotebookTable, in_notebook
from ferray.search.pace import Pace
from ferray.space import Space
from ferray.waiting import QUIET_S
from ferray.wording import duration_text, first_line

MAX_ROWS = 16
"""Trials in the table, fewer where the terminal is low; a last row counts the others."""

TRAINING = "training"
"""What a worker group is doing most of the time; anything else is about features."""

HEADER = 6
"""Lines of the table besides trials and caption, at most."""

LINE_S = 30.0
"""In a log, a line is written at least this often; the first one after `ferray.waiting.QUIET_S`."""


class LiveView:
    """An observer of the search that shows it on stderr, or in the output of a notebook's cell.

    Args:
        space: Its metric is shown.
        columns: Settings in which the trials differ.
        total: Trials in all; None if unknown.
        ended: Trials that had ended before.
        pace: Says how long the search and its trials still take; it is given what is measured.
        deadline: When, by `time.monotonic`, it begins no further point; None for no limit.
        console: Where it is shown; None for stderr.
        activities: Called about once a second for what the worker groups are doing, by trial.
        missing: Called after it for what is missing where no group trains; empty while one does.
    """

    def __init__(
        self,
        space: Space,
        *,
        columns: Sequence[str],
        total: int | None,
        ended: int,
        pace: Pace,
        deadline: float | None = None,
        activities: Callable[[], dict[str, str]],
        missing: Callable[[], str] = str,
        console: Console | None = None,
    ) -> None:
        self._columns = columns
        self._metric = space.metric.name
        self._total = total
        self._read_activities = activities
        self._activities: dict[str, str] = {}
        self._missing = missing
        self._running: dict[int, TrialRecord] = {}
        self._best: list[TrialRecord] = []  # of those that ended, no more than the table has rows
        self._ended = self._ended_before = ended
        self._pace = pace
        self._deadline = deadline
        self._new_epochs = 0
        self._began = time.monotonic()
        self._next_line = self._began + QUIET_S
        self._last_turn = self._began
        self._lock = threading.RLock()
        self._closing = threading.Event()
        in_terminal = sys.stderr.isatty() if console is None else console.is_terminal
        self._console = console or Console(stderr=True, force_jupyter=False)
        self._live: Live | NotebookTable | None = None
        if in_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
        elif console is None and in_notebook():
            self._live = NotebookTable()
        self._size = self._console.size
        self._thread = threading.Thread(target=self._refresh_often, name="live", daemon=True)

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()
        self._note_time()
        if self._live is not None:
            self._draw(self._live)
            self._live.stop()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial waits for a worker group."""
        with self._lock:
            self._running[record.number] = record
            self._pace.note_start(record)

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial was trained for one more epoch."""
        with self._lock:
            self._note_time()  # until now the epoch was not there: what it waited for may have ended with it
            self._new_epochs += 1
            if trial_id in self._activities:
                self._activities[trial_id] = TRAINING
            for number, record in self._running.items():
                if record.trial_id == trial_id and len(record.epochs) + 1 == row.epoch:
                    epochs = (*record.epochs, row)
                    self._pace.note_epoch(record, row)
                    self._running[number] = replace(record, epochs=epochs)

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        with self._lock:
            self._running.pop(record.number, None)
            self._best = sorted([*self._best, record], key=_rank)[:MAX_ROWS]
            self._ended += 1
            self._pace.note_end(record)
        if self._live is None:
            self._print_line(f"{self._progress()}: {self._describe(record)}")

    def _describe(self, record: TrialRecord) -> str:
        best = record.best()
        settings = ", ".join(f"{name} {setting_in_a_table(getattr(record.recipe, name))}" for name in self._columns)
        head = f"trial {record.number} {record.state}"
        if best is None:
            return f"{head} ({settings}): {first_line(record.reason, default='no epoch')}"
        score = f"{self._metric} {record.score():.4f} in epoch {best.epoch} of {len(record.epochs)}"
        return f"{head} ({settings}): {score}, {record.seconds():.1f} s"

    def _progress(self) -> str:
        return f"{self._ended}/{self._total if self._total is not None else '?'}"

    def _caption(self) -> str:
        spent = time.monotonic() - self._began
        parts = [f"{self._progress()} trials", f"{self._new_epochs} epochs", f"{duration_text(spent)} spent"]
        with self._lock:
            left = self._pace.left(self._ended, list(self._running.values()))
        if left is not None and self._total is not None and self._ended < self._total:
            parts.append(f"about {duration_text(left)} left")
        if self._deadline is not None:
            until = self._deadline - time.monotonic()
            parts.append(f"new points for {duration_text(until)}" if until > 0 else "no new points: the time is up")
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
        self._note_time()
        if self._live is not None:
            self._draw(self._live)
        elif time.monotonic() > self._next_line:
            self._print_line("; ".join([self._caption(), *self._other_activities()]))

    def _note_time(self) -> None:
        """Measure, but not the wait before the first trial."""
        with self._lock:
            now = time.monotonic()
            # A trial whose next view is not ready is computing it, or waits for the group that does.
            on_features = any(
                self._activities.get(record.trial_id, TRAINING) != TRAINING
                or (
                    record.trial_id in self._activities
                    and self._pace.waits_for_view(record.recipe, len(record.epochs) + 1)
                )
                for record in self._running.values()
            )
            if self._activities or self._new_epochs:
                self._pace.note_time(now - self._last_turn, on_features=on_features)
            self._last_turn = now

    def _draw(self, live: Live | NotebookTable) -> None:
        """Draw the table over the last one; on a clear screen after the window was resized, which wraps old lines."""
        if self._console.size != self._size:
            self._size = self._console.size
            self._console.clear()
        live.update(self._table(), refresh=True)

    def _other_activities(self) -> list[str]:
        """What worker groups are doing besides training, such as computing features."""
        numbers = {record.trial_id: number for number, record in self._running.items()}
        missing = self._missing()
        return [missing] * bool(missing) + [
            f"trial {numbers.get(trial, trial)}: {activity}"
            for trial, activity in self._activities.items()
            if activity != TRAINING
        ]

    def _print_line(self, text: str) -> None:
        self._next_line = time.monotonic() + LINE_S
        print(text, file=sys.stderr, flush=True)

    def _table(self) -> Group:
        """Running trials first, then the best of those that have ended."""
        with self._lock:
            records = [*self._running.values(), *self._best]
            num_trials = len(self._running) + self._ended - self._ended_before
        caption = "\n".join([self._caption(), *self._other_activities()])
        height = self._console.height - HEADER - 1 - caption.count("\n") - len(caption) // self._console.width
        records = records[: max(1, min(MAX_ROWS, height))]
        fixed = [self._cells(record) for record in records]
        names = ("trial", "state", "epoch", "score", "left")
        widths = [max(len(text) for text in texts) for texts in zip(names, *fixed, strict=True)]
        room = self._console.width - sum(widths) - GAP * (len(names) - 1)
        settings, left_out = fit_settings(self._columns, [record.recipe for record in records], room=room)
        notes = [f"score: {self._metric}" + (f"; no room for {', '.join(left_out)}" if left_out else "")]
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for name in names[:2]:
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        for column in settings:
            table.add_column(column.header, justify="right", no_wrap=True)
        for name in names[2:]:
            table.add_column(name, justify="right", no_wrap=True)
        for place, (record, cells) in enumerate(zip(records, fixed, strict=True)):
            row = [*cells[:2], *(column.cells[place] for column in settings), *cells[2:]]
            table.add_row(*row, style=None if record.state == "running" else "dim")
        if num_trials > len(records):
            table.add_row("...", Text(f"{num_trials - len(records)} more"))
        return Group(table, Text("\n".join([*notes, caption])))

    def _cells(self, record: TrialRecord) -> tuple[str, str, str, str, str]:
        """Number, state, epochs, score and the time that is left."""
        score = record.score()
        left, state = "", str(record.state)
        if state == "running":
            activity = self._activities.get(record.trial_id)
            state = "waiting" if activity is None else TRAINING if activity == TRAINING else "features"
            seconds = self._pace.left_of_trial(record)
            left = "" if seconds is None or activity != TRAINING else duration_text(seconds)
        return (
            str(record.number),
            state,
            f"{len(record.epochs)}/{record.recipe.epochs}",
            "" if score is None else f"{score:.4f}",
            left,
        )


def _rank(record: TrialRecord) -> tuple[bool, float]:
    """Sort key: the best score first, trials without a score last."""
    score = record.score()
    return (score is None, 0.0 if score is None else (-score if record.recipe.maximize else score))
