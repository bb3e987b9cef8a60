"""Fixtures of faces: a plugin of conftest.py."""

from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

from ferray.data.store import Store, StoreWriter, open_store

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def write_tiny_store(folder: Path, *, size_px: int = 32, per_class: tuple[int, int, int] = (6, 3, 3)) -> Store:
    """A store of blurred noise with one bright bar a class, at an angle that tells the class."""
    rows = [
        {"source": f"{split}-{name}-{number}.jpg", "label": label, "split": split}
        for split, count in zip(("train", "validation", "test"), per_class, strict=True)
        for label, name in enumerate(CLASSES)
        for number in range(count)
    ]
    table = pandas.DataFrame(rows).assign(group=range(len(rows)))
    generator = np.random.default_rng(0)
    with StoreWriter(folder, num_faces=len(rows), size_px=size_px) as writer:
        for row, label in enumerate(table["label"]):
            face = generator.integers(60, 140, (size_px, size_px, 3), dtype=np.uint8)
            angle = np.pi * label / len(CLASSES)
            reach = np.array([np.cos(angle), np.sin(angle)]) * size_px * 0.4
            middle = size_px / 2 + generator.uniform(-2, 2, 2)
            begin, end = (tuple(int(v) for v in middle + sign * reach) for sign in (-1, 1))
            writer.put(row, np.asarray(cv2.line(face, begin, end, (230, 220, 200), 3), dtype=np.uint8))
        writer.finish(
            table,
            class_names=CLASSES,
            dataset="demo",
            margin=0.1,
            split=None,
            seed=0,
            source_fingerprint="tiny",
            notes=(),
            skipped={},
        )
    return open_store(folder)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """42 training, 21 validation and 21 test faces of 32 pixels in seven classes."""
    return write_tiny_store(tmp_path_factory.mktemp("data") / "tiny")
