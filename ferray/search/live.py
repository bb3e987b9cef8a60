"""What a running search shows: a screen of a terminal or a notebook, plain lines in a log.

What it shows is a `SearchView`, which `ferray.report.watch` draws, here and for a watcher. Begin at `LiveView`.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live

from ferray.records.trial import EpochResult, TrialRecord
from ferray.report.watch.drawing import TRAINING, describe, describe_trial, draw
from ferray.report.watch.tally import Tally
from ferray.report.watch.view import SearchView
from ferray.search.notebook import HEIGHT, WIDTH, NotebookTable, in_notebook
from ferray.search.pace import Pace
from ferray.search.status import Status
from ferray.signals import receive_from_handlers
from ferray.waiting import QUIET_S

LINE_S = 30.0
"""In a log, a line is written at least this often; the first one after `ferray.waiting.QUIET_S`."""

TRIAL_S = 5.0
"""In a log, trials that end within so many seconds of the last line share the next one."""


class LiveView:
    """An observer of the search that shows it on stderr, or in the output of a notebook's cell.

    Args:
        tally: Knows the trials on record, and is given those of this session.
        total: Trials in all; None if unknown.
        ended: Trials that had ended before.
        pace: Says how long the search and its trials still take; it is given what is measured.
        deadline: When, by `time.monotonic`, it begins no further point; None for no limit.
        status: What the search does besides its trials; it gets the view.
        console: Where it is shown; None for stderr.
        activities: Called about once a second for what the worker groups are doing, by trial.
        missing: Called after it for what is missing where no group trains; empty while one does.
    """

    def __init__(
        self,
        tally: Tally,
        *,
        total: int | None,
        ended: int,
        pace: Pace,
        deadline: float | None = None,
        status: Status | None = None,
        activities: Callable[[], dict[str, str]],
        missing: Callable[[], str] = str,
        console: Console | None = None,
    ) -> None:
        self._tally = tally
        self._total = total
        self._num_elsewhere = ended - tally.num_ended  # trials that have ended and are not on record
        self._read_activities = activities
        self._activities: dict[str, str] = {}
        self._missing = missing
        self._pace = pace
        self._deadline = deadline
        self._status = status or Status()
        began = time.monotonic()
        self._next_line = began + QUIET_S
        self._last_turn = began
        self._last_line = began - TRIAL_S
        self._unsaid: list[TrialRecord] = []  # trials that have ended since the last line
        self._lock = threading.RLock()
        self._closing = threading.Event()
        in_terminal = sys.stderr.isatty() if console is None else console.is_terminal
        self._console = console or Console(stderr=True, force_jupyter=False)
        in_terminal = in_terminal and not self._console.is_dumb_terminal  # where rich would draw at the end alone
        self._live: Live | NotebookTable | None = None
        if in_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
        elif console is None and in_notebook():
            self._live = NotebookTable()
        self._receiving = ExitStack()  # what signal handlers say, while the screen is drawn
        self._size = self._console.size
        self._thread = threading.Thread(target=self._refresh_often, name="live", daemon=True)

    def __enter__(self) -> "LiveView":
        self._status.set_phase("training")
        self._status.show(self.view)
        if self._live is not None:
            self._live.start()
            self._receiving.enter_context(receive_from_handlers(self._status.note_message))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()
        self._note_time()
        self._status.set_phase("concluding", "ending the worker groups")
        if self._live is not None:
            self._receiving.close()
            self._draw(self._live)
            self._live.stop()
        else:
            self._print_trials()

    def view(self) -> SearchView:
        """The search at this moment."""
        with self._lock:
            running = list(self._tally.running.values())
            num_ended = self._num_elsewhere + self._tally.num_ended
            left_s = None if self._total is None else self._pace.left(num_ended, running)
            epoch_s, _ = self._pace.rates()
            return self._tally.view(
                activities=self._activities,
                lefts={record.number: self._pace.left_of_trial(record) for record in running},
                total=self._total,
                num_ended=num_ended,
                left_s=left_s,
                epochs_per_min=None if epoch_s is None else 60 / epoch_s,
                new_points_s=None if self._deadline is None else self._deadline - time.monotonic(),
                **self._status.facts(),
            )

    def trial_started(self, record: TrialRecord) -> None:
        """A trial waits for a worker group."""
        with self._lock:
            self._tally.begin(record)
            self._pace.note_start(record)

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial was trained for one more epoch."""
        with self._lock:
            self._note_time()  # until now the epoch was not there: what it waited for may have ended with it
            if trial_id in self._activities:
                self._activities[trial_id] = TRAINING
            for record in self._tally.add_epoch(trial_id, row):
                self._pace.note_epoch(record, row)

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        with self._lock:
            self._tally.end(record)
            self._pace.note_end(record)
            self._unsaid.append(record)
            trial = self._tally.trial_view(record)
        self._status.note_message(describe_trial(trial, self._tally.metric, settings=False))
        if self._live is None and time.monotonic() >= self._last_line + TRIAL_S:
            self._print_trials()

    def refresh(self) -> None:
        """Read the activities and draw the screen, once a second; in a log, write a line every `LINE_S`."""
        try:
            self._activities = self._read_activities()
            self._status.waits = self._missing()
        except Exception:  # noqa: BLE001  the dispatcher may be gone at the end; the display must not end a search
            self._activities, self._status.waits = {}, ""
        self._note_time()
        if self._live is not None:
            self._draw(self._live)
        elif self._unsaid and time.monotonic() >= self._last_line + TRIAL_S:
            self._print_trials()
        elif time.monotonic() > self._next_line:
            self._print_line(describe(self.view()))

    def _refresh_often(self) -> None:
        while not self._closing.wait(1.0):
            self.refresh()

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
                for record in self._tally.running.values()
            )
            if self._activities or self._tally.num_epochs:
                num_busy = sum(record.trial_id in self._activities for record in self._tally.running.values())
                self._pace.note_time(now - self._last_turn, on_features=on_features, num_busy=max(1, num_busy))
            self._last_turn = now

    def _draw(self, live: Live | NotebookTable) -> None:
        """Draw the screen over the last one; on a clear one after the window was resized, which wraps old lines."""
        if self._console.size != self._size:
            self._size = self._console.size
            self._console.clear()
        width, height = self._console.size if isinstance(live, Live) else (WIDTH, HEIGHT)
        # A screen of all lines would scroll by the one in which the cursor is left.
        live.update(draw(self.view(), width=width, height=height - 1), refresh=True)

    def _print_trials(self) -> None:
        """A line for the trials that have ended since the last one: all of one, of several the number and the last."""
        with self._lock:
            records, self._unsaid = self._unsaid, []
            if not records:
                return
            view = self.view()
            last = describe_trial(self._tally.trial_view(records[-1]), self._tally.metric)
        others = f"{len(records) - 1} more ended, and " if len(records) > 1 else ""
        failed = [str(record.number) for record in records[:-1] if record.state == "failed"]
        failed_text = f" (failed: {', '.join(failed)})" if failed else ""
        total = "?" if view.total is None else view.total
        self._print_line(f"{view.num_ended}/{total}: {others}{last}{failed_text}")

    def _print_line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._next_line = self._last_line + LINE_S
        print(text, file=sys.stderr, flush=True)
