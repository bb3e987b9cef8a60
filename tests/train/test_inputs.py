"""The order of faces: every face once an epoch, in batches that all ranks agree on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from train_fixtures import small_recipe

from ferray.train.inputs import order_batches


@given(num_faces=st.integers(1, 200), batch_size=st.integers(1, 64), epoch=st.integers(1, 5))
def test_an_epoch_has_every_face_once_in_full_batches_but_the_last(num_faces: int, batch_size: int, epoch: int) -> None:
    batches = order_batches(num_faces, recipe=small_recipe(batch_size=batch_size), epoch=epoch)

    assert sorted(np.concatenate(batches)) == list(range(num_faces))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= batch_size


def test_every_epoch_and_seed_has_an_order_of_its_own_that_does_not_depend_on_the_batch_size() -> None:
    def order(epoch: int, **settings: int) -> list[int]:
        return list(np.concatenate(order_batches(50, recipe=small_recipe(**settings), epoch=epoch)))

    assert order(1) == order(1) == order(1, batch_size=3)
    assert len({tuple(order(1)), tuple(order(2)), tuple(order(1, seed=1))}) == 3
