import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.pretended import PretendedGpu
from fixtures.report import copy_store
from fixtures.train import small_recipe

from ferray.commands.report import main
from ferray.data.store.reader import Store, open_store
from ferray.errors import CheckpointError, DataError, RecipeError
from ferray.metrics.predictions import read_predictions
from ferray.model.weights import load_weights
from ferray.report.test_split.evaluate import Evaluation, evaluate
from ferray.report.test_split.readings import READINGS_FILE
from ferray.train.fit import fit

MIXED = ("neutral", "happy", "angry", "surprise", "disgust", "sad", "fear")


@pytest.fixture(scope="module")
def tested(tiny_store: Store, best_dir: Path) -> Evaluation:
    """The model's reading of its own test split."""
    return evaluate(best_dir, tiny_store, "test")


def test_the_folder_alone_repeats_the_validation_score_of_training(tiny_store: Store, best_dir: Path) -> None:
    settings = json.loads((best_dir / "recipe.json").read_text())
    recipe = small_recipe(**settings)
    weights = load_weights("none", "vgg16")
    epochs = list(fit(recipe, tiny_store, weights))
    best = max(epochs, key=lambda row: row.val_accuracy)
    scores = evaluate(best_dir, tiny_store, "validation").scores

    assert scores.accuracy == pytest.approx(best.val_accuracy)
    assert scores.macro_f1 == pytest.approx(best.val_macro_f1)


def test_a_second_reading_is_the_same_to_the_last_digit(tiny_store: Store, best_dir: Path, tested: Evaluation) -> None:
    again = evaluate(best_dir, tiny_store, "test")

    assert again.scores.to_json() == tested.scores.to_json()
    assert again.predictions.probabilities is not None
    assert (again.predictions.probabilities == tested.predictions.probabilities).all()
    assert tested.scores.num_faces == 21
    assert (tested.predictions.labels == tiny_store.labels[tiny_store.rows("test")]).all()


def test_predictions_can_be_scored_again(tested: Evaluation) -> None:
    assert tested.predictions.probabilities is not None
    assert tested.predictions.probabilities.shape == (21, 7)
    assert tested.scores.accuracy == np.mean(tested.predictions.is_correct)


def test_classes_in_another_order_are_mapped_by_name(
    tiny_store: Store, best_dir: Path, tested: Evaluation, tmp_path: Path
) -> None:
    mixed = copy_store(tiny_store, tmp_path / "mixed", MIXED)
    done = evaluate(best_dir, mixed, "test")

    assert done.scores.to_json() == tested.scores.to_json()
    assert any("another order" in note for note in done.notes)
    assert not any("another order" in note for note in tested.notes)


def test_other_classes_are_refused_by_name(tiny_store: Store, best_dir: Path, tmp_path: Path) -> None:
    other = copy_store(tiny_store, tmp_path / "other", ("contempt", *MIXED[1:]))
    with pytest.raises(DataError, match="contempt"):
        evaluate(best_dir, other, "test")


def test_a_missing_folder_is_named_with_a_way_out(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere[\s\S]*Give the folder"):
        evaluate(tmp_path / "nowhere", tiny_store, "test")


def test_an_unknown_device_is_named(tiny_store: Store, best_dir: Path) -> None:
    with pytest.raises(RecipeError, match="gpu7"):
        evaluate(best_dir, tiny_store, "test", device="gpu7")


def test_the_notes_name_demo_faces_and_a_split_that_made_the_model(
    tiny_store: Store, best_dir: Path, tested: Evaluation
) -> None:
    assert any("demo" in note for note in tested.notes)
    assert any("optimistic" in note for note in evaluate(best_dir, tiny_store, "validation").notes)


def test_the_command_prints_the_score_as_json_and_notes_the_reading(
    tiny_store: Store, best_dir: Path, tested: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    (best_dir / READINGS_FILE).unlink(missing_ok=True)
    asked = ["evaluate", str(best_dir), "--data", str(tiny_store.folder), "--json"]

    assert main(asked) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == tested.scores.to_json() | {"data": tiny_store.fingerprint, "split": "test"}
    assert main([*asked, "--split", "validation"]) == 0
    readings = [json.loads(line) for line in (best_dir / READINGS_FILE).read_text().splitlines()]
    assert [reading["split"] for reading in readings] == ["test", "validation"]
    assert readings[0]["data"] == tiny_store.fingerprint
    assert (readings[0]["n"], readings[0]["accuracy"]) == (21, value["accuracy"])
    assert readings[0]["time"].endswith("+00:00")


def test_the_command_prints_a_table_with_baselines_and_recalls(
    tiny_store: Store, best_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(best_dir), "--data", str(tiny_store.folder)]) == 0
    shown = capsys.readouterr()
    for words in (
        "21 faces",
        "top-1 accuracy",
        "one-vs-rest accuracy",
        "binary accuracy",
        "balanced accuracy",
        "macro F1",
        "95 % interval",
        "chance: equal",
        "the best constant",
        "0.1429",
        "0.8571",
        "surprise",
    ):
        assert words in shown.out
    assert "demo faces" in shown.err
    assert max(map(len, shown.out.splitlines()[1:])) <= 80


def test_the_predictions_can_be_written_for_an_audit(
    tiny_store: Store, best_dir: Path, tested: Evaluation, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.csv"
    assert main(["evaluate", str(best_dir), "--data", str(tiny_store.folder), "--predictions", str(file)]) == 0
    table = read_predictions(file)

    assert table.predictions.probabilities is not None
    assert (table.predictions.probabilities.astype(np.float32) == tested.predictions.probabilities).all()
    assert (table.predictions.labels == tested.predictions.labels).all()
    assert table.ids == tuple(tiny_store.table["source"][tiny_store.rows("test")])


def test_a_folder_that_cannot_be_written_still_gives_the_score(
    tiny_store: Store, best_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (best_dir / READINGS_FILE).unlink(missing_ok=True)
    (best_dir / READINGS_FILE).mkdir()  # a folder in its place: refused also where root may write everywhere
    try:
        assert main(["evaluate", str(best_dir), "--data", str(tiny_store.folder)]) == 0
    finally:
        (best_dir / READINGS_FILE).rmdir()
    shown = capsys.readouterr()
    assert "not on record" in shown.err
    assert "accuracy" in shown.out


def test_the_command_exits_with_2_for_a_wrong_folder(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), "--data", str(tiny_store.folder)]) == 2
    assert "error: " in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--data", str(tmp_path / "none")]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, has_gpu, device",
    [((), True, "cuda:0"), ((), False, "cpu"), (("--device", "cpu"), True, "cpu")],
)
def test_without_a_device_a_model_is_scored_on_a_gpu_if_there_is_one(
    options: tuple[str, ...],
    has_gpu: bool,
    device: str,
    tiny_store: Store,
    best_dir: Path,
    tested: Evaluation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As training does."""
    asked: list[str] = []

    def note(*_: object, device: str, **__: object) -> Evaluation:
        asked.append(device)
        return tested

    monkeypatch.setattr("ferray.report.test_split.evaluate.evaluate", note)
    with PretendedGpu(count=int(has_gpu)):
        assert main(["evaluate", str(best_dir), "--data", str(tiny_store.folder), *options]) == 0
    assert asked == [device]


def test_a_changed_byte_of_the_split_is_found_before_it_is_scored(
    tiny_store: Store, best_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store.folder, tmp_path / "store")
    copied = open_store(tmp_path / "store")
    faces = np.load(copied.folder / "faces.npy", mmap_mode="r+")
    faces[copied.rows("test").start, 0, 0, 0] ^= 1
    faces.flush()

    with pytest.raises(DataError, match="damaged: its checksum has changed"):
        evaluate(best_dir, open_store(copied.folder), "test")
    assert evaluate(best_dir, copied, "validation").scores.num_faces > 0
