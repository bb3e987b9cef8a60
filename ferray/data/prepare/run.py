"""From photographs to a store: check, sample, crop, find copies, split, write.

The labels are read and checked first, then the faces are drawn and divided by name alone, so that what cannot be done
is told before a photograph is opened. The photographs are then read once, each face goes to its row, and copies are
found among the sketches made on the way. Where ferray makes the split, photographs that are copies of each other are
divided again as one, and the rows change places; a split that was given stays, and the copies across it are counted.
What turns out to be bad is left out and the rows close up. Begin at `prepare_expw` and `prepare_folders`; the story is
`_prepare`.
"""

import csv
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from ferray.data.prepare.cropping import Sight, as_error, crop_all, on_all_cores
from ferray.data.prepare.grouping import DROP_REASONS, Groups, find_conflicts, find_leaks, group_faces
from ferray.data.prepare.options import DEFAULT_MARGIN, DEFAULT_SIZE_PX, DEFAULT_SPLIT, OnBad, OnCopies, Options, Shares
from ferray.data.prepare.photographs import BadPhotographError, read_file
from ferray.data.prepare.plan import Plan, check_classes, divide_again, in_order, make_plan
from ferray.data.sources.expw import read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import CLASS_NAMES, Fault, Source
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import Store, StoreWriter, check_absent, open_store
from ferray.errors import DataError
from ferray.files import storage

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)


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
    copies: OnCopies = "find",
    drop_conflicts: bool = False,
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
        split: Shares of train, validation and test; no photograph is in two of them, nor are two copies of one.
        seed: Of the sample and of the split.
        on_bad: Leave out what cannot be used and count it, or fail at the first.
        copies: Look for copies of photographs, or skip that.
        drop_conflicts: Leave out every face whose copies have unlike labels.
        dataset: `expw`, or `demo` where the photographs were drawn.
        progress: Show progress on stderr.
        workers: Threads; None is one a core. It changes no byte of the result.

    Raises:
        DataError: Something cannot be used and `on_bad` is `fail`; nothing can be used; a class is empty in a split
            that is asked for; `out` is something else.
        StorageError: The store cannot be written.
    """
    options = Options(
        size_px=size_px, margin=margin, num_faces=num_faces, split=split, seed=seed, on_bad=on_bad, copies=copies,
        drop_conflicts=drop_conflicts, progress=progress, workers=workers,
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
    copies: OnCopies = "find",
    drop_conflicts: bool = False,
    drop_leaks: bool = False,
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
        copies: Look for copies of photographs, or skip that.
        drop_conflicts: Leave out every face whose copies have unlike labels.
        drop_leaks: Leave out of train, and of validation, the copies of faces in a later split.
        progress: Show progress on stderr.
        workers: Threads; None is one a core.

    Raises:
        DataError: As `prepare_expw`; or `split` is given for a tree that has its own.
        StorageError: The store cannot be written.
    """
    options = Options(
        size_px=size_px, margin=0.0, num_faces=num_faces, split=split, seed=seed, on_bad=on_bad, copies=copies,
        drop_conflicts=drop_conflicts, drop_leaks=drop_leaks, progress=progress, workers=workers,
    )  # fmt: skip
    return _prepare(read_folders(images), out, options)


def _prepare(source: Source, out: Path, options: Options) -> Store:
    if options.on_bad == "fail" and source.faults:
        raise as_error(source.faults[0], len(source.faults))
    if out.resolve().is_relative_to(source.root):
        raise DataError(str(out), "lies in the folder of the photographs", "Name a folder outside it: --out DIR")
    out = out.resolve()
    plan = make_plan(source, options)
    if (out / "manifest.json").is_file():
        return _same_store(source, plan, out, options)
    check_absent(out)
    with StoreWriter(out, num_faces=len(plan.faces), size_px=options.size_px) as writer:
        cropped = crop_all(source, plan.faces, writer, options)
        groups = group_faces(source, plan.faces, cropped, writer, options)
        divided = divide_again(plan, groups.group.tolist(), options.seed)
        rows = sorted(cropped.sights)
        dropped = _drop(divided, groups, rows, options)
        faults = [*source.faults, *cropped.faults, *(dropped[row] for row in sorted(dropped))]
        rows = in_order(divided.faces, [row for row in rows if row not in dropped])
        check_classes(source, [divided.faces[row] for row in rows], plan.wanted, faults)
        if rows != list(range(len(plan.faces))):
            writer.arrange(rows)
        table = _table(divided, rows, cropped.sights, groups)
        _write_list(out, faults)
        writer.finish(
            table,
            class_names=CLASS_NAMES,
            dataset=source.dataset,
            margin=options.margin,
            split=plan.split,
            seed=options.seed,
            source_fingerprint=_source_fingerprint(source, plan, cropped.digests),
            notes=(*_notes(table, source.dataset, options), *_tell_copies(divided, groups, rows, out, options)),
            skipped=dict(sorted(Counter(fault.reason for fault in faults).items())),
            sample=options.num_faces,
            copies=options.copies,
            dropped=_dropped(options),
        )
    return open_store(out)


def _drop(plan: Plan, groups: Groups, rows: Sequence[int], options: Options) -> dict[int, Fault]:
    """Rows of copies that are to be left out, with the reason."""
    dropped = find_conflicts(plan.faces, groups, rows) if options.drop_conflicts else {}
    left = [row for row in rows if row not in dropped]
    return dropped | (find_leaks(plan.faces, groups, left) if options.drop_leaks else {})


def _dropped(options: Options) -> tuple[str, ...]:
    """Which copies are left out, as the manifest says it."""
    asked = {"conflicts": options.drop_conflicts, "leaks": options.drop_leaks}
    return tuple(name for name, wanted in asked.items() if wanted)


def _table(plan: Plan, rows: Sequence[int], sights: Mapping[int, Sight], groups: Groups) -> "pandas.DataFrame":
    """One row a face: where it comes from, and every column worth slicing by."""
    import pandas

    order = sorted(range(len(plan.faces)), key=lambda row: (plan.faces[row].source, plan.faces[row].face_id))
    group = _number([int(groups.group[row]) for row in order], [int(groups.group[row]) for row in rows])
    same_face = _number([int(groups.same_face[row]) for row in order], [int(groups.same_face[row]) for row in rows])
    table = [
        {
            "source": face.source,
            "face_id": face.face_id,
            "split": face.split,
            "group": group[at],
            "copies": int(groups.num_copies[row]),
            "same_face": same_face[at],
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
        for at, (row, face, sight) in enumerate((row, plan.faces[row], sights[row]) for row in rows)
    ]
    return pandas.DataFrame(table)


def _number(names: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Numbers from 0 in the order in which the names that are wanted first come up."""
    kept = set(wanted)
    numbers = {name: number for number, name in enumerate(name for name in dict.fromkeys(names) if name in kept)}
    return [numbers[name] for name in wanted]


def _tell_copies(plan: Plan, groups: Groups, rows: Sequence[int], out: Path, options: Options) -> list[str]:
    """What was found of copies, in words; a split that they cross is a warning as well."""
    if options.copies == "skip":
        return ["copies of photographs were not looked for"]
    photographs = {plan.faces[row].source: row for row in rows}
    copied = [row for row in photographs.values() if groups.num_copies[row]]
    notes = [
        f"{len(copied):,} of {len(photographs):,} photographs are copies of others among them, in "
        f"{len({int(groups.group[row]) for row in copied}):,} groups"
    ]
    if groups.pairs:
        kinds = ", ".join(f"{count:,} by {kind}" for kind, count in sorted(groups.pairs.items()))
        notes.append(f"pairs of copies found: {kinds}")
    leaks = find_leaks(plan.faces, groups, rows)
    if leaks:
        splits = {split: sum(face.split == split for face in (plan.faces[row] for row in leaks)) for split in SPLITS}
        told = " and ".join(f"{count:,} {split} faces" for split, count in splits.items() if count)
        notes.append(f"{told} are copies of faces in a later split, which was given and is kept")
        log.warning(
            "%s are copies of faces in a later split, so its scores flatter: `python -m ferray.data check %s` lists "
            "them, --drop-leaks leaves them out",
            told,
            out,
        )
    return notes


def _notes(table: "pandas.DataFrame", dataset: str, options: Options) -> tuple[str, ...]:
    """What was done to the faces, in words."""
    size, num = options.size_px, len(table)
    side = table["face_px"] * (1 + 2 * options.margin)
    up, down = int((side < size).sum()), int((side > size).sum())
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
    if down:
        notes.append(f"{down} of {num} faces scaled down to {size} px (INTER_AREA)")
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
        "copies": (there.copies, options.copies),
        "copies left out": (", ".join(there.dropped) or "none", ", ".join(_dropped(options)) or "none"),
    }
    other = [f"{name} {old}, not {new}" for name, (old, new) in asked.items() if old != new]
    if not other:

        def digest(name: str) -> str:
            try:
                return hashlib.sha256(read_file(source.root, name)).hexdigest()
            except BadPhotographError as error:
                return error.reason

        names = list(dict.fromkeys(face.source for face in plan.faces))
        digests = dict(zip(names, on_all_cores(digest, names, options, "comparing"), strict=True))
        if there.source_fingerprint != _source_fingerprint(source, plan, digests):
            other = ["other photographs or labels"]
    bad = sum(count for reason, count in there.skipped.items() if reason not in DROP_REASONS)
    if not other and options.on_bad == "fail" and bad:
        other = [f"{bad} faces skipped, and --on-bad is fail"]
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
