"""Scaling: one rule for every face, wherever it is scaled."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferray.data.prepare.photographs import crop_face
from ferray.data.scaling import RULES, SCALING, scale_to
from ferray.train.features.pictures import resize

PACKAGE = Path(__file__).parents[2] / "ferray"
DRAWING = "data/demo/photographs.py"
"""Scales canvases that it draws; no faces of others."""
MEASURING = {"audit/dataset/scan/pictures.py", "data/copies/gradients.py", "data/copies/sketch.py"}
"""Scale down to thumbnails alone, by averaging, to be compared and never seen."""


@pytest.mark.parametrize("size_px", [24, 48, 96, 224])
def test_a_face_has_the_same_pixels_whether_it_is_scaled_into_the_store_or_out_of_it(size_px: int) -> None:
    random = np.random.default_rng(size_px)
    photograph = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prepared, _ = crop_face(photograph, None, size_px=size_px, margin=0)

    np.testing.assert_array_equal(prepared, resize(photograph[None, ..., ::-1], size_px)[0])


def test_faces_are_resized_in_one_place() -> None:
    calls = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "resize" and ast.unparse(node.value) == "cv2"
    }

    assert calls - MEASURING == {"data/scaling.py", DRAWING}


def test_pictures_that_were_halved_come_back_with_less_error_than_by_the_earlier_rule() -> None:
    y, x = np.mgrid[0:64, 0:64]
    random = np.random.default_rng(0)
    error = dict.fromkeys(RULES, 0.0)
    for _ in range(20):
        angle, period = random.uniform(0, np.pi), random.uniform(6, 20)
        waves = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period)
        picture = (127 + 100 * waves).astype(np.uint8)
        for rule in RULES:
            back = scale_to(scale_to(picture, 32, 32), 64, 64, rule=rule)
            error[rule] += float(np.square(back.astype(float) - picture).mean())

    assert error[SCALING] < 0.9 * error["area average down, linear up"]


def test_a_picture_is_averaged_if_one_side_shrinks() -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)

    np.testing.assert_array_equal(scale_to(picture, 4, 8), cv2.resize(picture, (4, 8), interpolation=cv2.INTER_AREA))
