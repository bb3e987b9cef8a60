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
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.formats import BadPhotographError, Format, bad, check_size

if TYPE_CHECKING:
    from PIL import Image

_DAMAGE = re.compile(r"Corrupt JPEG data: (?!bad ICC).*|Premature end of JPEG.*|Inconsistent progression.*")
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
MAX_PADDING = 16
"""Zeros behind the coded picture that are no damage: some programs write them."""

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


def _to_bgr(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode not in _READABLE_MODES:
        bad("unreadable photograph", f"has values of Pillow's mode {image.mode}, not of 8 or 16 bits")
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def _shorten(text: str) -> str:
    """The first line of what a library wrote."""
    return text.strip().partition("\n")[0][:200]
