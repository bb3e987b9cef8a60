"""What W&B has of a search already, so that no epoch is sent twice and none is missing.

There are two sources, and the one with more epochs counts. The files that W&B itself writes in `runs/NAME/wandb` are
exact: an epoch that was lost with a killed process is in none of them. But they may be synced and removed; so
`runs/NAME/wandb.jsonl` records the same, one line for what is certainly on disk:
{"run": "3f0c11aa-7d...", "rows": 4, "state": "done"}. It also has the sweep of the search, and what the ids of its runs
have in addition since they were made again from the records.

A trial's run has one row per epoch, from the first epoch on, so the number of rows says which epochs it has.

Begin at `SentLog`.
"""

import dataclasses
import secrets
from dataclasses import dataclass
from pathlib import Path

from ferray.errors import TrackingError
from ferray.files.journal import Journal
from ferray.tracking.offline import read_segment, segment_files


@dataclass(frozen=True)
class SentRun:
    """What W&B has of one run."""

    rows: int = 0
    state: str | None = None
    """The state that the run was last closed with; None if it was never closed, or was opened again since."""


@dataclass(frozen=True, kw_only=True)
class SentSweep:
    """The W&B sweep of a search."""

    name: str
    """The id that people see, and that runs have."""
    id: str
    """The id in W&B's GraphQL."""
    project: str
    entity: str
    state: str
    """`RUNNING` or `FINISHED`."""


class SentLog:
    """The log of one search; it has one writer.

    Args:
        folder: `runs/NAME`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = Journal(folder / "wandb.jsonl")
        self._runs: dict[str, SentRun] | None = None
        self._sweep: SentSweep | None = None
        self._mark = ""

    def sent(self, run_id: str) -> SentRun:
        """What W&B certainly has of a run, by the log and by the run's files."""
        logged = self.logged(run_id)
        segments = segment_files(self._folder / "wandb", run_id)
        found = [segment for segment in map(read_segment, segments) if segment is not None]
        # The last epoch, not the number of rows: the files of earlier segments may have been removed.
        epochs = (row.get("epoch") for segment in found for row in segment.history)
        on_disk = max((epoch for epoch in epochs if isinstance(epoch, int)), default=0)
        return SentRun(max(logged.rows, on_disk), logged.state)

    def logged(self, run_id: str) -> SentRun:
        """What W&B has of a run by the log alone, without reading the run's files."""
        return self._read().get(run_id, SentRun())

    def write(self, run_id: str, rows: int, state: str | None) -> None:
        """Add a line on what is certainly on disk, unless the log says the same already."""
        sent = SentRun(rows, state)
        if self.logged(run_id) != sent:
            self._journal.append({"run": run_id, "rows": rows, "state": state})
            self._read()[run_id] = sent

    def sweep(self) -> SentSweep | None:
        """The sweep of the search; None before it is made."""
        self._read()
        return self._sweep

    def write_sweep(self, sweep: SentSweep) -> None:
        """Add a line on the sweep, unless the log says the same already."""
        if self.sweep() != sweep:
            self._journal.append({"sweep": dataclasses.asdict(sweep)})
            self._sweep = sweep

    @property
    def mark(self) -> str:
        """A part of all run ids since the runs of the search were made again; empty before."""
        self._read()
        return self._mark

    def begin_rebuilding(self) -> None:
        """From now on W&B has nothing of the search: its runs have other ids, and its sweep is another.

        The ids are drawn, not counted, since the log may be lost with the runs.
        """
        mark = f"r{secrets.token_hex(2)}"
        self._read()
        self._journal.append({"rebuilt": mark})
        self._mark, self._sweep = mark, None

    def _read(self) -> dict[str, SentRun]:
        if self._runs is None:
            self._journal.repair()
            self._runs = {}
            for number, line in enumerate(self._journal.read(), start=1):
                match line:
                    case {"run": str(run), "rows": int(rows), "state": str() | None as state}:
                        self._runs[run] = SentRun(rows, state)
                    case {"sweep": {"name": str(), "id": str(), "project": str(), "entity": str(), "state": str()}}:
                        self._sweep = SentSweep(**line["sweep"])
                    case {"rebuilt": str(mark)} if mark.isalnum():
                        self._mark, self._sweep = mark, None
                    case _:
                        where = f"{self._journal.file}:{number}"
                        way_out = "Remove the file: what was sent is then read from W&B's own files"
                        raise TrackingError(where, "not a line of the log of sent runs", way_out)
        return self._runs
