"""Every kind of picture has one reading, whatever the format."""

import numpy as np
import pytest
from fixtures.expw import draw
from fixtures.pictures import LOSSLESS, encode, save
from numpy.typing import NDArray
from PIL import Image

from ferray.data.decoding.client import decode_photograph
from ferray.data.decoding.formats import BadPhotographError

COLORS = np.asarray([[0, 0, 0], [255, 255, 255], [200, 30, 60], [10, 90, 220]], dtype=np.uint8)
FEW = COLORS[np.arange(24 * 32).reshape(24, 32) // 7 % 4]
"""A picture of four colors, RGB, which GIF keeps as it is."""


def rgb(content: bytes, *, upright: bool = True) -> NDArray[np.uint8]:
    return decode_photograph(content, upright=upright)[..., ::-1]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_file_of_any_format_gives_its_pixels(kind: str) -> None:
    assert np.array_equal(rgb(encode(kind, FEW[..., ::-1])), FEW)


@pytest.mark.parametrize("kind", ["JPEG", "WebP"])
def test_a_lossy_file_gives_nearly_its_pixels(kind: str) -> None:
    picture = draw(1, 64, 64)
    found = decode_photograph(encode(kind, picture, quality=95, lossless=False), upright=True)
    assert np.abs(found.astype(int) - picture).mean() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_the_orientation_tag_is_followed_only_where_the_picture_is_to_be_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(FEW)
    content = save(image, kind, exif=exif, **({"lossless": True} if kind == "WebP" else {}))
    turned = np.rot90(FEW, -1)

    difference = np.abs(rgb(content).astype(int) - turned).mean()
    assert difference == 0 if kind != "JPEG" else difference < 40
    assert rgb(content, upright=False).shape == FEW.shape
    if kind != "JPEG":
        assert np.array_equal(rgb(content, upright=False), FEW)


@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF"])
def test_transparency_is_ignored(kind: str) -> None:
    alpha = np.full(FEW.shape[:2], 128, dtype=np.uint8)
    alpha[:5] = 0
    image = Image.fromarray(np.dstack([FEW, alpha]))
    content = save(image, kind, **({"lossless": True, "exact": True} if kind == "WebP" else {}))

    assert np.array_equal(rgb(content), FEW)


def test_transparency_of_a_palette_and_of_gray_is_ignored() -> None:
    palette = Image.fromarray(FEW).quantize(4)
    for kind in ("GIF", "PNG"):
        assert np.array_equal(rgb(save(palette, kind, transparency=0)), FEW), kind
    gray = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(255 - gray)])
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(rgb(save(image, kind)), np.dstack([gray] * 3)), kind


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_8_are_taken(kind: str) -> None:
    gray = (np.arange(24 * 32, dtype=np.uint32).reshape(24, 32) * 85).astype(np.uint16)
    content = save(Image.fromarray(gray), kind)

    assert np.array_equal(rgb(content), np.dstack([(gray >> 8).astype(np.uint8)] * 3))


def test_a_tiff_of_16_bits_in_which_white_is_0_is_not_inverted() -> None:
    gray = (np.arange(24 * 32, dtype=np.uint32).reshape(24, 32) * 85).astype(np.uint16)
    content, black_is_0 = save(Image.fromarray(gray), "TIFF"), bytes.fromhex("0601 0300 01000000 0100")
    assert content.count(black_is_0) == 1

    found = rgb(content.replace(black_is_0, bytes.fromhex("0601 0300 01000000 0000")))

    assert np.array_equal(found, np.dstack([255 - (gray >> 8).astype(np.uint8)] * 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_black_and_white_becomes_0_and_255(kind: str) -> None:
    is_white = np.arange(24 * 32).reshape(24, 32) % 3 == 0

    assert np.array_equal(rgb(save(Image.fromarray(is_white), kind)), np.dstack([is_white * np.uint8(255)] * 3))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_what_the_inks_let_through(kind: str) -> None:
    inks = np.zeros((16, 16, 4), dtype=np.uint8)
    inks[:8, :, 0] = 255  # cyan
    inks[8:, :, 3] = 128  # half black
    content = save(Image.fromarray(inks, mode="CMYK"), kind, **({"quality": 100} if kind == "JPEG" else {}))

    found = rgb(content).astype(int)
    assert np.abs(found[:8] - [0, 255, 255]).max() <= 3
    assert np.abs(found[8:] - 127).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WebP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame_is_taken_and_of_pages_the_first(kind: str) -> None:
    frames = [Image.fromarray(FEW), Image.fromarray(255 - FEW), Image.fromarray(FEW)]
    content = save(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WebP" else {})
    )

    assert np.array_equal(rgb(content), FEW)


def test_values_that_are_no_gray_levels_are_refused() -> None:
    for values in (np.float32(0.5), np.int32(70_000)):
        with pytest.raises(BadPhotographError, match="not of 8 or 16 bits"):
            rgb(save(Image.fromarray(np.full((8, 8), values)), "TIFF"))


def test_the_name_of_a_file_does_not_decide_its_format_but_its_bytes_do() -> None:
    assert np.array_equal(rgb(encode("BMP", FEW[..., ::-1])), FEW)
    with pytest.raises(BadPhotographError, match="it begins with 3c 3f 78 6d"):
        rgb(b"<?xml version='1.0'?><svg/>")
