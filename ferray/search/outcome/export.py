"""What comes out of a search: the tables, the pictures, the best model and its one test score.

Begin at `write_tables` and `export_winner`. The test split is read here and nowhere else in a search, once for a best
trial; every reading is on record in `search.json`.
"""

import functools
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.errors import StorageError
from ferray.files import storage
from ferray.files.location import short_location
from ferray.metrics.intervals import Interval
from ferray.model.size import count_parameters
from ferray.records.points import REPEATED, Point, rank_points, without_refit
from ferray.records.run import Run
from ferray.records.search_file import KeptTrial, TestReading
from ferray.records.tables import epochs_frame, setting_types, trials_frame
from ferray.records.trial import TrialRecord
from ferray.report import plots
from ferray.report.card import ModelOrigin, ModelSelection, model_card
from ferray.report.page.write import page_warning, write_page
from ferray.report.results.sentences import recorded_indifference
from ferray.report.results.verdict import Significance
from ferray.report.test_split.read_once import read_test_split
from ferray.report.test_split.recorded import METRICS_FILE, RecordedScore, read_recorded
from ferray.search.open import Search
from ferray.search.outcome.answers import HERE, Answers
from ferray.search.outcome.finals import Ranking
from ferray.space import Space
from ferray.train.checkpoints.export import export_best
from ferray.train.predict import predict_validation
from ferray.wording import short_path, utc_now

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestModel:
    """The best trial of a search and what its model came to."""

    record: TrialRecord
    metrics: RecordedScore | None
    """As in `best/metrics.json`; None where the store has no test split, or it was read for another model before."""


def write_tables(
    run: Run,
    records: Sequence[TrialRecord],
    space: Space,
    *,
    num_classes: int,
    replicates: int = 1,
    best: BestModel | None = None,
    interval: Interval | None = None,
) -> list[Path]:
    """The tables of all trials and epochs, of points with several trials too, the heatmap and the curves.

    Args:
        run: The search's folder.
        records: All trials.
        space: What was searched.
        num_classes: Of the store.
        replicates: Seeds that points of the finals are trained with: such points come before all others.
        best: The best model, whose test score goes into the table of trials; None where there is none.
        interval: Of the best point's score, for the heatmap; None where it is not known.

    Returns:
        The files; no pictures where no trial has an epoch.
    """
    tested = None if best is None or best.metrics is None else {best.record.trial_id: _scores(best.metrics)}
    count = functools.cache(partial(count_parameters, num_classes=num_classes))
    trials = trials_frame(records, searched=space.searched, tested=tested, count_parameters=count)
    epochs = epochs_frame(records)
    files = [run.folder / name for name in ("trials.parquet", "trials.csv", "epochs.parquet")]
    storage.write_bytes(files[0], trials.to_parquet(index=False))
    storage.write_bytes(files[1], trials.to_csv(index=False).encode())
    storage.write_bytes(files[2], epochs.to_parquet(index=False))
    ranked = rank_points(without_refit(records, folds=space.folds), wanted=space.folds * replicates)
    if several := [point for point in ranked if len(point.records) > 1]:
        files.append(run.folder / "points.csv")
        storage.write_bytes(files[-1], _points_table(several, space))
    if len(epochs):
        pictures = [run.folder / "heatmap.png", run.folder / "curves.png"]
        axes = [name for name in space.searched if name not in REPEATED]
        by_point = _by_point(trials, ranked, space)
        plots.draw_heatmap(by_point, pictures[0], metric=space.metric, searched=axes, interval=interval)
        plots.draw_curves(epochs, trials, pictures[1], metric=space.metric, searched=space.searched)
        files += pictures
    return files


def write_report(run: Run, records: Sequence[TrialRecord]) -> list[Path]:
    """The page of the search; a fault of it is a warning, since everything that it shows is on record.

    Returns:
        The file; nothing where it was not written.
    """
    try:
        return [write_page(run, records=records).file]
    except Exception as error:  # noqa: BLE001  no fault of a report may fail a search
        log.warning("%s", page_warning(error))
        return []


def export_winner(
    search: Search,
    records: Sequence[TrialRecord],
    ranking: Ranking,
    significance: Significance | None,
    answers: Answers = HERE,
) -> BestModel:
    """Export the best epoch of the trial that is kept, and read the test split once for it.

    A search that is run again and keeps the same model keeps its score. One that keeps another model has no test score
    unless the plan says `again`: a split that is read for one model after the other has a part in the choice.

    Args:
        search: Its folder gets `best/`, and its `search.json` the reading.
        records: All trials.
        ranking: Names the one that is kept.
        significance: How sure the winner is, for the model card.
        answers: Where the model predicts.
    """
    plan, kept, history = search.plan, ranking.kept, search.history
    run, row = plan.run, kept.best()
    assert row is not None
    named = KeptTrial(trial_id=kept.trial_id, number=kept.number, epoch=row.epoch, score=kept.score())
    metrics_file = run.best_dir / METRICS_FILE
    # A reading of this same model that was cut off is done again: it chooses nothing.
    may_read = plan.again or not history.search.was_tested_with_another(kept.trial_id)
    is_exported = history.search.best == named and (run.best_dir / "model.safetensors").exists()
    if is_exported and (metrics_file.exists() or not may_read):
        return BestModel(kept, read_recorded(metrics_file))
    part = Path(tempfile.mkdtemp(dir=run.folder, prefix=".best-"))
    try:
        export_best(
            part,
            checkpoints=run.checkpoints(kept.trial_id),
            recipe=kept.recipe,
            store=search.store,
            weights=search.weights[kept.recipe.backbone],
            recorded=row.epoch,
        )
        metrics = _read_test_split(search, kept, part, answers) if may_read else None
        origin = ModelOrigin(
            name=run.name,
            kind="search",
            command=history.search.command,
            best_dir=str(short_path(run.best_dir)),
            data_dir=short_location(history.search.data.folder),
            weights=Path(history.search.options.weights).name,
        )
        sentence, indifferent = recorded_indifference(run, records)
        selection = ModelSelection(
            recipe=kept.recipe,
            epoch=row,
            num_trials=len(records),
            num_epochs=len(kept.epochs),
            searched=plan.columns,
            evidence=[
                *map(
                    search.store.manifest.shown.reword,
                    [] if significance is None else significance.lines(kept.recipe.monitor),
                ),
                *(
                    f"{edge.sentence()}: `{edge.way_out(plan)}`"
                    for edge in ranking.edges
                    if edge.name not in indifferent
                ),
                *([sentence.removesuffix(".")] if sentence else []),
            ],
        )
        card = model_card(origin, selection, search.store.manifest, metrics)
        storage.write_bytes(part / "README.md", card.encode())
        part.chmod(0o755)
        shutil.rmtree(run.best_dir, ignore_errors=True)
        part.replace(run.best_dir)
    except OSError as error:
        raise StorageError(
            str(run.best_dir), f"cannot be written: {error}", "Free space, then resume the search"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    history.update(best=named)
    return BestModel(kept, metrics)


def _scores(metrics: RecordedScore) -> dict[str, float]:
    """The test scores by name."""
    return {name: value for name, value in metrics.scores.values.items() if value is not None}


def _by_point(trials: "pandas.DataFrame", ranked: Sequence[Point], space: Space) -> "pandas.DataFrame":
    """The table of trials with one row a point, its first trial's with the mean for a score; without a refit."""
    points = {point.records[0].trial_id: (place, point) for place, point in enumerate(ranked)}
    first = trials[trials["trial_id"].isin(list(points))]
    found = [points[trial_id] for trial_id in first["trial_id"]]
    return first.assign(
        **{f"best_{space.metric.name}": [point.mean for _, point in found]},
        place=[place for place, _ in found],
        num_trials=[len(point.records) for _, point in found],
    )


def _points_table(several: Sequence[Point], space: Space) -> bytes:
    """A line a point of several trials: how many, their mean, spread and range, and the settings."""
    import pandas

    metric = space.metric.name
    rows = [
        {
            "number": point.number,
            "trials": len(point.records),
            f"mean_{metric}": point.mean,
            f"sd_{metric}": point.spread,
            f"min_{metric}": min(point.scores),
            f"max_{metric}": max(point.scores),
            **{name: getattr(point.recipe, name) for name in space.searched if name not in REPEATED},
        }
        for point in several
    ]
    kinds = dict.fromkeys(rows[0], "Float64") | {"number": "Int64", "trials": "Int64"}
    kinds |= {name: kind for name, kind in setting_types().items() if name in kinds}
    return pandas.DataFrame(rows, dtype="object").astype(kinds).to_csv(index=False).encode()


def _read_test_split(search: Search, kept: TrialRecord, best_dir: Path, answers: Answers) -> RecordedScore | None:
    """The one score and all that the reading leaves beside the model; the reading is recorded before it is done."""
    store, history = search.store, search.history
    if not any(store.manifest.counts["test"].values()):
        log.warning("%s has no test split: the best model has no test score", store.folder)
        return None
    readings = history.search.test_readings
    if all(reading.trial_id != kept.trial_id for reading in readings):
        readings = (*readings, TestReading(time=utc_now(), trial_id=kept.trial_id))
        history.update(test_readings=readings)
    validation = None
    # Where nothing is frozen, validation predictions cost as much as those of the exported model, which wants fewer.
    if kept.recipe.freeze != "none" and answers.validation is not None:
        validation = answers.validation(kept)
    elif kept.recipe.freeze != "none":
        weights, checkpoints = search.weights[kept.recipe.backbone], search.plan.run.checkpoints(kept.trial_id)
        validation = predict_validation(kept.recipe, store, weights, checkpoints=checkpoints, cache=storage.cache_dir())
    predict = None if answers.split is None else partial(answers.split, kept)
    return read_test_split(best_dir, store, readings=len(readings), validation=validation, predict=predict)
