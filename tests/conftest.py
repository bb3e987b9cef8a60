"""Fixtures of all tests, and a clean environment for each."""

import os
from pathlib import Path

import cv2
import pytest
import torch
from fixtures.shared import set_environment
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: see `set_environment`

settings.register_profile("half", settings.get_profile("ci"), max_examples=50)

pytest_plugins = ["fixtures.data", "fixtures.exported", "fixtures.undisturbed", "fixtures.disturbed"]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No setting of the person who runs the tests reaches them, and nothing of theirs reaches that person's folders.

    A test that needs a GPU sees those that the person lets it see.
    """
    foreign = (
        ("WANDB_", "RAY_", "FERRAY_")
        if request.node.get_closest_marker("gpu")
        else ("WANDB_", "RAY_", "CUDA_", "FERRAY_")
    )
    for name in list(os.environ):
        if name.startswith(foreign):
            monkeypatch.delenv(name)
    set_environment(monkeypatch, tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors and pictures gain nothing from a second thread, and on a busy machine wait for it at every step."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder `shared` beside the repository, with real photographs and weights."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "expw" / "label.lst").exists():
        pytest.skip("the folder `shared` with photographs and weights is not beside the repository")
    return folder
