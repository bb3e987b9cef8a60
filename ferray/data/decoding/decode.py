"""From the bytes of a file to pixels, with everything that the decoder says of them; runs in a process of its own.

libjpeg fills what is missing or damaged with gray, says so in one line on the standard error stream, and goes on. It
says it nowhere else, and OpenCV and Pillow do not turn the line into an error. So this process catches the line: a
photograph of which the decoder says that its data is corrupt is refused. Begin at `decode`.

One reading for each kind of picture:

- Rotation: the camera's orientation tag is followed, unless boxes count the pixels of the stored picture.
- Transparency is ignored: a pixel has the color that is stored for it, however transparent it is.
- 16 bits: the upper 8. Gray: three equal channels. A palette: its colors.
- CMYK: as light that the inks let through, without a color profile; of a JPEG, inverted, as Adobe writes it.
- Animations: the first frame. TIFF: the first page.
"""

import io
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.formats import MAX_PIXELS, BadPhotographError, Format, bad, check_size, check_whole

if TYPE_CHECKING:
    from PIL import Image

_DAMAGE = re.compile(r"Corrupt JPEG data: (?!bad ICC).*|Premature end of JPEG.*|Inconsistent progression.*")
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
MAX_PADDING = 16
"""Zeros behind the coded picture that are no damage: some programs write them."""

MAX_UNPACKED = 8 * MAX_PIXELS
"""Bytes of a part of a TIFF; no picture of at most `MAX_PIXELS` has more."""

_READABLE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Of Pillow's modes, those whose values are 8 bits."""


def decode(content: bytes, kind: Format, *, upright: bool, read_stderr: Callable[[], str]) -> NDArray[np.uint8]:
    """Decode a file that `check_whole` has accepted.

    Args:
        content: The bytes of the file.
        kind: Its format.
        upright: Whether to follow the camera's orientation tag.
        read_stderr: Returns what was written on the standard error stream since its last call.

    Returns:
        BGR, shape (height, width, 3).

    Raises:
        BadPhotographError: It is no picture, or the decoder says that it is damaged.
    """
    read_stderr()
    if kind in ("JPEG", "PNG"):
        pixels = _decode_with_opencv(content, upright=upright, read_stderr=read_stderr)
        message = read_stderr()
        if kind == "JPEG":
            _check_damage(content, message)
        return pixels
    return _decode_with_pillow(content, kind, upright=upright, read_stderr=read_stderr)


def _decode_with_opencv(content: bytes, *, upright: bool, read_stderr: Callable[[], str]) -> NDArray[np.uint8]:
    mode = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), mode)
    except cv2.error as error:
        bad("unreadable photograph", f"cannot be decoded: {error.err}")
    if pixels is None:
        message = _shorten(read_stderr())
        bad("unreadable photograph", f"cannot be decoded{': ' if message else ''}{message}")
    return np.asarray(pixels, dtype=np.uint8)


def _check_damage(content: bytes, message: str) -> None:
    """Refuse a JPEG of whose data libjpeg says that it is corrupt."""
    found = _DAMAGE.search(message)
    if not found:
        return
    left_over = _LEFT_OVER.fullmatch(found[0])
    if left_over and int(left_over[1]) <= MAX_PADDING:
        num, end = int(left_over[1]), content.rindex(b"\xff\xd9")
        if content[end - num : end] == bytes(num):
            return
    bad("damaged photograph", f"is a damaged JPEG, says its decoder: {found[0]}")


def _decode_with_pillow(
    content: bytes, kind: Format, *, upright: bool, read_stderr: Callable[[], str]
) -> NDArray[np.uint8]:
    from PIL import ExifTags, Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # `check_size` refuses what is too large, and says so
    try:
        with Image.open(io.BytesIO(content), formats=[kind.upper()]) as image:
            check_size(*image.size)
            if not upright:
                image.getexif().pop(ExifTags.Base.Orientation, None)  # before it is loaded: a TIFF turns itself
            image.load()
            if kind == "TIFF":
                _check_strips(image, content, read_stderr)
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return _to_bgr(image)
    except BadPhotographError:
        raise
    except Exception as error:  # noqa: BLE001  Pillow's readers let through what Python raises on their way
        message = _shorten(read_stderr()) or _shorten(str(error))
        is_cut = "truncated" in str(error)
        bad(
            "truncated photograph" if is_cut else "unreadable photograph",
            f"is a {kind} that cannot be decoded: {message or type(error).__name__}",
        )


def _check_strips(image: Any, content: bytes, read_stderr: Callable[[], str]) -> None:
    """Refuse a TIFF whose coded parts are damaged, of which its reader says nothing.

    It reads no checksum of a compressed strip or tile, and keeps back what libjpeg says of one in JPEG's code.

    Args:
        image: As Pillow opened it.
        content: The bytes of the file.
        read_stderr: As for `decode`.
    """
    tags = image.tag_v2
    code = tags.get(259)
    places = zip(tags.get(324, tags.get(273, ())), tags.get(325, tags.get(279, ())), strict=False)
    for number, (begin, length) in enumerate(places, start=1):
        part = content[begin : begin + length]
        if code in (8, 32946):  # deflate, under both of its numbers
            if not _is_whole(part):
                bad("damaged photograph", f"is a damaged TIFF: part {number} ends early, or its checksum is wrong")
        elif code == 7:
            tables = tags.get(347, b"\xff\xd8\xff\xd9")  # of all parts, between marks of their own
            decode(tables[:-2] + part[2:], check_whole(tables[:-2] + part[2:]), upright=False, read_stderr=read_stderr)


def _is_whole(deflated: bytes) -> bool:
    """Whether packed bytes are whole by their own checksum; at most `MAX_UNPACKED` are unpacked."""
    unpacking, num = zlib.decompressobj(), 0
    try:
        while deflated and not unpacking.eof and num <= MAX_UNPACKED:
            num += len(unpacking.decompress(deflated, 2**20))
            deflated = unpacking.unconsumed_tail
    except zlib.error:
        return False
    return unpacking.eof


def _to_bgr(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        if getattr(image, "tag_v2", {}).get(262) == 0:  # white is 0, which Pillow turns around for 8 bits alone
            gray = 255 - gray
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode not in _READABLE_MODES:
        bad("unreadable photograph", f"has values of Pillow's mode {image.mode}, not of 8 or 16 bits")
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def _shorten(text: str) -> str:
    """The first line of what a library wrote."""
    return text.strip().partition("\n")[0][:200]
