"""When a run's checkpoints are written: after every epoch, or one for several epochs that are shorter than a write.

Begin at `CheckpointWriter`; `Epochs` is what the caller of `fit` iterates over.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferray.files.storage import Lease
from ferray.records.progress import best_epoch, is_complete
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.checkpoint import EPOCH_START, BestWeights, CheckpointFolder, PartialEpoch
from ferray.train.run import TrainingRun


@dataclass(frozen=True)
class Checkpointing:
    """Where a run keeps its checkpoints, how often it writes them, and which of their epochs it reports again."""

    folder: Path
    """Only rank 0 reads and writes it."""
    lease: Lease | None = None
    """The lease on the folder; None where no other process may take the folder over. Only rank 0 needs it."""
    min_interval_s: float = 0.0
    """An epoch that ends sooner after the last checkpoint shares the next one; 0 writes one after each epoch."""
    recorded_epochs: int | None = None
    """Epochs that the caller has on record, which are not reported again; None for all that the checkpoint holds."""


class CheckpointWriter:
    """Holds a run's epochs, and writes a checkpoint when one is due. An epoch is pending until a checkpoint holds it.

    All ranks have one and call it at the same moments; only rank 0 writes.

    Args:
        run: What is trained.
        history: The epochs that a checkpoint holds already.
        folder: The run's checkpoints; None writes none.
        min_interval_s: As `Checkpointing.min_interval_s`.
    """

    def __init__(
        self,
        run: TrainingRun,
        history: Sequence[EpochResult],
        folder: CheckpointFolder | None,
        *,
        min_interval_s: float,
    ) -> None:
        self._run, self._folder, self._min_interval_s = run, folder, min_interval_s
        self._history = list(history)
        self._num_saved = len(self._history)
        self._best: BestWeights | None = None  # of a pending epoch
        self._saved_at = time.monotonic()

    @property
    def num_epochs(self) -> int:
        """All epochs so far, pending ones included."""
        return len(self._history)

    @property
    def is_complete(self) -> bool:
        """Whether the run has all its epochs, or its patience has run out."""
        return is_complete(self._history, self._run.recipe)

    @property
    def pending(self) -> Sequence[EpochResult]:
        """Epochs that no checkpoint holds yet."""
        return self._history[self._num_saved :]

    def add(self, row: EpochResult, *, save_now: bool = False) -> Sequence[EpochResult]:
        """Add an epoch that has just ended, and write a checkpoint if one is due.

        Args:
            row: The epoch.
            save_now: Whether the epoch must not stay pending, because the next one will take long; rank 0's counts.

        Returns:
            Epochs that a checkpoint holds from now on; none where this one stays pending.

        Raises:
            FencedError: Another process has taken the folder over.
            StorageError: The folder cannot be written.
        """
        self._history.append(row)
        is_due = self._is_due(save_now)
        if best_epoch(self._history, self._run.recipe) is row:
            tensors = {name: tensor.detach() for name, tensor in self._run.free.tensors().items()}
            # Further training changes these tensors in place, so a pending epoch needs copies.
            if not is_due and self._folder is not None and self._run.ranks.is_first:
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            self._best = BestWeights(epoch=row.epoch, tensors=tensors)
        return self.save() if is_due else ()

    def save(self, partial: PartialEpoch = EPOCH_START) -> Sequence[EpochResult]:
        """Write a checkpoint, if there are pending epochs or steps of an interrupted epoch.

        Args:
            partial: The interrupted epoch.

        Returns:
            The epochs that were pending.

        Raises:
            FencedError: As `add`.
            StorageError: As `add`.
        """
        pending = self.pending
        if pending or partial.steps:
            run = self._run
            with run.ranks.together():
                if self._folder is not None and run.ranks.is_first:
                    self._folder.save(run.free, run.optimizer, self._history, partial=partial, best=self._best)
            self._num_saved, self._best, self._saved_at = self.num_epochs, None, time.monotonic()
        return pending

    def _is_due(self, save_now: bool) -> bool:
        if self._min_interval_s == 0 or self.is_complete:
            return True
        return self._run.ranks.from_first(save_now or time.monotonic() - self._saved_at >= self._min_interval_s)


class Epochs(Iterator[EpochResult]):
    """The epochs of a run. Each is trained when the iterator is asked for it; epochs of one checkpoint come together.

    Args:
        batches: The epochs of each checkpoint.
    """

    def __init__(self, batches: Generator[Sequence[EpochResult], None, None]) -> None:
        self._batches = batches
        self._ready: deque[EpochResult] = deque()

    def __next__(self) -> EpochResult:
        while not self._ready:
            self._ready.extend(next(self._batches))
        return self._ready.popleft()

    @property
    def has_more(self) -> bool:
        """Whether the next epoch is trained already, since the checkpoint of the last one holds it too."""
        return bool(self._ready)

    def close(self) -> None:
        """Train no further; to be called by a caller that stops before the last epoch."""
        self._batches.close()
