"""One number in a .npy file, as each annotation of AffectNet is, read without unpickling and without evaluating.

The number may be an integer, a float or a text. Begin at `read_number_file`.
"""

import re
from pathlib import Path

import numpy as np

from ferray.errors import DataError, StorageError
from ferray.files import untrusted

MAX_BYTES = 4096

_KIND = rb"[<>|=]?(?:[iu][1248]|f[248]|[US]\d{1,2})"
_HEADER = re.compile(rb"\{'descr': '(" + _KIND + rb")', 'fortran_order': (?:True|False), 'shape': \((?:1,)?\), \} *\n?")
_WAY_OUT = "Take the file as it was published"


def read_number_file(file: Path, *, inside: Path) -> float | None:
    """The number in a file; None where it is a text that is no number.

    Raises:
        DataError: It cannot be read, or holds no single number or text.
    """
    try:
        content = untrusted.read_bytes(file, max_bytes=MAX_BYTES, inside=inside)
    except StorageError as error:
        raise DataError(*error.args) from error
    length = int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content[10 : 10 + length])
    if content[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise DataError(str(file), "holds no single number", _WAY_OUT)
    kind, data = np.dtype(header[1].decode()), content[10 + length :]
    if kind.itemsize != len(data) or not data:
        raise DataError(str(file), f"holds {len(data)} bytes of {header[1].decode()}, not one number or text", _WAY_OUT)
    try:
        value = np.frombuffer(data, dtype=kind)[0]
        return float(value.decode("ascii") if isinstance(value, bytes) else value)
    except ValueError:  # a text that is no number, or no text
        return None
