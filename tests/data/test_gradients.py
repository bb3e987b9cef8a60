"""The nearest pictures by gradients: moved, cut, turned and mirrored ones, whatever their number."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ferray.data.copies.find import find_copies
from ferray.data.copies.gradients import NUM_GRADIENTS, NUM_NEAREST, Candidate, find_nearest
from ferray.data.copies.sketch import make_sketch, sketch_all
from ferray.data.threads import Threads

Picture = NDArray[np.uint8]
NUM = 24


def draw(seed: int) -> Picture:
    """A face of 48x48 cut from the middle of a larger picture, so that it can be framed differently: see `reframe`."""
    return reframe(seed)


def reframe(seed: int, *, across: int = 0, down: int = 0, zoom: float = 1.0, degrees: float = 0.0) -> Picture:
    generator = np.random.default_rng(seed)
    own = cv2.resize(generator.normal(0, 1, (26, 26)).astype(np.float32), (96, 96), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-2:2:96j, -2:2:96j]
    shared = 200 * np.exp(-2 * (x**2 + y**2)) - 90 * np.exp(-60 * ((abs(x) - 0.35) ** 2 + (y + 0.2) ** 2))
    gray = np.clip(shared + 22 * own + 30, 0, 255).astype(np.uint8)
    warp = cv2.getRotationMatrix2D((47.5, 47.5), degrees, zoom)
    warp[:, 2] += (across - 24, down - 24)
    face = cv2.warpAffine(gray, warp, (48, 48), flags=cv2.INTER_AREA)
    return np.repeat(np.asarray(face, dtype=np.uint8)[..., None], 3, axis=2)


REFRAMED = {
    "moved": {"across": 3, "down": -2},
    "cut": {"zoom": 1.12},
    "turned": {"degrees": 8.0},
    "moved and turned": {"across": -2, "degrees": -5.0},
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", REFRAMED)
def test_a_face_that_is_framed_differently_is_found_and_nothing_else(name: str, mirrored: bool) -> None:
    faces = [draw(seed) for seed in range(NUM)]
    copy = reframe(5, **REFRAMED[name])  # type: ignore[arg-type]
    faces.append(np.ascontiguousarray(copy[:, ::-1]) if mirrored else copy)

    sketches = sketch_all(len(faces), faces.__getitem__, Threads())
    found = find_copies(sketches, faces.__getitem__, kind="faces", threads=Threads())

    assert [(pair.places, pair.mirrored) for pair in found.pairs] == [((5, NUM), mirrored)]


def gradients_of(faces: list[Picture]) -> NDArray[np.float32]:
    return np.array([make_sketch(face).gradients for face in faces], np.float32).reshape(-1, NUM_GRADIENTS)


@pytest.mark.parametrize("num", [0, 1, 2, 3])
def test_few_pictures_are_no_problem_and_two_copies_are_each_others_nearest(num: int) -> None:
    gradients = gradients_of([reframe(1, across=place) for place in range(num)])

    found = find_nearest(gradients, np.arange(num), show_progress=False)

    assert found == [Candidate(a, b, False) for a in range(num) for b in range(a + 1, num)]


def test_each_picture_has_at_most_so_many_nearest_and_a_flat_one_has_none() -> None:
    faces = [reframe(1, across=place % 4) for place in range(12)] + [np.full((48, 48, 3), 90, dtype=np.uint8)]

    found = find_nearest(gradients_of(faces), np.arange(13), show_progress=False)

    assert 0 < len(found) <= NUM_NEAREST * 12
    assert all(12 not in (pair.first, pair.second) for pair in found)


def test_the_nearest_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = gradients_of([draw(seed % 9) if seed % 2 else reframe(seed % 9, across=2) for seed in range(NUM)])
    places = np.arange(1, NUM, 2)
    whole = find_nearest(gradients, places, show_progress=False)
    monkeypatch.setattr("ferray.data.copies.gradients._TILE", 1)

    assert find_nearest(gradients, places, show_progress=False) == whole
    assert {place for pair in whole for place in pair[:2]} <= set(places.tolist())
