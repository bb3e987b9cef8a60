"""A store of some of another's faces, for benchmarks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter


def copy_part(store: Store, folder: Path, rows: Sequence[int] | NDArray[np.int64], *, note: str) -> Store:
    """Copy some of a store's rows, which keep their splits and groups.

    Args:
        store: Of which.
        folder: Of the new store; must not exist.
        rows: Ascending.
        note: What was done, for the manifest.
    """
    with StoreWriter(folder, num_faces=len(rows), size_px=store.size_px) as writer:
        for place, row in enumerate(rows):
            writer.put(place, np.asarray(store.faces[row]))
        writer.finish(
            store.table.iloc[rows].reset_index(drop=True),
            store.class_names,
            Provenance(
                dataset=store.manifest.dataset,
                margin=store.manifest.margin,
                source_fingerprint=store.fingerprint,
                notes=(*store.manifest.notes, note),
            ),
        )
    return open_store(folder)
