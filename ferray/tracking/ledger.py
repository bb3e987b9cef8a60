"""What W&B has of a search already, so that nothing is sent twice and nothing is left out.

Two sources, the larger of which holds. The files that W&B itself leaves in `runs/NAME/wandb` are exact: a row that was
lost with a killed process is in none of them. But they may be synced and cleaned away; so `runs/NAME/wandb.jsonl` says
the same, one line for whatever was certainly on disk: {"run": "3f0c11aa-7d...", "rows": 4, "state": "done"}.

A trial's run has one row an epoch, from the first epoch on; so the number of rows says which epochs are there.
"""

from dataclasses import dataclass
from pathlib import Path

from ferray.errors import TrackingError
from ferray.files.journal import Journal
from ferray.tracking.offline import read_segment, segment_files


@dataclass(frozen=True)
class Sent:
    """What W&B has of one run."""

    rows: int = 0
    state: str | None = None
    """What the run was last closed with; None if never, or if it was opened again since."""


class Ledger:
    """The ledger of one search; one writer.

    Args:
        folder: `runs/NAME`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = Journal(folder / "wandb.jsonl")
        self._lines: dict[str, Sent] | None = None

    def sent(self, run_id: str) -> Sent:
        """What W&B has of a run, as far as is certain."""
        noted = self.noted(run_id)
        segments = segment_files(self._folder / "wandb", run_id)
        found = [segment for segment in map(read_segment, segments) if segment is not None]
        # The last epoch, not the number of rows: the files of earlier segments may have been cleaned away.
        epochs = (row.get("epoch") for segment in found for row in segment.history)
        on_disk = max((epoch for epoch in epochs if isinstance(epoch, int)), default=0)
        return Sent(max(noted.rows, on_disk), noted.state)

    def noted(self, run_id: str) -> Sent:
        """The ledger's own word on a run, without a look at the run's files."""
        return self._read().get(run_id, Sent())

    def write(self, run_id: str, rows: int, state: str | None) -> None:
        """Note what is certainly on disk; a line that says nothing new is not written."""
        sent = Sent(rows, state)
        if self.noted(run_id) != sent:
            self._journal.append({"run": run_id, "rows": rows, "state": state})
            self._read()[run_id] = sent

    def _read(self) -> dict[str, Sent]:
        if self._lines is None:
            self._journal.repair()
            self._lines = {}
            for number, line in enumerate(self._journal.read(), start=1):
                match line:
                    case {"run": str(run), "rows": int(rows), "state": str() | None as state}:
                        self._lines[run] = Sent(rows, state)
                    case _:
                        where = f"{self._journal.file}:{number}"
                        raise TrackingError(where, "not a line of what W&B has", "Remove the file: W&B's own are asked")
        return self._lines
