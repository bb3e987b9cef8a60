"""The seal of the test split: a search reads it once for its best model, and whoever reads it again goes on record.

A test split that is read often is chosen by, and no test any more. So the score of a model on the test split of its own
store is the recorded one, `metrics.json`, unless another reading is asked for; other splits and other stores are free.
Readings stand in `search.json` of the search and in `readings.jsonl` beside the model.

Begin at `recorded_score`.
"""

import datetime
from pathlib import Path
from typing import Any

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.files.journal import Journal
from ferray.metrics.scores import Scores
from ferray.records.run import Run
from ferray.records.search_file import SearchFile, TestReading
from ferray.report.test_split.recorded import read_recorded

METRICS = "metrics.json"
"""The recorded score, beside the model."""

READINGS = "readings.jsonl"
"""Every reading of a split with a model by command, one line each, beside the model."""


def recorded_score(best_dir: Path, store: Store, split: str) -> dict[str, Any] | None:
    """The score on record, where a split is sealed; None where it may be read.

    Args:
        best_dir: The folder `best` of a search.
        store: To be scored on.
        split: Of it.

    Returns:
        The value of `metrics.json`, with `test_readings`, the number of readings so far.

    Raises:
        CheckpointError: The split was read, but this model's score is not there.
        StorageError: A file beside the model is broken.
    """
    metrics, search = read_recorded(best_dir / METRICS), _search_of(best_dir)
    own = metrics.get("data", None if search is None else search.data.fingerprint)
    readings = test_readings(best_dir)
    if split != "test" or own != store.fingerprint or not readings:
        return None
    if "data" not in metrics:
        assert search is not None  # else there would be no readings
        mine = search.best is not None and readings[-1].get("trial_id") == search.best.trial_id
        whose = "this model" if mine else "another model of this search"
        what = f"this test split was read at {readings[-1]['time']} for {whose}; of this model no score is on record"
        way_out = f"To read it once more, on record: python -m ferray.search --resume {search.name} --again"
        raise CheckpointError(str(best_dir / METRICS), what, f"{way_out}, or --again here")
    return metrics | {"test_readings": len(readings)}


def test_readings(best_dir: Path) -> list[dict[str, Any]]:
    """Readings of the test split of the store that a model was trained on: the search's, or those known beside it.

    Args:
        best_dir: The folder `best` of a search, in it or taken out of it.
    """
    search, metrics = _search_of(best_dir), read_recorded(best_dir / METRICS)
    if search is not None:
        return [reading.to_json() for reading in search.test_readings]
    if not metrics:
        return []
    lines = Journal(best_dir / READINGS).read()
    later = [line for line in lines if (line.get("split"), line.get("data")) == ("test", metrics["data"])]
    return [{"time": metrics["read"]}, *later]


def note_again(best_dir: Path, store: Store) -> None:
    """Put one more reading of the own test split on the search's record, before its score is known.

    Raises:
        StorageError: A search is running in the folder, or it cannot be written.
    """
    run = Run(best_dir.resolve().parent)
    search = _search_of(best_dir)
    if search is not None and search.data.fingerprint == store.fingerprint:
        with storage.lock(run.folder / ".lock", wait_s=0):
            trial_id = None if search.best is None else search.best.trial_id
            reading = TestReading.model_validate({"time": now(), "trial_id": trial_id, "by": "evaluate --again"})
            run.write_search(search.changed(test_readings=(*search.test_readings, reading)))


def note_reading(best_dir: Path, store: Store, split: str, scores: Scores) -> None:
    """Put a reading by command, and what it came to, on the record beside the model.

    Raises:
        RecordError: It cannot be written.
    """
    reading = {"time": now(), "data": store.fingerprint, "split": split, "n": scores.n, "accuracy": scores.accuracy}
    Journal(best_dir / READINGS).append(reading)


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _search_of(best_dir: Path) -> SearchFile | None:
    """The content of the `search.json` above; None where the folder was taken out of its search."""
    run = Run(best_dir.resolve().parent)
    return run.read_search() if run.exists() else None
