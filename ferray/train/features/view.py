"""Views: the frozen layers' output for each face, computed once per node.

A VGG16 trunk turns a face of 64 pixels into float16 (512, 2, 2), 4 KiB; 9,000 faces are 37 MB and take two to three
minutes on two common cores, while a head then trains on them at 10,000 faces a second. Every trial that reads the same
view maps the same file into its memory; see `ferray.train.features.cache`.

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

from ferray.errors import WeightsError
from ferray.libraries import altering_libraries, building_library
from ferray.model.backbones import find_backbone
from ferray.model.classifier import FrozenPart
from ferray.recipe import NUMBERS_VERSION, Freeze, Policy
from ferray.train.features import cache as viewcache
from ferray.train.features.cache import Features, shards
from ferray.train.features.key import view_key
from ferray.train.features.pictures import prefetch, read_pictures
from ferray.train.folds import span_rows
from ferray.train.spec import RunSpec
from ferray.train.transfer import to_device

log = logging.getLogger(__name__)

MICRO_BATCH = 32
"""Faces that go through the trunk at once, in the order of rows; fixed, since a kernel's rounding depends on it."""

PROGRESS_INTERVAL_S = 10.0
"""Seconds between two lines of progress in the log."""


@dataclass(frozen=True, kw_only=True)
class View:
    """All that decides the numbers of one set of features."""

    data: str
    """Fingerprint of the store."""
    split: str
    """`train`, `validation`, `test` or another span of rows: see `ferray.train.folds`."""
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
    """Seed of the alterations; None, as the epoch, where the pictures are not altered."""
    epoch: int | None
    random_erasing: float = 0.0
    libraries: str = ""
    """Versions of those that alter pictures or build the trunk, where that is a part of the identity."""
    numbers_version: int = NUMBERS_VERSION

    @property
    def view_id(self) -> str:
        """32 hexadecimal digits, the view's name in the cache."""
        values = dataclasses.asdict(self)
        if self.random_erasing == 0:
            del values["random_erasing"]  # views that are older than this setting keep their names
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def make_view(spec: RunSpec, *, split: str, epoch: int | None, device: str) -> View:
    """The view that a run trains on in an epoch, or validates on.

    Args:
        spec: The run.
        split: The span of its rows, from `ferray.train.folds`.
        epoch: The training epoch, counted from 1; None for validation, whose pictures are never altered.
        device: `cpu` or `cuda`, ...
    """
    assert spec.recipe.image_size is not None, "settled"
    key = view_key(spec.recipe, epoch, weights=spec.weights.fingerprint)
    libraries = ["" if key.epoch is None else altering_libraries(), building_library(key.backbone)]
    return View(
        data=spec.store.fingerprint,
        split=split,
        device=torch.device(device).type,
        libraries=", ".join(filter(None, libraries)),
        **key._asdict(),
    )


def view_folder(view: View, cache: Path) -> Path:
    """The folder of a view in a cache; it exists if the view was computed, and may be damaged."""
    return cache / "views" / view.view_id


def open_or_compute(
    view: View,
    spec: RunSpec,
    *,
    cache: Path | None,
    build_frozen: Callable[[], FrozenPart],
    raise_if_interrupted: Callable[[], None] = lambda: None,
) -> Features:
    """The features of a view, from the cache, or computed now and kept there.

    Args:
        view: The view, from `make_view`.
        spec: The run that the view was made for.
        cache: Folder of the node; None computes the same numbers in memory, as happens where the cache has no room.
        build_frozen: Returns the frozen part on its device; called only if something must be computed.
        raise_if_interrupted: Called before each micro-batch; if it raises, the finished shards stay in the cache.

    Returns:
        Shape (faces of the view, D, H, W), read-only where it comes from the cache.

    Raises:
        StorageError: The cache cannot be written.
        WeightsError: The trunk's output does not fit float16.
    """
    faces = span_rows(spec.store, view.split)
    num_faces = faces.stop - faces.start
    shape = (num_faces, *find_backbone(view.backbone).output_shape(view.image_size, view.freeze))
    compute = _ViewComputation(view, spec, build_frozen, raise_if_interrupted)
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


class _ViewComputation:
    """Runs the frozen part over faces of a view, in micro-batches of fixed size and order, and logs the progress."""

    def __init__(
        self,
        view: View,
        spec: RunSpec,
        build_frozen: Callable[[], FrozenPart],
        raise_if_interrupted: Callable[[], None],
    ) -> None:
        self._view, self._spec = view, spec
        self._build_frozen, self._raise_if_interrupted = build_frozen, raise_if_interrupted
        self._faces = span_rows(spec.store, view.split)
        self._start: tuple[float, int] | None = None  # time and finished faces at the first call
        self._logged_at = time.perf_counter()

    def __call__(self, part: slice, done: int) -> Features:
        """The features of some faces of the view.

        Args:
            part: Which faces, counted from the view's first.
            done: Faces of the view that are finished, here or in other processes.
        """
        if self._start is None:
            self._start = time.perf_counter(), done
        first = self._faces.start
        rows = np.arange(first + part.start, first + part.stop)
        batches = [rows[begin : begin + MICRO_BATCH] for begin in range(0, len(rows), MICRO_BATCH)]
        frozen = self._build_frozen()
        parts = []
        with closing(prefetch(batches, self._read)) as pictures:
            for batch, altered in zip(batches, pictures, strict=True):
                self._raise_if_interrupted()
                parts.append(frozen(to_device(torch.from_numpy(altered), frozen.mean.device)))
                self._log_progress(done + int(batch[-1]) + 1 - first - part.start)
        features: Features = torch.cat(parts).cpu().contiguous().numpy()  # a GPU is waited for once a shard
        if not np.isfinite(features).all():
            raise WeightsError(
                f"weights {self._view.weights}",
                f"the trunk's output for faces {rows[0]} to {rows[-1]} does not fit float16",
                "Check that the weights expect normalized RGB; give others with --weights",
            )
        return features

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return read_pictures(self._spec.store, rows, recipe=self._spec.recipe, epoch=self._view.epoch)

    def _log_progress(self, done: int) -> None:
        """Log a line of progress, unless the last one is recent."""
        assert self._start is not None
        now, (started_at, done_then) = time.perf_counter(), self._start
        if now - self._logged_at > PROGRESS_INTERVAL_S:
            self._logged_at = now
            total = self._faces.stop - self._faces.start
            rate = (done - done_then) / (now - started_at)
            left_s = (total - done) / rate
            log.info("features: %d of %d pictures, %.0f a second, %.0f s left", done, total, rate, left_s)
