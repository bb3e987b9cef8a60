"""Safetensors files with a checksum: tensors, facts in JSON, and one CRC-32 of both.

The header's metadata has one text, `ferray`: the checksum, a space, and the facts. The checksum covers the facts and
every tensor's name, type, shape and bytes. It detects every change of one bit, and any other damage except for one
chance in four billion. A core takes 2 ms for it where a head's 6 MB are written, and 1.1 s for the 1.6 GB of a whole
VGG16 with Adam's moments.

Begin at `write_checked` and `read_checked`.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ferray.errors import CheckpointError, StorageError
from ferray.files import storage, untrusted
from ferray.files.storage import Lease

FORMAT_VERSION = 2
"""Format 1 had no checksum."""

MAX_BYTES = 2**35
"""Largest size of a file; a whole VGG16 with Adam's moments has 1.6 GB."""

REMOVE_IT = "Remove the file; the run then starts at its first epoch"
OTHER_VERSION = "Use the version of ferray that wrote it, or remove the file: the run then starts at its first epoch"


class DamagedError(CheckpointError):
    """A checkpoint that is missing or damaged, unlike an intact one of another run or version."""


def write_checked(
    file: Path,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    lease: Lease | None = None,
    keep_previous: bool = False,
) -> None:
    """Write tensors and facts with their checksum, whole or not at all.

    Args:
        file: The file to write.
        tensors: Tensors on any device, in any memory layout.
        facts: JSON values, all numbers finite; the format is added.
        lease: As `ferray.files.storage.write_bytes`.
        keep_previous: As `ferray.files.storage.write_bytes`.

    Raises:
        FencedError: Another process holds the lease by now; nothing is changed.
        StorageError: The folder cannot be written.
    """
    portable = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT_VERSION, **facts}, allow_nan=False)
    # One text, since safetensors writes several in any order: the same content gives the same file.
    data = save(portable, metadata={"ferray": f"{_checksum(text, portable)} {text}"})
    storage.write_bytes(file, data, lease=lease, keep_previous=keep_previous)


def read_checked(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and tensors of a file that `write_checked` wrote.

    Raises:
        DamagedError: The file is missing, unreadable, or not as it was written.
        CheckpointError: The file is of another version.
    """
    try:
        with untrusted.open_file(file, max_bytes=MAX_BYTES) as opened:
            data = opened.read()
    except StorageError as error:
        raise DamagedError(error.args[0], error.args[1], REMOVE_IT) from error
    return parse_checked(data, where=str(file))


def parse_checked(data: bytes, *, where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As `read_checked`, from a file's bytes.

    Args:
        data: All of the file.
        where: The file's name, for errors.
    """
    try:
        length = int.from_bytes(data[:8], "little")  # the header: a length of 8 bytes and a JSON object
        own = json.loads(data[8 : 8 + length])["__metadata__"]["ferray"]
        written, _, text = ("", "", own) if own.startswith("{") else own.partition(" ")
        facts = json.loads(text)
        version = facts["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(where, "damaged, or not a checkpoint that ferray wrote", REMOVE_IT) from error
    if not written and version == 1:
        raise CheckpointError(where, "a checkpoint of format 1, which has no checksum", OTHER_VERSION)
    try:
        tensors = load(data)
        checksum = _checksum(text, tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(where, f"damaged: {error}", REMOVE_IT) from error
    if written != checksum:
        raise DamagedError(where, "damaged: its checksum does not match its content", REMOVE_IT)
    if version != FORMAT_VERSION:  # after the checksum: a wrong bit may look like another version
        raise CheckpointError(where, f"a checkpoint of format {version}, not {FORMAT_VERSION}", OTHER_VERSION)
    return facts, tensors


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    checksum = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
