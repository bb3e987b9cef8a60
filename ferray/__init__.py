"""ferray: a search over training settings for image classifiers, on one laptop or a cluster.

The Python API's few names are loaded when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import Any

_NAMES = {
    "Checkpointing": "ferray.train.checkpoints.writer",
    "Environment": "ferray.train.environment",
    "FerrayError": "ferray.errors",
    "Recipe": "ferray.recipe",
    "Run": "ferray.records.run",
    "Store": "ferray.data.store.reader",
    "fit": "ferray.train.fit",
    "open_store": "ferray.data.store.reader",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'ferray' has no attribute {name!r}")
