"""All that is on record of one search, read for reports: nothing is changed, and a part that is missing is named.

Begin at `read_results`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import TypeAdapter, ValidationError

from ferray import space as spaces
from ferray.data.store.fetched import find_fetched
from ferray.data.store.manifest import Manifest, read_manifest
from ferray.data.store.reader import Store, open_store
from ferray.errors import FerrayError
from ferray.files import storage
from ferray.metrics.calibration import Calibration
from ferray.recipe import FIELD_NAMES, MetricName, is_maximized
from ferray.records.points import REPEATED, Point, rank_points, without_refit
from ferray.records.run import Run
from ferray.records.search_file import SearchFile
from ferray.records.trial import ENDED, TrialRecord
from ferray.report.results.edges import Edge, find_edges
from ferray.report.results.verdict import Significance, read_verdict
from ferray.report.test_split.recorded import METRICS_FILE, RecordedScore, read_recorded
from ferray.space import Space

_UNSEARCHED = frozenset({*REPEATED, "folds", "precision", "image_size"})
"""Settings in which trials may differ although nobody searched them."""


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """What is on record of a search, finished or not."""

    run: Run
    search: SearchFile
    space: Space
    records: Sequence[TrialRecord]
    """All trials, by number."""
    verdict: Significance | None
    """How sure the winner is; None where that was not computed, or for an earlier winner."""
    test_score: RecordedScore | None
    """Of the best model; None where the test split was not read for it."""
    calibration: Calibration | None
    """With its bins."""
    manifest: Manifest | None
    """Of the store; None where the store is not there any more, or another."""
    unread: tuple[str, ...]
    """What could not be read, a sentence each."""

    @property
    def max_trials(self) -> int | None:
        """Limit of the points that the command has set."""
        return self.search.options.max_trials

    @property
    def metric(self) -> MetricName:
        """Name of the metric that ranks trials."""
        return self.space.metric.name

    @property
    def maximize(self) -> bool:
        """Whether a larger value of the metric is better."""
        return is_maximized(self.space.metric.name)

    @cached_property
    def points(self) -> list[Point]:
        """The points that have a score, best first; without the refit of a search with folds."""
        replicates = self.search.options.replicates or self.space.replicates
        scored = without_refit(self.records, folds=self.space.folds)
        return rank_points(scored, wanted=self.space.folds * replicates)

    @cached_property
    def kept(self) -> TrialRecord | None:
        """The trial whose best epoch is the best model; before the search has ended, the best trial so far."""
        best = self.search.best
        if best is not None and self.is_finished:
            return next((record for record in self.records if record.trial_id == best.trial_id), None)
        return self.points[0].best_trial() if self.points else None

    @cached_property
    def is_finished(self) -> bool:
        """Whether the search has exported its best model, and no trial has begun since."""
        best = self.search.best
        known = best is not None and any(record.trial_id == best.trial_id for record in self.records)
        return known and all(record.state in ENDED for record in self.records)

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The settings in which trials were to differ, or differ; those of the space first."""
        names = [name for name in self.space.searched if name not in REPEATED]
        differing = [
            name
            for name in FIELD_NAMES
            if name not in (*names, *_UNSEARCHED) and len({getattr(one.recipe, name) for one in self.records}) > 1
        ]
        return (*names, *differing)

    @cached_property
    def edges(self) -> list[Edge]:
        """The settings of the best point that lie on an edge of what was tried."""
        if not self.points:
            return []
        return find_edges(self, self.points[0].recipe, [point.recipe for point in self.points])

    def open_store(self) -> Store | None:
        """The pictures; None where `manifest` is None.

        Raises:
            DataError: The store is broken.
        """
        return (
            None
            if self.manifest is None
            else open_store(find_fetched(self.search.data.folder, self.search.data.fingerprint))
        )


def read_results(run: Run, *, records: Sequence[TrialRecord] | None = None) -> SearchResults:
    """Read what is on record of a search.

    Args:
        run: Its folder.
        records: All trials, where the caller has them already.

    Raises:
        RecordError: There is no search here, or `search.json` is none.
        StorageError: `search.json` cannot be read.
        SpaceError: `space.yaml` is no space.
    """
    search = run.read_search()
    space = spaces.read_space(run.space_file, spaces.parse_settings(search.options.set))
    unread: list[str] = []
    trials = _read_trials(run, unread) if records is None else list(records)
    score, calibration = _read_test_score(run, search, unread)
    results = SearchResults(
        run=run,
        search=search,
        space=space,
        records=trials,
        verdict=read_verdict(search.verdict, where=str(run.folder / "search.json")),
        test_score=score,
        calibration=calibration,
        manifest=_read_manifest(search, unread),
        unread=tuple(unread),
    )
    return results if _is_of_winner(results) else _without_verdict(results)


def _is_of_winner(results: SearchResults) -> bool:
    verdict = results.verdict
    return verdict is None or bool(results.points and results.points[0].number == verdict.winner)


def _without_verdict(results: SearchResults) -> SearchResults:
    from dataclasses import replace

    note = "What the search said of its winner is of an earlier winner, and is left out."
    return replace(results, verdict=None, unread=(*results.unread, note))


def _read_trials(run: Run, unread: list[str]) -> list[TrialRecord]:
    found = []
    for file in run.record_files():
        try:
            record = run.read_trial(file.parent.name)
        except FerrayError as error:
            unread.append(f"The record of trial {file.parent.name} cannot be read: {error.args[1]}.")
        else:
            found += [] if record is None else [record]
    return sorted(found, key=lambda record: (record.number, record.trial_id))


def _read_test_score(
    run: Run, search: SearchFile, unread: list[str]
) -> tuple[RecordedScore | None, Calibration | None]:
    """The score of the best model, if it is the model that `search.json` names, and its calibration with bins."""
    if search.best is None:
        return None, None
    score, calibration, file = None, None, run.best_dir / "calibration.json"
    try:
        score = read_recorded(run.best_dir / METRICS_FILE)
        calibration = _CALIBRATION.validate_python(storage.read_json(file)) if file.exists() else None
    except FerrayError as error:
        unread.append(f"The test score cannot be read: {error.args[1]}.")
    except (ValidationError, RecursionError):
        unread.append(f"{file.name} is not a calibration.")
    return score, calibration


def _read_manifest(search: SearchFile, unread: list[str]) -> Manifest | None:
    try:
        manifest = read_manifest(find_fetched(search.data.folder, search.data.fingerprint))
    except FerrayError as error:
        unread.append(f"The store cannot be read, so little is said of the data: {error.args[1]}.")
        return None
    if manifest.fingerprint != search.data.fingerprint:
        unread.append("The store is not that of the search any more, so little is said of the data.")
        return None
    return manifest


_CALIBRATION = TypeAdapter(Calibration)
