"""Pictures from the store to the model: read by row, resized to the recipe's size, altered by its augmentation.

Begin at `read_pictures`.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.augment import augment
from ferray.data.store.reader import Store
from ferray.recipe import Recipe

RESIZE_FILTER = "area average down, linear up"
"""How pictures are resized, in words, for the exported model."""

PREFETCHED = 2
"""Batches that are made ready while one is used."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def read_pictures(store: Store, rows: NDArray[np.int64], *, recipe: Recipe, epoch: int | None) -> NDArray[np.uint8]:
    """Faces by row, in the recipe's size, altered.

    Args:
        store: The faces.
        rows: Rows of the store, in any order.
        recipe: Settled; gives the size, the policy, its strength, random erasing and the seed.
        epoch: The epoch of the alterations, counted from 1; None leaves the pictures unaltered, as for validation.

    Returns:
        RGB, shape (rows, size, size, 3).
    """
    assert recipe.image_size is not None, "settled"
    faces = resize(np.asarray(store.faces[rows]), recipe.image_size)
    if epoch is None:
        return faces
    return augment(
        faces,
        rows,
        policy=recipe.augmentation,
        strength=recipe.augmentation_strength,
        seed=recipe.seed,
        epoch=epoch,
        random_erasing=recipe.random_erasing,
    )


def resize(faces: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Square pictures, shape (faces, size, size, 3), at another size: averaged over areas down, linear up."""
    old_px = faces.shape[1]
    if old_px == size_px:
        return faces
    interpolation = cv2.INTER_AREA if size_px < old_px else cv2.INTER_LINEAR
    resized = np.empty((len(faces), size_px, size_px, 3), dtype=np.uint8)
    for place, face in enumerate(faces):
        cv2.resize(face, (size_px, size_px), dst=resized[place], interpolation=interpolation)
    return resized


def prefetch(items: Sequence[Item], make: Callable[[Item], Made]) -> Generator[Made, None, None]:
    """`map(make, items)`, in order; threads make the next `PREFETCHED` ones while the caller uses one.

    A caller that may stop before the end must close the generator, which ends the threads.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(max_workers=PREFETCHED, thread_name_prefix="pictures") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > PREFETCHED:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
