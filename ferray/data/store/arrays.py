"""Arrays in .npy files, mapped without a belief in what their headers say.

Who reads an array knows its shape and type already. So the header is compared with the one that it must be; it is never
evaluated, and nothing is allocated by its word. Begin at `open_array`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.errors import DataError, StorageError
from ferray.files import untrusted

_MAGIC = b"\x93NUMPY\x01\x00"
_MOST_HEADER = 1000
"""Bytes; one of an array of four dimensions has some 120."""


def open_array(file: Path, *, shape: tuple[int, ...], dtype: str, inside: Path | None = None) -> NDArray[Any]:
    """Map an array, read-only.

    Args:
        file: As numpy writes it, format 1.0.
        shape: That it must have.
        dtype: That it must have, as numpy writes it: `|u1`, `<i8`, `<f2`.
        inside: The folder that it must lie in when all links are followed; None for any.

    Raises:
        DataError: Missing, cut off, too long, or of another shape or type.
    """
    way_out = "Make it again; the file is damaged or of something else"
    size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    try:
        with untrusted.open_file(file, max_bytes=2**62, inside=inside) as opened:
            head = opened.read(10 + _MOST_HEADER)
            length = int.from_bytes(head[8:10], "little")
            wanted = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
            header = head[10 : 10 + length]
            if not head.startswith(_MAGIC) or length > _MOST_HEADER or header.rstrip(b" \n") != wanted:
                shown = repr(header[:160].rstrip(b" \n"))[2:-1]
                raise DataError(
                    str(file), f"not {dtype} of shape {shape}, but begins with {shown or 'nothing'}", way_out
                )
            has = os.fstat(opened.fileno()).st_size - 10 - length
            if has != size:
                raise DataError(str(file), f"{has:,} bytes of numbers, not {size:,}", way_out)
            return np.memmap(opened, dtype=dtype, mode="r", offset=10 + length, shape=shape)
    except StorageError as error:
        raise DataError(*error.args) from error
