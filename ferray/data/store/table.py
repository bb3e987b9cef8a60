"""A store's table, `table.parquet`: one row a face, checked before anything believes it.

A parquet file of 10 kB can claim a billion rows, and repeat one long text in all of them. So rows, columns and types
are compared before any is decoded, and what is decoded is counted. Begin at `read_table`.
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

MAX_COLUMNS = 200
MAX_ROW_BYTES = 4096
"""Of a row on average, in the file and decoded; those of ferray's own have some 300."""
MAX_TEXT = 1000
"""Characters of a text."""

_FREE_BYTES = 2**20
_BATCH = 1024
_TYPES = re.compile(r"(u?int(8|16|32|64)|float|double|bool|string|large_string)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_table(file: Path, *, labels: NDArray[np.int64], splits: Sequence[str], way_out: str) -> "pandas.DataFrame":
    """Read a table that belongs to an array of faces.

    Args:
        file: The parquet file, in the store's folder.
        labels: Of the faces, in their order.
        splits: Of the faces.
        way_out: What to do about a table that is no good.

    Raises:
        DataError: It cannot be read, is larger than its rows explain, or disagrees with labels or splits.
    """
    import pandas
    import pyarrow
    from pyarrow import parquet

    def refuse(what: str) -> DataError:
        return DataError(str(file), what, way_out)

    max_bytes = _FREE_BYTES + MAX_ROW_BYTES * len(labels)
    parts, num_bytes = [], 0
    try:
        with untrusted.open_file(file, max_bytes=max_bytes, inside=file.parent) as opened:
            whole = parquet.ParquetFile(opened)
            rows, names = whole.metadata.num_rows, whole.schema_arrow.names
            if rows != len(labels):
                raise refuse(f"has {rows} rows, but there are {len(labels)} faces")
            if len(names) > MAX_COLUMNS or len(set(names)) < len(names):
                raise refuse(f"has {len(names)} columns; at most {MAX_COLUMNS} are read, each with a name of its own")
            for name, kind in zip(names, whole.schema_arrow.types, strict=True):
                if not _TYPES.fullmatch(str(kind)):
                    raise refuse(f"column {name!r} is {kind}, neither numbers nor texts")
            for part in whole.iter_batches(batch_size=_BATCH):
                num_bytes += part.nbytes
                if num_bytes > max_bytes:
                    raise refuse(f"decodes to more than {max_bytes:,} bytes, {MAX_ROW_BYTES:,} a row")
                parts.append(part)
            table: pandas.DataFrame = pyarrow.Table.from_batches(parts, whole.schema_arrow).to_pandas(
                ignore_metadata=True
            )
        _check(table, labels, splits, refuse)  # the first to decode texts
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], way_out) from error
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise refuse(f"cannot be read: {error}") from error
    return table


def _check(table: "pandas.DataFrame", labels: NDArray[np.int64], splits: Sequence[str], refuse: Any) -> None:
    """Refuse a table whose columns are not those of the faces."""
    for name in ("label", "split", "group", "sha256"):
        if name not in table:
            raise refuse(f"has no column {name!r}")
    for name in ("label", "group", "face_id"):
        if name in table and table[name].dtype.kind not in "iu":
            raise refuse(f"column {name!r} has values that are no whole numbers")
    if not np.array_equal(table["label"].to_numpy(), labels):
        raise refuse("column 'label' is not that of labels.npy")
    if list(table["split"]) != list(splits):
        raise refuse("column 'split' is not that of the manifest")
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in table["sha256"]):
        raise refuse("column 'sha256' has values that are none")
    if "source" in table and not all(isinstance(source, str) for source in table["source"]):
        raise refuse("column 'source' has values that are no text")
    for name in map(str, table):
        if table[name].dtype.kind not in "iufb":
            texts = [text for text in table[name].unique() if isinstance(text, str)]
            bad = next((text for text in [name, *texts] if len(text) > MAX_TEXT or not text.isprintable()), None)
            if bad is not None:
                raise refuse(
                    f"column {name!r} has a text of {len(bad)} characters, or of some that do not print: {bad[:80]!r}"
                )
