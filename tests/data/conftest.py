"""Small data sets on disk, each test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from expw_fixtures import ExpW, encode


@pytest.fixture
def expw(tmp_path: Path) -> ExpW:
    return ExpW(tmp_path / "expw")


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Make a tree of 48x40 photographs: folder to number of photographs."""

    def make(folders: dict[str, int], suffix: str = ".png") -> Path:
        root = tmp_path / "tree"
        seed = 0
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed += 1
                (root / folder / f"{number}{suffix}").write_bytes(encode(seed, suffix))
        return root

    return make
