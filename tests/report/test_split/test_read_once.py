import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.report import copy_store, draw_predictions

from ferray.audit.score.audit import audit
from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, StorageError
from ferray.files.storage import lock
from ferray.metrics.calibration import fit_temperature
from ferray.metrics.predictions import read_predictions
from ferray.records.run import Run
from ferray.records.search_file import KeptTrial, TestReading, to_search_file
from ferray.report.test_split import readings as readings_module
from ferray.report.test_split.evaluate import evaluate, predict_split
from ferray.report.test_split.read_once import read_test_split
from ferray.report.test_split.recorded import read_recorded
from ferray.train.predict import ValidationAnswers

LEFT = {
    "metrics.json",
    "predictions.csv",
    "confusion.png",
    "calibration.json",
    "reliability.png",
    "slices.csv",
}


def begin(folder: Path, store: Store, best_dir: Path) -> Run:
    """A search that has just exported its best model and noted that it reads the test split."""
    run = Run(folder)
    shutil.copytree(best_dir, run.best_dir)
    search = {
        "id": "0123abcd",
        "name": "grid",
        "command": "python -m ferray.search",
        "options": {"space": "grid", "data": str(store.folder), "weights": "none", "set": [], "seed": 0},
        "weights": {"vgg16": "none"},
        "sessions": [],
        "data": {"folder": str(store.folder), "dataset": "demo", "fingerprint": store.fingerprint},
        "best": {"trial_id": "abc"},
        "test_readings": [{"time": "2030-01-01T00:00:00+00:00", "trial_id": "abc"}],
    }
    run.write_search(to_search_file(search, where=Path("search.json")))
    return run


@pytest.fixture(scope="module")
def finished_once(tiny_store: Store, best_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search whose test split was read."""
    run = begin(tmp_path_factory.mktemp("runs") / "grid", tiny_store, best_dir)
    read_test_split(run.best_dir, tiny_store, readings=1)
    return run.folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Run:
    """A copy of it."""
    shutil.copytree(finished_once, tmp_path / "runs" / "grid")
    return Run(tmp_path / "runs" / "grid")


def num_readings(best_dir: Path, store: Store) -> int:
    recorded = readings_module.recorded_score(best_dir, store, "test")
    assert recorded is not None
    return recorded.num_readings


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the test split was read")

    monkeypatch.setattr("ferray.report.test_split.evaluate.evaluate", refuse)


def test_the_one_reading_leaves_all_that_another_would_be_for(
    tiny_store: Store, best_dir: Path, tmp_path: Path
) -> None:
    run = begin(tmp_path / "grid", tiny_store, best_dir)
    before = {file.name for file in run.best_dir.iterdir()}
    recorded = read_test_split(run.best_dir, tiny_store, readings=1)
    tested, validation = (evaluate(run.best_dir, tiny_store, split) for split in ("test", "validation"))

    assert {file.name for file in run.best_dir.iterdir()} - before == LEFT
    metrics = json.loads((run.best_dir / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(recorded.to_json()))
    assert {name: metrics[name] for name in tested.scores.to_json()} == tested.scores.to_json()
    assert recorded.scores.to_json() == tested.scores.to_json()
    assert validation.predictions.probabilities is not None
    temperature = fit_temperature(validation.predictions.labels, validation.predictions.probabilities)
    assert recorded.calibration is not None
    assert metrics["temperature"] == recorded.calibration.temperature == temperature
    assert (recorded.store_fingerprint, recorded.num_readings) == (tiny_store.fingerprint, 1)
    calibration = json.loads((run.best_dir / "calibration.json").read_text())
    assert sum(row["faces"] for row in calibration["before"]["bins"]) == 21
    for name in ("confusion.png", "reliability.png"):
        assert cv2.imread(str(run.best_dir / name)) is not None


def test_the_temperature_is_fitted_on_the_predictions_that_a_search_has_where_it_has_some(
    tiny_store: Store, best_dir: Path, tmp_path: Path
) -> None:
    rows = np.arange(10, 40)  # of a fold
    labels, probabilities = tiny_store.labels[rows], draw_predictions(30, seed=2)[1].astype(np.float32)
    run = begin(tmp_path / "grid", tiny_store, best_dir)
    recorded = read_test_split(run.best_dir, tiny_store, readings=1, validation=ValidationAnswers(rows, probabilities))

    assert recorded.calibration is not None
    assert recorded.calibration.temperature == fit_temperature(labels, probabilities)
    assert recorded.calibration.fitted_on == 30


def test_few_faces_of_a_large_validation_split_are_predicted_at_even_distances(
    tiny_store: Store, best_dir: Path
) -> None:
    everything, some = (
        predict_split(best_dir, tiny_store, "validation", max_faces=num).predictions for num in (None, 6)
    )

    assert len(everything.labels) == 21
    assert everything.probabilities is not None
    assert some.probabilities is not None
    places = [0, 4, 8, 12, 16, 20]
    assert (some.labels == everything.labels[places]).all()
    assert np.allclose(some.probabilities, everything.probabilities[places], atol=1e-6)


def test_the_predictions_on_disk_give_the_same_score_to_an_audit(finished: Run) -> None:
    metrics = json.loads((finished.best_dir / "metrics.json").read_text())
    scores = audit(read_predictions(finished.best_dir / "predictions.csv")).scores

    assert scores is not None
    assert scores.values == {name: metrics[name] for name in scores.values}
    assert main(["audit", str(finished.best_dir)]) == 0


def test_the_own_test_split_is_not_read_again_unless_asked_and_the_recorded_score_is_shown(
    finished: Run, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_reading(monkeypatch)
    asked = ["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]
    assert main([*asked, "--json"]) == 0
    shown = capsys.readouterr()

    recorded = json.loads((finished.best_dir / "metrics.json").read_text())
    assert json.loads(shown.out) == recorded
    assert f"read at {recorded['read']}" in shown.err
    assert "not read again" in shown.err
    assert "demo faces" in shown.err
    assert not (finished.best_dir / readings_module.READINGS_FILE).exists()
    assert main(asked) == 0
    assert "readings of this test split so far: 1" in capsys.readouterr().out
    assert main([*asked, "--predictions", "predictions.csv"]) == 2


def test_a_reading_that_is_asked_for_is_on_record_in_both_places_and_counted(
    finished: Run, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]
    before = (finished.best_dir / "metrics.json").read_bytes()
    assert main([*asked, "--again"]) == 0

    readings = finished.read_search().test_readings
    assert [reading.trial_id for reading in readings] == ["abc", "abc"]
    assert readings[1].by == "evaluate --again"
    assert len((finished.best_dir / readings_module.READINGS_FILE).read_text().splitlines()) == 1
    assert (finished.best_dir / "metrics.json").read_bytes() == before
    capsys.readouterr()
    assert main(asked) == 0
    assert "readings of this test split so far: 2" in capsys.readouterr().out
    assert main(["audit", str(finished.best_dir)]) == 0
    assert "test-read-again" in capsys.readouterr().out


def test_another_split_and_another_store_are_free(
    finished: Run, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_store(tiny_store, tmp_path / "other", tiny_store.class_names[::-1])
    best = str(finished.best_dir)
    assert main(["evaluate", best, "--data", str(tiny_store.folder), "--split", "validation"]) == 0
    assert main(["evaluate", best, "--data", str(other.folder)]) == 0

    assert "on record" not in capsys.readouterr().err
    assert len(finished.read_search().test_readings) == 1
    assert num_readings(finished.best_dir, tiny_store) == 1


def test_a_folder_that_was_taken_out_of_its_search_keeps_its_readings(
    finished: Run, tiny_store: Store, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere" / "model"
    shutil.copytree(finished.best_dir, alone)

    assert num_readings(alone, tiny_store) == 1
    assert main(["evaluate", str(alone), "--data", str(tiny_store.folder), "--again"]) == 0
    assert num_readings(alone, tiny_store) == 2


def test_a_missing_record_of_a_score_is_an_error_and_the_split_is_not_read_again(
    finished: Run, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_reading(monkeypatch)
    (finished.best_dir / "metrics.json").unlink()

    assert main(["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]) == 2
    shown = capsys.readouterr().err
    assert "2030-01-01T00:00:00+00:00 for this model" in shown
    assert f"--resume grid --out {finished.folder.parent} --again" in shown
    finished.write_search(finished.read_search().changed(best=KeptTrial(trial_id="another")))
    assert main(["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]) == 2
    assert "for another model of this search" in capsys.readouterr().err


def test_while_a_search_runs_nobody_else_notes_a_reading(finished: Run, tiny_store: Store) -> None:
    with lock(finished.folder / ".lock"), pytest.raises(StorageError):
        readings_module.note_reading_in_search(finished.best_dir, tiny_store)


def test_a_reading_that_was_noted_before_the_lock_was_free_is_not_lost(
    finished: Run, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_lock = Run.lock

    @contextmanager
    def lock_late(self: Run) -> Iterator[None]:
        search = self.read_search()
        self.write_search(search.changed(test_readings=(*search.test_readings, TestReading(time="2030-01-02"))))
        with take_lock(self):
            yield

    monkeypatch.setattr(Run, "lock", lock_late)
    readings_module.note_reading_in_search(finished.best_dir, tiny_store)
    assert [reading.time[:10] for reading in finished.read_search().test_readings[:2]] == ["2030-01-01", "2030-01-02"]
    assert len(finished.read_search().test_readings) == 3


def test_slices_come_from_the_predictions_on_record(
    finished: Run,
    tiny_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forbid_reading(monkeypatch)
    monkeypatch.setattr("ferray.report.slices.MIN_FACES", 3)
    asked = ["slices", str(finished.best_dir), "--data"]
    assert main([*asked, str(tiny_store.folder), "--by", "label"]) == 0
    shown = capsys.readouterr().out
    assert "label" in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert main([*asked, str(tiny_store.folder), "--json"]) == 0
    capsys.readouterr()

    other = copy_store(tiny_store, tmp_path / "other", tiny_store.class_names)
    table = other.table.assign(source="another.jpg")
    table.to_parquet(other.folder / "table.parquet")
    assert main([*asked, str(other.folder)]) == 2
    assert "not for the test split" in capsys.readouterr().err


def test_a_folder_without_predictions_is_named_with_the_command_that_writes_them(
    finished: Run, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tmp_path / "alone" / "best"
    shutil.copytree(finished.best_dir, best)
    (best / "predictions.csv").unlink()
    (best / "metrics.json").unlink()
    for asked in (["slices", str(best), "--data", str(tiny_store.folder)], ["audit", str(best)]):
        assert main(asked) == 2
        assert f"evaluate {best} --data DIR --predictions {best}/predictions.csv" in capsys.readouterr().err

    data = ["--data", str(tiny_store.folder)]
    assert main(["evaluate", str(best), *data, "--predictions", f"{best}/predictions.csv"]) == 0
    assert main(["slices", str(best), *data]) == 0


def test_keys_of_other_versions_survive_reading_and_writing(finished: Run) -> None:
    file = finished.best_dir / "metrics.json"
    values = json.loads(file.read_text())
    values |= {"new": {"key": [1]}, "calibration": values["calibration"] | {"new": 1}}
    file.write_text(json.dumps(values))
    recorded = read_recorded(file)

    assert recorded is not None
    assert recorded.to_json() == values
    assert recorded.numbers.keys() == {*recorded.scores.values, "temperature"}


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 22},
        {"class_names": []},
        {"accuracy": 1.5},
        {"recall_intervals": [None] * 7},
        {"guesses": {"majority": None}},
        {"calibration": {"temperature": 1.0}},
        {"slices": {"num": 1, "worst": {}, "lowest": []}},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(finished: Run, changes: dict[str, Any]) -> None:
    file = finished.best_dir / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    with pytest.raises(CheckpointError, match="not a recorded score"):
        read_recorded(file)


def test_an_empty_class_list_in_a_record_is_refused(finished: Run) -> None:
    file = finished.best_dir / "metrics.json"
    empty = {"class_names": [], "confusion": [], "recalls": [], "recall_intervals": [], "n": 0}
    file.write_text(json.dumps(json.loads(file.read_text()) | empty))

    with pytest.raises(CheckpointError, match="class_names"):
        read_recorded(file)
