"""What can be checked of a picture file before it is decoded: its format, its size, its end, PNG's checksums.

Decoders silently fill the missing part of a file that is cut off, and a header of a few bytes can claim a picture of
gigabytes. Begin at `check_whole`.
"""

import re
import zlib
from typing import Literal, NoReturn

from ferray.data.sources.rows import Face, Fault, Reason

Format = Literal["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"]
"""The formats that are read. Of an animated picture the first frame is taken, of a TIFF file the first page."""

FORMATS = "JPEG, PNG, WebP, GIF, TIFF or BMP"
"""The formats, for messages and help."""

MAX_PIXELS = 64_000_000
"""192 MB decoded; a larger photograph is refused before it is decoded, however few bytes its file has."""

MAX_SCANS = 100
"""Passes of a progressive JPEG; cameras and programs write some ten, and each may take as long as a whole picture."""

MIN_ZEROS = 32
"""Zeros in a row that are no coded picture, where `_ZeroCodes` says so; of 14,816 whole photographs of ExpW and FER2013
none has more than 5."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker in the coded picture that is not a restart


class BadPhotographError(Exception):
    """A photograph or a box that cannot be used.

    Args:
        reason: A few words, the same for all faults of a kind.
        what: What is wrong, with the value.
        digest: SHA-256 of the file's bytes, where they could be read.
    """

    def __init__(self, reason: Reason, what: str, digest: bytes = b"") -> None:
        super().__init__(reason, what, digest)
        self.reason, self.what, self.digest = reason, what, digest

    def as_fault(self, face: Face) -> Fault:
        """The fault of a face in this photograph."""
        return Fault(self.reason, face.place, self.what, face.source, face.face_id)


def check_whole(content: bytes) -> Format:
    """Follow a file to its end, as far as its format says where that is.

    Returns:
        The format, by the first bytes; the file's name does not matter.

    Raises:
        BadPhotographError: It ends too early, a checksum is wrong, its size is beyond `MAX_PIXELS`, or it is of none of
            the formats. What only decoding shows is found by `ferray.data.decoding.decode`.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
        return "JPEG"
    if content.startswith(_PNG):
        _check_png(content)
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        _check_webp(content)
        return "WebP"
    if content.startswith((b"GIF87a", b"GIF89a")):
        check_size(*(int.from_bytes(content[at : at + 2], "little") for at in (6, 8)))
        return "GIF"
    if content.startswith(_TIFF):
        return "TIFF"
    if content.startswith(b"BM"):
        return "BMP"
    if not content:
        bad("truncated photograph", "is an empty file")
    raise BadPhotographError("not a picture", f"is not {FORMATS}: it begins with {content[:4].hex(' ')}")


def check_size(width: int, height: int) -> None:
    """Refuse a size, in pixels, that a header claims.

    Raises:
        BadPhotographError: It is beyond `MAX_PIXELS`, or empty.
    """
    if width * height > MAX_PIXELS:
        what = f"is {width}x{height} by its header; at most {MAX_PIXELS:,} pixels are decoded"
        bad("photograph too large", what)
    if not width or not height:
        bad("unreadable photograph", f"is {width}x{height} by its header")


def bad(reason: Reason, what: str) -> NoReturn:
    """Raise a `BadPhotographError`."""
    raise BadPhotographError(reason, what)


def _check_jpeg(content: bytes) -> None:
    """Follow the markers: a segment states its length, and the coded picture of a scan ends at the next marker."""
    at, scans = 2, 0
    codes, passes = _ZeroCodes(), _Passes()
    while found := _MARKER.match(content, at):
        marker, at = content[found.end() - 1], found.end()
        if marker == 0xD9:  # end of image
            if not scans:
                bad("unreadable photograph", "is a JPEG without a picture")
            if passes.are_missing:
                bad(
                    "truncated photograph", f"is a damaged JPEG: it ends after {scans} passes, and the last are missing"
                )
            return
        if marker == 0x01:  # has no length
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame: the size
            height, width = (int.from_bytes(content[at + i : at + i + 2], "big") for i in (3, 5))
            if len(content) >= at + 7:
                check_size(width, height)
        codes.read(marker, content[at + 2 : at + length])
        passes.read(marker, content[at + 2 : at + length])
        at += max(length, 2)
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                bad("unreadable photograph", f"is a JPEG of more than {MAX_SCANS} passes")
            following = _SCAN_END.search(content, at)
            end = following.start() if following else len(content)
            zeros = -1 if codes.may_repeat else content.find(bytes(MIN_ZEROS), at, end)
            if following and zeros >= 0:
                bad("damaged photograph", f"is a damaged JPEG: zeros instead of a picture from byte {zeros:,} on")
            at = end
    if at < len(content) - 1:
        bad("unreadable photograph", f"is a damaged JPEG: no marker at byte {at:,} of {len(content):,}")
    bad("truncated photograph", f"is cut off after {len(content):,} bytes: the JPEG has no end mark")


class _ZeroCodes:
    """Whether zeros may follow one another in the coded picture of a scan.

    A decoder finds its place again behind a part that was overwritten with zeros, often without noticing anything. In
    the usual code of the brightness, zeros alone mean that every coefficient of a block is -1: noise that no picture
    has. In an optimized code they may mean an empty block, of which a flat picture has many.

    Source: ITU-T T.81, F.1.2 (run and size of a coefficient), C.2 (the shortest code of a table has only zeros).
    """

    def __init__(self) -> None:
        self._size_of: dict[int, int] = {}  # of the value that zeros stand for, by table
        self._is_sequential = False
        self.may_repeat = True

    def read(self, marker: int, segment: bytes) -> None:
        """Read a segment: a frame, code tables, or the start of a scan, which decides."""
        if marker in (0xC0, 0xC1):
            self._is_sequential = True
        elif marker == 0xC4:
            while len(segment) > 17:
                self._size_of[segment[0]] = segment[17] & 0x0F
                segment = segment[17 + sum(segment[1:17]) :]
        elif marker == 0xDA:
            tables = [0x10 | table & 0x0F for table in segment[2 : 1 + 2 * segment[0] : 2]] if segment else []
            self.may_repeat = not (self._is_sequential and any(self._size_of.get(table) for table in tables))


class _Passes:
    """Whether a progressive JPEG lacks passes, as one does that was cut off between two and given an end mark.

    Each pass has some coefficients of some colors, up to some bit; together they have all coefficients to the last bit.
    A decoder takes whatever passes there are, and says nothing: the picture is only blurred.

    Source: ITU-T T.81, G.1.1 (spectral selection and successive approximation), B.2.3 (the header of a scan).
    """

    def __init__(self) -> None:
        self._missing: set[tuple[int, int]] = set()  # color and coefficient whose last bit has not come yet

    @property
    def are_missing(self) -> bool:
        """Whether passes are missing so far; never in a JPEG that is not progressive."""
        return bool(self._missing)

    def read(self, marker: int, segment: bytes) -> None:
        """Read a segment: a progressive frame, which names the colors, or the start of a scan."""
        if marker == 0xC2:
            self._missing = {(color, place) for color in segment[6::3] for place in range(64)}
        elif marker == 0xDA and len(segment) >= 4 and not segment[-1] & 0x0F:
            colors, (first, last) = segment[1 : 1 + 2 * segment[0] : 2], segment[-3:-1]
            self._missing -= {(color, place) for color in colors for place in range(first, last + 1)}


def _check_png(content: bytes) -> None:
    """Follow the chunks: each states its length, and ends with a checksum of its content."""
    at = len(_PNG)
    while at + 12 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == b"IHDR":
            width, height = (int.from_bytes(content[at + i : at + i + 4], "big") for i in (8, 12))
            check_size(width, height)
        end = at + 8 + length
        if end + 4 <= len(content) and zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4]):
            name = kind.decode("ascii", "backslashreplace")
            bad("damaged photograph", f"is a damaged PNG: the checksum of chunk {name} at byte {at:,} is wrong")
        if kind == b"IEND":
            return
        at = end + 4
    bad("truncated photograph", f"is cut off after {len(content):,} bytes: the PNG has no end mark")


def _check_webp(content: bytes) -> None:
    """The header states the length of the file, and the first chunk the size of the picture."""
    length = int.from_bytes(content[4:8], "little") + 8
    if len(content) < length:
        bad("truncated photograph", f"is cut off after {len(content):,} bytes: the WebP header says {length:,}")
    kind, data = content[12:16], content[20:30]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (4, 7))
    elif kind == b"VP8L":
        both = int.from_bytes(data[1:5], "little")
        width, height = 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    check_size(width, height)
