"""Augmentation: pure, scaled by its strength, and named as recipes name it."""

import functools
import itertools
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ferray.augment import POLICIES, augment, compose, erase, seed_by_place
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


SHARES = {
    "light": (0.5, 0.9, 0.6),
    "standard": (0.5, 0.9, 0.6, 0.3, 0.3, 0.2),
    "strong": (0.5, 0.9, 0.6, 0.3, 0.4, 0.2, 0.2, 0.3, 0.5),
}
"""How often each transform of a policy is applied, from strength 1 on, in the policy's order."""
NUM_DRAWS = 800
CHANCE = 4.5
"""Standard errors that a right share or correlation stays within; one of 150,000 does not, and seeds are fixed."""


def drawn_by(whole: Any, transforms: list[Any], *, seed: int = 1, epoch: int = 1) -> list[list[dict[str, Any]]]:
    """The parameters that each transform used for each picture; none where it was not applied."""
    drawn = []
    for sample in range(NUM_DRAWS):
        seed_by_place(whole, seed=seed, epoch=epoch, sample=sample)
        whole(image=FACES[sample % NUM_FACES])
        drawn.append([dict(transform.get_applied_params()) for transform in transforms])
    return drawn


@functools.cache
def draws_of(policy: str, **place: int) -> list[list[dict[str, Any]]]:
    transforms = POLICIES[policy](1.0)  # type: ignore[index]
    return drawn_by(compose(transforms), transforms, **place)


def numbers_of(drawn: list[list[dict[str, Any]]]) -> dict[str, NDArray[np.float64]]:
    """All numbers that were drawn, by transform and name, NaN where the transform was not applied."""
    numbers: dict[str, NDArray[np.float64]] = {}
    for sample, transforms in enumerate(drawn):
        for place, values in enumerate(transforms):
            for name, value in values.items():
                plain = {name: value}
                if name == "matrix":
                    plain = {f"matrix {row}{column}": value[row, column] for row in (0, 1) for column in (0, 1, 2)}
                for key, number in plain.items():
                    if isinstance(number, float | np.floating):
                        column_of = numbers.setdefault(f"{place} {key}", np.full(len(drawn), np.nan))
                        column_of[sample] = number
    return {name: values for name, values in numbers.items() if np.nanstd(values) > 1e-9}


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Pearson's correlation where both were drawn, in standard errors of independent draws."""
    both = ~(np.isnan(first) | np.isnan(second))
    return float(np.corrcoef(first[both], second[both])[0, 1] * np.sqrt(both.sum()))


@pytest.mark.parametrize("policy", ALTERING)
def test_each_transform_is_applied_as_often_as_its_policy_says_whatever_the_others_do(policy: str) -> None:
    applied = np.array([[bool(values) for values in drawn] for drawn in draws_of(policy)], dtype=float)
    shares = np.array(SHARES[policy])

    error = np.sqrt(shares * (1 - shares) / NUM_DRAWS)
    assert (np.abs(applied.mean(axis=0) - shares) < CHANCE * error).all()
    for first, second in itertools.combinations(range(len(shares)), 2):
        assert abs(correlation(applied[:, first], applied[:, second])) < CHANCE, (first, second)
    sets = Counter(tuple(row) for row in applied)
    for among in itertools.product((False, True), repeat=len(shares)):
        expected = NUM_DRAWS * float(np.prod(np.where(among, shares, 1 - shares)))
        assert abs(sets[tuple(map(float, among))] - expected) < CHANCE * np.sqrt(expected) + 2, among


@pytest.mark.parametrize("policy", ALTERING)
def test_what_one_transform_draws_says_nothing_about_what_another_draws(policy: str) -> None:
    numbers = numbers_of(draws_of(policy))
    transforms = {name.split()[0] for name in numbers}

    assert {"1", "2"} <= transforms, "the shift and the light"
    for first, second in itertools.combinations(numbers, 2):
        if first.split()[0] != second.split()[0]:
            assert abs(correlation(numbers[first], numbers[second])) < CHANCE, (first, second)
    brighter, factors = numbers["2 beta"] > 0, numbers["2 alpha"]
    darker = np.sort(factors[numbers["2 beta"] == 0])
    limit = {"light": 0.12, "standard": 0.2, "strong": 0.3}[policy]
    distance = np.abs((darker - (1 - limit)) / limit - np.linspace(0, 1, len(darker))).max()
    assert abs(brighter.sum() - len(darker)) < CHANCE * np.sqrt(brighter.sum() + len(darker))
    assert distance < 2 / np.sqrt(len(darker)), "Kolmogorov's distance to a uniform one; one in 1,500 is larger"


def test_the_next_epoch_seed_and_sample_draw_anew() -> None:
    here = draws_of("standard")
    applied = np.array([[bool(values) for values in drawn] for drawn in here], dtype=float)
    bright = numbers_of(here)["2 beta"]

    for place in ({"epoch": 2}, {"seed": 2}):
        there = draws_of("standard", **place)
        others = np.array([[bool(values) for values in drawn] for drawn in there], dtype=float)
        for transform in range(applied.shape[1]):
            assert abs(correlation(applied[:, transform], others[:, transform])) < CHANCE
        assert abs(correlation(bright, numbers_of(there)["2 beta"])) < CHANCE
    for transform in range(applied.shape[1]):
        assert abs(correlation(applied[:-1, transform], applied[1:, transform])) < CHANCE


def test_transforms_within_transforms_draw_for_themselves_too() -> None:
    import albumentations as a

    jitter = a.ColorJitter(p=0.5)  # has functions under the name that others have transforms under
    leaves = [a.HorizontalFlip(p=0.5), a.VerticalFlip(p=0.5), a.Transpose(p=0.5), jitter]
    nested = a.OneOf([a.Sequential(leaves[:2], p=1)], p=1)
    applied = np.array(
        [[bool(values) for values in drawn] for drawn in drawn_by(compose([nested, *leaves[2:]]), leaves)]
    )

    for first, second in itertools.combinations(applied.T.astype(float), 2):
        assert abs(correlation(first, second)) < CHANCE


@pytest.mark.parametrize("policy", ALTERING)
def test_as_many_faces_stay_as_they_are_as_no_transform_is_applied_to(policy: str) -> None:
    samples = np.arange(NUM_DRAWS)
    faces = FACES[samples % NUM_FACES]
    unchanged = (alter(faces, list(samples), policy=policy) == faces).all(axis=(1, 2, 3)).mean()
    share = float(np.prod(1 - np.array(SHARES[policy])))

    assert abs(unchanged - share) < CHANCE * np.sqrt(share / NUM_DRAWS)


@pytest.mark.parametrize(
    "policy", ["none", "strong", *(pytest.param(policy, marks=pytest.mark.slow) for policy in ("light", "standard"))]
)
def test_random_erasing_reaches_its_share_of_faces_whatever_the_policy_draws(policy: str) -> None:
    transforms = [*POLICIES[policy](1.0), erase(0.3)]
    drawn = drawn_by(compose(transforms), transforms)
    applied = np.array([[bool(values) for values in each] for each in drawn], dtype=float)
    faces, samples = FACES[np.arange(500) % NUM_FACES], list(range(500))
    before = alter(faces, samples, policy=policy)
    after = alter(faces, samples, policy=policy, random_erasing=0.3)
    reached = (before != after).any(axis=(1, 2, 3))

    assert abs(reached.mean() - 0.3) < CHANCE * np.sqrt(0.3 * 0.7 / 500)
    assert abs(applied[:, -1].mean() - 0.3) < CHANCE * np.sqrt(0.3 * 0.7 / NUM_DRAWS)
    for place in range(len(transforms) - 1):
        assert abs(correlation(applied[:, -1], applied[:, place])) < CHANCE


NUM_PARTS = 4
LEAST_KEPT = 0.5
"""The share of a face's parts that are still there after any draw of any policy."""


def parts_kept(face: NDArray[np.uint8], sample: int, **changes: object) -> float:
    """The share of a face's 4 by 4 parts without which the altered picture would be another one.

    A part counts if flattening it to its mean color changes the altered picture by at least a tenth of what it changes
    the face (root of the sum of squares); the draws are the same. So blackened, covered and shifted-out parts do not
    count, and turned, darkened, noisy and blurred ones do.
    """
    step, pictures = len(face) // NUM_PARTS, [face]
    for top, left in itertools.product(range(0, len(face), step), repeat=2):
        flattened = face.copy()
        part = flattened[top : top + step, left : left + step]
        part[:] = part.mean(axis=(0, 1)).round()
        pictures.append(flattened)
    altered = alter(np.stack(pictures), [sample] * len(pictures), **changes).astype(float)
    before = [np.linalg.norm(picture.astype(float) - face) for picture in pictures[1:]]
    after = [np.linalg.norm(picture - altered[0]) for picture in altered[1:]]
    return float(np.mean(np.array(after) >= 0.1 * np.array(before)))


@pytest.mark.parametrize(
    "policy", ["strong", *(pytest.param(policy, marks=pytest.mark.slow) for policy in ("light", "standard"))]
)
def test_at_its_strongest_a_policy_leaves_at_least_half_of_every_face_dark_or_bright(policy: str) -> None:
    random = np.random.default_rng(0)
    faces = make_faces(40) / 2 + random.integers(0, 128, (40, 8, 8, 1)).repeat(4, axis=1).repeat(4, axis=2)
    exposures = [faces / 5, faces, 255 - (255 - faces) / 5]  # mean levels of 25, 127 and 230
    kept = [
        parts_kept(face.astype(np.uint8), sample, policy=policy, strength=2.0)
        for sample, face in enumerate(np.concatenate(exposures))
    ]

    assert min(kept) >= LEAST_KEPT
    assert np.mean(kept) > 0.85


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
