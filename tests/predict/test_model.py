"""Predictions of an exported model for pictures in files and arrays."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import ferray
from ferray.data.prepare.photographs import crop_face
from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, DataError
from ferray.files import storage
from ferray.metrics.calibration import apply_temperature
from ferray.predict import model as module
from ferray.predict.model import Model, PictureFile, Unreadable, load
from ferray.train.checkpoints.export import load_model, predict_probabilities


@pytest.fixture
def faces(tiny_store: Store) -> NDArray[np.uint8]:
    return np.asarray(tiny_store.faces[:7])


@pytest.fixture
def files(faces: NDArray[np.uint8], tmp_path: Path) -> list[str]:
    """The faces as PNG files."""
    found = []
    for number, face in enumerate(faces):
        found.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(found[-1], face[..., ::-1])
    return found


@pytest.fixture
def model(best_dir: Path) -> Model:
    return load(best_dir)


def probabilities(model: Model, pictures: object) -> list[list[float]]:
    return [list(one.probabilities.values()) for one in model.predict(pictures)]  # type: ignore[arg-type]


def test_files_and_arrays_of_the_same_pictures_have_the_predictions_of_the_store(
    model: Model, files: list[str], faces: NDArray[np.uint8], best_dir: Path
) -> None:
    expected = predict_probabilities(load_model(best_dir), faces)
    from_files = model.predict(files)
    np.testing.assert_allclose(probabilities(model, files), expected, rtol=1e-4)
    np.testing.assert_allclose(probabilities(model, list(faces)), expected, rtol=1e-4)
    assert [one.path for one in from_files] == files
    assert [one.label for one in from_files] == [model.class_names[row.argmax()] for row in expected]
    assert from_files[0].confidence == max(from_files[0].probabilities.values())
    assert probabilities(model, files[0]) == probabilities(model, Path(files[0]))
    np.testing.assert_allclose(probabilities(model, files[0]), probabilities(model, files)[:1], rtol=1e-5)


def test_the_order_is_kept_over_many_batches(model: Model, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    together = probabilities(model, files)
    monkeypatch.setattr(module, "BATCH", 2)
    np.testing.assert_allclose(probabilities(model, files), together, rtol=1e-5)


def test_the_temperature_of_the_validation_pictures_calibrates_unless_it_is_left_out(
    best_dir: Path, tmp_path: Path, faces: NDArray[np.uint8]
) -> None:
    for file in best_dir.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    as_trained = probabilities(load(tmp_path), list(faces))
    storage.write_json(tmp_path / "calibration.json", {"temperature": 2.0})
    expected = apply_temperature(np.asarray(as_trained), 2.0)
    np.testing.assert_allclose(probabilities(load(tmp_path), list(faces)), expected, rtol=1e-5)
    assert probabilities(load(tmp_path, use_temperature=False), list(faces)) == as_trained
    for value in ('"2"', "0", "-1", "1e999", "null", "true"):
        (tmp_path / "calibration.json").write_text(f'{{"temperature": {value}}}')
        with pytest.raises(CheckpointError, match="temperature"):
            load(tmp_path)


def test_the_folder_of_a_search_stands_for_its_best_model(best_dir: Path, faces: NDArray[np.uint8]) -> None:
    assert best_dir.name == "best"
    assert probabilities(load(best_dir.parent), list(faces)) == probabilities(load(best_dir), list(faces))
    assert isinstance(ferray.load(str(best_dir)), ferray.Model)
    with pytest.raises(CheckpointError, match="no such folder"):
        load(best_dir / "nothing")


def test_what_cannot_be_read_is_named_and_skipped_or_an_error(model: Model, files: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    given = [files[0], str(tmp_path / "text.png"), str(tmp_path / "none.png"), files[1]]
    answers = list(model.predict_each(given))
    assert [isinstance(one, Unreadable) for one in answers] == [False, True, True, False]
    assert "none.png" in answers[2].path
    with pytest.raises(DataError, match=r"text\.png"):
        model.predict(given)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_picture_is_refused_with_its_shape(model: Model, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match="is not RGB of uint8"):
        model.predict(picture)


def test_a_box_is_cut_out_with_the_margin_of_training(model: Model, faces: NDArray[np.uint8], tmp_path: Path) -> None:
    size, margin = faces.shape[1], model.loaded.preprocessing.margin
    border = round(size * margin)
    assert border > 0
    photograph = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    top, left = 60, 100
    whole = size + 2 * border  # what the network sees of it, at its own scale
    inner = photograph[top - border : top - border + whole, left - border : left - border + whole]
    cv2.imwrite(str(tmp_path / "photograph.png"), photograph[..., ::-1])
    box = module.Box(left=left, top=top, right=left + size, bottom=top + size)
    (answer,) = model.predict_each([PictureFile(str(tmp_path / "photograph.png"), box)])
    assert not isinstance(answer, Unreadable)
    (expected,) = model.predict(inner)
    assert list(answer.probabilities.values()) == pytest.approx(list(expected.probabilities.values()), rel=1e-4)
    assert answer.box == box


def test_a_picture_is_cut_in_the_size_of_the_store_before_it_gets_the_size_of_the_network(
    best_dir: Path, tiny_store: Store, tmp_path: Path
) -> None:
    for file in best_dir.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    values = storage.read_json(tmp_path / "preprocessing.json")
    storage.write_json(tmp_path / "preprocessing.json", values | {"crop_px": 12})
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    cropped, _ = crop_face(picture[..., ::-1], None, size_px=12, margin=0.0)
    expected = predict_probabilities(load_model(tmp_path), cropped[None])

    np.testing.assert_allclose(probabilities(load(tmp_path), picture), expected, rtol=1e-4)
    del values["crop_px"]  # as earlier versions wrote it
    storage.write_json(tmp_path / "preprocessing.json", values)
    assert load(tmp_path).loaded.preprocessing.crop_px == values["size_px"]
    for crop_px in (0, "12", 10**9, None):
        storage.write_json(tmp_path / "preprocessing.json", values | {"crop_px": crop_px})
        with pytest.raises(CheckpointError, match="crop_px"):
            load(tmp_path)


def test_a_link_that_is_named_may_lead_to_another_folder(model: Model, files: list[str], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "link.png").symlink_to(files[0])
    assert probabilities(model, tmp_path / "more" / "link.png") == probabilities(model, files[0])
