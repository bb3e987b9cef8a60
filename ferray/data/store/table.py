"""A store's table, `table.parquet`: one row per face, checked before it is used.

A parquet file of 10 kB can claim a billion rows, and repeat one long text in all of them. So rows, columns and types
are compared before any of them is decoded, and the decoded bytes are counted. Begin at `read_table`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.errors import DataError, StorageError
from ferray.files import untrusted

if TYPE_CHECKING:
    import pandas

REQUIRED_COLUMNS = ("label", "split", "group", "sha256")
INTEGER_COLUMNS = ("label", "group", "face_id")

MAX_COLUMNS = 200
MAX_ROW_BYTES = 4096
"""Bytes of a row on average, in the file and decoded; a row of ferray's own stores has some 300."""
MAX_TEXT_CHARS = 1000

_FREE_BYTES = 2**20
_BATCH_ROWS = 1024
_TYPES = re.compile(r"(u?int(8|16|32|64)|float|double|bool|string|large_string)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_table(file: Path, *, labels: NDArray[np.int64], splits: Sequence[str], way_out: str) -> "pandas.DataFrame":
    """Read a table that belongs to an array of faces.

    Args:
        file: The parquet file, in the store's folder.
        labels: The labels of the faces, in their order.
        splits: The splits of the faces.
        way_out: What to do about a table that cannot be used.

    Raises:
        DataError: It cannot be read, is larger than its number of rows allows, or disagrees with labels or splits.
    """
    import pyarrow

    try:
        table = _decode(file, num_rows=len(labels))
        _check_columns(table)
        _check_against_faces(table, labels, splits)
        _check_texts(table)
    except _BadTableError as error:
        raise DataError(str(file), str(error), way_out) from error
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], way_out) from error
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise DataError(str(file), f"cannot be read: {error}", way_out) from error
    return table


class _BadTableError(Exception):
    """What is wrong with a table; caught in this file."""


def _decode(file: Path, *, num_rows: int) -> "pandas.DataFrame":
    """Decode a parquet file of known length; texts are decoded later, when they are used."""
    import pyarrow
    from pyarrow import parquet

    max_bytes = _FREE_BYTES + MAX_ROW_BYTES * num_rows
    batches, num_bytes = [], 0
    with untrusted.open_file(file, max_bytes=max_bytes, inside=file.parent) as opened:
        whole = parquet.ParquetFile(opened)
        _check_schema(whole, num_rows)
        for batch in whole.iter_batches(batch_size=_BATCH_ROWS):
            num_bytes += batch.nbytes
            if num_bytes > max_bytes:
                raise _BadTableError(f"decodes to more than {max_bytes:,} bytes, {MAX_ROW_BYTES:,} a row")
            batches.append(batch)
        table: pandas.DataFrame = pyarrow.Table.from_batches(batches, whole.schema_arrow).to_pandas(
            ignore_metadata=True
        )
    return table


def _check_schema(whole: Any, num_rows: int) -> None:
    """Refuse a parquet file of another length, or with columns that no store has."""
    rows, names = whole.metadata.num_rows, whole.schema_arrow.names
    if rows != num_rows:
        raise _BadTableError(f"has {rows} rows, but there are {num_rows} faces")
    if len(names) > MAX_COLUMNS or len(set(names)) < len(names):
        raise _BadTableError(f"has {len(names)} columns; at most {MAX_COLUMNS} are read, each with a name of its own")
    for name, kind in zip(names, whole.schema_arrow.types, strict=True):
        if not _TYPES.fullmatch(str(kind)):
            raise _BadTableError(f"column {name!r} is {kind}, neither numbers nor texts")


def _check_columns(table: "pandas.DataFrame") -> None:
    """Refuse a table that lacks a column, or has one with values of another kind."""
    for name in REQUIRED_COLUMNS:
        if name not in table:
            raise _BadTableError(f"has no column {name!r}")
    for name in INTEGER_COLUMNS:
        if name in table and table[name].dtype.kind not in "iu":
            raise _BadTableError(f"column {name!r} has values that are not whole numbers")
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in table["sha256"]):
        raise _BadTableError("column 'sha256' has values that are not SHA-256 digests")
    if "source" in table and not all(isinstance(source, str) for source in table["source"]):
        raise _BadTableError("column 'source' has values that are not texts")


def _check_against_faces(table: "pandas.DataFrame", labels: NDArray[np.int64], splits: Sequence[str]) -> None:
    """Refuse a table of other faces."""
    if not np.array_equal(table["label"].to_numpy(), labels):
        raise _BadTableError("column 'label' is not that of labels.npy")
    if list(table["split"]) != list(splits):
        raise _BadTableError("column 'split' is not that of the manifest")


def _check_texts(table: "pandas.DataFrame") -> None:
    """Refuse texts that are too long, or that could change what a terminal shows."""
    for name in map(str, table):
        if table[name].dtype.kind in "iufb":
            continue
        for text in [name, *(value for value in table[name].unique() if isinstance(value, str))]:
            if len(text) > MAX_TEXT_CHARS or not text.isprintable():
                what = f"a text of {len(text)} characters, or of some that do not print: {text[:80]!r}"
                raise _BadTableError(f"column {name!r} has {what}")
