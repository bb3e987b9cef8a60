"""Pictures from the store to the model: read by row, resized to the recipe's size, altered by its augmentation.

Begin at `read_pictures`.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ferray.augment import augment
from ferray.data.scaling import SCALING, scale_to
from ferray.data.store.reader import Store
from ferray.recipe import Recipe

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


def resize(faces: NDArray[np.uint8], size_px: int, *, rule: str = SCALING) -> NDArray[np.uint8]:
    """Square pictures, shape (faces, size, size, 3), at another size, by one of `ferray.data.scaling.RULES`."""
    if faces.shape[1] == size_px:
        return faces
    resized = np.empty((len(faces), size_px, size_px, 3), dtype=np.uint8)
    for place, face in enumerate(faces):
        resized[place] = scale_to(face, size_px, size_px, rule=rule)
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
