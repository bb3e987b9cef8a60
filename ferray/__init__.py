"""ferray: a search over training settings for image classifiers, on one laptop or a cluster.

What the commands do, as functions: `prepare` makes a `Store` of pictures, `search` searches the settings of a space and
returns a `SearchResult` of `TrialRecord`s, each with an `EpochResult` per epoch, `plan` says what a search would do,
`open` reads the folder of one, `load` returns the `Model` that it has exported, which predicts pictures, and
`fit_folder` does all of it with a folder of pictures.

Their parts: `Recipe` holds the settings of one training run, `open_store` returns a `Store`, `fit` trains a recipe on a
store, `Checkpointing` says where it keeps its checkpoints, `Environment` on which device it runs, and `Run` reads and
writes the records of a search. `FerrayError` is the base class of all errors that a user can correct. Each name is
imported when it is first used, so importing the package costs nothing. `ferray.__version__` is the version of the
installed package.

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

`docs/python.md` in the repository shows the functions at work, and `examples/` has complete programs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferray.api.folder import fit_folder
    from ferray.api.preparing import prepare
    from ferray.api.results import SearchResult, open
    from ferray.api.searching import plan, search
    from ferray.data.store.reader import Store, open_store
    from ferray.errors import FerrayError
    from ferray.predict.model import Model, load
    from ferray.recipe import Recipe
    from ferray.records.run import Run
    from ferray.records.trial import EpochResult, TrialRecord
    from ferray.train.checkpoints.writer import Checkpointing
    from ferray.train.environment import Environment
    from ferray.train.fit import fit

_NAMES = {
    "Checkpointing": "ferray.train.checkpoints.writer",
    "Environment": "ferray.train.environment",
    "EpochResult": "ferray.records.trial",
    "FerrayError": "ferray.errors",
    "Model": "ferray.predict.model",
    "Recipe": "ferray.recipe",
    "Run": "ferray.records.run",
    "SearchResult": "ferray.api.results",
    "Store": "ferray.data.store.reader",
    "TrialRecord": "ferray.records.trial",
    "fit": "ferray.train.fit",
    "fit_folder": "ferray.api.folder",
    "load": "ferray.predict.model",
    "open": "ferray.api.results",
    "open_store": "ferray.data.store.reader",
    "plan": "ferray.api.searching",
    "prepare": "ferray.api.preparing",
    "search": "ferray.api.searching",
}

__all__ = [
    "Checkpointing",
    "Environment",
    "EpochResult",
    "FerrayError",
    "Model",
    "Recipe",
    "Run",
    "SearchResult",
    "Store",
    "TrialRecord",
    "fit",
    "fit_folder",
    "load",
    "open",
    "open_store",
    "plan",
    "prepare",
    "search",
]

# The functions `fit` and `search` have the names of packages. Python binds a package's name here when it imports the
# package, and only then: after this loop nothing hides the functions, and `from ferray.search.run import run` works.
for _name in ("fit", "search"):
    importlib.import_module(f"ferray.{_name}")
    del globals()[_name]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # 20 ms, which not every import needs

        return version("ferray")
    raise AttributeError(f"module 'ferray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES, "__version__"])
