"""Counts optimizer steps, from inside the process that makes them: a byte a step in the file that `STEPS` names.

Python runs this in every process whose path has this folder. Torch is not imported here, only watched for.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

NAME = "torch.optim.optimizer"


class Finder(importlib.abc.MetaPathFinder):
    """Lets others find torch's optimizers, and hooks itself in once they are read."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As Python asks; None for every other module."""
        if fullname != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(NAME)
        if spec is None or spec.loader is None:
            return spec
        read = spec.loader.exec_module

        def read_and_hook(module: ModuleType) -> None:
            read(module)
            file = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

            def count(optimizer: Any, arguments: Any, named: Any) -> None:
                os.write(file, b".")

            module.register_optimizer_step_post_hook(count)

        spec.loader.exec_module = read_and_hook  # type: ignore[method-assign]
        return spec


if "STEPS" in os.environ:
    sys.meta_path.insert(0, Finder())
