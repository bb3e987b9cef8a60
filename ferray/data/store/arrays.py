"""Arrays in .npy files, mapped without trusting their headers.

Whoever reads an array knows its shape and type already. So the header is compared with the expected one; it is never
evaluated, and it decides about no memory. Begin at `open_array`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.errors import DataError, StorageError
from ferray.files import untrusted

_MAGIC = b"\x93NUMPY\x01\x00"
_MAX_HEADER_BYTES = 1000
"""The header of an array of four dimensions has some 120 bytes."""


def open_array(file: Path, *, shape: tuple[int, ...], dtype: str, inside: Path | None = None) -> NDArray[Any]:
    """Map an array, read-only.

    Args:
        file: As numpy writes it, format 1.0.
        shape: The shape that it must have.
        dtype: The type that it must have, as numpy writes it: `|u1`, `<i8`, `<f2`.
        inside: The folder in which it must lie when all links are followed; None for any.

    Raises:
        DataError: Missing, cut off, too long, or of another shape or type.
    """
    way_out = "Make it again; the file is damaged or holds something else"
    expected_bytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    try:
        with untrusted.open_file(file, max_bytes=2**62, inside=inside) as opened:
            head = opened.read(10 + _MAX_HEADER_BYTES)
            length = int.from_bytes(head[8:10], "little")
            expected = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
            header = head[10 : 10 + length].rstrip(b" \n")
            if not head.startswith(_MAGIC) or length > _MAX_HEADER_BYTES or header != expected:
                shown = repr(header[:160])[2:-1] or "nothing"
                raise DataError(str(file), f"not {dtype} of shape {shape}, but begins with {shown}", way_out)
            num_bytes = os.fstat(opened.fileno()).st_size - 10 - length
            if num_bytes != expected_bytes:
                raise DataError(str(file), f"{num_bytes:,} bytes of numbers, not {expected_bytes:,}", way_out)
            return np.memmap(opened, dtype=dtype, mode="r", offset=10 + length, shape=shape)
    except StorageError as error:
        raise DataError(*error.args) from error
