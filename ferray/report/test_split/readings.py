"""The record of readings: a search reads its test split once, for its best model, and every further reading is noted.

A test split that is read for several models influences the choice among them, so its score is no longer a test score.
The score of a model on the test split of its own store is therefore the recorded one in `metrics.json`, unless another
reading is asked for. Other splits and other stores may be read at any time. Readings are noted in `search.json` of the
search and in `readings.jsonl` beside the model.

Begin at `recorded_score`.
"""

import dataclasses
from pathlib import Path

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError
from ferray.files.journal import Journal
from ferray.metrics.scores import Scores
from ferray.records.bucket.run import open_folder
from ferray.records.run import Run
from ferray.records.search_file import SearchFile, TestReading
from ferray.report.test_split.recorded import METRICS_FILE, RecordedScore, read_recorded
from ferray.wording import utc_now

READINGS_FILE = "readings.jsonl"
"""Every reading of a split by the command `evaluate`, one per line, beside the model."""


def recorded_score(best_dir: Path, store: Store, split: str) -> RecordedScore | None:
    """The recorded score, if the split is the model's own test split and was read; None if it may be read now.

    Args:
        best_dir: The folder `best` of a search.
        store: The store to score the model on.
        split: The split to score it on.

    Returns:
        The recorded score, with the number of readings so far.

    Raises:
        CheckpointError: The split was read, but the score of this model is not on record.
        StorageError: A file beside the model is damaged.
    """
    recorded, search = read_recorded(best_dir / METRICS_FILE), _read_search(best_dir)
    searched = "" if search is None else search.data.fingerprint
    own = searched if recorded is None else recorded.store_fingerprint
    readings = read_test_readings(best_dir)
    if split != "test" or own != store.fingerprint or not readings:
        return None
    if recorded is None:
        assert search is not None  # else there would be no readings
        of_this_model = readings[-1].trial_id == _best_trial(search)
        model = "this model, whose score" if of_this_model else "another model of this search; the score of this model"
        what = f"the test split was read at {readings[-1].time} for {model} is not on record"
        way_out = f"To read it once more, on record: {open_folder(best_dir.resolve().parent).resume_command} --again"
        raise CheckpointError(str(best_dir / METRICS_FILE), what, f"{way_out}, or --again here")
    return dataclasses.replace(recorded, num_readings=len(readings))


def read_test_readings(best_dir: Path) -> list[TestReading]:
    """The readings of the test split of the store that a model was trained on, in order.

    They come from the record of the search, or, where the folder was taken out of its search, from the files in it.

    Args:
        best_dir: The folder `best` of a search, or a copy of it.
    """
    search, recorded = _read_search(best_dir), read_recorded(best_dir / METRICS_FILE)
    if search is not None:
        return list(search.test_readings)
    if recorded is None:
        return []
    lines = Journal(best_dir / READINGS_FILE).read()
    of_test = [line for line in lines if (line.get("split"), line.get("data")) == ("test", recorded.store_fingerprint)]
    return [TestReading(time=recorded.read_at), *(TestReading(time=str(line.get("time"))) for line in of_test)]


def note_reading_in_search(best_dir: Path, store: Store) -> None:
    """Note one more reading of the model's own test split in `search.json`, before its score is known.

    Raises:
        StorageError: A search is running in the folder, or the file cannot be written.
    """
    run, search = open_folder(best_dir.resolve().parent), _read_search(best_dir)
    if search is None or search.data.fingerprint != store.fingerprint:
        return
    with run.lock():
        run.fetch()
        search = run.read_search()  # again, since the last writer may have changed it before the lock was free
        reading = TestReading.model_validate(
            {"time": utc_now(), "trial_id": _best_trial(search), "by": "evaluate --again"}
        )
        run.write_search(search.changed(test_readings=(*search.test_readings, reading)))


def note_reading_beside_model(best_dir: Path, store: Store, split: str, scores: Scores) -> None:
    """Note a reading of any split, and its accuracy, in `readings.jsonl`.

    Raises:
        RecordError: The file cannot be written.
    """
    Journal(best_dir / READINGS_FILE).append(
        {
            "time": utc_now(),
            "data": store.fingerprint,
            "split": split,
            "n": scores.num_faces,
            "accuracy": scores.accuracy,
        }
    )


def _read_search(best_dir: Path) -> SearchFile | None:
    """The content of `search.json` in the folder above; None where the model was taken out of its search."""
    run = Run(best_dir.resolve().parent)
    return run.read_search() if run.exists() else None


def _best_trial(search: SearchFile) -> str | None:
    return None if search.best is None else search.best.trial_id
