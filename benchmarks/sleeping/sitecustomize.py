"""Workers whose epochs sleep, for `benchmarks/simulated_nodes.py`, which puts this folder first on Python's path.

Python imports this module at the start of every process. In those that import ferray's worker, `fit` is replaced.
"""

import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

WORKER = "ferray.search.fleet.worker"


def sleep_epochs(recipe: Any, *given: Any, checkpointing: Any, is_interrupted: Any, **named: Any) -> Iterator[Any]:
    """In place of `fit`: as many epochs, each of so many seconds, with scores that differ from trial to trial."""
    from ferray.records.trial import METRIC_FIELDS, EpochResult

    seconds = float(os.environ["FERRAY_SLEEP_S"])
    for epoch in range(checkpointing.recorded_epochs + 1, recipe.epochs + 1):
        began = time.monotonic()
        time.sleep(seconds)
        is_interrupted()
        line = f"{os.getpid()} {hash(recipe)} {began:.6f} {time.monotonic():.6f}\n"
        with open(os.environ["FERRAY_SLEEP_LOG"], "a") as log:
            log.write(line)  # in one step, since it is short
        score = (hash((recipe.learning_rate, epoch)) % 1000) / 1000
        yield EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, score) | {"seconds": seconds})


class Epochs:
    """As the epochs of `fit` are used."""

    has_more = False

    def __init__(self, *given: Any, **named: Any) -> None:
        self._rows = sleep_epochs(*given, **named)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def close(self) -> None:
        """Nothing is open."""


class Finder(importlib.abc.MetaPathFinder):
    """Finds the worker's module where the others do, and has it changed after it was imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        """As of every finder."""
        if name != WORKER:
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.loader is not None
        execute = found.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            module.fit = Epochs  # type: ignore[attr-defined]

        found.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return found


sys.meta_path.insert(0, Finder())
