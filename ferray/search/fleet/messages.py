"""What the driver, the dispatcher and the worker groups send each other: plain values, since they cross processes."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ferray.errors import SearchError
from ferray.files.location import Address
from ferray.recipe import Recipe
from ferray.records.trial import EpochResult, State

NAMESPACE = "ferray"
"""Ray's namespace for the names of actors."""


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """What every worker group of a search needs before it can train a trial."""

    run_dir: Path
    """The search's folder, which all nodes see."""
    address: Address | None = None
    """Where the search is, if it is in a bucket; each node then has a folder of its own."""
    search_id: str
    """The id in the `search.json` of `run_dir`: a node that finds another one there has a different disk."""
    data_dir: Path | None
    """The store's folder, the same on all nodes; None for the demo faces, which each node draws into its own cache."""
    data_address: str | None = None
    """Where each node fetches the store from, into its own cache, under the name that `data_dir` has; None where
    `data_dir` is on all nodes."""
    fingerprint: str
    """Of the store."""
    weights: str
    """`imagenet`, `none`, a path that is the same on all nodes, or an address that each fetches from."""
    weights_fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the weights of each backbone, as the search has recorded them."""
    cache: Path | None
    """The cache folder; None on a cluster that was joined, where each node has its own."""
    cpus_per_worker: int
    has_scheduler: bool
    """Whether a scheduler may stop a trial after any epoch, so that each is reported before the next one begins."""


STALL_S = 1200.0
"""Default of `stall_limit_s`. A worker reports every ten seconds while it computes features, trains and validates.
Between two reports may be one batch, or reading weights and features from a slow disk."""


def stall_limit_s() -> float:
    """How long a group may hold a trial without progress: `FERRAY_STALL_S`, or `STALL_S`; infinite for 0.

    Raises:
        SearchError: The variable is no time.
    """
    named = os.environ.get("FERRAY_STALL_S")
    try:
        seconds = STALL_S if named is None else float(named)
        if not 0 <= seconds < math.inf:
            raise ValueError
    except ValueError as error:
        raise SearchError("FERRAY_STALL_S", f"{named!r} is not a time", "Give seconds, or 0 for no limit") from error
    return seconds or math.inf


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """A trial to be trained, with what is on record of it."""

    trial_id: str
    number: int
    recipe: Recipe
    epochs: tuple[EpochResult, ...] = ()
    """The epochs that are on record already."""
    state: State = "queued"
    reason: str = ""
    shorter: tuple[str, ...] = ()
    """Ids of trials whose epochs, once they are done, are the first epochs of this one; the longest first."""
    lease: tuple[int, int] = (0, 0)
    """The lease for the group that trains it, higher each time: see `ferray.files.storage.Lease`."""


@dataclass(frozen=True, kw_only=True)
class TrialUpdate:
    """New epochs of a trial, and its state after them."""

    rows: tuple[EpochResult, ...]
    state: State
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupInfo:
    """What a worker group reports about itself when it is ready."""

    device: str
    precision: str
    """The faster number format on this device, by measurement."""


class GroupId(NamedTuple):
    """A worker group in one of its incarnations; each restart of its workers begins a new one."""

    name: str
    incarnation: int


ReportReply = Literal["continue", "stopped", "interrupted", "fenced"]
"""Whether a group goes on with the trial that it reported; `fenced` if another group has it by now."""

NoTrial = Literal["none yet", "exit"]
"""Why a group gets no trial: there is none at this moment, or it is to end."""
