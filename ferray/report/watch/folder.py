"""How far a search is, by its folder alone: nothing is locked and nothing written.

    live.json is new                          what its driver wrote
    its process is gone                       `lost`: it has ended without a report, and nobody can say how
    its process is there, or cannot be seen   `silent`: nothing new since then
    there is no live.json of this session     the records, and when the last of them was written

Only on the driver's machine, and in its container, can be seen whether the process is there. A part that cannot be
read, since it is half written or damaged, is named in the view. Begin at `FolderWatcher`.
"""

import dataclasses
import datetime
import time
from contextlib import suppress

from ferray.errors import FerrayError
from ferray.records.run import Run
from ferray.records.trial import ENDED
from ferray.report.watch.status import LiveStatus, read_status
from ferray.report.watch.tally import Tally
from ferray.report.watch.view import OVER, Phase, SearchView
from ferray.wording import duration_text, first_line

FETCH_S = 5.0
"""A search in a bucket is fetched anew at most so often."""

SILENT_S = 20.0
"""After so many seconds without a new version of `live.json` it is not taken for a sign of life."""


class FolderWatcher:
    """Reads the folder of a search again and again.

    Args:
        run: The folder.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._fetch_at = 0.0  # by `time.monotonic`
        self._last: SearchView | None = None
        self._last_at: float | None = None  # of the last version, by the clock of its writer
        self._changed_at: float | None = None  # when another version was found, by `time.monotonic`

    def read(self) -> SearchView:
        """How far the search is now."""
        try:
            view = self._read()
        except (FerrayError, OSError, RecursionError) as error:  # half written, damaged, or removed meanwhile
            what = first_line(str(error.args[1] if isinstance(error, FerrayError) else error))
            known = self._last or SearchView(name=self._run.name, at=time.time(), began=time.time())
            return dataclasses.replace(known, phase="silent", doing=f"the folder cannot be read: {what}"[:1000])
        if view.phase in OVER and view.phase != "finished":
            view = dataclasses.replace(view, way_out=self._run.resume_command)
        self._last = view
        return view

    def _read(self) -> SearchView:
        if self._run.address is not None and time.monotonic() >= self._fetch_at:
            self._run.fetch()
            self._fetch_at = time.monotonic() + FETCH_S
        status, search = read_status(self._run.folder), self._run.read_search()
        if status is None or status.session != (search.openings or 1):
            return self._read_records()
        if self._last_at not in (None, status.view.at):
            self._changed_at = time.monotonic()
        self._last_at = status.view.at
        return self._judge(status)

    def _judge(self, status: LiveStatus) -> SearchView:
        """What the driver wrote, unless its end can be seen from here, or it has written nothing for a while."""
        view, process = status.view, status.process
        if view.phase in OVER:
            return view
        is_alive = process.is_alive()
        if is_alive is False:
            what = f"last at {_clock(view.at)}; process {process.pid} is gone"
            return dataclasses.replace(view, phase="lost", doing=what)
        age_s = time.time() - view.at
        # Where the clocks of two machines differ, a new version is the only sign of life.
        is_new = self._changed_at is not None and time.monotonic() - self._changed_at < SILENT_S
        if is_new or abs(age_s) < SILENT_S:
            return view
        who = f"process {process.pid}" + (" is there, but writes nothing" if is_alive else f" ran on {process.host}")
        return dataclasses.replace(view, phase="silent", doing=f"since {_since(view.at)}; {who}")

    def _read_records(self) -> SearchView:
        """By the records of trials alone, as of a search of an earlier version."""
        from ferray.report.results.read import read_results

        results = read_results(self._run)
        ended = [record for record in results.records if record.state in ENDED]
        tally = Tally(self._run.name, results.space, columns=results.searched, known=ended)
        others = [record for record in results.records if record.state not in ENDED]
        for record in others:
            tally.begin(record)
        at = self._newest_file()
        began = results.search.sessions[-1].began if results.search.sessions else ""
        phase: Phase = "silent"
        doing = f"since {_since(at)}; there is no report of whether it runs"
        if results.is_finished:
            phase, doing = "finished", ""
        elif any(record.state == "interrupted" for record in others) and all(
            record.state in ("interrupted", "queued") for record in others
        ):
            phase, doing = "interrupted", ""
        return tally.view(
            phase=phase,
            doing=doing,
            num_epochs=sum(len(record.epochs) for record in results.records),
            began=min(at, _timestamp(began) or at),
            at=at,
            message=results.unread[0] if results.unread else "",
        )

    def _newest_file(self) -> float:
        """When the last record or line of a journal was written, in seconds since 1970."""
        run = self._run
        times = [0.0]
        for file in [run.folder / "search.json", run.journal().file, run.finals_journal().file, *run.record_files()]:
            with suppress(OSError):
                times.append(file.stat().st_mtime)
        return max(times)


def folder_state(run: Run) -> str:
    """A text that changes when the page of a search would: not with every version of `live.json`."""
    parts = []
    for file in (run.folder / "search.json", run.journal().file, run.finals_journal().file, *run.record_files()):
        with suppress(OSError):
            status = file.stat()
            parts.append(f"{file.name} {status.st_mtime_ns} {status.st_size}")
    return "\n".join(parts)


def _timestamp(text: str) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _since(at: float) -> str:
    """A time, with the date where it is another day, and how long ago that was."""
    form = "%H:%M:%S" if abs(time.time() - at) < 12 * 3600 else "%Y-%m-%d %H:%M:%S"
    return f"{time.strftime(form, time.localtime(at))} ({duration_text(max(0.0, time.time() - at))} ago)"
