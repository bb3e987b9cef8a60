"""Small parts to train with: a store in memory, a trunk of eight channels, weights, a recipe.

Used by the tests of `ferray.model` and `ferray.train`, and by the processes that they start.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ferray.model.backbones import BACKBONES, Backbone, build_vgg_layers
from ferray.model.weights import Weights, first_tensors, load_weights
from ferray.recipe import Recipe

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class SmallStore:
    """A store in memory, with faces whose brightness tells the class; the test split must not be asked for."""

    def __init__(self, num_train: int = 24, num_validation: int = 12, *, size_px: int = 32, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        num_faces = num_train + num_validation
        self.folder = Path("small-store")
        self.labels: NDArray[np.int64] = np.arange(num_faces) % len(CLASS_NAMES)
        noise = random.integers(0, 60, (num_faces, size_px, size_px, 3))
        self.faces: NDArray[np.uint8] = (noise + 27 * self.labels[:, None, None, None]).astype(np.uint8)
        self.class_names = CLASS_NAMES
        self.size_px = size_px
        self.fingerprint = hashlib.sha256(self.faces.tobytes() + self.labels.tobytes()).hexdigest()
        self.manifest = SimpleNamespace(margin=0.25)
        self._groups: NDArray[np.int64] = np.arange(num_faces) // 2  # two faces a photograph
        self._splits = {"train": slice(0, num_train), "validation": slice(num_train, num_faces)}

    def rows(self, split: str) -> slice:
        return self._splits[split]

    def groups(self, split: str) -> NDArray[np.int64]:
        return self._groups[self.rows(split)]


def small_backbone(name: str = "vgg16") -> Backbone:
    """VGG's plan with 8 to 16 channels; a hundredth of a second a step."""
    blocks = [(8, 1), (8, 1), (8, 1), (16, 1), (16, 1)]
    with_norm = name == "vgg16_bn"
    row = BACKBONES[name]
    return Backbone(
        name=name,
        build_layers=lambda: build_vgg_layers(blocks, batch_norm=with_norm),
        block_ends=(4, 8, 12, 16, 20) if with_norm else (3, 6, 9, 12, 15),
        block_channels=(8, 8, 8, 16, 16),
        mean=row.mean,
        std=row.std,
        imagenet=row.imagenet,
    )


def small_weights(backbone: str = "vgg16", *, seed: int = 5) -> Weights:
    """Weights that stand for pretrained ones; the row of `backbone` must be the small one already."""
    tensors = first_tensors(load_weights("none", backbone), seed=seed)
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor += 0.1
        elif name.endswith("running_var"):
            tensor *= 1.5
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors.values()))
    return Weights(name="small", backbone=backbone, fingerprint=digest.hexdigest(), tensors=tensors)


def small_recipe(**settings: Any) -> Recipe:
    """A settled recipe of three short epochs."""
    usual = {"image_size": 32, "precision": "float32", "epochs": 3, "batch_size": 8, "hidden_units": 16}
    return Recipe(**(usual | settings))


def same_tensors(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same names and the same bits."""
    return some.keys() == others.keys() and all(torch.equal(tensor, others[name]) for name, tensor in some.items())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from a second thread, and on a busy machine wait for it at every step."""
    torch.set_num_threads(1)


@pytest.fixture
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both backbones with few channels, under their own names."""
    for name in ("vgg16", "vgg16_bn"):
        monkeypatch.setitem(BACKBONES, name, small_backbone(name))


@pytest.fixture
def weights(small_rows: None) -> Weights:
    """Weights of the small trunk."""
    return small_weights()


@pytest.fixture
def store() -> SmallStore:
    """24 faces to train on, 12 to validate with, 32 pixels."""
    return SmallStore()
