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

from ferray.data.store.reader import Store
from ferray.model.classifier import FrozenPart, build_frozen
from ferray.model.randomness import Purpose, make_seed
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.train.features.cache import Features
from ferray.train.features.key import reads_views
from ferray.train.features.pictures import make_ahead, read_pictures
from ferray.train.features.view import View, make_view, open_or_compute, view_folder
from ferray.train.folds import Division, Part, span_rows

Rows = NDArray[np.int64]
"""Places of faces within the part that is trained on, or validated with, counted from 0."""


class Inputs(Protocol):
    """The frozen part's output, shape (rows, D, H, W), on the device, for one batch of rows after the other."""

    def open_epoch(self, epoch: int, leave_if_asked: Callable[[], None] = lambda: None) -> None:
        """Make an epoch's training inputs ready; what is slow and may fail happens here.

        Args:
            epoch: Counted from 1.
            leave_if_asked: Called at least every few seconds; may raise, and then the same call goes on there.
        """

    def is_ready(self, epoch: int) -> bool:
        """Whether opening an epoch is quick."""

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the training part, of the epoch last opened; none must be asked for a batch without rows."""

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the validation part, never altered."""


def open_inputs(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    division: Division,
    trunk_tensors: Callable[[], dict[str, Tensor]],
    device: torch.device,
    cache: Path | None,
) -> Inputs:
    """The inputs of a run: cached features where the recipe reads views, else pictures.

    Args:
        recipe: Settled.
        store: The faces.
        weights: Whose fingerprint names the cached features.
        division: The faces that are trained on and those that are validated with.
        trunk_tensors: Gives the trunk's tensors; called only when they are needed.
        device: Where the model lies.
        cache: Folder of the node; None keeps features in memory.
    """

    def build() -> FrozenPart:
        return build_frozen(recipe, trunk_tensors(), device=device)

    if reads_views(recipe):
        return CachedInputs(recipe, store, weights, division=division, build=build, device=device, cache=cache)
    return PictureInputs(recipe, store, division=division, build=build, device=device)


def order_batches(labels: NDArray[np.int64], *, recipe: Recipe, epoch: int) -> list[Rows]:
    """The training rows in an epoch's order, in batches for all ranks together; the last may be smaller.

    Every row once, or, with balanced sampling, as many draws with replacement as there are rows, each from any class
    that has some with equal probability, and from its rows alike.

    Args:
        labels: Of the rows, shape (rows,).
        recipe: Its seed, batch size and class balance count.
        epoch: Counted from 1.
    """
    generator = np.random.default_rng(make_seed(recipe.seed, Purpose.ORDER, epoch))
    if recipe.class_balance == "balanced_sampling":
        odds = 1 / np.bincount(labels)[labels]
        order = generator.choice(len(labels), size=len(labels), p=odds / odds.sum())
    else:
        order = generator.permutation(len(labels))
    return [order[begin : begin + recipe.batch_size] for begin in range(0, len(order), recipe.batch_size)]


class CachedInputs:
    """Features of the whole trunk, one view a split or a span; a new one each epoch where the pictures are altered."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        weights: Weights,
        *,
        division: Division,
        build: Callable[[], FrozenPart],
        device: torch.device,
        cache: Path | None,
    ) -> None:
        self._recipe, self._store, self._weights = recipe, store, weights
        self._build_frozen, self._device, self._cache = cached(build), device, cache
        self._division = division
        self._epoch = 0
        self._held: dict[View, Features | Tensor] = {}

    def open_epoch(self, epoch: int, leave_if_asked: Callable[[], None] = lambda: None) -> None:
        """Open the views of both parts, which may be one, computing those that are not in the cache."""
        self._epoch = epoch
        # The shorter one first: a fault shows sooner.
        wanted = [self._view(self._division.validation, None), self._view(self._division.train, epoch)]
        self._held = {view: held for view, held in self._held.items() if view in wanted}  # memory for the new one
        for view in wanted:
            if view not in self._held:
                features = open_or_compute(
                    view,
                    self._recipe,
                    self._store,
                    build_frozen=self._build_frozen,
                    cache=self._cache,
                    leave_if_asked=leave_if_asked,
                )
                self._held[view] = self._hold(features)

    def is_ready(self, epoch: int) -> bool:
        """Whether the training part's view is at hand, or was made before."""
        view = self._view(self._division.train, epoch)
        if view in self._held or self._cache is None:
            return view in self._held
        try:
            return view_folder(view, self._cache).exists()
        except OSError:  # a disk that does not answer: opening says so
            return False

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the training part's view."""
        return self._read(self._division.train, self._epoch, batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the validation part's view."""
        return self._read(self._division.validation, None, batches)

    def _view(self, part: Part, epoch: int | None) -> View:
        return make_view(
            self._recipe, self._store, self._weights, split=part.span, epoch=epoch, device=self._device.type
        )

    def _read(self, part: Part, epoch: int | None, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        held = self._held[self._view(part, epoch)]
        places = part.rows - span_rows(self._store, part.span).start
        for rows in batches:
            if isinstance(held, Tensor):
                yield held[send(torch.from_numpy(places[rows]), self._device)]
            else:
                yield send(torch.from_numpy(held[places[rows]]), self._device)

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
        division: Division,
        build: Callable[[], FrozenPart],
        device: torch.device,
    ) -> None:
        self._recipe, self._store, self._division = recipe, store, division
        self._build_frozen, self._device = cached(build), device
        self._epoch = 0

    def open_epoch(self, epoch: int, leave_if_asked: Callable[[], None] = lambda: None) -> None:
        """Remember the epoch: pictures are read while they are asked for."""
        self._epoch = self._recipe.view_epoch(epoch)

    def is_ready(self, epoch: int) -> bool:
        """Always: the first step does not wait for the last one's pictures."""
        return True

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Altered pictures of the training part, through the frozen layers."""
        return self._read(self._division.train, self._epoch, batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Pictures of the validation part, through the frozen layers."""
        return self._read(self._division.validation, None, batches)

    def _read(self, part: Part, epoch: int | None, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        frozen = self._build_frozen()

        def read(rows: Rows) -> Tensor:
            return torch.from_numpy(read_pictures(self._store, part.rows[rows], recipe=self._recipe, epoch=epoch))

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
