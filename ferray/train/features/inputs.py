"""The inputs of the trained part: features from cached views, or pictures that go through the frozen layers each time.

Both are the frozen part's output for batches of rows, so that the training loop does not know which one it uses.

Begin at `open_inputs`.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.model.classifier import FrozenPart
from ferray.model.randomness import Purpose, make_seed
from ferray.recipe import Recipe
from ferray.train.environment import Environment
from ferray.train.features.cache import Features
from ferray.train.features.key import reads_views
from ferray.train.features.pictures import prefetch, read_pictures
from ferray.train.features.view import View, make_view, open_or_compute, view_folder
from ferray.train.folds import Subset, span_rows
from ferray.train.spec import RunSpec
from ferray.train.transfer import to_device

Rows = NDArray[np.int64]
"""Positions of faces within the subset that is trained on, or validated with, counted from 0."""

VALIDATION_BATCH = 32
"""Faces that are validated at once, on each rank."""


class Inputs(Protocol):
    """The frozen part's output, shape (rows, D, H, W), on the device, for one batch of rows after the other."""

    def open_epoch(self, epoch: int, raise_if_interrupted: Callable[[], None] = lambda: None) -> None:
        """Make an epoch's training inputs ready; what is slow and may fail happens here.

        Args:
            epoch: Counted from 1.
            raise_if_interrupted: Called at least every few seconds; if it raises, the same call continues later.
        """

    def open_validation(self) -> None:
        """Make the inputs of the validation subset ready, and no others."""

    def is_ready(self, epoch: int) -> bool:
        """Whether opening an epoch is quick."""

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the training subset, of the epoch last opened; every batch must have a row."""

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Inputs of the validation subset, never altered."""


def open_inputs(spec: RunSpec, environment: Environment, *, views_of: str | None = None) -> Inputs:
    """The inputs of a run: cached features where its recipe reads views, else pictures.

    Args:
        spec: The run.
        environment: Gives the device and the feature cache.
        views_of: As for `CachedInputs`.
    """
    if reads_views(spec.recipe):
        return CachedInputs(spec, environment, views_of=views_of)
    return PictureInputs(spec, environment)


def order_batches(labels: NDArray[np.int64], *, recipe: Recipe, epoch: int) -> list[Rows]:
    """The training rows in an epoch's order, in batches for all ranks together; the last may be smaller.

    Each row comes once. With balanced sampling there are as many draws with replacement as there are rows instead: all
    classes that have rows are equally likely, and so are the rows of one class.

    Args:
        labels: The labels of the rows, shape (rows,).
        recipe: Gives the seed, the batch size and the class balance.
        epoch: Counted from 1.
    """
    generator = np.random.default_rng(make_seed(recipe.seed, Purpose.ORDER, epoch))
    if recipe.class_balance == "balanced_sampling":
        odds = 1 / np.bincount(labels)[labels]
        order = generator.choice(len(labels), size=len(labels), p=odds / odds.sum())
    else:
        order = generator.permutation(len(labels))
    return [order[begin : begin + recipe.batch_size] for begin in range(0, len(order), recipe.batch_size)]


def validation_batches(begin: int, end: int) -> list[Rows]:
    """The validation rows from `begin` to `end`, in order, in batches of `VALIDATION_BATCH`."""
    rows = np.arange(begin, end)
    return [rows[first : first + VALIDATION_BATCH] for first in range(0, len(rows), VALIDATION_BATCH)]


class CachedInputs:
    """Features from views: one for each span of rows, and a new one in each epoch where the pictures are altered.

    Args:
        spec: The run.
        environment: Gives the device and the feature cache.
        views_of: The kind of device whose views are read, `cpu` or `cuda`; None for that of the environment's own.
    """

    def __init__(self, spec: RunSpec, environment: Environment, *, views_of: str | None = None) -> None:
        self._spec, self._device, self._cache = spec, environment.torch_device, environment.cache
        self._views_of = views_of or self._device.type
        # The free convolutions of a GPU would rearrange every batch, forward and backward; a head wants it flat.
        self._is_channels_last = self._device.type == "cuda" and spec.recipe.freeze != "trunk"
        self._build_frozen = build_once(lambda: spec.build_frozen(environment.torch_device))
        self._epoch = 0
        self._opened: dict[View, Features | Tensor] = {}

    def open_epoch(self, epoch: int, raise_if_interrupted: Callable[[], None] = lambda: None) -> None:
        """Open the views of both subsets, which may be one view, and compute those that are not in the cache."""
        self._epoch = epoch
        # Validation is the shorter one: a fault shows sooner.
        wanted = [self._view(self._spec.split.validation, None), self._view(self._spec.split.train, epoch)]
        self._open(wanted, raise_if_interrupted)

    def open_validation(self) -> None:
        """Open the view of the validation subset."""
        self._open([self._view(self._spec.split.validation, None)])

    def _open(self, wanted: Sequence[View], raise_if_interrupted: Callable[[], None] = lambda: None) -> None:
        self._opened = {view: held for view, held in self._opened.items() if view in wanted}  # frees memory
        for view in wanted:
            if view not in self._opened:
                features = open_or_compute(
                    view,
                    self._spec,
                    cache=self._cache,
                    build_frozen=self._build_frozen,
                    raise_if_interrupted=raise_if_interrupted,
                )
                self._opened[view] = self._to_memory(features)

    def is_ready(self, epoch: int) -> bool:
        """Whether the training subset's view is open, or in the cache."""
        view = self._view(self._spec.split.train, epoch)
        if view in self._opened or self._cache is None:
            return view in self._opened
        try:
            return view_folder(view, self._cache).exists()
        except OSError:  # a disk that does not answer: opening the view raises the error
            return False

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the training subset's view."""
        return self._read(self._spec.split.train, self._epoch, batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Rows of the validation subset's view."""
        return self._read(self._spec.split.validation, None, batches)

    def _view(self, subset: Subset, epoch: int | None) -> View:
        return make_view(self._spec, split=subset.span, epoch=epoch, device=self._views_of)

    def _read(self, subset: Subset, epoch: int | None, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        features = self._opened[self._view(subset, epoch)]
        places = subset.rows - span_rows(self._spec.store, subset.span).start
        for rows in batches:
            if isinstance(features, Tensor):
                yield features[to_device(torch.from_numpy(places[rows]), self._device)]
            else:
                yield self._arrange(to_device(torch.from_numpy(features[places[rows]]), self._device))

    def _to_memory(self, features: Features) -> Features | Tensor:
        """The whole view on a GPU, where it leaves three quarters of the memory free; else the array itself.

        On a CPU picking rows from the file's pages takes 26 microseconds a batch, less than from a float32 copy.
        """
        if self._device.type == "cuda" and 4 * features.nbytes < torch.cuda.mem_get_info(self._device)[0]:
            return self._arrange(torch.from_numpy(np.array(features)).to(self._device))
        return np.asarray(features)

    def _arrange(self, features_BDHW: Tensor) -> Tensor:
        """The same features, channels last in memory where convolutions of a GPU follow."""
        if self._is_channels_last:
            return features_BDHW.contiguous(memory_format=torch.channels_last)
        return features_BDHW


class PictureInputs:
    """Pictures that are altered and sent through the frozen layers anew in every epoch.

    Args:
        spec: The run.
        environment: Gives the device.
    """

    def __init__(self, spec: RunSpec, environment: Environment) -> None:
        self._spec, self._device = spec, environment.torch_device
        self._build_frozen = build_once(lambda: spec.build_frozen(environment.torch_device))
        self._epoch = 0

    def open_epoch(self, epoch: int, raise_if_interrupted: Callable[[], None] = lambda: None) -> None:
        """Note the epoch: pictures are read when they are asked for."""
        self._epoch = self._spec.recipe.view_epoch(epoch)

    def open_validation(self) -> None:
        """Nothing: pictures are read when they are asked for."""

    def is_ready(self, epoch: int) -> bool:
        """Always: the first step waits only for its own pictures."""
        return True

    def train(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Altered pictures of the training subset, through the frozen layers."""
        return self._read(self._spec.split.train, self._epoch, batches)

    def validation(self, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Pictures of the validation subset, through the frozen layers."""
        return self._read(self._spec.split.validation, None, batches)

    def _read(self, subset: Subset, epoch: int | None, batches: Sequence[Rows]) -> Generator[Tensor, None, None]:
        frozen = self._build_frozen()
        store, recipe = self._spec.store, self._spec.recipe

        def read(rows: Rows) -> Tensor:
            return torch.from_numpy(read_pictures(store, subset.rows[rows], recipe=recipe, epoch=epoch))

        with closing(prefetch(batches, read)) as pictures:
            for faces in pictures:
                features_BDHW: Tensor = frozen(to_device(faces, self._device))
                yield features_BDHW


def build_once(build: Callable[[], FrozenPart]) -> Callable[[], FrozenPart]:
    """A function that builds the part at its first call, and returns the same part from then on."""
    return lru_cache(maxsize=1)(build)
