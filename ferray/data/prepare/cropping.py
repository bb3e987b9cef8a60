"""One pass over the photographs: read, check, decode, crop, sketch.

Each photograph is read once, on all cores, and each of its faces is written to its row of the store. Memory holds one
photograph per core, and the sketches by which copies are found later. Begin at `crop_all`.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from ferray.data.copies.sketch import Sketch, Sketches, make_sketch
from ferray.data.decoding.formats import BadPhotographError
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.photographs import crop_face, is_gray, load_photograph
from ferray.data.sources.rows import Box, Face, Fault, Source
from ferray.data.sources.ways_out import way_out_of
from ferray.data.store.writer import StoreWriter
from ferray.errors import DataError


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """How one face was cropped from its photograph."""

    box: Box
    photo_width_px: int
    photo_height_px: int
    is_gray: bool
    is_filled: bool
    """Whether a part of the crop lies outside the photograph and was filled from its edge."""


@dataclass(frozen=True, kw_only=True)
class CropResult:
    """What was made of all photographs."""

    crops: dict[int, FaceCrop]
    """By row; the rows of faces that cannot be used are missing."""
    digests: dict[str, str]
    """Photograph to the SHA-256 of its bytes, or to the reason why it cannot be read."""
    faults: list[Fault]
    """The faces that cannot be used."""
    photograph_sketches: Sketches
    """In the order of `digests`; empty places where copies are not looked for."""
    face_sketches: Sketches
    """By row, of faces that have a box; empty places elsewhere."""

    @property
    def photographs(self) -> list[str]:
        """The names of all photographs."""
        return list(self.digests)


@dataclass(frozen=True, kw_only=True)
class _PhotographCrops:
    """What was made of one photograph."""

    digest: str
    crops: dict[int, FaceCrop]
    faults: list[Fault]
    sketch: Sketch | None = None
    face_sketches: dict[int, Sketch]


def crop_all(source: Source, faces: Sequence[Face], writer: StoreWriter, options: PrepareOptions) -> CropResult:
    """Read every photograph once and write its faces.

    Args:
        source: Where the photographs are.
        faces: One per row of the store.
        writer: Writes the store.
        options: Size, margin, and whether copies will be looked for.

    Raises:
        DataError: The first fault, where `on_bad` is `fail`.
    """
    by_photograph: dict[str, list[tuple[int, Face]]] = {}
    for row, face in enumerate(faces):
        by_photograph.setdefault(face.source, []).append((row, face))
    names = list(by_photograph)
    result = CropResult(
        crops={}, digests={}, faults=[],
        photograph_sketches=Sketches(len(names), digest_of="bytes" if source.pixels is None else "pixels"),
        face_sketches=Sketches(len(faces), digest_of="pixels"),
    )  # fmt: skip

    def crop(name: str) -> _PhotographCrops:
        return crop_photograph(source, name, by_photograph[name], writer, options)

    with closing(options.threads.map(crop, names, title="cropping", unit="photographs")) as cropped:
        for place, (name, one) in enumerate(zip(names, cropped, strict=True)):
            result.digests[name] = one.digest
            result.crops.update(one.crops)
            result.faults.extend(one.faults)
            if one.sketch is not None:
                result.photograph_sketches.put(place, one.sketch)
            for row, sketch in one.face_sketches.items():
                result.face_sketches.put(row, sketch)
            if result.faults and options.on_bad == "fail":
                raise fault_error(result.faults[:1])
    return result


def crop_photograph(
    source: Source, name: str, faces: Sequence[tuple[int, Face]], writer: StoreWriter, options: PrepareOptions
) -> _PhotographCrops:
    """Write the faces of one photograph, given with their rows, and sketch it and them."""
    try:
        photograph = load_photograph(source, name)
    except BadPhotographError as error:
        faults = [error.as_fault(face) for _, face in faces]
        return _PhotographCrops(digest=error.digest.hex() or error.reason, crops={}, faults=faults, face_sketches={})
    crops: dict[int, FaceCrop] = {}
    sketches: dict[int, Sketch] = {}
    faults = []
    height, width = photograph.pixels.shape[:2]
    for row, face in faces:
        box = face.box or Box(0, 0, width, height)
        try:
            pixels, is_filled = crop_face(
                photograph.pixels, box, size_px=options.size_px, margin=0.0 if face.box is None else options.margin
            )
        except BadPhotographError as error:
            faults.append(Fault(error.reason, face.place, f"{name} {error.what}", name, face.face_id))
            continue
        digest = writer.put(row, pixels)
        crops[row] = FaceCrop(box, width, height, is_gray(pixels), is_filled)
        if options.copies == "find" and face.box is not None:
            sketches[row] = make_sketch(pixels, digest=digest)
    whole = make_sketch(photograph.pixels, digest=photograph.digest) if options.copies == "find" else None
    return _PhotographCrops(
        digest=photograph.digest.hex(), crops=crops, faults=faults, sketch=whole, face_sketches=sketches
    )


def fault_error(faults: Sequence[Fault]) -> DataError:
    """The error that ends a preparation at its first fault."""
    first, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return DataError(first.place, f"{first.what}{more}", f"{way_out_of(first)}; or leave it out: --on-bad skip")
