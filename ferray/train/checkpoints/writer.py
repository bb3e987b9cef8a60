"""When a run's checkpoints are written: after every epoch, or one for several epochs that are shorter than a write.

Begin at `Keeper`; `Epochs` is what the run's caller iterates over.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from torch.optim import Optimizer

from ferray.files.storage import Lease
from ferray.model.classifier import FreePart
from ferray.recipe import Recipe
from ferray.records.progress import best_epoch, is_complete
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.checkpoint import NOT_BEGUN, Best, Partial, save
from ferray.train.ranks import Ranks


class Keeper:
    """A run's epochs, of which nobody hears before a checkpoint holds them, unless a fault has ended the run.

    All ranks have one and call it in step; rank 0's writes.

    Args:
        folder: Of the checkpoints; None writes none.
        free: What is trained.
        optimizer: Over the parameters of `free`.
        history: Epochs that a checkpoint holds already.
        recipe: Says which epoch is the best and which one the last.
        identity: The run's `recipe.trial_id`.
        ranks: This process's place.
        lease: On the folder; None where nobody else may take it over.
        every_s: An epoch that ends sooner after the last checkpoint waits for the next one; 0 lets none wait.
    """

    def __init__(
        self,
        folder: Path | None,
        free: FreePart,
        optimizer: Optimizer,
        history: Sequence[EpochResult],
        *,
        recipe: Recipe,
        identity: str,
        ranks: Ranks,
        lease: Lease | None,
        every_s: float,
    ) -> None:
        self._folder, self._free, self._optimizer = folder, free, optimizer
        self._recipe, self._identity = recipe, identity
        self._ranks, self._lease, self._every_s = ranks, lease, every_s
        self._history = list(history)
        self._num_saved = len(self._history)
        self._best: Best | None = None  # where no checkpoint holds it yet
        self._saved_at = time.monotonic()

    @property
    def num_epochs(self) -> int:
        """How many there are, told or not."""
        return len(self._history)

    @property
    def is_complete(self) -> bool:
        """Whether the run has all its epochs, or its patience has run out."""
        return is_complete(self._history, self._recipe)

    @property
    def waiting(self) -> Sequence[EpochResult]:
        """Epochs that no checkpoint holds yet."""
        return self._history[self._num_saved :]

    def add(self, row: EpochResult, *, at_once: bool = False) -> Sequence[EpochResult]:
        """Take an epoch that has just ended.

        Args:
            row: What it came to.
            at_once: Whether it must not wait for the next one, which will be long; rank 0's word counts.

        Returns:
            Epochs that a checkpoint holds only now; none where this one waits.

        Raises:
            FencedError: Somebody else has taken the folder over.
            StorageError: It cannot be written.
        """
        self._history.append(row)
        is_due = self._is_due(at_once)
        if best_epoch(self._history, self._recipe) is row:
            tensors = {name: tensor.detach() for name, tensor in self._free.named_parameters()}
            if not is_due and self._folder is not None and self._ranks.is_first:  # training goes on in these very ones
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            self._best = Best(epoch=row.epoch, tensors=tensors)
        return self.save() if is_due else ()

    def save(self, partial: Partial = NOT_BEGUN) -> Sequence[EpochResult]:
        """Write what no checkpoint holds yet: epochs that wait, and the steps of one that is left in its middle.

        Returns:
            The epochs that waited.

        Raises:
            FencedError: As `add`.
            StorageError: As `add`.
        """
        waited = self.waiting
        if waited or partial.steps:
            with self._ranks.together():
                if self._folder is not None and self._ranks.is_first:
                    save(
                        self._folder,
                        self._free,
                        self._optimizer,
                        self._history,
                        partial=partial,
                        best=self._best,
                        identity=self._identity,
                        lease=self._lease,
                    )
            self._num_saved, self._best, self._saved_at = self.num_epochs, None, time.monotonic()
        return waited

    def _is_due(self, at_once: bool) -> bool:
        if self._every_s == 0 or self.is_complete:
            return True
        return self._ranks.from_first(at_once or time.monotonic() - self._saved_at >= self._every_s)


class Epochs(Iterator[EpochResult]):
    """The epochs of a run, each trained when it is asked for, and heard of as `fit` says.

    Args:
        parts: Epochs that are to be heard of together, again and again.
    """

    def __init__(self, parts: Generator[Sequence[EpochResult], None, None]) -> None:
        self._parts = parts
        self._at_hand: deque[EpochResult] = deque()

    def __next__(self) -> EpochResult:
        while not self._at_hand:
            self._at_hand.extend(next(self._parts))
        return self._at_hand.popleft()

    @property
    def has_more(self) -> bool:
        """Whether the next epoch is there already, to be heard of together with the last one."""
        return bool(self._at_hand)

    def close(self) -> None:
        """Train no further; a step at hand has ended."""
        self._parts.close()
