import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ferray.data.demo import photographs as demo
from ferray.data.demo.cartoon import EXPRESSIONS, Person, Pose, draw_expression, draw_face, draw_person
from ferray.data.sources.expw import read_expw
from ferray.data.store.reader import open_store
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError

NUM_PHOTOGRAPHS = 40


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of demo photographs, fewer than usual."""
    folder = tmp_path_factory.mktemp("demo") / "photographs"
    demo.draw_demo(folder, num_photographs=NUM_PHOTOGRAPHS)
    return folder


@pytest.fixture(scope="module")
def made_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a demo store of fewer photographs than usual, still every class in every split."""
    cache = tmp_path_factory.mktemp("demo-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NUM_PHOTOGRAPHS", 84)
        demo.demo_store(cache)
    return cache


@pytest.fixture
def cache(made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that cache; what is made again in it is as small."""
    monkeypatch.setattr(demo, "NUM_PHOTOGRAPHS", 84)
    return Path(shutil.copytree(made_cache, tmp_path / "cache"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def draw_one(name: str, person: Person, *, intensity: float = 1.0) -> NDArray[np.uint8]:
    canvas = np.full((200, 200, 3), 128, dtype=np.uint8)
    expression = draw_expression(name, np.random.default_rng(0), intensity=intensity)
    draw_face(canvas, person, expression, Pose((100, 100), 80, roll=0, yaw=0, pitch=0))
    return canvas


@pytest.fixture
def person() -> Person:
    return replace(draw_person(np.random.default_rng(0)), style="short", beard="none", glasses="none")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(photographs: Path, tmp_path: Path) -> None:
    demo.draw_demo(tmp_path / "again", num_photographs=NUM_PHOTOGRAPHS)
    demo.draw_demo(tmp_path / "other", num_photographs=NUM_PHOTOGRAPHS, seed=1)

    assert files(tmp_path / "again") == files(photographs)
    assert not set(files(tmp_path / "other").values()) & set(files(photographs).values())


def test_fewer_photographs_are_the_first_ones_of_more(photographs: Path, tmp_path: Path) -> None:
    demo.draw_demo(tmp_path / "few", num_photographs=5)
    few, more = files(tmp_path / "few"), files(photographs)

    assert more.pop("label.lst").startswith(few.pop("label.lst"))
    assert few.items() <= more.items()


def test_every_row_is_read_as_expw_reads_it_and_every_class_is_there(photographs: Path) -> None:
    source = read_expw(photographs / "origin", photographs / "label.lst", dataset="demo")

    assert source.faults == []
    assert len(source.faces) == len((photographs / "label.lst").read_text().splitlines()) > NUM_PHOTOGRAPHS
    assert {face.label for face in source.faces} == set(range(len(CLASS_NAMES)))


def test_boxes_are_squares_inside_their_photographs(photographs: Path) -> None:
    for line in (photographs / "label.lst").read_text().splitlines():
        name, _, *numbers, _, _ = line.split()
        top, left, right, bottom = (int(number) for number in numbers)
        height, width = cv2.imread(str(photographs / "origin" / name)).shape[:2]

        assert right - left == bottom - top
        assert 70 <= right - left <= 100
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_some_labels_are_wrong_and_some_photographs_show_two_faces() -> None:
    lines = [demo.draw_photograph(number, seed=3).lines for number in range(80)]
    first = [(row.split("_")[0], CLASS_NAMES[int(row.split()[-1])]) for row, *_ in lines]

    assert 1 <= sum(drawn != label for drawn, label in first) <= 16
    assert {len(rows) for rows in lines} == {1, 2}


def test_expressions_have_expws_classes_in_expws_order() -> None:
    assert tuple(EXPRESSIONS) == CLASS_NAMES


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != "neutral"])
def test_an_expression_differs_from_all_others_and_without_intensity_from_none(name: str, person: Person) -> None:
    drawn = draw_one(name, person)
    others = {other: draw_one(other, person) for other in EXPRESSIONS if other != name}

    assert all(np.abs(drawn.astype(int) - other).mean() > 0.5 for other in others.values())
    np.testing.assert_array_equal(draw_one(name, person, intensity=0), others["neutral"])


def test_drawing_leaves_an_existing_folder_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        demo.draw_demo(tmp_path, num_photographs=1)

    assert list(tmp_path.iterdir()) == []


def test_drawing_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = demo.draw_photograph

    def draw_two(number: int, *, seed: int) -> demo.DemoPhotograph:
        if number == 2:
            raise OSError(28, "No space left on device")
        return draw(number, seed=seed)

    monkeypatch.setattr(demo, "draw_photograph", draw_two)

    with pytest.raises(StorageError, match="No space left"):
        demo.draw_demo(tmp_path / "demo", num_photographs=3)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_store_is_whole_and_says_that_it_is_a_demo(cache: Path) -> None:
    store = open_store(demo.demo_store(cache))

    assert store.is_demo
    assert 84 < store.manifest.num_faces < 120  # the size that this test asked for
    assert store.manifest.skipped == {}
    assert store.class_names == CLASS_NAMES
    assert store.size_px == demo.SIZE_PX
    assert {path.suffix for path in cache.iterdir() if path != store.folder} <= {".lock"}


def test_the_demo_store_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "draw_demo", None)  # a second drawing would fail
    before = files(cache)

    assert demo.demo_store(cache) == demo.demo_store(cache)
    assert files(cache) == before


def test_a_damaged_demo_store_is_made_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = demo.demo_store(cache)
    before = files(folder)
    (folder / "faces.npy").unlink()

    with caplog.at_level(logging.WARNING):
        assert demo.demo_store(cache) == folder
    assert files(folder) == before
    assert "made again" in caplog.text
