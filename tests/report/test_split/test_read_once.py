import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.report import copy_store, draw_answers

from ferray.audit.score.audit import audit
from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import StorageError
from ferray.files.storage import lock
from ferray.metrics.calibration import fit_temperature
from ferray.metrics.predictions import read_predictions
from ferray.records.run import Run
from ferray.report.test_split import readings as readings_module
from ferray.report.test_split.evaluate import evaluate, predict
from ferray.report.test_split.read_once import read_test_split
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
    run.write_search(search)
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


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the test split was read")

    monkeypatch.setattr("ferray.report.test_split.evaluate.evaluate", refuse)


def test_the_one_reading_leaves_all_that_another_would_be_for(
    tiny_store: Store, best_dir: Path, tmp_path: Path
) -> None:
    run = begin(tmp_path / "grid", tiny_store, best_dir)
    before = {file.name for file in run.best_dir.iterdir()}
    metrics = read_test_split(run.best_dir, tiny_store, readings=1)
    tested, validation = (evaluate(run.best_dir, tiny_store, split) for split in ("test", "validation"))

    assert {file.name for file in run.best_dir.iterdir()} - before == LEFT
    assert json.loads((run.best_dir / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert {name: metrics[name] for name in tested.scores.to_json()} == tested.scores.to_json()
    assert metrics["temperature"] == fit_temperature(validation.labels, validation.probabilities)
    assert (metrics["data"], metrics["test_readings"]) == (tiny_store.fingerprint, 1)
    calibration = json.loads((run.best_dir / "calibration.json").read_text())
    assert sum(row["faces"] for row in calibration["before"]["bins"]) == 21
    for name in ("confusion.png", "reliability.png"):
        assert cv2.imread(str(run.best_dir / name)) is not None


def test_the_temperature_is_fitted_on_the_answers_that_a_search_has_where_it_has_some(
    tiny_store: Store, best_dir: Path, tmp_path: Path
) -> None:
    rows = np.arange(10, 40)  # of a fold
    labels, probabilities = tiny_store.labels[rows], draw_answers(30, seed=2)[1].astype(np.float32)
    run = begin(tmp_path / "grid", tiny_store, best_dir)
    metrics = read_test_split(run.best_dir, tiny_store, readings=1, validation=ValidationAnswers(rows, probabilities))

    assert metrics["temperature"] == fit_temperature(labels, probabilities)
    assert metrics["calibration"]["fitted_on"] == 30


def test_few_faces_of_a_large_validation_split_are_predicted_at_even_distances(
    tiny_store: Store, best_dir: Path
) -> None:
    everything, some = (predict(best_dir, tiny_store, "validation", most=most) for most in (None, 6))

    assert len(everything.labels) == 21
    places = [0, 4, 8, 12, 16, 20]
    assert (some.labels == everything.labels[places]).all()
    assert np.allclose(some.probabilities, everything.probabilities[places], atol=1e-6)


def test_the_answers_on_disk_give_the_same_score_to_an_audit(finished: Run) -> None:
    metrics = json.loads((finished.best_dir / "metrics.json").read_text())
    scores = audit(read_predictions(finished.best_dir / "predictions.csv")).scores

    assert scores is not None
    assert scores.values == {name: metrics[name] for name in scores.values}
    assert main(["audit", str(finished.best_dir)]) == 0


def test_the_own_test_split_is_not_read_again_unasked_and_the_recorded_score_is_shown(
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
    assert not (finished.best_dir / readings_module.READINGS).exists()
    assert main(asked) == 0
    assert "readings of this test split so far: 1" in capsys.readouterr().out
    assert main([*asked, "--predictions", "answers.csv"]) == 2


def test_a_reading_that_is_asked_for_is_on_record_in_both_places_and_counted(
    finished: Run, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]
    before = (finished.best_dir / "metrics.json").read_bytes()
    assert main([*asked, "--again"]) == 0

    readings = finished.read_search()["test_readings"]
    assert [reading["trial_id"] for reading in readings] == ["abc", "abc"]
    assert readings[1]["by"] == "evaluate --again"
    assert len((finished.best_dir / readings_module.READINGS).read_text().splitlines()) == 1
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
    assert len(finished.read_search()["test_readings"]) == 1
    assert readings_module.recorded_score(finished.best_dir, tiny_store, "test")["test_readings"] == 1  # type: ignore[index]


def test_a_folder_that_was_taken_out_of_its_search_keeps_its_seal(
    finished: Run, tiny_store: Store, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere" / "model"
    shutil.copytree(finished.best_dir, alone)

    assert readings_module.recorded_score(alone, tiny_store, "test")["test_readings"] == 1  # type: ignore[index]
    assert main(["evaluate", str(alone), "--data", str(tiny_store.folder), "--again"]) == 0
    assert readings_module.recorded_score(alone, tiny_store, "test")["test_readings"] == 2  # type: ignore[index]


def test_a_score_that_was_removed_is_missed_and_not_read_again_silently(
    finished: Run, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_reading(monkeypatch)
    (finished.best_dir / "metrics.json").unlink()

    assert main(["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]) == 2
    told = capsys.readouterr().err
    assert "2030-01-01T00:00:00+00:00 for this model" in told
    assert "--resume grid --again" in told
    finished.write_search(finished.read_search() | {"best": {"trial_id": "another"}})
    assert main(["evaluate", str(finished.best_dir), "--data", str(tiny_store.folder)]) == 2
    assert "for another model of this search" in capsys.readouterr().err


def test_while_a_search_runs_nobody_else_notes_a_reading(finished: Run, tiny_store: Store) -> None:
    with lock(finished.folder / ".lock"), pytest.raises(StorageError):
        readings_module.note_again(finished.best_dir, tiny_store)


def test_slices_come_from_the_answers_on_record(
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
    assert max(map(len, shown.splitlines()[1:])) <= 100
    assert main([*asked, str(tiny_store.folder), "--json"]) == 0
    capsys.readouterr()

    other = copy_store(tiny_store, tmp_path / "other", tiny_store.class_names)
    table = other.table.assign(source="another.jpg")
    table.to_parquet(other.folder / "table.parquet")
    assert main([*asked, str(other.folder)]) == 2
    assert "not those on the test split" in capsys.readouterr().err
