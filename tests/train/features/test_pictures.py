"""Pictures: brought to size, and made ahead without losing their order."""

import threading
from typing import Any

import numpy as np
import pytest
from fixtures.train import SmallStore, small_recipe
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ferray.augment import augment
from ferray.model.weights import Weights
from ferray.train.features import pictures
from ferray.train.features.pictures import prefetch, read_pictures, resize
from ferray.train.fit import fit


def test_a_flat_picture_keeps_its_color_at_every_size() -> None:
    face = np.full((2, 32, 32, 3), (10, 120, 250), dtype=np.uint8)
    for size_px in (16, 32, 47, 96):
        resized = resize(face, size_px)
        assert resized.shape == (2, size_px, size_px, 3)
        assert (resized == face[0, 0, 0]).all()


def test_a_picture_is_averaged_over_areas_on_its_way_down() -> None:
    chess = np.indices((8, 8)).sum(axis=0)[None, :, :, None] % 2 * np.full(3, 200)

    assert (resize(chess.astype(np.uint8), 4) == 100).all()


def test_rows_are_read_in_the_order_asked_for() -> None:
    store = SmallStore()
    faces = read_pictures(store, np.array([5, 0, 30]), recipe=small_recipe(augmentation="strong"), epoch=None)

    np.testing.assert_array_equal(faces, store.faces[[5, 0, 30]])


def test_a_face_is_altered_by_its_row_in_the_store_not_by_its_place_in_the_batch() -> None:
    store = SmallStore()
    recipe = small_recipe(augmentation="strong")
    some = read_pictures(store, np.array([5, 0, 30]), recipe=recipe, epoch=1)
    others = read_pictures(store, np.array([30, 7]), recipe=recipe, epoch=1)

    np.testing.assert_array_equal(some[2], others[0])


ALTERATIONS: list[dict[str, Any]] = [
    {"augmentation": "light"},
    {"augmentation": "standard"},
    {"augmentation": "strong"},
    {"random_erasing": 0.5},
]


@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_every_epoch_alters_every_training_face_anew_and_no_other_face(
    alteration: dict[str, Any], freeze: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made = SmallStore(48, 12), []

    def watch(faces: NDArray[np.uint8], rows: NDArray[np.int64], *, epoch: int, **how: Any) -> NDArray[np.uint8]:
        assert {name: how[name] for name in ("policy", "random_erasing")} == {
            "policy": alteration.get("augmentation", "none"),
            "random_erasing": alteration.get("random_erasing", 0.0),
        }
        altered = augment(faces, rows, epoch=epoch, **how)
        made.extend((epoch, int(row), altered[place].tobytes()) for place, row in enumerate(rows))
        return altered

    monkeypatch.setattr(pictures, "augment", watch)
    list(fit(small_recipe(freeze=freeze, epochs=3, **alteration), store, weights))

    assert sorted((epoch, row) for epoch, row, _ in made) == [(epoch, row) for epoch in (1, 2, 3) for row in range(48)]
    unaltered = np.mean([face == store.faces[row].tobytes() for _, row, face in made])
    promised = 0.5 if "random_erasing" in alteration else 0.02
    assert abs(unaltered - promised) < 0.2, "test_augment.py measures the shares themselves"
    anew = [len({face for _, row, face in made if row == own}) for own in range(48)]
    assert np.mean(anew) > (2 if "random_erasing" in alteration else 2.8)


@given(st.lists(st.integers(), max_size=12))
def test_prefetched_items_come_in_order(items: list[int]) -> None:
    assert list(prefetch(items, lambda item: 2 * item)) == [2 * item for item in items]


def test_only_a_few_items_are_prefetched() -> None:
    made: list[int] = []
    makers = prefetch(range(20), lambda item: made.append(item) or item)
    next(makers)
    makers.close()

    assert len(made) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_a_fault_in_a_thread_reaches_the_caller() -> None:
    def fail(item: int) -> int:
        raise OSError(f"item {item}")

    with pytest.raises(OSError, match="item 0"):
        list(prefetch([0, 1], fail))
