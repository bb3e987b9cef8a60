"""One photograph: read it, decode it, crop faces from it. Begin at `load_photograph` and `crop_face`."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.client import decode_photograph
from ferray.data.decoding.formats import BadPhotographError, bad
from ferray.data.scaling import scale_to
from ferray.data.sources.rows import Box, Source
from ferray.files.untrusted import open_nonblocking

MAX_FILE_BYTES = 256 * 2**20

MIN_INSIDE = 0.25
"""Smallest part of a box that must lie in its photograph; in ExpW 0.8 % of the boxes overrun it, all by little."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A decoded photograph."""

    pixels: NDArray[np.uint8]
    """BGR, shape (height, width, 3)."""
    digest: bytes
    """SHA-256 of the file's bytes."""


def read_photograph(root: Path, source: str, *, upright: bool) -> Photograph:
    """Read and decode a picture file below a folder.

    Args:
        root: The folder, resolved.
        source: The file's path below it.
        upright: Whether to follow the camera's orientation tag.

    Raises:
        BadPhotographError: Missing, a link out of the folder, cut off, damaged, too large, or no picture.
    """
    content = read_file(root, source)
    digest = hashlib.sha256(content).digest()
    try:
        return Photograph(decode_photograph(content, upright=upright), digest)
    except BadPhotographError as error:
        raise BadPhotographError(error.reason, f"{source} {error.what}", digest) from error


def load_photograph(source: Source, name: str) -> Photograph:
    """A photograph of a source: a file that is read and decoded, or pixels that the source has.

    Raises:
        BadPhotographError: As `read_photograph`.
    """
    if source.pixels is None:
        return read_photograph(source.root, name, upright=source.upright)
    pixels = source.pixels(name)
    return Photograph(pixels, hashlib.sha256(pixels.tobytes()).digest())


def digest_photograph(source: Source, name: str) -> str:
    """SHA-256 of a photograph's bytes, or the reason why it cannot be read; nothing is decoded."""
    try:
        content = source.pixels(name).tobytes() if source.pixels is not None else read_file(source.root, name)
        return hashlib.sha256(content).hexdigest()
    except BadPhotographError as error:
        return error.reason


def photograph_loader(source: Source, names: Sequence[str]) -> Callable[[int], NDArray[np.uint8]]:
    """A function that reads the pixels of the photograph at a place in a list of names."""

    def load(place: int) -> NDArray[np.uint8]:
        return load_photograph(source, names[place]).pixels

    return load


def read_file(root: Path, source: str) -> bytes:
    """The bytes of a regular file below a folder.

    Raises:
        BadPhotographError: Missing, a link out of the folder, no regular file, too large, or unreadable.
    """
    path = root / source
    try:
        if ("/" in source or path.is_symlink()) and not path.resolve().is_relative_to(root):
            bad("name outside the folder", f"{source} is a link that leads out of the folder")
        with open(path, "rb", opener=open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                bad("unreadable photograph", f"{source} is not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                what = f"{source} has {status.st_size / 2**20:,.0f} MiB; at most {MAX_FILE_BYTES / 2**20:,.0f} are read"
                bad("photograph too large", what)
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise BadPhotographError("missing photograph", f"there is no photograph {source} in {root}") from error
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError in Python 3.11 and 3.12
        raise BadPhotographError("unreadable photograph", f"{source} cannot be read: {error}") from error


def crop_face(
    pixels: NDArray[np.uint8], box: Box | None, *, size_px: int, margin: float
) -> tuple[NDArray[np.uint8], bool]:
    """Crop a square face from a photograph and scale it.

    A box that overruns the photograph keeps its place: what lies outside is filled from the edge, so that neither the
    face's place nor its proportions change. It is scaled as `ferray.data.scaling` says.

    Args:
        pixels: BGR, shape (height, width, 3).
        box: None means the whole photograph, made square by filling.
        size_px: Side of the result.
        margin: Added to each side of the box, as a fraction of its longer side.

    Returns:
        RGB of shape (size, size, 3), and whether anything was filled.

    Raises:
        BadPhotographError: Less than a quarter of the box lies in the photograph.
    """
    height, width = pixels.shape[:2]
    if box is None:
        box = Box(0, 0, width, height)
    _check_inside(box, width, height)
    side = max(1, round(box.side_px * (1 + 2 * margin)))
    left = box.left + (box.right - box.left - side) // 2
    top = box.top + (box.bottom - box.top - side) // 2
    x_from, x_to = max(left, 0), min(left + side, width)
    y_from, y_to = max(top, 0), min(top + side, height)
    across, before_x, after_x = _target(x_from - left, x_to - left, side, size_px)
    down, before_y, after_y = _target(y_from - top, y_to - top, side, size_px)
    face = scale_to(pixels[y_from:y_to, x_from:x_to], across, down)
    filled = (across, down) != (size_px, size_px)
    if filled:
        border = (before_y, after_y, before_x, after_x)
        face = np.asarray(cv2.copyMakeBorder(face, *border, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(face, cv2.COLOR_BGR2RGB), dtype=np.uint8), filled


def is_gray(face: NDArray[np.uint8]) -> bool:
    """Whether all three channels are equal."""
    return bool(np.array_equal(face[..., 0], face[..., 1]) and np.array_equal(face[..., 1], face[..., 2]))


def _check_inside(box: Box, width: int, height: int) -> None:
    inside_x = min(box.right, width) - max(box.left, 0)
    inside_y = min(box.bottom, height) - max(box.top, 0)
    if inside_x <= 0 or inside_y <= 0:
        bad("box outside the photograph", f"{box} lies outside the photograph of {width}x{height}")
    if inside_x * inside_y < MIN_INSIDE * (box.right - box.left) * (box.bottom - box.top):
        bad("box outside the photograph", f"{box} lies mostly outside the photograph of {width}x{height}")


def _target(begin: int, end: int, side: int, size_px: int) -> tuple[int, int, int]:
    """Along one axis of the result: length of the visible part, space before it, space after it."""
    before = min(round(begin * size_px / side), size_px - 1)
    length = max(1, round(end * size_px / side) - before)
    return length, before, size_px - before - length
