"""Where a worker writes the trial that it trains: the search's folder. Begin at `TrialWriter`.

`ferray.records.bucket.writer` does the same for a search in a bucket.
"""

from collections.abc import Callable
from pathlib import Path

from ferray.files.storage import Lease
from ferray.records.run import Run
from ferray.records.trial import TrialRecord


class TrialWriter:
    """The right to write one trial after the other of a search.

    Args:
        run: The search.

    Attributes:
        lease: On the folder of the trial that was taken last, in which its checkpoints are written.
    """

    lease: Lease

    def __init__(self, run: Run) -> None:
        self.run = run

    def take(self, trial_id: str, number: tuple[int, int]) -> TrialRecord | None:
        """Take a trial over; its checkpoints are then in `run.trial_dir(trial_id)`.

        Args:
            trial_id: Of the trial.
            number: As `Lease.take`.

        Returns:
            Its record; None where none was written.

        Raises:
            FencedError: Another writer has it by a later lease.
            LockedError: A former writer holds its folder locked.
            StorageError: The folder cannot be written.
            RecordError: Its record is damaged.
        """
        self.lease = Lease.take(self.run.trial_dir(trial_id), number)
        return self.run.read_trial(trial_id)

    def write(self, record: TrialRecord, *, note: Callable[[], None]) -> None:
        """Replace the record while the trial is trained.

        Args:
            record: The trial's.
            note: Called from time to time where writing has to wait.

        Raises:
            FencedError: Another writer has taken it.
            LockedError: As `take`.
            StorageError: It cannot be written.
        """
        self.run.write_trial(record, lease=self.lease)

    def release(self, record: TrialRecord, *, note: Callable[[], None]) -> None:
        """Replace the record for the last time, as `write`."""
        self.run.write_trial(record, lease=self.lease)

    def find_done(self, trial_id: str) -> Path | None:
        """The folder with the checkpoints of another trial; None if that is not done."""
        known = self.run.read_trial(trial_id)
        return self.run.trial_dir(trial_id) if known is not None and known.state == "done" else None
