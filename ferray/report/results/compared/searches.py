"""The searches of a comparison: each with a letter, all ranked by one metric; or the stages of one that grew.

Begin at `read_compared`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ferray import space as spaces
from ferray.errors import RecordError
from ferray.recipe import MetricName
from ferray.records.bucket.run import open_folder
from ferray.records.events import EventLog, ExtendEvent, ResultEvent, SuggestEvent, ended_trials
from ferray.records.points import Point, without_refit
from ferray.records.trial import TrialRecord
from ferray.report.results.read import SearchResults, read_results
from ferray.report.results.series import Step, best_so_far
from ferray.space import Metric, Space
from ferray.wording import short_path

LETTERS = "ABCDEF"
"""Names of the searches in tables and plots, which also bound their number."""


@dataclass(frozen=True, kw_only=True)
class ComparedSearch:
    """A search, or a stage of one, as a comparison has it."""

    letter: str
    """Its short name in tables, plots and sentences."""
    name: str
    """That of its folder; of a stage, also which it is. Characters that do not print are replaced."""
    results: SearchResults
    """Ranked by the metric of the first search."""
    own_metric: MetricName
    """The metric that it was made for."""
    is_stage: bool = False
    """Whether it is an earlier or the present stage of one search."""

    @property
    def title(self) -> str:
        """Letter and name: `B (asha)`."""
        return f"{self.letter} ({self.name})"

    @property
    def folder(self) -> str:
        """`runs/NAME`, as people write it."""
        return _printable(str(short_path(self.results.run.folder)))

    @cached_property
    def records(self) -> list[TrialRecord]:
        """Its trials, without the refit of a search with folds."""
        return without_refit(self.results.records, folds=self.results.space.folds)

    @cached_property
    def steps(self) -> list[Step]:
        """Its best score so far."""
        return best_so_far(self.records)

    def cost(self, score: float) -> float:
        """A score as something to minimize."""
        return -score if self.results.maximize else score

    @property
    def winner(self) -> Point | None:
        """Its best point; None without a score."""
        return self.results.points[0] if self.results.points else None


def read_compared(folders: Sequence[Path], *, before: int | None = None, force: bool = False) -> list[ComparedSearch]:
    """Read searches for a comparison, finished or not.

    Args:
        folders: `runs/NAME`; one for the stages of a search that grew.
        before: Of one search: its trials below this number against all of them; None for its extensions.
        force: Whether searches whose scores do not compare are read, too.

    Raises:
        RecordError: No search, too many, one that did not grow, or several whose scores do not compare.
        FerrayError: As `read_results`.
    """
    if not 1 <= len(folders) <= len(LETTERS):
        what = f"{len(folders)} searches are given, at most {len(LETTERS)} can be compared"
        raise RecordError("compare", what, "Name fewer")
    if len(folders) == 1:
        return _stages(read_results(open_folder(folders[0])), before)
    if before is not None:
        what = f"{len(folders)} searches are given, and --before divides one"
        raise RecordError(f"--before {before}", what, "Name one search, or leave --before out")
    runs = [open_folder(folder) for folder in folders]
    if len({run.folder for run in runs}) < len(runs):
        raise RecordError("compare", "a search is named twice", "Name one search alone to see how it grew")
    found = [read_results(run) for run in runs]
    if not force:
        _check_comparable(found)
    metric = found[0].space.metric
    names = [run.name for run in runs]
    return [
        ComparedSearch(
            letter=letter,
            name=_printable(name if names.count(name) == 1 else str(results.run.folder)),
            results=_by_metric(results, metric),
            own_metric=results.metric,
        )
        for letter, name, results in zip(LETTERS, names, found, strict=False)
    ]


def validation_in_words(results: SearchResults) -> str:
    """What a search validates with, as far as it decides whether scores compare."""
    folds = results.space.folds
    return "the validation split" if folds == 1 else f"{folds} folds of the training and validation splits"


def share_validation(one: SearchResults, other: SearchResults) -> bool:
    """Whether two searches were validated with the same pictures."""
    same_data = one.search.data.fingerprint == other.search.data.fingerprint
    same_folds = one.space.folds == other.space.folds and one.search.data.groups == other.search.data.groups
    return same_data and same_folds


def _check_comparable(found: Sequence[SearchResults]) -> None:
    first = found[0]
    for other in found[1:]:
        if share_validation(first, other):
            continue
        where = f"{_printable(str(first.run.folder))} and {_printable(str(other.run.folder))}"
        one, two = (_data_in_words(results) for results in (first, other))
        what = f"their data differ, {one} and {two}"
        if first.search.data.fingerprint == other.search.data.fingerprint:
            what = f"their validation differs, {validation_in_words(first)} and {validation_in_words(other)}"
            if first.space.folds == other.space.folds:
                what = "their folds differ, since their stores group photographs otherwise"
        way_out = "Scores of different validation pictures do not compare. To see them side by side anyway: --force"
        raise RecordError(where, what, way_out)


def _data_in_words(results: SearchResults) -> str:
    data = results.search.data
    return f"{_printable(data.title)} ({data.fingerprint[:12]})"


def _by_metric(results: SearchResults, metric: Metric) -> SearchResults:
    """The search as if it had been made for a metric; what is on record of its own winner is left out."""
    if results.space.metric.name == metric.name:
        return results
    records = [replace(record, recipe=replace(record.recipe, monitor=metric.name)) for record in results.records]
    return replace(results, records=records, space=replace(results.space, metric=metric), verdict=None)


def _stages(results: SearchResults, before: int | None) -> list[ComparedSearch]:
    """What a search was before it grew, each stage, and what it is."""
    stages = list(_extensions(results)) if before is None else [_first_trials(results, before)]
    if not stages:
        where = _printable(str(results.run.folder))
        way_out = "Name a second search, or --before N to compare its first N trials with all"
        raise RecordError(where, "it is one search, and its journal has no extension", way_out)
    if len(stages) >= len(LETTERS):
        stages = [stages[0], *stages[-(len(LETTERS) - 2) :]]
    stages.append(("as it is now", results))
    name = _printable(results.run.name)
    return [
        ComparedSearch(letter=letter, name=f"{name}, {what}", results=stage, own_metric=results.metric, is_stage=True)
        for letter, (what, stage) in zip(LETTERS, stages, strict=False)
    ]


def _first_trials(results: SearchResults, before: int) -> tuple[str, SearchResults]:
    records = [record for record in results.records if record.number < before]
    if not records or len(records) == len(results.records):
        numbers = [record.number for record in results.records] or [0]
        what = f"the search has trials {min(numbers)} to {max(numbers)}, so that one side is empty"
        raise RecordError(f"--before {before}", what, f"Give a number in {min(numbers) + 1} .. {max(numbers)}")
    return f"before trial {before}", replace(results, records=records, verdict=None, test_score=None)


def _extensions(results: SearchResults) -> Iterator[tuple[str, SearchResults]]:
    """The search before each extension that its journal has."""
    events = EventLog(results.run.journal()).events
    places = [place for place, event in enumerate(events) if isinstance(event, ExtendEvent)]
    for count, place in enumerate(places, start=1):
        earlier, later = events[:place], events[place:]
        asked = {event.number for event in earlier if isinstance(event, SuggestEvent)}
        new = {event.number for event in later if isinstance(event, SuggestEvent)} - asked
        first_new = min(new, default=None)
        ended = {event.trial_id for event in ended_trials(earlier)}
        reached: dict[int, int] = {}
        for event in earlier:
            if isinstance(event, ResultEvent):
                reached[event.number] = max(reached.get(event.number, 0), event.epoch)
        records = []
        for record in results.records:
            if record.number in new or (first_new is not None and record.number >= first_new):
                continue
            if record.number in asked and record.trial_id not in ended:  # it went on after the extension
                record = replace(record, state="interrupted", epochs=record.epochs[: reached.get(record.number, 0)])
            records.append(record)
        what = "before it grew" if len(places) == 1 else f"before it grew, {count} of {len(places)}"
        space = _space_before(events[place], results)
        yield what, replace(results, records=records, space=space, verdict=None, test_score=None)


def _space_before(event: object, results: SearchResults) -> Space:
    assert isinstance(event, ExtendEvent)
    source = event.earlier
    return spaces.read_space(results.run.space_file, spaces.parse_settings(source.settings), text=source.text)


def _printable(text: str) -> str:
    """A name without characters that would steer a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
