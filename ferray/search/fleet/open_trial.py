"""A trial as the dispatcher knows it. Begin at `OpenTrial`."""

from dataclasses import dataclass

from ferray.records.trial import EpochResult, State
from ferray.search.fleet.messages import GroupId, TrialJob


@dataclass
class OpenTrial:
    """A trial that a proxy has open or a group holds."""

    job: TrialJob
    rows: list[EpochResult]
    state: State
    reason: str
    num_open: int = 0
    """How many proxies have it open."""
    requested_epoch: int = 0
    """The last epoch that a proxy has requested."""
    holder: GroupId | None = None
    is_begun: bool = False
    """Whether the holder has it: a call for a trial may wait for a worker that is dead by now."""
    taken_at: float = 0.0
    num_deaths: int = 0
