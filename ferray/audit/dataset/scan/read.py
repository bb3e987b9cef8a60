"""Reads a data set, whatever its form on disk. Begin at `scan_dataset`."""

from pathlib import Path

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.dataset.scan.decoded import scan_csv, scan_store
from ferray.audit.dataset.scan.photographs import scan_expw, scan_folders, scan_table
from ferray.data.sources.table import is_table
from ferray.data.threads import Threads
from ferray.errors import DataError


def scan_dataset(path: Path, threads: Threads) -> ScannedDataset:
    """Read a data set, each picture once; only candidates for copies are read again.

    100,000 faces take minutes; memory holds 3 kB per face.

    Args:
        path: A store, a tree of folders, a folder with ExpW's `origin` and `label.lst`, a table of
            photographs, or FER2013's CSV file.
        threads: How the work is spread.

    Raises:
        DataError: It is none of these, or nothing in it can be used.
    """
    if path.is_file():
        return scan_table(path, threads) if is_table(path) else scan_csv(path, threads)
    if not path.is_dir():
        raise DataError(str(path), "no such file or folder", "Name a store, a tree of folders or a CSV file")
    if (path / "manifest.json").is_file():
        return scan_store(path, threads)
    if (path / "label.lst").is_file():
        return scan_expw(path / "origin", path / "label.lst", threads)
    return scan_folders(path, threads)
