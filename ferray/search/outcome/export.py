"""What comes out of a search: the tables, the pictures, the best model and its one test score.

Begin at `write_tables` and `select_best`. The test split is read here and nowhere else in a search, once for a best
trial; every reading is on record in `search.json`.
"""

import datetime
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray.data.store.reader import Store
from ferray.errors import StorageError
from ferray.files import storage
from ferray.model.weights import Weights
from ferray.records.points import REPEATED, Point, rank_points
from ferray.records.run import Run
from ferray.records.tables import epochs_frame, trials_frame
from ferray.records.trial import TrialRecord
from ferray.report import plots
from ferray.report.card import model_card
from ferray.report.test_split.read_once import read_test_split
from ferray.report.test_split.recorded import read_recorded
from ferray.search.outcome.finals import Standing
from ferray.search.outcome.significance import Verdict
from ferray.space import Space
from ferray.train.checkpoints.export import export_best
from ferray.train.predict import predict_validation

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The best trial of a search and what its model came to."""

    record: TrialRecord
    metrics: Mapping[str, Any] | None
    """As in `best/metrics.json`; None where the store has no test split, or it was read for another model before."""


def write_tables(run: Run, records: Sequence[TrialRecord], space: Space) -> list[Path]:
    """The table of all trials as Parquet and CSV, of points with several trials too, the heatmap and the curves.

    Returns:
        The files; no pictures where no trial has an epoch.
    """
    trials, epochs = trials_frame(records), epochs_frame(records)
    files = [run.folder / "trials.parquet", run.folder / "trials.csv"]
    storage.write_bytes(files[0], trials.to_parquet(index=False))
    storage.write_bytes(files[1], trials.to_csv(index=False).encode())
    if several := [point for point in rank_points(records) if len(point.records) > 1]:
        files.append(run.folder / "points.csv")
        storage.write_bytes(files[-1], _points_table(several, space))
    if len(epochs):
        pictures = [run.folder / "heatmap.png", run.folder / "curves.png"]
        metric, maximize = space.metric.name, space.metric.goal == "maximize"
        axes = [name for name in space.searched if name not in REPEATED]
        by_point = _by_point(trials, records, space)
        plots.heatmap(by_point, pictures[0], metric=metric, maximize=maximize, searched=axes)
        plots.curves(epochs, trials, pictures[1], metric=metric, maximize=maximize, searched=space.searched)
        files += pictures
    return files


def select_best(
    run: Run,
    records: Sequence[TrialRecord],
    standing: Standing,
    store: Store,
    weights: Mapping[str, Weights],
    search: dict[str, Any],
    *,
    verdict: Verdict | None,
    again: bool,
) -> Best:
    """Export the best epoch of the trial that is kept, and read the test split once for it.

    A search that is run again and ends with the same best trial keeps its score. One that ends with another has no test
    score unless `again`: a split that is read for one model after the other has a part in the choice.

    Args:
        run: The search's folder; `best/` is written, and the reading noted in `search.json`.
        records: All trials.
        standing: Names the one that is kept.
        store: With the sealed test split.
        weights: By backbone.
        search: The value of `search.json`, changed here.
        verdict: How sure the winner is, for the card.
        again: Whether the test split may be read although it was read for another model.
    """
    best = standing.kept
    row = best.best()
    assert row is not None
    named = {"trial_id": best.trial_id, "number": best.number, "epoch": row.epoch, "score": best.score()}
    known = run.best_dir / "metrics.json"
    # A reading of this same model that was cut off is done again: it chooses nothing.
    sealed = not again and any(reading.get("trial_id") != best.trial_id for reading in search["test_readings"])
    if search.get("best") == named and (run.best_dir / "model.safetensors").exists() and (known.exists() or sealed):
        return Best(best, read_recorded(known) or None)
    part = Path(tempfile.mkdtemp(dir=run.folder, prefix=".best-"))
    try:
        export_best(
            part,
            checkpoints=run.trial_dir(best.trial_id),
            recipe=best.recipe,
            store=store,
            weights=weights[best.recipe.backbone],
            recorded=row.epoch,
        )
        metrics = None if sealed else _read_test_split(run, part, store, weights, search, best)
        card = model_card(
            name=run.name,
            recipe=best.recipe,
            class_names=store.class_names,
            manifest=store.manifest,
            metrics=metrics,
            num_trials=len(records),
            validation=row,
            verdict=() if verdict is None else verdict.lines(best.recipe.monitor),
            search_command=search["command"],
            data_dir=str(short_path(store.folder)),
            weights=Path(search["options"]["weights"]).name,
        )
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
    run.write_search(search | {"best": named})
    search["best"] = named
    return Best(best, metrics)


def _by_point(trials: "pandas.DataFrame", records: Sequence[TrialRecord], space: Space) -> "pandas.DataFrame":
    """The table of trials with one row a point, its first trial's with the mean for a score; without a refit."""
    column = f"best_{space.metric.name}"
    scored = [record for record in records if space.folds == 1 or record.recipe.folds is not None]
    means = {point.records[0].trial_id: point.mean for point in rank_points(scored)}
    first = trials[trials["trial_id"].isin(list(means))]
    return first.assign(**{column: first["trial_id"].map(means)})


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
    return pandas.DataFrame(rows).to_csv(index=False).encode()


def short_path(path: Path) -> Path:
    """Relative to where the user is, where the path lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _read_test_split(
    run: Run,
    best_dir: Path,
    store: Store,
    weights: Mapping[str, Weights],
    search: dict[str, Any],
    best: TrialRecord,
) -> Mapping[str, Any] | None:
    """The one score and all that the reading leaves beside the model; noted before it is known."""
    if not any(store.manifest.counts["test"].values()):
        log.warning("%s has no test split: the best model has no test score", store.folder)
        return None
    if all(reading.get("trial_id") != best.trial_id for reading in search["test_readings"]):
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        search["test_readings"].append({"time": now, "trial_id": best.trial_id})
        run.write_search(search)
    validation = None
    if best.recipe.freeze != "none":  # else its answers cost as much as those of the exported model, which wants fewer
        own, checkpoints = weights[best.recipe.backbone], run.trial_dir(best.trial_id)
        validation = predict_validation(best.recipe, store, own, checkpoints=checkpoints, cache=storage.cache_dir())
    return read_test_split(best_dir, store, readings=len(search["test_readings"]), validation=validation)
