"""What a search does besides its trials, for its own terminal and, in `live.json`, for `ferray report watch`.

Begin at `Status`.
"""

import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ferray.errors import FerrayError
from ferray.report.watch.status import STATUS_FILE, WRITE_S, LiveStatus, ProcessIdentity, write_status
from ferray.report.watch.view import Phase, SearchView
from ferray.search.rates import Overhead
from ferray.wording import first_line

log = logging.getLogger(__name__)


class Status:
    """What a search does, from the opening of its folder to its end; written there while the block runs.

    Args:
        folder: Where; None to write nothing.
        session: How often the search was begun or resumed.
        price: Of an hour, in any currency; None if nobody has given it.
        began: When the session began, in seconds since 1970; None for now.
        forecast_s: How long it was expected to take, before anything of it was measured; None if unknown.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        session: int = 1,
        price: float | None = None,
        began: float | None = None,
        forecast_s: float | None = None,
    ) -> None:
        self.began = time.time() if began is None else began
        self._first: dict[Phase, float] = {}  # when a phase began first
        self.waits = ""
        """What the search waits for and since when; empty if for nothing."""
        self.is_interrupted = False
        """Whether it ends before all is trained."""
        self._phase: Phase = "starting"
        self._doing = ""
        self._message: tuple[str, float | None] = ("", None)
        self._folder, self._session, self._price, self._forecast_s = folder, session, price, forecast_s
        self._process = ProcessIdentity.own()
        self._make_view: Callable[[], SearchView] | None = None
        self._ended = threading.Event()
        self._handler = _LastWarning(self)
        self._thread = threading.Thread(target=self._write_often, name="status", daemon=True)

    def __enter__(self) -> "Status":
        logging.getLogger("ferray").addHandler(self._handler)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        logging.getLogger("ferray").removeHandler(self._handler)
        if self.is_interrupted or isinstance(error, KeyboardInterrupt):
            self.set_phase("interrupted")
        elif error is not None:
            text = f"{error.args[0]}: {error.args[1]}" if isinstance(error, FerrayError) else repr(error)
            self.set_phase("failed", first_line(text)[:500])
        else:
            self.set_phase("finished")
        self._write()

    def set_phase(self, phase: Phase, doing: str = "") -> None:
        """From here on it does something else.

        Args:
            phase: What.
            doing: The same in words, such as `judging the winner`.
        """
        self._phase, self._doing = phase, doing
        self._first.setdefault(phase, time.time())

    def overhead(self) -> Overhead | None:
        """What the session has taken besides its trials, now that it ends; None where it has trained none."""
        if not {"training", "concluding"} <= self._first.keys():
            return None
        return Overhead(
            start_s=max(0.0, self._first["training"] - self.began),
            end_s=max(0.0, time.time() - self._first["concluding"]),
        )

    def show(self, make_view: Callable[[], SearchView]) -> None:
        """From here on this makes the view, with `facts`."""
        self._make_view = make_view

    def note_message(self, text: str) -> None:
        """The last message, which was printed or logged."""
        self._message = (first_line(text)[:500], time.time())

    def say(self, text: str) -> None:
        """Print a message on stderr; it is the last one."""
        print(text, file=sys.stderr, flush=True)
        self.note_message(text)

    def facts(self) -> dict[str, Any]:
        """Fields of a `SearchView` that its trials do not say."""
        (text, message_at), now = self._message, time.time()
        left_s = {}
        if self._phase == "starting" and self._forecast_s is not None:
            left_s = {"left_s": max(0.0, self._forecast_s - (now - self.began))}
        return left_s | {
            "phase": self._phase,
            "doing": self._doing,
            "waits": self.waits,
            "message": text,
            "message_at": message_at,
            "began": self.began,
            "at": now,
            "price": self._price,
        }

    def _write_often(self) -> None:
        self._write()
        while not self._ended.wait(WRITE_S):
            self._write()

    def _write(self) -> None:
        if self._folder is None or self._make_view is None:
            return
        try:
            view = dataclasses.replace(self._make_view(), **self.facts())
            write_status(self._folder, LiveStatus(view=view, process=self._process, session=self._session))
        except Exception as error:
            log.debug("%s is not written", self._folder / STATUS_FILE, exc_info=error)


class _LastWarning(logging.Handler):
    """Notes the last warning of the log."""

    def __init__(self, status: Status) -> None:
        super().__init__(logging.WARNING)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a message that cannot be made is reported by the log itself
            self._status.note_message(record.getMessage())
