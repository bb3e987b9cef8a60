"""One pass over the photographs: read, distrust, decode, crop, sketch.

Each photograph is read once, on all cores (OpenCV decodes outside the interpreter's lock), and each face goes straight
to its row of the store; memory holds one photograph a core, and the sketches by which copies are found later. Begin at
`crop_all`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ferray.data.copies.sketch import Sketch, Sketches, progress_bar, sketch, threads
from ferray.data.prepare.options import Options
from ferray.data.prepare.photographs import BadPhotographError, crop_face, is_gray, read_photograph
from ferray.data.sources.rows import Box, Face, Fault, Source
from ferray.data.store.reader import StoreWriter
from ferray.errors import DataError

_BATCH = 16  # photographs handed to a thread at once: small enough to stop soon, large enough to cost nothing
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Sight:
    """What only the photograph tells of a face."""

    box: Box
    width: int
    height: int
    gray: bool
    filled: bool


@dataclass(frozen=True, kw_only=True)
class Cropped:
    """What became of all photographs."""

    sights: dict[int, Sight]
    """Row to what was seen; the rows of faces that cannot be used are missing."""
    digests: dict[str, str]
    """Photograph to the SHA-256 of its bytes, or to why it cannot be read."""
    faults: list[Fault]
    """What cannot be used."""
    photographs: Sketches
    """In the order of `digests`; empty places where copies are not looked for."""
    faces: Sketches
    """By row; of faces that are cut out of photographs, empty places elsewhere."""


@dataclass(frozen=True, slots=True)
class _Photograph:
    """What became of one photograph."""

    digest: str
    sights: dict[int, Sight]
    faults: list[Fault]
    sketch: Sketch | None = None


def crop_all(source: Source, faces: Sequence[Face], writer: StoreWriter, options: Options) -> Cropped:
    """Read every photograph once and write its faces.

    Args:
        source: Where the photographs are.
        faces: One a row of the store.
        writer: Of the store.
        options: Size, margin, and whether sketches are wanted.

    Raises:
        DataError: The first fault, where `on_bad` is `fail`.
    """
    by_photograph: dict[str, list[tuple[int, Face]]] = {}
    for row, face in enumerate(faces):
        by_photograph.setdefault(face.source, []).append((row, face))
    names = list(by_photograph)
    cropped = Cropped(
        sights={}, digests={}, faults=[],
        photographs=Sketches(len(names), digest_of="bytes"), faces=Sketches(len(faces), digest_of="pixels"),
    )  # fmt: skip

    def crop(name: str) -> _Photograph:
        return crop_photograph(source, name, by_photograph[name], writer, options, cropped.faces)

    for place, (name, one) in enumerate(zip(names, on_all_cores(crop, names, options, "cropping"), strict=True)):
        cropped.digests[name] = one.digest
        cropped.sights.update(one.sights)
        cropped.faults.extend(one.faults)
        if one.sketch is not None:
            cropped.photographs.put(place, one.sketch)
        if cropped.faults and options.on_bad == "fail":
            raise as_error(cropped.faults[0], 1)
    return cropped


def crop_photograph(
    source: Source,
    name: str,
    faces: Sequence[tuple[int, Face]],
    writer: StoreWriter,
    options: Options,
    sketches: Sketches,
) -> _Photograph:
    """Write the faces of one photograph, and sketch it and them."""
    try:
        photograph = read_photograph(source.root, name, upright=source.upright)
    except BadPhotographError as error:
        faults = [Fault(error.reason, face.place, error.what, name, face.face_id) for _, face in faces]
        return _Photograph(error.digest.hex() or error.reason, {}, faults)
    sights, faults = {}, []
    height, width = photograph.pixels.shape[:2]
    for row, face in faces:
        box = face.box or Box(0, 0, width, height)
        try:
            pixels, filled = crop_face(photograph.pixels, box, size_px=options.size_px, margin=options.margin)
        except BadPhotographError as error:
            faults.append(Fault(error.reason, face.place, f"{name} {error.what}", name, face.face_id))
            continue
        digest = writer.put(row, pixels)
        sights[row] = Sight(box, width, height, is_gray(pixels), filled)
        if options.copies == "find" and face.box is not None:
            sketches.put(row, sketch(pixels, digest=digest))
    whole = sketch(photograph.pixels, digest=photograph.digest) if options.copies == "find" else None
    return _Photograph(photograph.digest.hex(), sights, faults, whole)


def on_all_cores(
    work: Callable[[str], _Result], names: Sequence[str], options: Options, what: str
) -> Iterator[_Result]:
    """The results of a function of each photograph, in order; when the reader stops, so does the work."""
    batches = [names[begin : begin + _BATCH] for begin in range(0, len(names), _BATCH)]
    with (
        threads(options.workers) as pool,
        progress_bar(what, len(names), "photographs", shown=options.progress) as advance,
    ):
        for results in pool.map(lambda batch: [work(name) for name in batch], batches):
            advance(len(results))
            yield from results


def as_error(fault: Fault, num: int) -> DataError:
    """A fault as an error that ends the preparation."""
    more = f" (and {num - 1} more)" if num > 1 else ""
    return DataError(fault.place, f"{fault.what}{more}", "Mend it, or leave out what cannot be used: --on-bad skip")
