"""ferray: a search over training settings for image classifiers, on one laptop or a cluster.

The Python API has ten names. Each is imported when it is first used, so importing the package costs nothing. `Recipe`
holds the settings of one training run, `open_store` returns a `Store` of faces, `fit` trains a recipe on a store,
`Checkpointing` says where it keeps its checkpoints, `Environment` on which device it runs, `Run` reads the folder of a
search, `load` returns the `Model` that it has exported, which predicts pictures, and `FerrayError` is the base class of
all errors that a user can correct. `ferray.__version__` is the version of the installed package.

    >>> from ferray import FerrayError, Recipe
    >>> recipe = Recipe(learning_rate=3e-4, batch_size=64)
    >>> recipe.batch_size
    64

A recipe checks the values that it is given. Errors of ferray consist of a place, a fault and a way out:

    >>> from ferray.recipe import make_recipe
    >>> try:
    ...     make_recipe({"dropout": 2.5}, where="my.yaml:3")
    ... except FerrayError as error:
    ...     place, fault, way_out = error.args
    >>> place, fault
    ('my.yaml:3', 'dropout 2.5: Input should be less than 1')

`examples/` in the repository has complete programs.
"""

import importlib
from typing import Any

_NAMES = {
    "Checkpointing": "ferray.train.checkpoints.writer",
    "Environment": "ferray.train.environment",
    "FerrayError": "ferray.errors",
    "Model": "ferray.predict.model",
    "Recipe": "ferray.recipe",
    "Run": "ferray.records.run",
    "Store": "ferray.data.store.reader",
    "fit": "ferray.train.fit",
    "load": "ferray.predict.model",
    "open_store": "ferray.data.store.reader",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # 20 ms, which not every import needs

        return version("ferray")
    raise AttributeError(f"module 'ferray' has no attribute {name!r}")
