"""A damaged photograph is left out with a reason, or its pixels are those of the whole one."""

import re
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from fixtures.expw import draw
from fixtures.pictures import encode, scan_of
from numpy.typing import NDArray

from ferray.data.decoding.client import decode_photograph
from ferray.data.decoding.formats import BadPhotographError

PHOTOGRAPH = draw(3, height=120, width=160)
"""Smooth, and with noise below, so that its JPEG has blocks of few and of many coefficients."""
PHOTOGRAPH[60:] = np.clip(PHOTOGRAPH[60:] + np.random.default_rng(0).normal(0, 12, (60, 160, 3)), 0, 255)

JPEGS = {
    "color": encode("JPEG", PHOTOGRAPH, quality=90),
    "full color": encode("JPEG", PHOTOGRAPH, quality=70, subsampling=0),
    "gray": encode("JPEG", np.repeat(PHOTOGRAPH[..., :1], 3, axis=2), quality=85),
    "optimized": encode("JPEG", PHOTOGRAPH, optimize=True),
    "progressive": encode("JPEG", PHOTOGRAPH, progressive=True),
    "restarts": encode("JPEG", PHOTOGRAPH, restart_marker_blocks=7),
}
MAX_LOST_BYTES = 2
"""So few bytes at the end of a scan may be padding, or may hold what a decoder takes to be zeros."""


def decode(content: bytes) -> NDArray[np.uint8] | BadPhotographError:
    try:
        return decode_photograph(content, upright=True)
    except BadPhotographError as error:
        assert error.reason
        assert error.what
        return error


def places(begin: int, end: int, num: int = 40) -> Sequence[int]:
    return np.linspace(begin, end, num).astype(int).tolist()


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_cut_off_anywhere_with_an_end_mark_behind_it_is_left_out(name: str) -> None:
    jpeg = JPEGS[name]
    begin, end = scan_of(jpeg)
    whole = decode(jpeg)
    assert isinstance(whole, np.ndarray)

    for at in places(begin, end - MAX_LOST_BYTES):
        cut = decode(jpeg[: at - (jpeg[at - 1] == 0xFF)] + b"\xff\xd9")
        assert isinstance(cut, BadPhotographError) or np.array_equal(cut, whole), at
        if isinstance(cut, BadPhotographError):
            assert "damaged JPEG" in cut.what or "has no end mark" in cut.what


@pytest.mark.parametrize("num", [64, 512])
@pytest.mark.parametrize("name", ["color", "full color", "gray", "restarts"])
def test_a_jpeg_with_zeros_in_its_middle_is_left_out(name: str, num: int) -> None:
    jpeg = JPEGS[name]
    begin, end = scan_of(jpeg)

    for at in places(begin, end - num):
        zeroed = decode(jpeg[:at] + bytes(num) + jpeg[at + num :])
        assert isinstance(zeroed, BadPhotographError), at
        assert "zeros instead of a picture" in zeroed.what


@pytest.mark.parametrize("name", ["optimized", "progressive"])
def test_a_jpeg_whose_second_half_is_zeros_is_left_out_whatever_its_code(name: str) -> None:
    jpeg = JPEGS[name]
    begin, end = scan_of(jpeg)

    for at in places(begin, (begin + end) // 2):
        assert isinstance(decode(jpeg[:at] + bytes(end - at) + jpeg[end:]), BadPhotographError), at


def test_a_progressive_jpeg_that_ends_between_two_passes_is_left_out() -> None:
    jpeg = JPEGS["progressive"]
    passes = [found.start() for found in re.finditer(rb"\xff\xda", jpeg)]
    assert len(passes) > 5

    for at in passes[1:]:
        cut = decode(jpeg[:at] + b"\xff\xd9")
        assert isinstance(cut, BadPhotographError), at
        assert "the last are missing" in cut.what
    assert isinstance(decode(encode("JPEG", PHOTOGRAPH[..., 0], progressive=True)), np.ndarray)


@pytest.mark.parametrize("code", ["tiff_adobe_deflate", "jpeg"])
def test_a_compressed_tiff_with_zeros_in_its_middle_is_left_out(code: str) -> None:
    tiff = encode("TIFF", PHOTOGRAPH, compression=code)
    assert isinstance(decode(tiff), np.ndarray)

    for at in places(len(tiff) // 5, len(tiff) * 4 // 5, 25):
        assert isinstance(decode(tiff[:at] + bytes(64) + tiff[at + 64 :]), BadPhotographError), at


def test_a_flat_picture_whose_code_is_mostly_zeros_is_whole() -> None:
    flat = np.full((256, 256, 3), 200, dtype=np.uint8)
    for parameters in ({}, {"optimize": True}, {"progressive": True}, {"optimize": True, "subsampling": 0}):
        jpeg = encode("JPEG", flat, **parameters)
        assert isinstance(decode(jpeg), np.ndarray), parameters


def test_a_few_zeros_behind_the_coded_picture_are_no_damage() -> None:
    _, end = scan_of(JPEGS["color"])
    whole = decode(JPEGS["color"])

    padded = decode(JPEGS["color"][:end] + bytes(8) + b"\xff\xd9")
    assert isinstance(padded, np.ndarray)
    assert np.array_equal(padded, whole)
    assert isinstance(decode(JPEGS["color"][:end] + b"12345678" + b"\xff\xd9"), BadPhotographError)


def test_what_the_decoder_says_reaches_the_reason_and_not_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    begin, end = scan_of(JPEGS["color"])

    cut = decode(JPEGS["color"][: (begin + end) // 2] + b"\xff\xd9")

    assert isinstance(cut, BadPhotographError)
    assert cut.reason == "damaged photograph"
    assert "premature end of data segment" in cut.what
    assert capfd.readouterr() == ("", "")


def test_one_changed_bit_of_a_png_is_found_wherever_it_is() -> None:
    png = encode("PNG", PHOTOGRAPH[:40, :40])
    whole = decode(png)
    assert isinstance(whole, np.ndarray)
    for at in places(8, len(png) - 1, 120):
        changed = decode(png[:at] + bytes([png[at] ^ 1 << at % 8]) + png[at + 1 :])
        assert isinstance(changed, BadPhotographError), at


def test_a_png_whose_data_ends_early_under_right_checksums_is_left_out() -> None:
    png = encode("PNG", PHOTOGRAPH)
    begin = png.index(b"IDAT") - 4
    length = int.from_bytes(png[begin : begin + 4])
    data = png[begin + 8 : begin + 8 + length // 2]
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))

    cut = decode(png[:begin] + chunk + png[-12:])

    assert isinstance(cut, BadPhotographError)
    assert "Not enough image data" in cut.what


@pytest.mark.parametrize("kind", ["WebP", "GIF", "TIFF", "BMP"])
def test_a_file_of_another_format_that_is_cut_off_anywhere_is_left_out(kind: str) -> None:
    content = encode(kind, PHOTOGRAPH)
    whole = decode(content)
    assert isinstance(whole, np.ndarray)

    for at in places(4, len(content) - 8):
        cut = decode(content[:at])
        assert isinstance(cut, BadPhotographError) or np.array_equal(cut, whole), at


def _zero(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(200) + content[at + 200 :]


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [_zero, _flip])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"])
def test_any_damage_gives_a_picture_of_the_same_size_or_a_reason(
    kind: str, damage: Callable[[bytes, int], bytes]
) -> None:
    content = encode(kind, PHOTOGRAPH)
    for at in places(len(content) // 10, len(content) - 220, 25):
        found = decode(damage(content, at))
        assert isinstance(found, BadPhotographError) or found.shape == PHOTOGRAPH.shape


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_a_header_of_any_size_is_refused_for_its_size(kind: str) -> None:
    content = bytearray(encode(kind, draw(0, 24, 24)))
    if kind == "BMP":
        content[18:26] = struct.pack("<ii", 20_000, 20_000)
    else:
        for tag in (256, 257):  # width and height, as one number each of 4 bytes
            at = content.index(struct.pack("<H", tag), 8 if content[4:8] == b"\x08\0\0\0" else 0)
            content[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 20_000)
    with pytest.raises(BadPhotographError) as error:
        decode_photograph(bytes(content), upright=True)
    assert error.value.reason == "photograph too large"
