"""Trunk features: what a frozen backbone makes of each face, computed once a node.

A VGG16 trunk turns a face of 64 pixels into float16 (512, 2, 2), 4 KiB; 9,000 faces are 37 MB and take two to three
minutes of two common cores, while a head then trains on them at 10,000 faces a second. Every trial that shares the view
maps the same file; see `ferray.train.features.cache`.

Begin at `open_or_compute`.
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import WeightsError
from ferray.model.backbones import BACKBONES
from ferray.model.classifier import FrozenPart
from ferray.model.weights import Weights
from ferray.recipe import NUMBERS_VERSION, Freeze, Policy, Recipe
from ferray.train.features import cache as viewcache
from ferray.train.features.cache import Features, shards
from ferray.train.features.key import view_key
from ferray.train.features.pictures import make_ahead, read_pictures
from ferray.train.folds import span_rows

log = logging.getLogger(__name__)

MICRO_BATCH = 32
"""Faces that go through the trunk at once, in the order of rows; fixed, since a kernel's rounding depends on it."""

TELL_EVERY_S = 10.0
"""Seconds between two lines of progress in the log."""


@dataclass(frozen=True, kw_only=True)
class View:
    """All that decides the numbers of one set of features."""

    data: str
    """Fingerprint of the store."""
    split: str
    """Or another span of its rows: see `ferray.train.folds`."""
    weights: str
    """Fingerprint of the pretrained weights, or the seed of random ones."""
    backbone: str
    freeze: Freeze
    image_size: int
    precision: str
    device: str
    """`cpu` or `cuda`, which round differently."""
    policy: Policy
    strength: float
    seed: int | None
    """None, as the epoch, where nothing is altered."""
    epoch: int | None
    random_erasing: float = 0.0
    numbers_version: int = NUMBERS_VERSION

    @property
    def view_id(self) -> str:
        """32 hexadecimal digits, the view's name in the cache."""
        values = dataclasses.asdict(self)
        if self.random_erasing == 0:
            del values["random_erasing"]  # views that were made before there was any keep their names
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def make_view(recipe: Recipe, store: Store, weights: Weights, *, split: str, epoch: int | None, device: str) -> View:
    """The view that a recipe trains on in an epoch, or validates on.

    Args:
        recipe: Settled.
        store: The faces.
        weights: Of the trunk.
        split: Or another span of rows, from `ferray.train.folds`.
        epoch: To train on, counted from 1; None for validation, whose pictures are never altered.
        device: `cpu` or `cuda`, ...
    """
    assert recipe.image_size is not None, "settled"
    key = view_key(recipe, epoch, weights=weights.fingerprint)
    return View(data=store.fingerprint, split=split, device=torch.device(device).type, **key._asdict())


def view_folder(view: View, cache: Path) -> Path:
    """Where a view lies in a cache if it was made; it may be damaged."""
    return cache / "views" / view.view_id


def open_or_compute(
    view: View,
    recipe: Recipe,
    store: Store,
    *,
    build_frozen: Callable[[], FrozenPart],
    cache: Path | None,
    leave_if_asked: Callable[[], None] = lambda: None,
) -> Features:
    """The features of a view, from the cache or computed now and kept there.

    Args:
        view: From `make_view`.
        recipe: The one that the view was made of.
        store: Where the faces lie.
        build_frozen: Gives the frozen trunk on its device; called only when something must be computed.
        cache: Folder of the node; None computes the same numbers in memory, as a cache without room does.
        leave_if_asked: Called before each micro-batch; if it raises, the shards that are done stay in the cache.

    Returns:
        Shape (faces of the view, D, H, W), read-only where it comes from the cache.

    Raises:
        StorageError: The cache cannot be written.
        WeightsError: The trunk's output does not fit float16.
    """
    faces = span_rows(store, view.split)
    num_faces = faces.stop - faces.start
    shape = (num_faces, *BACKBONES[view.backbone].output_shape(view.image_size, view.freeze))
    compute = _Computation(view, recipe, store, build_frozen, leave_if_asked)
    if cache is not None:
        folder = view_folder(view, cache)
        features = viewcache.open_view(folder, shape)
        if features is not None:
            return features
        try:
            return viewcache.fill(folder, shape, facts=dataclasses.asdict(view), compute=compute)
        except viewcache.NoRoomError as error:
            log.warning("the features are computed for this run alone: %s", error)
    return np.concatenate([compute(part, part.start) for part in shards(num_faces)])


class _Computation:
    """Runs the trunk over faces of a view, in micro-batches of fixed size and order, and tells how far it is."""

    def __init__(
        self,
        view: View,
        recipe: Recipe,
        store: Store,
        build_frozen: Callable[[], FrozenPart],
        leave_if_asked: Callable[[], None],
    ) -> None:
        self._leave_if_asked = leave_if_asked
        self._view, self._recipe, self._store, self._build_frozen = view, recipe, store, build_frozen
        self._faces = span_rows(store, view.split)
        self._began: tuple[float, int] | None = None
        self._told = time.perf_counter()

    def __call__(self, part: slice, done: int) -> Features:
        """Features of some faces of the view.

        Args:
            part: Which, counted from the view's first.
            done: Faces of the view that are done, here or elsewhere.
        """
        if self._began is None:
            self._began = time.perf_counter(), done
        first = self._faces.start
        rows = np.arange(first + part.start, first + part.stop)
        batches = [rows[begin : begin + MICRO_BATCH] for begin in range(0, len(rows), MICRO_BATCH)]
        frozen = self._build_frozen()
        features = []
        with closing(make_ahead(batches, self._read)) as pictures:
            for batch, altered in zip(batches, pictures, strict=True):
                self._leave_if_asked()
                features_BDHW: Features = (
                    frozen(torch.from_numpy(altered).to(frozen.mean.device)).cpu().contiguous().numpy()
                )
                if not np.isfinite(features_BDHW).all():
                    raise WeightsError(
                        f"weights {self._view.weights}",
                        f"the trunk's output for faces {batch[0]} to {batch[-1]} does not fit float16",
                        "Check that the weights expect normalized RGB; give others with --weights",
                    )
                features.append(features_BDHW)
                self._tell(done + int(batch[-1]) + 1 - first - part.start)
        return np.concatenate(features)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return read_pictures(self._store, rows, recipe=self._recipe, epoch=self._view.epoch)

    def _tell(self, done: int) -> None:
        """A line of progress, now and then."""
        assert self._began is not None
        now, (began, done_then) = time.perf_counter(), self._began
        if now - self._told > TELL_EVERY_S:
            self._told = now
            total = self._faces.stop - self._faces.start
            rate = (done - done_then) / (now - began)
            left_s = (total - done) / rate
            log.info("features: %d of %d faces, %.0f a second, %.0f s left", done, total, rate, left_s)
