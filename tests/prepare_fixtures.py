"""Small stores made of small data sets: for the tests of what prepares them."""

import csv
from pathlib import Path

from expw_fixtures import ExpW

from ferray.data.prepare import prepare_expw, prepare_folders, skipped_file
from ferray.data.store import Store


def make(expw: ExpW, name: str = "store", **options: object) -> Store:
    settings: dict[str, object] = {"size_px": 16, "progress": False, **options}
    return prepare_expw(expw.images, expw.labels, expw.folder.parent / name, **settings)  # type: ignore[arg-type]


def make_folders(root: Path, name: str = "store", **options: object) -> Store:
    settings: dict[str, object] = {"size_px": 16, "progress": False, **options}
    return prepare_folders(root, root.parent / name, **settings)  # type: ignore[arg-type]


def read_skipped(store: Store) -> list[dict[str, str]]:
    with skipped_file(store.folder).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}
