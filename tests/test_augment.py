"""Augmentation: pure, scaled by its strength, and named as recipes name it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ferray.augment import POLICIES, augment
from ferray.recipe import Policy

NUM_FACES = 12
ALTERING = ("light", "standard", "strong")


def make_faces(num_faces: int = NUM_FACES, size: int = 32) -> NDArray[np.uint8]:
    """Smooth pictures, so that the size of a change says how far something moved."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    waves = [
        np.sin(3 * x + number) + np.cos(2 * y * (1 + channel)) for number in range(num_faces) for channel in range(3)
    ]
    faces = np.stack(waves).reshape(num_faces, 3, size, size).transpose(0, 2, 3, 1)
    return (127 + 50 * faces).clip(0, 255).astype(np.uint8)


FACES = make_faces()


def alter(faces: NDArray[np.uint8], samples: list[int], **changes: object) -> NDArray[np.uint8]:
    usual = {"policy": "strong", "strength": 1.0, "seed": 3, "epoch": 2}
    return augment(faces, samples, **(usual | changes))  # type: ignore[arg-type]


def test_policies_are_those_that_recipes_name() -> None:
    assert set(POLICIES) == set(get_args(Policy))


@pytest.mark.parametrize("policy", ALTERING)
@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(NUM_FACES)), cut=st.integers(0, NUM_FACES))
def test_a_picture_is_the_same_whatever_the_batches_and_the_order(policy: str, order: list[int], cut: int) -> None:
    whole = alter(FACES, list(range(NUM_FACES)), policy=policy)

    for part in (order[:cut], order[cut:]):
        altered = alter(FACES[part], part, policy=policy)
        np.testing.assert_array_equal(altered, whole[part])


def test_a_picture_is_the_same_whichever_thread_makes_it() -> None:
    whole = alter(FACES, list(range(NUM_FACES)))
    with ThreadPoolExecutor(max_workers=4) as pool:
        parts = list(pool.map(lambda sample: alter(FACES[[sample]], [sample]), list(range(NUM_FACES)) * 3))

    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate([whole] * 3))


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}])
@pytest.mark.parametrize("policy", ALTERING)
def test_another_seed_or_epoch_gives_another_picture(policy: str, change: dict[str, int]) -> None:
    samples = list(range(NUM_FACES))
    first, second = alter(FACES, samples, policy=policy), alter(FACES, samples, policy=policy, **change)

    assert (first != second).any(axis=(1, 2, 3)).sum() > NUM_FACES / 2


def test_equal_faces_at_different_places_are_altered_differently() -> None:
    twins = np.stack([FACES[0]] * NUM_FACES)
    altered = alter(twins, list(range(NUM_FACES)))

    assert len({face.tobytes() for face in altered}) > NUM_FACES / 2


@pytest.mark.parametrize("policy", get_args(Policy))
def test_strength_0_changes_nothing(policy: str) -> None:
    np.testing.assert_array_equal(alter(FACES, list(range(NUM_FACES)), policy=policy, strength=0.0), FACES)


def test_the_policy_none_changes_nothing_at_any_strength() -> None:
    np.testing.assert_array_equal(alter(FACES, list(range(NUM_FACES)), policy="none", strength=2.0), FACES)


@pytest.mark.parametrize("size", [32, 48, 224])
@pytest.mark.parametrize("strength", [0.01, 1.0, 2.0])
@pytest.mark.parametrize("policy", ALTERING)
def test_every_strength_gives_pictures_of_the_same_form_and_leaves_the_given_ones(
    policy: str, strength: float, size: int
) -> None:
    faces = make_faces(3, size)
    before = faces.copy()
    altered = alter(faces, [7, 8, 9], policy=policy, strength=strength)

    assert altered.shape == faces.shape
    assert altered.dtype == np.uint8
    np.testing.assert_array_equal(faces, before)


@pytest.mark.parametrize("policy, strength", [("none", 1.0), ("strong", 0.0), ("standard", 1.0)])
def test_random_erasing_covers_one_rectangle_of_what_the_policy_made(policy: str, strength: float) -> None:
    faces = make_faces(100)
    samples = list(range(100))
    before = alter(faces, samples, policy=policy, strength=strength)
    erased = alter(faces, samples, policy=policy, strength=strength, random_erasing=0.5)
    changed = (before != erased).any(axis=3)

    assert 30 < changed.any(axis=(1, 2)).sum() < 70
    for picture in changed[changed.any(axis=(1, 2))]:
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        box = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.95, "noise, now and then of the color that was there"
        assert 0.015 < box.size / picture.size < 0.43


def test_random_erasing_is_the_same_whatever_the_order_and_never_at_0() -> None:
    samples = list(range(NUM_FACES))
    whole = alter(FACES, samples, policy="none", random_erasing=1.0)
    order = samples[::-1]

    np.testing.assert_array_equal(alter(FACES[order], order, policy="none", random_erasing=1.0), whole[order])
    np.testing.assert_array_equal(alter(FACES, samples, policy="none", random_erasing=0.0), FACES)
    assert (whole != FACES).any(axis=(1, 2, 3)).all()
    assert (whole != alter(FACES, samples, policy="none", random_erasing=1.0, epoch=9)).any()


def test_stronger_policies_and_strengths_change_more() -> None:
    faces = make_faces(60)

    def change(policy: str, strength: float) -> float:
        altered = alter(faces, list(range(60)), policy=policy, strength=strength)
        return float(np.abs(altered.astype(int) - faces).mean())

    assert change("light", 1) < change("standard", 1) < change("strong", 1)
    for policy in ALTERING:
        assert 0 < change(policy, 0.5) < change(policy, 1) < change(policy, 2)


def test_albumentations_is_loaded_when_a_picture_is_altered_and_asks_no_network() -> None:
    code = (
        "import sys, os, numpy; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "import socket; socket.socket.connect = lambda *a: sys.exit('it asked the network')\n"
        "from ferray.augment import augment\n"
        "assert 'albumentations' not in sys.modules\n"
        "faces = numpy.zeros((1, 32, 32, 3), numpy.uint8)\n"
        "augment(faces, [0], policy='none', strength=1, seed=0, epoch=1)\n"
        "assert 'albumentations' not in sys.modules\n"
        "augment(faces, [0], policy='light', strength=1, seed=0, epoch=1)\n"
        "assert 'albumentations' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
