"""The options of `ferray search`, as the command parses them. Begin at `SearchOptions`."""

from dataclasses import dataclass
from typing import Literal

from ferray.wording import DEFAULT_OUT

Keep = Literal["refit", "best-fold"]

WandbMode = Literal["online", "offline", "disabled"]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a search was asked for; None stands for an option that was not given."""

    space: str | None = None
    """Name of a shipped space, or a sweep file."""
    settings: tuple[str, ...] = ()
    """`KEY=VALUE`, in the order in which they were given; later ones win."""
    data: str | None = None
    """Folder of a store; None for the demo faces."""
    weights: str | None = None
    """`imagenet`, `none`, a file or a folder."""
    out: str = DEFAULT_OUT
    """Parent folder of all searches."""
    name: str | None = None
    resume: str | None = None
    """Name of the search to go on with."""
    retry: bool = False
    """Whether failed trials are run again."""
    again: bool = False
    """Whether the test split may be read once more, where another model is kept than the one it was read for."""
    max_trials: int | None = None
    """Points at most."""
    seed: int | None = None
    replicates: int | None = None
    """Seeds of each finalist, its first one included."""
    finalists: int | None = None
    """Points that go to the finals."""
    keep: Keep | None = None
    """With folds: what becomes the best model."""
    workers_per_trial: int | None = None
    gpus_per_worker: float | None = None
    concurrent_trials: int | None = None
    max_failures: int | None = None
    """Deaths of worker groups that one trial may have a part in before it counts as failed."""
    wandb: WandbMode | None = None
    address: str | None = None
    """Of a running Ray cluster; None to start one on this machine."""
    json: bool = False
    """Whether stdout gets one JSON object instead of text."""
    dry_run: bool = False
    command: str = ""
    """The command as it was typed, for the records."""
