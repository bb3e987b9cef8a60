"""Where a worker writes the trial that it trains, if the search is in a bucket. Begin at `BucketWriter`."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ferray.files.location import Address
from ferray.files.outage import patiently
from ferray.records.bucket.run import copy_folder
from ferray.records.bucket.trial import TrialObject
from ferray.records.run import Run
from ferray.records.trial import FINISHED, TrialRecord
from ferray.records.writer import TrialWriter

SEND_S = 10.0
"""Checkpoints are sent so often while a trial is trained; its record is sent with each report. Epochs that are on
record, but in no checkpoint, are trained again, with the same numbers, by who goes on with the trial."""


class BucketWriter(TrialWriter):
    """As `TrialWriter`, for a search in a bucket.

    All methods wait while the service is down, and raise a BucketError if it refuses.

    Args:
        address: Of the search.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(Run(copy_folder(address, "workers")))
        self._address = address
        self._trial = TrialObject(address, "")
        self._sent_at = 0.0

    def take(self, trial_id: str, number: tuple[int, int]) -> TrialRecord | None:
        """As `TrialWriter.take`."""
        folder, self._trial = self.run.trial_dir(trial_id), TrialObject(self._address, trial_id)
        super().take(trial_id, number)  # two workers of this node share the folder
        patiently(lambda: self._trial.take(number))
        patiently(lambda: self._trial.fetch_checkpoints(folder))
        self._sent_at = time.monotonic()
        return self._trial.record

    def write(self, record: TrialRecord, *, note: Callable[[], None]) -> None:
        """As `TrialWriter.write`; the checkpoints are sent now and then."""
        if time.monotonic() - self._sent_at >= SEND_S:
            self._commit(record, note)
        else:
            patiently(lambda: self._trial.write(record), note=note)

    def release(self, record: TrialRecord, *, note: Callable[[], None]) -> None:
        """As `TrialWriter.release`; a trial that is finished leaves nothing on the node's disk."""
        self._commit(record, note)
        if record.state in FINISHED:
            folder = self.run.trial_dir(record.trial_id)
            for file in folder.glob("*.safetensors*"):
                with suppress(OSError):
                    file.unlink()

    def find_done(self, trial_id: str) -> Path | None:
        """As `TrialWriter.find_done`, with the checkpoints fetched."""
        trial, folder = TrialObject(self._address, trial_id), self.run.trial_dir(trial_id)
        patiently(trial.read)
        if trial.record is None or trial.record.state != "done":
            return None
        patiently(lambda: trial.fetch_checkpoints(folder))
        return folder

    def _commit(self, record: TrialRecord, note: Callable[[], None]) -> None:
        self._trial.commit(record, self.run.trial_dir(record.trial_id), note=note)
        self._sent_at = time.monotonic()


def make_writer(run_dir: Path, address: Address | None) -> TrialWriter:
    """The writer of a search that is in a folder or, if it has an address, in a bucket."""
    return TrialWriter(Run(run_dir)) if address is None else BucketWriter(address)
