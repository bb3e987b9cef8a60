"""How runs and metrics are called in W&B: those of a search, and the one that an agent of W&B has asked for."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferray.records.trial import TrialRecord
from ferray.tracking.sent_log import SentLog

BEST_SO_FAR = "best_so_far"
"""Metric of a search's own run: the best score of the trials up to a number, over `TRIAL`."""

TRIAL = "trial"


class RunNames(Protocol):
    """Names of runs."""

    @property
    def group(self) -> str:
        """What all of them have in common."""

    def run_id(self, trial_id: str) -> str:
        """The id of a trial's run, or of the search's own with `search`."""

    def title(self, record: TrialRecord) -> str | None:
        """What people read; None for what W&B makes up."""


@dataclass(frozen=True, kw_only=True)
class SearchNames:
    """The names of a search's runs."""

    name: str
    """Of the search's folder."""
    search_id: str
    sent_log: SentLog
    """Knows whether its runs were made again from the records."""

    @property
    def group(self) -> str:
        """Searches of one name in two folders are two groups."""
        return f"{self.name}-{self.search_id}"

    def run_id(self, trial_id: str) -> str:
        """As `RunNames`; runs that were made again have ids of their own, since W&B never reuses that of a lost run."""
        parts = (self.search_id, self.sent_log.mark, trial_id)
        return "-".join(part for part in parts if part)

    def title(self, record: TrialRecord) -> str | None:
        """As `RunNames`."""
        return f"{self.name}-{record.number}"


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """The run for which `wandb agent` has started this process; also its names."""

    id: str
    sweep: str

    @classmethod
    def from_environment(cls) -> "AgentTask | None":
        """What the agent has left in the environment; None without one."""
        run_id, sweep = os.environ.get("WANDB_RUN_ID"), os.environ.get("WANDB_SWEEP_ID")
        return cls(id=run_id, sweep=sweep) if run_id and sweep else None

    @property
    def group(self) -> str:
        """All runs of one sweep."""
        return f"sweep-{self.sweep}"

    @property
    def folder(self) -> Path:
        """Where its files go, beside those of the agent."""
        return Path(os.environ.get("WANDB_DIR") or ".") / "wandb" / f"sweep-{self.sweep}" / self.id

    def run_id(self, trial_id: str) -> str:
        """The one that W&B has given."""
        return self.id

    def title(self, record: TrialRecord) -> str | None:
        """W&B's own, such as `noble-sweep-1`."""
        return None
