"""`search.json` as a value: what a search was asked for, what it ran on, how often its test split was read.

Begin at `SearchFile`; `to_search_file` checks one.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr, ValidationError

from ferray.errors import RecordError
from ferray.records.events import ExtendEvent, SpaceString
from ferray.records.values import Count, Place, Recorded, Text, describe_fault

Precision = Literal["float32", "bfloat16"]
Positive = Annotated[StrictInt, Field(ge=1, le=10**9)]


class RecordedOptions(Recorded):
    """Options of the command, as the last session was given them."""

    space: Place | None
    """Name of a shipped space, or a file."""
    set: tuple[SpaceString, ...]
    """Settings of `--set`, `KEY=VALUE`."""
    data: Place | None
    """Folder of the store; None for the demo faces."""
    weights: Place
    """`imagenet`, `none` or a file."""
    seed: Count
    max_trials: Positive | None = None
    workers_per_trial: Positive | None = None
    gpus_per_worker: Annotated[float, Field(strict=True)] | None = None
    concurrent_trials: Positive | None = None
    max_failures: Count | None = None
    replicates: Positive | None = None
    finalists: Positive | None = None
    keep: Literal["refit", "best-fold"] | None = None
    wandb: Literal["online", "offline", "disabled"] | None = None
    tensorboard: StrictBool | None = None
    mlflow: Place | None = None


class RecordedData(Recorded):
    """The store that the search is made on."""

    folder: Place
    dataset: Text | None = None
    fingerprint: Text
    size_px: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    """None in files of the first versions."""
    groups: Text | None = None
    """Fingerprint of the groups of photographs; None without folds, and in files of earlier versions."""

    @property
    def title(self) -> str:
        """What people know it by: the name of its folder, with that of the data set where it says something else."""
        name = Path(self.folder).name
        if self.dataset is None or self.dataset in (name, "demo"):
            return self.dataset or name
        return f"{name} ({self.dataset})"


class Session(Recorded):
    """One time that worker groups were started."""

    began: Text = ""
    """In UTC, ISO 8601."""
    groups: dict[Text, Any] = Field(default_factory=dict)
    """How many groups and workers, and what each worker had."""
    devices: tuple[Text, ...] = ()
    utilization: float | None = None
    """Share of the time in which groups had a trial; None until the session has ended."""


class TestReading(Recorded):
    """One reading of the test split."""

    __test__ = False  # for pytest, which takes it for a test by its name

    time: Text
    """In UTC, ISO 8601."""
    trial_id: Text | None = None
    """The trial whose model was scored; None where that is not known."""


class KeptTrial(Recorded):
    """The trial whose best epoch is the best model."""

    trial_id: Text
    number: Count | None = None
    epoch: Count | None = None
    score: float | None = None


class SearchFile(Recorded):
    """The content of `search.json`."""

    id: Annotated[StrictStr, Field(pattern="^[0-9a-f]{8}$")]
    """Drawn once; in the names of W&B's runs and of Ray's actors."""
    name: Text | None = None
    """That of the folder when the search began."""
    command: StrictStr
    """The command that began the search."""
    options: RecordedOptions
    metric: dict[Text, Any] | None = None
    versions: dict[Text, Text] | None = None
    """Of ferray and of the libraries that its numbers depend on."""
    data: RecordedData
    weights: dict[Text, Text]
    """Fingerprint of the pretrained weights of each backbone."""
    openings: Count | None = None
    """How often the search was begun or resumed; None in files of the first versions."""
    sessions: tuple[Session, ...]
    test_readings: tuple[TestReading, ...]
    precision: Precision | None = None
    """Measured by the first worker groups; None until then."""
    verdict: dict[Text, Any] | None = None
    """How sure the winner is; None where that was not computed."""
    best: KeptTrial | None = None
    extensions: tuple[ExtendEvent, ...] | None = None
    """The journal's events that made the search grow, in case the journal loses them."""

    def was_tested_with_another(self, trial_id: str) -> bool:
        """Whether the test split was read for a model other than that of a trial."""
        return any(reading.trial_id != trial_id for reading in self.test_readings)


def id_in(content: bytes) -> str | None:
    """The id of the search whose `search.json` has a content; None where it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def to_search_file(value: dict[str, Any], *, where: Path) -> SearchFile:
    """The content of a `search.json`.

    Args:
        value: The JSON value.
        where: The file, for errors.

    Raises:
        RecordError: A key is missing, or its value is of another kind.
    """
    try:
        return SearchFile.model_validate(value)
    except (ValidationError, RecursionError) as error:
        way_out = "Restore the file, or start under another name"
        raise RecordError(str(where), describe_fault(error), way_out) from error
