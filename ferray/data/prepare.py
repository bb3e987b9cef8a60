"""From photographs to a store: check, sample, split, crop, write.

The labels are read and checked first, then the faces are drawn and divided by name alone, so that every face's row is
known before a photograph is opened. The photographs are then read once, on all cores (OpenCV decodes outside the
interpreter's lock), and each face goes straight to its row; memory holds one photograph a core. What turns out to be
bad is left out and the rows close up. Begin at `prepare_expw` and `prepare_folders`; the story is `_prepare`.
"""

import csv
import hashlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2

from ferray import storage
from ferray.data.options import DEFAULT_MARGIN, DEFAULT_SIZE_PX, DEFAULT_SPLIT, OnBad, Options, Shares
from ferray.data.photographs import BadPhotographError, crop_face, is_gray, read_file, read_photograph
from ferray.data.plan import Plan, check_classes, make_plan
from ferray.data.sources.expw import read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import CLASS_NAMES, Box, Face, Fault, Source
from ferray.data.store import Store, StoreWriter, check_absent, open_store
from ferray.errors import DataError

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

_BATCH = 16  # photographs handed to a thread at once: small enough to stop soon, large enough to cost nothing
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Sight:
    """What only the photograph tells of a face."""

    box: Box
    width: int
    height: int
    gray: bool
    filled: bool


@dataclass(frozen=True, slots=True)
class _Cropped:
    """What became of one photograph: the digest of its bytes, the faces by row, what cannot be used."""

    digest: str
    sights: dict[int, _Sight]
    faults: list[Fault]


def prepare_expw(
    images: Path,
    labels: Path,
    out: Path,
    *,
    size_px: int = DEFAULT_SIZE_PX,
    margin: float = DEFAULT_MARGIN,
    num_faces: int | None = None,
    split: Shares = DEFAULT_SPLIT,
    seed: int = 0,
    on_bad: OnBad = "skip",
    dataset: str = "expw",
    progress: bool = True,
    workers: int | None = None,
) -> Store:
    """Make a store of ExpW's faces, or return the one that is there if it is the same.

    Args:
        images: The folder of photographs, ExpW's `origin`.
        labels: The list of faces, ExpW's `label.lst`.
        out: The store's folder; what is left out is listed beside it, in `OUT.skipped.csv`.
        size_px: Side of a face in the store.
        margin: Added to each side of a box, as a fraction of its side.
        num_faces: Draw that many, each class in its own proportion; None takes all.
        split: Shares of train, validation and test; no photograph is in two of them.
        seed: Of the sample and of the split.
        on_bad: Leave out what cannot be used and count it, or fail at the first.
        dataset: `expw`, or `demo` where the photographs were drawn.
        progress: Show progress on stderr.
        workers: Threads; None is one a core. It changes no byte of the result.

    Raises:
        DataError: Something cannot be used and `on_bad` is `fail`; nothing can be used; a class is empty in a split
            that is asked for; `out` is something else.
        StorageError: The store cannot be written.
    """
    options = Options(
        size_px=size_px, margin=margin, num_faces=num_faces, split=split, seed=seed, on_bad=on_bad,
        progress=progress, workers=workers,
    )  # fmt: skip
    return _prepare(read_expw(images, labels, dataset=dataset), out, options)


def prepare_folders(
    images: Path,
    out: Path,
    *,
    size_px: int = DEFAULT_SIZE_PX,
    num_faces: int | None = None,
    split: Shares | None = None,
    seed: int = 0,
    on_bad: OnBad = "skip",
    progress: bool = True,
    workers: int | None = None,
) -> Store:
    """Make a store of photographs in folders by class, or return the one that is there if it is the same.

    Each photograph is one face, taken whole.

    Args:
        images: A tree of train, validation and test, or of classes; see `ferray.data.sources.folders`.
        out: As in `prepare_expw`, and so are all that are not named here.
        size_px: Side of a face in the store.
        num_faces: Draw that many, each class of each split in its own proportion; None takes all.
        split: None keeps the tree's own split, or takes 70/10/20 where it has none. Of a tree with train and test only,
            shares with 0 for test divide train and keep test.
        seed: Of the sample and of the split.
        on_bad: Leave out what cannot be used and count it, or fail at the first.
        progress: Show progress on stderr.
        workers: Threads; None is one a core.

    Raises:
        DataError: As `prepare_expw`; or `split` is given for a tree that has its own.
        StorageError: The store cannot be written.
    """
    options = Options(
        size_px=size_px, margin=0.0, num_faces=num_faces, split=split, seed=seed, on_bad=on_bad,
        progress=progress, workers=workers,
    )  # fmt: skip
    return _prepare(read_folders(images), out, options)


def _prepare(source: Source, out: Path, options: Options) -> Store:
    if options.on_bad == "fail" and source.faults:
        raise _as_error(source.faults[0], len(source.faults))
    if out.resolve().is_relative_to(source.root):
        raise DataError(str(out), "lies in the folder of the photographs", "Name a folder outside it: --out DIR")
    out = out.resolve()
    plan = make_plan(source, options)
    if (out / "manifest.json").is_file():
        return _same_store(source, plan, out, options)
    check_absent(out)
    with StoreWriter(out, num_faces=len(plan.faces), size_px=options.size_px) as writer:
        sights, digests, found = _crop_all(source, plan, writer, options)
        rows = sorted(sights)
        faces, faults = [plan.faces[row] for row in rows], [*source.faults, *found]
        check_classes(source, faces, plan.wanted, faults)
        if found:
            writer.keep(rows)
        table = _table(faces, [sights[row] for row in rows])
        _write_list(out, faults)
        writer.finish(
            table,
            class_names=CLASS_NAMES,
            dataset=source.dataset,
            margin=options.margin,
            split=plan.split,
            seed=options.seed,
            source_fingerprint=_source_fingerprint(source, plan, digests),
            notes=_notes(table, source.dataset, options),
            skipped=dict(sorted(Counter(fault.reason for fault in faults).items())),
            sample=options.num_faces,
        )
    return open_store(out)


def _crop_all(
    source: Source, plan: Plan, writer: StoreWriter, options: Options
) -> tuple[dict[int, _Sight], dict[str, str], list[Fault]]:
    """Read every photograph once and write its faces.

    Returns:
        Row to what was seen, photograph to its digest, and what cannot be used.

    Raises:
        DataError: The first fault, where `on_bad` is `fail`.
    """
    by_photograph: dict[str, list[tuple[int, Face]]] = {}
    for row, face in enumerate(plan.faces):
        by_photograph.setdefault(face.source, []).append((row, face))

    def crop(name: str) -> _Cropped:
        return _crop_photograph(source, name, by_photograph[name], writer, options)

    sights: dict[int, _Sight] = {}
    digests: dict[str, str] = {}
    faults: list[Fault] = []
    for name, cropped in zip(by_photograph, _on_all_cores(crop, list(by_photograph), options, "cropping"), strict=True):
        digests[name] = cropped.digest
        sights.update(cropped.sights)
        faults += cropped.faults
        if faults and options.on_bad == "fail":
            raise _as_error(faults[0], 1)
    return sights, digests, faults


def _crop_photograph(
    source: Source, name: str, faces: Sequence[tuple[int, Face]], writer: StoreWriter, options: Options
) -> _Cropped:
    """Write the faces of one photograph."""
    try:
        photograph = read_photograph(source.root, name, upright=source.upright)
    except BadPhotographError as error:
        faults = [Fault(error.reason, face.place, error.what, name, face.face_id) for _, face in faces]
        return _Cropped(error.digest.hex() or error.reason, {}, faults)
    cropped = _Cropped(photograph.digest.hex(), {}, [])
    height, width = photograph.pixels.shape[:2]
    for row, face in faces:
        box = face.box or Box(0, 0, width, height)
        try:
            pixels, filled = crop_face(photograph.pixels, box, size_px=options.size_px, margin=options.margin)
        except BadPhotographError as error:
            cropped.faults.append(Fault(error.reason, face.place, f"{name} {error.what}", name, face.face_id))
            continue
        writer.put(row, pixels)
        cropped.sights[row] = _Sight(box, width, height, is_gray(pixels), filled)
    return cropped


def _on_all_cores(
    work: Callable[[str], _Result], names: Sequence[str], options: Options, what: str
) -> Iterator[_Result]:
    """The results of a function of each photograph, in order; when the reader stops, so does the work."""
    num_threads = options.workers or len(os.sched_getaffinity(0))
    batches = [names[begin : begin + _BATCH] for begin in range(0, len(names), _BATCH)]
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one photograph a thread is faster than one photograph on all
    try:
        with ThreadPoolExecutor(num_threads) as pool, _progress(what, len(names), options.progress) as advance:
            for results in pool.map(lambda batch: [work(name) for name in batch], batches):
                advance(len(results))
                yield from results
    finally:
        cv2.setNumThreads(before)


@contextmanager
def _progress(what: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("photographs"), progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _table(faces: Sequence[Face], sights: Sequence[_Sight]) -> "pandas.DataFrame":
    """One row a face: where it comes from, and every column worth slicing by."""
    import pandas

    groups = {name: number for number, name in enumerate(sorted({face.source for face in faces}))}
    rows = [
        {
            "source": face.source,
            "face_id": face.face_id,
            "split": face.split,
            "group": groups[face.source],
            "label": face.label,
            "class_name": CLASS_NAMES[face.label],
            "top": sight.box.top,
            "left": sight.box.left,
            "right": sight.box.right,
            "bottom": sight.box.bottom,
            "face_px": sight.box.side_px,
            "photo_width_px": sight.width,
            "photo_height_px": sight.height,
            "gray": sight.gray,
            "overruns": sight.filled,
            **face.columns,
        }
        for face, sight in zip(faces, sights, strict=True)
    ]
    return pandas.DataFrame(rows)


def _notes(table: "pandas.DataFrame", dataset: str, options: Options) -> tuple[str, ...]:
    """What was done to the faces, in words."""
    size, num = options.size_px, len(table)
    up = int((table["face_px"] * (1 + 2 * options.margin) < size).sum())
    overrun, gray = int(table["overruns"].sum()), int(table["gray"].sum())
    how = (
        "whole photographs"
        if dataset == "folders"
        else f"square crops, {options.margin:.0%} of the box added all round"
    )
    notes = [how]
    if overrun:
        notes.append(
            f"{overrun} of {num} overrun their photograph or are not square; filled from its edge, not squashed"
        )
    if up:
        median = int(table["face_px"].median())
        notes.append(f"{up} of {num} faces upsampled to {size} px (bicubic); median face before: {median} px")
    if up < num:
        notes.append(f"{num - up} of {num} faces scaled down to {size} px (INTER_AREA)")
    if gray:
        notes.append(f"{gray} of {num} faces are gray; gray to RGB, three equal channels")
    return (*notes, f"decoded and resized with OpenCV {cv2.__version__}")


def _same_store(source: Source, plan: Plan, out: Path, options: Options) -> Store:
    """The store that is there already, if it was made of the same photographs in the same way.

    Raises:
        DataError: It was not, or it is broken.
    """
    store = open_store(out)
    there = store.manifest
    asked = {
        "dataset": (there.dataset, source.dataset),
        "size": (there.size_px, options.size_px),
        "margin": (there.margin, options.margin),
        "split": (there.split, plan.split),
        "seed": (there.seed, options.seed),
        "number of faces": (there.sample, options.num_faces),
    }
    other = [f"{name} {old}, not {new}" for name, (old, new) in asked.items() if old != new]
    if not other:

        def digest(name: str) -> str:
            try:
                return hashlib.sha256(read_file(source.root, name)).hexdigest()
            except BadPhotographError as error:
                return error.reason

        names = list(dict.fromkeys(face.source for face in plan.faces))
        digests = dict(zip(names, _on_all_cores(digest, names, options, "comparing"), strict=True))
        if there.source_fingerprint != _source_fingerprint(source, plan, digests):
            other = ["other photographs or labels"]
    if not other and options.on_bad == "fail" and there.skipped:
        other = [f"{sum(there.skipped.values())} faces skipped, and --on-bad is fail"]
    if other:
        what = f"holds another store: {'; '.join(other)}"
        raise DataError(str(out), what, "Name another folder with --out, or remove this one")
    log.info("%s: the same photographs and settings; nothing to do", out)
    return store


def _source_fingerprint(source: Source, plan: Plan, digests: Mapping[str, str]) -> str:
    """SHA-256 over the label file and, for each face drawn, its name, label, split and the bytes of its photograph."""
    digest = hashlib.sha256(source.label_digest)
    for face in sorted(plan.faces, key=lambda face: (face.source, face.face_id)):
        row = [face.source, face.face_id, face.label, face.split, digests[face.source]]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _as_error(fault: Fault, num: int) -> DataError:
    more = f" (and {num - 1} more)" if num > 1 else ""
    return DataError(fault.place, f"{fault.what}{more}", "Mend it, or leave out what cannot be used: --on-bad skip")


def _write_list(out: Path, faults: Sequence[Fault]) -> None:
    """Write what was left out beside the store, or remove the list of an earlier one."""
    file = skipped_file(out)
    if not faults:
        file.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["reason", "place", "what", "source", "face_id"])
    writer.writerows([fault.reason, fault.place, fault.what, fault.source, fault.face_id] for fault in faults)
    storage.write_bytes(file, text.getvalue().encode("utf-8", "backslashreplace"))


def skipped_file(out: Path) -> Path:
    """Where the list of what a store left out lies: `OUT.skipped.csv`."""
    return out.with_name(f"{out.name}.skipped.csv")
