"""A model for the tests of what runs one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.train import small_backbone, small_recipe

from ferray.data.store.reader import Store
from ferray.model.backbones import BACKBONES
from ferray.model.weights import load_weights
from ferray.train.checkpoints.export import export_best
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit


@pytest.fixture(scope="module")
def best_dir(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small model, trained for two epochs and exported; VGG16 has few channels while these tests run."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "vgg16", small_backbone())
        recipe, weights = small_recipe(weights="none", epochs=2, learning_rate=0.01), load_weights("none", "vgg16")
        list(fit(recipe, tiny_store, weights, checkpointing=Checkpointing(folder)))
        export_best(folder / "best", checkpoints=folder, recipe=recipe, store=tiny_store, weights=weights)
        yield folder / "best"
