"""Cut-off and hostile files are told from good ones; faces keep their place and proportions."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ferray.data.decoding.formats import BadPhotographError, check_whole
from ferray.data.prepare.photographs import crop_face, is_gray, read_photograph
from ferray.data.sources.rows import Box


def encode(suffix: str = ".jpg", *, height: int = 60, width: int = 80, parameters: tuple[int, ...] = ()) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    encoded, content = cv2.imencode(suffix, pixels, list(parameters))
    assert encoded
    return content.tobytes()


JPEG = encode()
PROGRESSIVE = encode(parameters=(cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
RESTARTS = encode(parameters=(cv2.IMWRITE_JPEG_RST_INTERVAL, 4))
PNG = encode(".png")


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def jpeg_of_size(width: int, height: int) -> bytes:
    """A good JPEG whose header claims another size."""
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 :]


@pytest.mark.parametrize("content", [JPEG, PROGRESSIVE, RESTARTS, PNG], ids=["jpeg", "progressive", "restarts", "png"])
def test_a_whole_file_passes_and_one_cut_off_anywhere_does_not(content: bytes) -> None:
    check_whole(content)
    check_whole(content + b"\0\0 what some cameras add behind the end")

    for end in [*range(0, len(content) - 1, max(1, len(content) // 60)), len(content) - 1]:
        with pytest.raises(BadPhotographError):
            check_whole(content[:end])


def test_a_jpeg_whose_rest_was_never_downloaded_and_reads_as_zeros_does_not_pass() -> None:
    half = len(JPEG) // 2

    with pytest.raises(BadPhotographError, match="no end mark"):
        check_whole(JPEG[:half] + b"\0" * half)


def test_the_end_mark_of_a_thumbnail_in_the_header_is_not_that_of_the_photograph() -> None:
    thumbnail = encode(height=8, width=8)
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    content = JPEG[:2] + segment + JPEG[2:]

    check_whole(content)
    with pytest.raises(BadPhotographError, match="no end mark"):
        check_whole(content[:-200])


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_or_pass_but_never_break_the_check(content: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", JPEG[:600], PNG[:60]):
        try:
            check_whole(start + content)
        except BadPhotographError as error:
            assert error.reason


@pytest.mark.parametrize(
    "content, reason, what",
    [
        (png_of_size(60_000, 60_000), "photograph too large", "60000x60000 by its header"),
        (jpeg_of_size(65_000, 65_000), "photograph too large", "65000x65000 by its header"),
        (png_of_size(0, 10), "unreadable photograph", "0x10 by its header"),
        (b"", "truncated photograph", "empty file"),
        (b"GIF89a\x08\0\x08\0", "unreadable photograph", "is a GIF that cannot be decoded"),
        (b"GIF89a\0\0\x09\0", "unreadable photograph", "0x9 by its header"),
        (b"BM", "unreadable photograph", "is a BMP that cannot be decoded"),
        (b"II*\0", "unreadable photograph", "is a TIFF that cannot be decoded"),
        (b"RIFF\xff\0\0\0WEBP", "truncated photograph", "the WebP header says 263"),
        (b"<html>", "not a picture", "is not JPEG, PNG, WebP, GIF, TIFF or BMP: it begins with 3c 68 74 6d"),
        (b"\xff\xd8\xff\xd9", "unreadable photograph", "without a picture"),
        (JPEG[:300] + b"\xff\xd9", "", ""),
        (png_of_size(10, 10), "unreadable photograph", "cannot be decoded: libpng error: Not enough image data"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path: Path, content: bytes, reason: str, what: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(BadPhotographError, match=r"a\.jpg") as caught:
        read_photograph(tmp_path, "a.jpg", upright=False)

    assert reason in caught.value.reason
    assert what in caught.value.what


def test_a_link_that_leads_out_of_the_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    (tmp_path / "private.jpg").write_bytes(JPEG)
    root = tmp_path / "origin"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(JPEG)
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "private.jpg")
    (root / "folder").symlink_to(tmp_path)

    assert read_photograph(root, "inside.jpg", upright=False).pixels.shape == (60, 80, 3)
    for name in ("out.jpg", "folder/private.jpg"):
        with pytest.raises(BadPhotographError, match="leads out of the folder"):
            read_photograph(root, name, upright=False)


def test_a_loop_of_links_a_folder_and_a_pipe_are_not_photographs(tmp_path: Path) -> None:
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")

    for name in ("ring.jpg", "folder.jpg", "pipe.jpg"):
        with pytest.raises(BadPhotographError) as caught:
            read_photograph(tmp_path, name, upright=False)
        assert caught.value.reason == "unreadable photograph"
    with pytest.raises(BadPhotographError, match="no photograph"):
        read_photograph(tmp_path, "missing.jpg", upright=False)


def test_the_orientation_tag_turns_whole_photographs_but_not_those_with_boxes(tmp_path: Path) -> None:
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # turn by 90 degrees
    content = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + JPEG[2:]
    (tmp_path / "a.jpg").write_bytes(content)

    assert read_photograph(tmp_path, "a.jpg", upright=True).pixels.shape == (80, 60, 3)
    assert read_photograph(tmp_path, "a.jpg", upright=False).pixels.shape == (60, 80, 3)


def ramp(height: int = 100, width: int = 100) -> NDArray[np.uint8]:
    """Blue tells the column, green the row, red is 7."""
    pixels = np.full((height, width, 3), 7, dtype=np.uint8)
    pixels[..., 0] = np.arange(width)[None, :]
    pixels[..., 1] = np.arange(height)[:, None]
    return pixels


def test_a_crop_without_margin_at_its_own_size_is_the_box_in_rgb() -> None:
    face, filled = crop_face(ramp(), Box(top=10, left=30, right=50, bottom=30), size_px=20, margin=0)

    assert not filled
    assert (face[0, 0].tolist(), face[19, 19].tolist()) == ([7, 10, 30], [7, 29, 49])


def test_a_margin_is_added_on_every_side() -> None:
    face, filled = crop_face(ramp(), Box(top=20, left=30, right=50, bottom=40), size_px=30, margin=0.25)

    assert not filled
    assert (face[0, 0].tolist(), face[29, 29].tolist()) == ([7, 15, 25], [7, 44, 54])


def test_a_box_that_overruns_is_filled_from_the_edge_and_the_face_keeps_its_place() -> None:
    face, filled = crop_face(ramp(), Box(top=10, left=90, right=110, bottom=30), size_px=20, margin=0)

    assert filled
    assert face[0, :10, 2].tolist() == list(range(90, 100))  # pixel for pixel where it was
    assert face[0, 10:, 2].tolist() == [99] * 10


def test_a_photograph_that_is_not_square_is_filled_not_squashed() -> None:
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    cv2.circle(pixels, (40, 20), 15, (255, 255, 255), -1)

    face, filled = crop_face(pixels, None, size_px=80, margin=0)

    ys, xs = np.nonzero(face[..., 0] > 128)
    assert filled
    assert np.ptp(ys) == np.ptp(xs) == 30


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 90),
    st.sampled_from([0.0, 0.1, 0.5, 2.0]), st.sampled_from([8, 33]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_box_becomes_a_face_of_the_size_asked_for_or_is_refused(
    height: int, width: int, top: int, left: int, side: int, margin: float, size_px: int
) -> None:
    box = Box(top=top, left=left, right=left + side, bottom=top + side)
    pixels = np.full((height, width, 3), 200, dtype=np.uint8)

    try:
        face, _ = crop_face(pixels, box, size_px=size_px, margin=margin)
    except BadPhotographError as error:
        assert error.reason == "box outside the photograph"
    else:
        assert face.shape == (size_px, size_px, 3)
        assert (face == 200).all()  # nothing black comes in


@pytest.mark.parametrize(
    "box, what",
    [
        (Box(top=0, left=100, right=120, bottom=20), "lies outside the photograph of 100x100"),
        (Box(top=-30, left=0, right=20, bottom=-10), "lies outside"),
        (Box(top=0, left=90, right=990, bottom=900), "lies mostly outside"),
        (Box(top=0, left=0, right=999_999_999, bottom=999_999_999), "lies mostly outside"),
    ],
)
def test_a_box_outside_the_photograph_is_refused(box: Box, what: str) -> None:
    with pytest.raises(BadPhotographError, match=what):
        crop_face(ramp(), box, size_px=20, margin=0.1)


def test_gray_is_distinguished_from_color() -> None:
    assert is_gray(np.full((8, 8, 3), 9, dtype=np.uint8))
    assert not is_gray(ramp(8, 8))
