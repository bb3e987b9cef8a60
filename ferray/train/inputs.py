"""Where a run's inputs come from: features of a cached trunk, or pictures that go through the frozen layers each time.

Both give the same thing, the frozen part's output for batches of rows, so that the training loop does not know which.

Begin at `open_inputs`.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.data.store import Store
from ferray.model.classifier import FrozenPart, build_frozen
from ferray.model.randomness import Purpose, make_seed
from ferray.model.weights import Weights
from ferray.recipe import Policy, Recipe
from ferray.train.features import View, make_view, open_or_compute
from ferray.train.pictures import make_ahead, read_pictures
from ferray.train.viewcache import Features

Rows = NDArray[np.int64]
"""Places of faces within their split, counted from 0."""


class Inputs(Protocol):
    """The frozen part's output, shape (rows, D, H, W), on the device, for one batch of rows after the other."""

    def open_epoch(self, epoch: int) -> None:
        """Make an epoch's training inputs ready; what is slow and may fail happens here."""

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the training split, of the epoch last opened; none must be asked for a batch without rows."""

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the validation split, never altered."""


def open_inputs(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    trunk_tensors: Callable[[], dict[str, Tensor]],
    device: torch.device,
    cache: Path | None,
) -> Inputs:
    """The inputs of a run: cached where the whole trunk is frozen, or a part of it and no policy alters the pictures.

    A part's output is large, 16 KiB a face of 64 pixels after block 4, four times the trunk's, and with a policy each
    epoch has its own: not worth its room on the disk for one or two trials.

    Args:
        recipe: Settled.
        store: The faces.
        weights: Whose fingerprint names the cached features.
        trunk_tensors: Gives the trunk's tensors; called only when they are needed.
        device: Where the model lies.
        cache: Folder of the node; None keeps features in memory.
    """

    def build() -> FrozenPart:
        return build_frozen(recipe, trunk_tensors(), device=device)

    if recipe.freeze == "trunk" or (recipe.freeze != "none" and not recipe.alters_pictures):
        return CachedInputs(recipe, store, weights, build=build, device=device, cache=cache)
    return PictureInputs(recipe, store, build=build, device=device)


def order_batches(num_faces: int, *, recipe: Recipe, epoch: int) -> list[Rows]:
    """The training split's rows in an epoch's order, in batches for all ranks together; the last may be smaller."""
    order = np.random.default_rng(make_seed(recipe.seed, Purpose.ORDER, epoch)).permutation(num_faces)
    return [order[begin : begin + recipe.batch_size] for begin in range(0, num_faces, recipe.batch_size)]


class CachedInputs:
    """Features of the whole trunk, one view a split; a new one each epoch where the policy alters the pictures."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        weights: Weights,
        *,
        build: Callable[[], FrozenPart],
        device: torch.device,
        cache: Path | None,
    ) -> None:
        self._recipe, self._store, self._weights = recipe, store, weights
        self._build_frozen, self._device, self._cache = cached(build), device, cache
        self._held: dict[str, tuple[View, Features | Tensor]] = {}

    def open_epoch(self, epoch: int) -> None:
        """Open both splits' views, computing those that are not in the cache."""
        for split in ("validation", "train"):  # the shorter one first: a fault shows sooner
            view = make_view(
                self._recipe, self._store, self._weights, split=split, epoch=epoch, device=self._device.type
            )
            if split in self._held and self._held[split][0] == view:
                continue
            self._held.pop(split, None)  # a view of the epoch before; its memory is wanted
            features = open_or_compute(
                view, self._recipe, self._store, build_frozen=self._build_frozen, cache=self._cache
            )
            self._held[split] = view, self._hold(features)

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the training view."""
        return self._read("train", batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the validation view."""
        return self._read("validation", batches)

    def _read(self, split: str, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        held = self._held[split][1]
        for rows in batches:
            if isinstance(held, Tensor):
                yield held[send(torch.from_numpy(rows), self._device)]
            else:
                yield send(torch.from_numpy(held[rows]), self._device)

    def _hold(self, features: Features) -> Features | Tensor:
        """On a GPU the whole view, where it leaves three quarters of the memory free; else the array itself.

        On a CPU picking rows from the file's pages takes 26 microseconds a batch, less than from a float32 copy.
        """
        if self._device.type == "cuda" and 4 * features.nbytes < torch.cuda.mem_get_info(self._device)[0]:
            return torch.from_numpy(np.array(features)).to(self._device)
        return np.asarray(features)


class PictureInputs:
    """Pictures, altered and sent through the frozen layers in every epoch anew."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        *,
        build: Callable[[], FrozenPart],
        device: torch.device,
    ) -> None:
        self._recipe, self._store = recipe, store
        self._build_frozen, self._device = cached(build), device
        self._epoch = 0

    def open_epoch(self, epoch: int) -> None:
        """Remember the epoch: pictures are read while they are asked for."""
        self._epoch = self._recipe.view_epoch(epoch)

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Altered pictures of the training split, through the frozen layers."""
        return self._read("train", self._recipe.augmentation, batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Pictures of the validation split, through the frozen layers."""
        return self._read("validation", "none", batches)

    def _read(self, split: str, policy: Policy, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        frozen, first, epoch = self._build_frozen(), self._store.rows(split).start, self._epoch

        def read(rows: Rows) -> Tensor:
            return torch.from_numpy(
                read_pictures(self._store, first + rows, recipe=self._recipe, policy=policy, epoch=epoch)
            )

        with closing(make_ahead(batches, read)) as pictures:
            for faces in pictures:
                features_BDHW: Tensor = frozen(send(faces, self._device))
                yield features_BDHW


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; to a GPU without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def cached(build: Callable[[], FrozenPart]) -> Callable[[], FrozenPart]:
    """The same part each time, built when first asked for."""
    return lru_cache(maxsize=1)(build)
