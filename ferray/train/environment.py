"""Where a run takes place: its ranks, its device, and the node's feature cache."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ferray.train.ranks import ALONE, Ranks


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a run is given by the machine; the numbers are the same in each, up to rounding by device and ranks."""

    ranks: Ranks = ALONE
    """This process's rank among those that train together."""
    device: str = "cpu"
    """`cpu`, or `cuda`, `cuda:1`, ..."""
    cache: Path | None = None
    """The node's cache folder, shared by all its runs; None keeps features in memory, for one run."""

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)


LOCAL = Environment()
"""One process on the CPU, without a feature cache."""
