"""The folder `runs/NAME`: what is true of a search, and all that a later run needs to go on.

    search.json              command, versions, seeds, fingerprints, times
    space.yaml               the search-space file as given
    journal.jsonl            one line a decision of the search, in order; only the driver appends
    trials/ID/record.json    one trial: recipe, state, epochs; one writer at a time
    trials/ID/last.safetensors, best.safetensors
    trials.parquet, trials.csv, heatmap.png, curves.png
    best/                    the best model and its one test score

Begin at `Run`. Every file is written whole or not at all, with a checksum; the journal's torn last line is dropped when
it is read.
"""

import dataclasses
import json
import logging
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ferray import recipe as recipes
from ferray.errors import FerrayError, RecordError, StorageError
from ferray.files import storage
from ferray.files.journal import Journal
from ferray.files.storage import Lease
from ferray.recipe import Recipe
from ferray.records.search_file import SearchFile, to_search_file

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
FIRST_FORMAT = 1
"""Without checksums; it can be read."""

State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
"""`done`: all its epochs, or its own patience ran out; `stopped`: the scheduler's decision; the others as they say."""

FINISHED: frozenset[str] = frozenset({"done", "stopped"})
"""States that training can add nothing to."""

ENDED: frozenset[str] = FINISHED | {"failed"}
"""States that a trial leaves only if it is run again."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch came to. Losses in nats, scores in [0, 1]; training scores are those seen while training."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    train_macro_f1: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """Of the head, in the epoch's last step."""
    images_per_s: float
    """Training faces per second of training time, waiting for features included."""
    seconds: float
    """Wall time of the epoch, validation included, its checkpoint not."""


METRIC_FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(EpochResult))[1:]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: what was asked, how far it came, how it ended."""

    trial_id: str
    """`recipe.trial_id`: the identity of the training run, and the name of its folder."""
    number: int
    """Place in the order in which the search asked for points, from 0."""
    recipe: Recipe
    state: State = "queued"
    reason: str = ""
    """Why it failed or was stopped; empty otherwise."""
    epochs: tuple[EpochResult, ...] = ()
    device: str = ""
    """For example `cpu` or the GPU's name."""

    def best(self) -> EpochResult | None:
        """The epoch with the best monitored metric, the earliest of equals; None before the first."""
        sign = -1.0 if self.recipe.maximize else 1.0
        return min(self.epochs, key=lambda row: (sign * getattr(row, self.recipe.monitor), row.epoch), default=None)

    def score(self) -> float | None:
        """The best epoch's monitored metric; None before the first epoch."""
        best = self.best()
        return None if best is None else float(getattr(best, self.recipe.monitor))

    @property
    def complete(self) -> bool:
        """Whether training adds nothing more: all epochs are there, or the patience has run out."""
        best = self.best()
        if best is None:
            return False
        last, patience = len(self.epochs), self.recipe.patience
        return last >= self.recipe.epochs or (patience is not None and last - best.epoch >= patience)

    def seconds(self) -> float:
        """Wall time of all its epochs."""
        return sum(row.seconds for row in self.epochs)


def rank(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials with at least one epoch, best first: by monitored metric, ties by fewer epochs, then by number."""

    def key(record: TrialRecord) -> tuple[float, int, int]:
        best = record.best()
        assert best is not None
        value = float(getattr(best, record.recipe.monitor))
        return (-value if record.recipe.maximize else value, best.epoch, record.number)

    return sorted((record for record in records if record.epochs and record.state != "failed"), key=key)


REPEATED = ("seed", "fold")
"""Settings in which trials of one point may differ: what they come to differs by chance alone."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The trials of one point: one, or one a seed, one a fold, one a seed and fold. Each has an epoch at least."""

    records: tuple[TrialRecord, ...]
    """By number."""

    @property
    def number(self) -> int:
        """That of its first trial."""
        return self.records[0].number

    @property
    def recipe(self) -> Recipe:
        """Of its first trial."""
        return self.records[0].recipe

    @property
    def scores(self) -> tuple[float, ...]:
        """Its trials' scores, in the order of `records`."""
        return tuple(score for record in self.records if (score := record.score()) is not None)

    @property
    def mean(self) -> float:
        """What a point is ranked by."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the trials' scores; None for one trial."""
        return statistics.stdev(self.scores) if len(self.records) > 1 else None

    def best_trial(self) -> TrialRecord:
        """Its trial with the best score."""
        return rank(self.records)[0]


def points(records: Iterable[TrialRecord], *, wanted: int = 1) -> list[Point]:
    """The points of trials that have an epoch and did not fail, best first: by mean, ties by fewer epochs, by number.

    Args:
        records: Of a search.
        wanted: Trials that a point must have to come before those that have fewer: the mean of several is not to be
            beaten by one lucky score.
    """
    members: dict[str, list[TrialRecord]] = {}
    for record in rank(records):
        values = recipes.to_values(record.recipe)
        key = json.dumps({name: value for name, value in values.items() if name not in REPEATED})
        members.setdefault(key, []).append(record)
    found = [Point(records=tuple(sorted(group, key=lambda one: one.number))) for group in members.values()]

    def key_of(point: Point) -> tuple[bool, float, int, int]:
        epochs = sum(best.epoch for record in point.records if (best := record.best()) is not None)
        mean = -point.mean if point.recipe.maximize else point.mean
        return (len(point.records) < wanted, mean, epochs, point.number)

    return sorted(found, key=key_of)


class Run:
    """A folder `runs/NAME`.

    Args:
        folder: Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def name(self) -> str:
        """The search's name, its folder's."""
        return self.folder.name

    @property
    def best_dir(self) -> Path:
        """Where the best model lies once the search has ended."""
        return self.folder / "best"

    def trial_dir(self, trial_id: str) -> Path:
        """The folder of one trial.

        Raises:
            RecordError: The id is none: what a hostile journal names must not lead out of the search's folder.
        """
        if not trial_id.isalnum():
            raise RecordError(str(self.folder), f"{trial_id[:50]!r} is no trial", "Restore the file that names it")
        return self.folder / "trials" / trial_id

    def exists(self) -> bool:
        """Whether a search has begun here."""
        return (self.folder / "search.json").exists()

    def check_exists(self) -> None:
        """Refuse a folder without a search.

        Raises:
            RecordError: There is none; the names beside it are told.
        """
        if not self.exists():
            known = sorted(path.parent.name for path in self.folder.parent.glob("*/search.json"))
            raise RecordError(str(self.folder), "no search here", f"Known names: {', '.join(known) or 'none'}")

    def read_search(self) -> SearchFile:
        """The content of `search.json`; of the one before it, with a warning, where the last one is damaged.

        Raises:
            RecordError: There is no search here, or it was written by an incompatible version.
        """
        self.check_exists()
        file = self.folder / "search.json"
        try:
            return to_search_file(_read_object(file, "search"), where=file)
        except StorageError as error:  # damaged by the disk: it is never half written
            before = storage.previous(file)
            if not before.exists():
                raise
            log.warning("%s; %s is used", error.args[1], before)
            return to_search_file(_read_object(before, "search"), where=before)

    def write_search(self, search: SearchFile) -> None:
        """Replace `search.json`; the one before is kept beside it."""
        value = search.to_json() | {"format": FORMAT_VERSION}
        storage.write_checked_json(self.folder / "search.json", value, keep_previous=True)

    def write_trial(self, record: TrialRecord, *, lease: Lease | None = None) -> None:
        """Replace a trial's record.

        Raises:
            FencedError: Somebody else has taken over the trial's folder, and with it `lease`.
            StorageError: It cannot be written.
        """
        values = {"format": FORMAT_VERSION, **dataclasses.asdict(record)}
        storage.write_checked_json(self.trial_dir(record.trial_id) / "record.json", values, lease=lease)

    def read_trial(self, trial_id: str) -> TrialRecord | None:
        """A trial's record; None where none was written.

        Raises:
            RecordError: The file is there but is no record of this trial, or it is damaged.
        """
        file = self.trial_dir(trial_id) / "record.json"
        if not file.exists():
            return None
        try:
            record = _to_record(_read_object(file, "trial record"), where=str(file))
        except StorageError as error:
            raise RecordError(*error.args) from error
        if record.trial_id != trial_id:
            raise RecordError(
                str(file), f"the record of trial {record.trial_id!r}", "Remove the folder; it is run again"
            )
        return record

    def read_trials(self, broken: list[RecordError] | None = None) -> list[TrialRecord]:
        """All trials on record, by number.

        Args:
            broken: Gets the errors of records that cannot be read, which are then left out; None to raise the first.

        Raises:
            RecordError: As `read_trial`.
        """
        records = []
        for file in self.record_files():
            try:
                record = self.read_trial(file.parent.name)
            except RecordError as error:
                if broken is None:
                    raise
                broken.append(error)
            else:
                records += [] if record is None else [record]
        return sorted(records, key=lambda record: (record.number, record.trial_id))

    def record_files(self) -> list[Path]:
        """The files of all trials' records, by trial id."""
        return sorted((self.folder / "trials").glob("*/record.json"))

    def journal(self) -> Journal:
        """The search's journal."""
        return Journal(self.folder / "journal.jsonl")

    def finals_journal(self) -> Journal:
        """Of the trials of the finals that have ended, or had failed and are run again."""
        return Journal(self.folder / "finals.jsonl")


def trials_frame(records: Iterable[TrialRecord]) -> "pandas.DataFrame":
    """One row a trial: number, id, state, every setting, the best epoch's results (`best_*`), seconds, reason."""
    import pandas

    rows = []
    for record in records:
        best = record.best()
        row: dict[str, Any] = {"number": record.number, "trial_id": record.trial_id, "state": record.state}
        row |= recipes.to_values(record.recipe)
        row |= {"epochs_run": len(record.epochs), "best_epoch": None if best is None else best.epoch}
        row |= {
            f"best_{name}": None if best is None else getattr(best, name) for name in METRIC_FIELDS if name != "seconds"
        }
        row |= {"seconds": record.seconds(), "device": record.device, "reason": record.reason}
        rows.append(row)
    return pandas.DataFrame(rows)


def epochs_frame(records: Iterable[TrialRecord]) -> "pandas.DataFrame":
    """One row an epoch: trial_id, number, and the fields of `EpochResult`."""
    import pandas

    return pandas.DataFrame(
        {"trial_id": record.trial_id, "number": record.number, **dataclasses.asdict(row)}
        for record in records
        for row in record.epochs
    )


def _read_object(file: Path, what: str) -> dict[str, Any]:
    """A JSON object of one of the formats, whose checksum is right.

    Raises:
        RecordError: It is no such object.
        StorageError: It cannot be read, or is damaged.
    """
    value = storage.read_json(file)
    version = value.get("format") if isinstance(value, dict) else None
    if version == FIRST_FORMAT and "checksum" not in value:
        return dict(value)
    if version == FORMAT_VERSION or (isinstance(value, dict) and "checksum" in value):
        value = storage.open_checked(value, where=str(file))  # before the format: a wrong bit may look like another
    if version != FORMAT_VERSION:
        way_out = "Use the version of ferray that wrote it, or restore the file"
        raise RecordError(str(file), f"not a {what} of format {FORMAT_VERSION}", way_out)
    return dict(value)


def _to_record(values: dict[str, Any], *, where: str) -> TrialRecord:
    """A record from its JSON value, checked field by field: the file may be anybody's."""

    def refuse(what: str) -> RecordError:
        return RecordError(where, what, "Restore the file, or remove the trial's folder: it is run again")

    try:
        epochs = tuple(_to_epoch(row) for row in values["epochs"])
        if [row.epoch for row in epochs] != list(range(1, len(epochs) + 1)):
            raise refuse("the epochs are not 1, 2, 3, ...")
        if values["state"] not in get_args(State):
            raise refuse(f"unknown state {values['state']!r}")
        return TrialRecord(
            trial_id=str(values["trial_id"]),
            number=int(values["number"]),
            recipe=recipes.make_recipe(values["recipe"], where=where),
            state=values["state"],
            reason=str(values["reason"]),
            epochs=epochs,
            device=str(values["device"]),
        )
    except FerrayError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise refuse(f"not a trial record: {type(error).__name__} {error}") from error


def _to_epoch(row: dict[str, Any]) -> EpochResult:
    numbers = {name: float(row[name]) for name in METRIC_FIELDS}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(f"{name} is {number}")
    return EpochResult(epoch=int(row["epoch"]), **numbers)
