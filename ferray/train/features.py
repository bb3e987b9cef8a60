"""Trunk features: what a frozen backbone makes of each face, computed once a node.

A VGG16 trunk turns a face of 64 pixels into float16 (512, 2, 2), 4 KiB; 9,000 faces are 37 MB and take two to three
minutes of two common cores, while a head then trains on them at 10,000 faces a second. Every trial that shares the view
maps the same file.

    CACHE/views/ID/features.npy   shape (faces, channels, height, width), float16
    CACHE/views/ID/view.json      what the view is of
    CACHE/views/ID.lock           held by the one process that computes

Begin at `open_or_compute`.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ferray import storage
from ferray.data.store import Store
from ferray.errors import StorageError, WeightsError
from ferray.model.backbones import BACKBONES
from ferray.model.classifier import FrozenPart
from ferray.model.weights import Weights
from ferray.recipe import NO_WEIGHTS, NUMBERS_VERSION, Freeze, Policy, Recipe
from ferray.train.pictures import make_ahead, read_pictures

log = logging.getLogger(__name__)

MICRO_BATCH = 32
"""Faces that go through the trunk at once, in the order of rows; fixed, since a kernel's rounding depends on it."""

TELL_EVERY_S = 10.0
"""Seconds between two lines of progress in the log."""

Features = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class View:
    """All that decides the numbers of one set of features."""

    data: str
    """Fingerprint of the store."""
    split: str
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
    """None, as the epoch, where the policy alters nothing."""
    epoch: int | None
    numbers_version: int = NUMBERS_VERSION

    @property
    def view_id(self) -> str:
        """32 hexadecimal digits, the view's name in the cache."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:32]


def make_view(recipe: Recipe, store: Store, weights: Weights, *, split: str, epoch: int, device: str) -> View:
    """The view that a recipe trains on in an epoch, or validates on: only the training split is altered."""
    assert recipe.image_size is not None, "settled"
    altered = split == "train" and recipe.augmentation != "none" and recipe.augmentation_strength > 0
    pretrained = recipe.weights == "pretrained" and weights.fingerprint != NO_WEIGHTS
    return View(
        data=store.fingerprint,
        split=split,
        weights=weights.fingerprint if pretrained else f"{NO_WEIGHTS}, seed {recipe.seed}",
        backbone=recipe.backbone,
        freeze=recipe.freeze,
        image_size=recipe.image_size,
        precision=recipe.precision,
        device=torch.device(device).type,
        policy=recipe.augmentation if altered else "none",
        strength=recipe.augmentation_strength if altered else 0.0,
        seed=recipe.seed if altered else None,
        epoch=epoch if altered else None,
    )


def open_or_compute(
    view: View, recipe: Recipe, store: Store, *, build_frozen: Callable[[], FrozenPart], cache: Path | None
) -> Features:
    """The features of a view, from the cache or computed now and kept there.

    Args:
        view: From `make_view`.
        recipe: The one that the view was made of.
        store: Where the faces lie.
        build_frozen: Gives the frozen trunk on its device; called only when something must be computed.
        cache: Folder of the node; None computes the same numbers in memory.

    Returns:
        Shape (faces of the split, D, H, W), read-only where it comes from the cache.

    Raises:
        StorageError: The cache cannot be written.
        WeightsError: The trunk's output does not fit float16.
    """
    faces = store.rows(view.split)
    shape = (faces.stop - faces.start, *BACKBONES[view.backbone].output_shape(view.image_size, view.freeze))
    if cache is None:
        return np.concatenate(list(_compute(view, recipe, store, build_frozen())))
    folder = cache / "views" / view.view_id
    features = _open(folder, shape)
    if features is not None:
        return features
    log.info("view %s is not in the cache: computed here, or waited for where another process has begun", folder.name)
    with storage.lock(folder.with_suffix(".lock")):
        features = _open(folder, shape)  # another process may have computed it while we waited
        if features is None:
            with _new_folder(folder) as temporary:
                _write_array(temporary / "features.npy", shape, _compute(view, recipe, store, build_frozen()))
                storage.write_json(temporary / "view.json", dataclasses.asdict(view))
            features = _open(folder, shape)
    assert features is not None, folder
    return features


def _compute(view: View, recipe: Recipe, store: Store, frozen: FrozenPart) -> Iterator[Features]:
    """Run the trunk over the faces of a split, in micro-batches of fixed size and order."""
    faces = store.rows(view.split)
    rows = np.arange(faces.start, faces.stop)
    parts = [rows[begin : begin + MICRO_BATCH] for begin in range(0, len(rows), MICRO_BATCH)]
    begun = told = time.perf_counter()
    log.info("features of %d %s faces: computing view %s", len(rows), view.split, view.view_id)

    def read(part: NDArray[np.int64]) -> NDArray[np.uint8]:
        return read_pictures(store, part, recipe=recipe, policy=view.policy, epoch=view.epoch or 0)

    with closing(make_ahead(parts, read)) as pictures:
        for part, altered in zip(parts, pictures, strict=True):
            features_BDHW: Features = (
                frozen(torch.from_numpy(altered).to(frozen.mean.device)).cpu().contiguous().numpy()
            )
            if not np.isfinite(features_BDHW).all():
                raise WeightsError(
                    f"weights {view.weights}",
                    f"the trunk's output for faces {part[0]} to {part[-1]} does not fit float16",
                    "Check that the weights expect normalized RGB; give others with --weights",
                )
            yield features_BDHW
            now = time.perf_counter()
            if now - told > TELL_EVERY_S:
                told, done = now, int(part[-1]) + 1 - faces.start
                rate = done / (now - begun)
                left_s = (len(rows) - done) / rate
                log.info("features: %d of %d faces, %.0f a second, %.0f s left", done, len(rows), rate, left_s)


def _open(folder: Path, shape: tuple[int, ...]) -> Features | None:
    """A view in the cache; None where there is none or the file is damaged, in which case it is computed again."""
    if not (folder / "view.json").exists():
        return None
    try:
        features: Features = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        features = np.empty(0, dtype=np.float16)
    if features.shape != shape or features.dtype != np.float16:
        log.warning("%s is damaged: the view is computed again", folder)
        return None
    return features


def _write_array(file: Path, shape: tuple[int, ...], parts: Iterable[Features]) -> None:
    """An .npy file, part by part; not through a memory map, which a full disk would answer by killing the process."""
    with file.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            out.write(part.tobytes())
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, which gets its own name if the block ends well and is removed otherwise."""
    temporary: Path | None = None
    try:
        for left in folder.parent.glob(f".{folder.name}.*"):  # of a process that died: we hold the lock
            shutil.rmtree(left)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise StorageError(str(folder), what, "Free space, or name another cache folder with FERRAY_CACHE") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
