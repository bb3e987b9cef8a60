"""Augmentation: policies that alter training pictures. An altered picture is a pure function of its place.

A policy has a strength: 0 leaves the pictures unchanged, 1 is the policy as defined, and more than 1 exceeds it. With
any batches, order and threads, the same (policy, strength, seed, epoch, sample) gives the same bytes. Random erasing
comes after the policy and does not change the rest of the picture. Each transform draws from generators of its own, so
what one does says nothing about what another does. On one core of a common processor `standard` alters about 5,000
faces of 64 pixels a second.

To add a policy, write one function, add it to `POLICIES` and its name to `ferray.recipe.Policy`. Begin at `augment`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.recipe import Policy

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
"""Without it, importing albumentations looks for a new version over the network."""


def augment(
    faces: NDArray[np.uint8],
    indices: Sequence[int] | NDArray[np.int64],
    *,
    policy: Policy,
    strength: float,
    seed: int,
    epoch: int,
    random_erasing: float = 0.0,
) -> NDArray[np.uint8]:
    """Altered copies of faces.

    Args:
        faces: RGB, shape (faces, size, size, 3).
        indices: A number for each face that identifies it: its row in the store.
        policy: Name in `POLICIES`.
        strength: At least 0; scales ranges and, up to 1, how often a change happens.
        seed: The recipe's seed.
        epoch: Counted from 1.
        random_erasing: The probability of a rectangle over a picture, in [0, 1].

    Returns:
        New pictures of the same shape; the faces themselves where neither the policy nor random erasing changes them.
    """
    transforms = POLICIES[policy](strength) if policy != "none" and strength > 0 else []
    if random_erasing > 0:
        transforms.append(erase(random_erasing))
    if not transforms:
        return faces
    transform = compose(transforms)
    altered = np.empty_like(faces)
    for place, sample in enumerate(indices):
        seed_by_place(transform, seed=seed, epoch=epoch, sample=int(sample))
        altered[place] = transform(image=faces[place])["image"]
    return altered


def compose(transforms: Sequence[Any]) -> Any:
    """Transforms as one, which applies them in turn; `seed_by_place` gives it its draws."""
    import albumentations

    return albumentations.Compose(transforms)


def seed_by_place(transform: Any, *, seed: int, epoch: int, sample: int) -> None:
    """Make the next picture's draws a function of its place, and those of each transform independent of the others'.

    `set_random_seed` of the whole would give all transforms the same seed: each would compare the same number with its
    own probability, and take its parameters from the same numbers. A seed for each, by its place in the policy, also
    keeps the draws of the first ones if others are added after them.

    Args:
        transform: From `compose`; transforms in it may hold others, as `OneOf` does.
        seed: The recipe's seed.
        epoch: Counted from 1.
        sample: The picture's row in the store.
    """
    parts = list(_parts(transform))
    # Not Compose(seed=...): that depends on how many pictures the object has seen, and in which process.
    seeds = np.random.SeedSequence([seed, epoch, sample]).generate_state(len(parts), np.uint64)
    for part, own in zip(parts, seeds.tolist(), strict=True):
        part.set_random_seed(own)  # numpy's generator and Python's; it also reaches what the part holds, which follows


def _parts(transform: Any) -> Iterator[Any]:
    """All transforms within one that holds others, each before those that it holds itself."""
    from albumentations import BaseCompose

    for part in transform.transforms:
        yield part
        if isinstance(part, BaseCompose):  # others, as ColorJitter, have functions under the same name
            yield from _parts(part)


def light(strength: float) -> list[Any]:
    """Mirroring, small turns and shifts, slight changes of brightness: like a second photograph of the same moment."""
    return [_mirror(strength), _move(strength, turn_deg=8, zoom=0.06, shift=0.04), _relight(strength, 0.12)]


def standard(strength: float) -> list[Any]:
    """Light's changes with wider ranges, and gamma, color and blur: like another camera in other light."""
    import albumentations as a

    color = 10 * strength
    return [
        _mirror(strength),
        _move(strength, turn_deg=15, zoom=0.1, shift=0.08),
        _relight(strength, 0.2),
        _gamma(strength, 0.25),
        a.HueSaturationValue(
            hue_shift_limit=color / 2, sat_shift_limit=2 * color, val_shift_limit=0, p=_often(0.3, strength)
        ),
        a.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 0.1 + 0.7 * strength), p=_often(0.2, strength)),
    ]


def strong(strength: float) -> list[Any]:
    """Standard's changes with wider ranges, and local contrast, noise and holes: poor photographs of hidden faces."""
    import albumentations as a

    color = 15 * strength
    hole = min(0.3, 0.1 + 0.12 * strength)
    return [
        _mirror(strength),
        _move(strength, turn_deg=25, zoom=0.18, shift=0.12),
        _relight(strength, 0.3),
        _gamma(strength, 0.4),
        a.HueSaturationValue(
            hue_shift_limit=color / 2, sat_shift_limit=2 * color, val_shift_limit=0, p=_often(0.4, strength)
        ),
        a.CLAHE(clip_limit=(1, 1 + 2 * strength), tile_grid_size=(4, 4), p=_often(0.2, strength)),
        a.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 0.1 + 1.2 * strength), p=_often(0.2, strength)),
        a.GaussNoise(std_range=(0, 0.08 * strength), p=_often(0.3, strength)),
        a.CoarseDropout(
            num_holes_range=(1, 2),
            hole_height_range=(0.05, hole),
            hole_width_range=(0.05, hole),
            p=_often(0.5, strength),
        ),
    ]


def erase(probability: float) -> Any:
    """A rectangle of 2 to 40 % of the picture, 0.3 to 3.3 times as wide as high, of noise.

    Source: Zhong et al., "Random Erasing Data Augmentation", 2020, algorithm 1 and section 3.2 (RE-R), with its ranges.
    """
    import albumentations as a

    return a.Erasing(scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill="random", p=probability)


def _mirror(strength: float) -> Any:
    import albumentations as a

    return a.HorizontalFlip(p=_often(0.5, strength))


def _move(strength: float, *, turn_deg: float, zoom: float, shift: float) -> Any:
    """Turn, zoom and shift at once; new pixels at the border repeat the border."""
    import albumentations as a
    import cv2

    return a.Affine(
        rotate=(-turn_deg * strength, turn_deg * strength),
        scale=(1 / (1 + zoom * strength), 1 + zoom * strength),
        translate_percent=(-shift * strength, shift * strength),
        border_mode=cv2.BORDER_REPLICATE,
        p=_often(0.9, strength),
    )


def _relight(strength: float, limit: float) -> Any:
    """Darker or brighter by up to a half, without clipping, which could blacken all of a dark face."""
    import albumentations as a

    width = min(0.5, limit * strength)
    # Safe: the levels of a picture are multiplied by a factor in [1 - width, 1], and at most what that frees is added.
    return a.RandomBrightnessContrast(
        brightness_limit=(-width, width), contrast_limit=(-width, 0), ensure_safe_range=True, p=_often(0.6, strength)
    )


def _gamma(strength: float, limit: float) -> Any:
    import albumentations as a

    largest = 1 + min(0.5, limit * strength)
    return a.RandomGamma(gamma_limit=(100 / largest, 100 * largest), p=_often(0.3, strength))


def _often(probability: float, strength: float) -> float:
    """The probability of a change: the given one from strength 1 on, proportionally less below, 0 at strength 0."""
    return probability * min(1.0, strength)


POLICIES: dict[Policy, Callable[[float], list[Any]]] = {
    "none": lambda strength: [],
    "light": light,
    "standard": standard,
    "strong": strong,
}
"""All policies of `ferray.recipe.Policy` by name: each makes transforms of a strength."""
