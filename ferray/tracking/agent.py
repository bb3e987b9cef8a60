"""One training run as the W&B run for which `wandb agent` has started this process.

Begin at `AgentRun`.
"""

import dataclasses
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from ferray.records.run import Run
from ferray.records.trial import EpochResult, TrialRecord
from ferray.tracking.names import AgentTask
from ferray.tracking.wandb import Destination, Tracker, choose_mode

log = logging.getLogger(__name__)


class AgentRun:
    """Sends a training run to W&B; a context manager. As with a search, W&B can neither end nor delay it.

    A block that is left before `finish` is a run that was interrupted, or with an exception one that has failed.

    Args:
        task: What the agent has asked for; None without an agent, and then nothing is sent.
        record: The run, before its first epoch.
        config: What the configuration of the run has beside its recipe.
        interruption: An exception that is no failure.
    """

    def __init__(
        self,
        task: AgentTask | None,
        record: TrialRecord,
        config: Mapping[str, Any],
        *,
        interruption: type[Exception] | None = None,
    ) -> None:
        self._interruption = interruption
        self._record = dataclasses.replace(record, state="running")
        self._tracker: Tracker | None = None
        if task is not None:
            mode, sentence = choose_mode(None, folder=task.folder)
            log.info("%s", sentence)
            self._tracker = Tracker(
                Run(task.folder), mode=mode, agent=task, config={}, trial_config=config, destination=Destination()
            )

    def __enter__(self) -> Self:
        if self._tracker is not None:
            self._tracker.__enter__()
            self._tracker.trial_started(self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracker is None:
            return
        is_interrupted = self._interruption is not None and isinstance(error, self._interruption)
        if isinstance(error, Exception) and not is_interrupted:
            reason = f"{type(error).__name__}: {error}"
            self._record = dataclasses.replace(self._record, state="failed", reason=reason)
        if self._record.state != "running":
            self._tracker.trial_ended(self._record)
        self._tracker.__exit__(kind, error, trace)

    def add(self, row: EpochResult) -> None:
        """The run has one more epoch."""
        if self._tracker is not None:
            self._record = dataclasses.replace(self._record, epochs=(*self._record.epochs, row))
            self._tracker.epoch_ended(self._record.trial_id, row)

    def finish(self) -> None:
        """The run has all its epochs."""
        self._record = dataclasses.replace(self._record, state="done")
