"""The options of `ferray search`, as the command parses them. Begin at `SearchOptions`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ferray.wording import DEFAULT_OUT

Keep = Literal["refit", "best-fold"]

Show = Literal["text", "json", "nothing"]
"""How what a search came to is printed."""

WandbMode = Literal["online", "offline", "disabled"]

MAX_COUNT = 10**9
MIN_MINUTES, MAX_MINUTES = 0.01, 1e6
MAX_GPUS_PER_WORKER = 64
MIN_PRICE, MAX_PRICE = 1e-6, 1e6

Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_COUNT)]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a search was asked for; None stands for an option that was not given.

    The annotations have the bounds; the parser of the command has the same, and `ferray.search` checks them.
    """

    space: str | None = None
    """Name of a shipped space, or a sweep file."""
    space_text: str | None = None
    """A sweep file's content, in place of the file."""
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
    max_trials: Positive | None = None
    """Points at most."""
    minutes: Annotated[float, Field(ge=MIN_MINUTES, le=MAX_MINUTES)] | None = None
    """After so many minutes no further point is begun; what has begun, and the finals, are trained to their end."""
    seed: NotNegative | None = None
    replicates: Positive | None = None
    """Seeds of each finalist, its first one included."""
    finalists: Positive | None = None
    """Points that go to the finals."""
    keep: Keep | None = None
    """With folds: what becomes the best model."""
    workers_per_trial: Positive | None = None
    gpus_per_worker: Annotated[float, Field(ge=0, le=MAX_GPUS_PER_WORKER)] | None = None
    concurrent_trials: Positive | None = None
    max_failures: NotNegative | None = None
    """Deaths of worker groups that one trial may have a part in before it counts as failed."""
    wandb: WandbMode | None = None
    tensorboard: bool | None = None
    """Whether event files for TensorBoard are written."""
    mlflow: str | None = None
    """MLflow's tracking URI."""
    address: str | None = None
    """Of a running Ray cluster; None to start one on this machine."""
    price: Annotated[float, Field(ge=MIN_PRICE, le=MAX_PRICE)] | None = None
    """Of an hour of all machines that the search has, in any currency."""
    json: bool = False
    """Whether stdout gets one JSON object instead of text."""
    dry_run: bool = False
    command: str = ""
    """The command as it was typed, for the records."""
