"""Fixtures of the small parts that models are tested with."""

import pytest
import torch
from train_fixtures import SmallStore, small_backbone, small_weights

from ferray.model.backbones import BACKBONES
from ferray.model.weights import Weights


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
