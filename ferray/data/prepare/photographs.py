"""One photograph: read it, check it, decode it, crop faces from it.

Before anything is decoded, the size in the header is checked and the file is followed to its end mark, because decoders
silently fill the missing part of a cut-off file with gray. Begin at `read_photograph` and `crop_face`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.scaling import scale_to
from ferray.data.sources.rows import Box, Face, Fault, Source
from ferray.files.untrusted import open_nonblocking

MAX_PIXELS = 64_000_000
"""192 MB decoded; a larger photograph is refused before it is decoded, however few bytes its file has."""

MAX_FILE_BYTES = 256 * 2**20

MAX_SCANS = 100
"""Passes of a progressive JPEG; cameras and programs write some ten, and each may take as long as a whole picture."""

MIN_INSIDE = 0.25
"""Smallest part of a box that must lie in its photograph; in ExpW 0.8 % of the boxes overrun it, all by little."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker in the coded picture that is not a restart


@dataclass(frozen=True, slots=True)
class Photograph:
    """A decoded photograph."""

    pixels: NDArray[np.uint8]
    """BGR, shape (height, width, 3)."""
    digest: bytes
    """SHA-256 of the file's bytes."""


class BadPhotographError(Exception):
    """A photograph or a box that cannot be used.

    Args:
        reason: A few words, the same for all faults of a kind.
        what: What is wrong, with the value.
        digest: SHA-256 of the file's bytes, where they could be read.
    """

    def __init__(self, reason: str, what: str, digest: bytes = b"") -> None:
        super().__init__(reason, what, digest)
        self.reason, self.what, self.digest = reason, what, digest

    def as_fault(self, face: Face) -> Fault:
        """The fault of a face in this photograph."""
        return Fault(self.reason, face.place, self.what, face.source, face.face_id)


def read_photograph(root: Path, source: str, *, upright: bool) -> Photograph:
    """Read and decode a JPEG or PNG file below a folder.

    Args:
        root: The folder, resolved.
        source: The file's path below it.
        upright: Whether to follow the camera's orientation tag.

    Raises:
        BadPhotographError: Missing, a link out of the folder, cut off, too large, or no picture.
    """
    content = read_file(root, source)
    digest = hashlib.sha256(content).digest()
    try:
        check_whole(content)
        mode = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), mode)
    except BadPhotographError as error:
        raise BadPhotographError(error.reason, f"{source} {error.what}", digest) from error
    except cv2.error as error:
        raise BadPhotographError("unreadable photograph", f"{source} cannot be decoded: {error.err}", digest) from error
    if pixels is None:
        raise BadPhotographError("unreadable photograph", f"{source} cannot be decoded", digest)
    return Photograph(np.asarray(pixels, dtype=np.uint8), digest)


def photograph_loader(source: Source, names: Sequence[str]) -> Callable[[int], NDArray[np.uint8]]:
    """A function that reads the pixels of the photograph at a place in a list of names."""

    def load(place: int) -> NDArray[np.uint8]:
        return read_photograph(source.root, names[place], upright=source.upright).pixels

    return load


def read_file(root: Path, source: str) -> bytes:
    """The bytes of a regular file below a folder.

    Raises:
        BadPhotographError: Missing, a link out of the folder, no regular file, too large, or unreadable.
    """
    path = root / source
    try:
        if ("/" in source or path.is_symlink()) and not path.resolve().is_relative_to(root):
            _bad("name outside the folder", f"{source} is a link that leads out of the folder")
        with open(path, "rb", opener=open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                _bad("unreadable photograph", f"{source} is not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                what = f"{source} has {status.st_size / 2**20:,.0f} MiB; at most {MAX_FILE_BYTES / 2**20:,.0f} are read"
                _bad("photograph too large", what)
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise BadPhotographError("missing photograph", f"there is no photograph {source} in {root}") from error
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError in Python 3.11 and 3.12
        raise BadPhotographError("unreadable photograph", f"{source} cannot be read: {error}") from error


def check_whole(content: bytes) -> None:
    """Follow a JPEG or PNG file to its end mark.

    Raises:
        BadPhotographError: It ends too early, its size is beyond `MAX_PIXELS`, or it is neither.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(_PNG):
        _check_png(content)
    elif not content:
        _bad("truncated photograph", "is an empty file")
    else:
        _bad("not a JPEG or PNG", f"is neither JPEG nor PNG: it begins with {content[:4].hex(' ')}")


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


def _bad(reason: str, what: str) -> NoReturn:
    raise BadPhotographError(reason, what)


def _check_inside(box: Box, width: int, height: int) -> None:
    inside_x = min(box.right, width) - max(box.left, 0)
    inside_y = min(box.bottom, height) - max(box.top, 0)
    if inside_x <= 0 or inside_y <= 0:
        _bad("box outside the photograph", f"{box} lies outside the photograph of {width}x{height}")
    if inside_x * inside_y < MIN_INSIDE * (box.right - box.left) * (box.bottom - box.top):
        _bad("box outside the photograph", f"{box} lies mostly outside the photograph of {width}x{height}")


def _target(begin: int, end: int, side: int, size_px: int) -> tuple[int, int, int]:
    """Along one axis of the result: length of the visible part, space before it, space after it."""
    before = min(round(begin * size_px / side), size_px - 1)
    length = max(1, round(end * size_px / side) - before)
    return length, before, size_px - before - length


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        what = f"is {width}x{height} by its header; at most {MAX_PIXELS:,} pixels are decoded"
        _bad("photograph too large", what)
    if not width or not height:
        _bad("unreadable photograph", f"is {width}x{height} by its header")


def _check_jpeg(content: bytes) -> None:
    """Follow the markers: a segment states its length, and the coded picture of a scan ends at the next marker."""
    at, scans = 2, 0
    while found := _MARKER.match(content, at):
        marker, at = content[found.end() - 1], found.end()
        if marker == 0xD9:  # end of image
            if scans:
                return
            _bad("unreadable photograph", "is a JPEG without a picture")
        if marker == 0x01:  # has no length
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame: the size
            height, width = (int.from_bytes(content[at + i : at + i + 2], "big") for i in (3, 5))
            if len(content) >= at + 7:
                _check_size(width, height)
        at += max(length, 2)
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                _bad("unreadable photograph", f"is a JPEG of more than {MAX_SCANS} passes")
            following = _SCAN_END.search(content, at)
            at = following.start() if following else len(content)
    if at < len(content) - 1:
        _bad("unreadable photograph", f"is a damaged JPEG: no marker at byte {at:,} of {len(content):,}")
    _bad("truncated photograph", f"is cut off after {len(content):,} bytes: the JPEG has no end mark")


def _check_png(content: bytes) -> None:
    at = len(_PNG)
    while at + 12 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == b"IHDR":
            width, height = (int.from_bytes(content[at + i : at + i + 4], "big") for i in (8, 12))
            _check_size(width, height)
        if kind == b"IEND":
            return
        at += 12 + length
    _bad("truncated photograph", f"is cut off after {len(content):,} bytes: the PNG has no end mark")
