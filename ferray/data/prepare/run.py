"""From a source of photographs to a store: plan, crop, find copies, split, write.

The source's labels have been read and checked. First the faces are drawn and divided by name alone, so that a request
that cannot be met fails before a photograph is opened. The photographs are then read once, each face is written to its
row, and copies are found among the sketches made on the way. Where ferray makes the split, the division is repeated
with each group of copies kept together, and the rows are rearranged. A split that the source brings is kept, and the
copies across it are counted. Rows that cannot be used are left out at the end, without gaps. Begin at `prepare`.
"""

import csv
import hashlib
import io
import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ferray.data.prepare.cropping import FaceCrop, crop_all, fault_error
from ferray.data.prepare.grouping import (
    CopyGroups,
    find_conflicting_rows,
    find_leaking_rows,
    group_faces,
)
from ferray.data.prepare.notes import describe_copies, describe_faces, describe_leaks
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.photographs import digest_photograph
from ferray.data.prepare.plan import SplitPlan, check_classes, divide_again, order_rows, plan_split
from ferray.data.sources.classes import MAX_NAMED
from ferray.data.sources.rows import DELIBERATE, Face, Fault, Source, count_by_reason
from ferray.data.sources.ways_out import UnusableSourceError
from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter, check_absent
from ferray.data.subject import Subject
from ferray.errors import DataError
from ferray.files import storage

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)


def prepare(source: Source, out: Path, options: PrepareOptions) -> Store:
    """Make a store of a source's faces, or return the existing store if it is the same.

    No photograph is in two splits, nor are two copies of one, unless the source brings its split.

    Args:
        source: The faces and their photographs, from a module of `ferray.data.sources`.
        out: The store's folder; the rows that are left out are listed beside it, in `OUT.skipped.csv`.
        options: How the store is made.

    Raises:
        DataError: Something cannot be used and `on_bad` is `fail`; nothing can be used; a class is empty in a split
            that must hold it; the source has its own split and another one is asked for; `out` is something else.
        StorageError: The store cannot be written.
    """
    if options.on_bad == "fail" and source.faults:
        raise fault_error(source.faults)
    if out.resolve().is_relative_to(source.root) and not source.is_listed:
        raise DataError(str(out), "lies in the folder of the photographs", "Name a folder outside it: --out DIR")
    out = out.resolve()
    if source.has_whole_photographs:
        options = replace(options, margin=source.margin or 0.0)
    with _list_what_was_left_out(out, source.unused):
        plan = plan_split(source, options)
    if (out / "manifest.json").is_file():
        return _open_same_store(source, plan, out, options)
    check_absent(out)
    class_names, subject = source.classes.names, source.classes.subject
    with StoreWriter(out, num_faces=len(plan.faces), size_px=options.size_px) as writer:
        cropped = crop_all(source, plan.faces, writer, options)
        groups = group_faces(source, plan.faces, cropped, writer, options)
        divided = divide_again(plan, groups.group.tolist(), options.seed)
        dropped = _find_dropped(divided, groups, sorted(cropped.crops), options, class_names)
        faults = [*source.unused, *cropped.faults, *(dropped[row] for row in sorted(dropped))]
        rows = order_rows(divided.faces, cropped.crops.keys() - dropped.keys())
        with _list_what_was_left_out(out, faults):
            kept = [divided.faces[row] for row in rows]
            missing = check_classes(source, options, kept, plan.required, faults)
        _report_missing(source, missing, plan.split is not None and options.copies == "find")
        if rows != list(range(len(plan.faces))):
            writer.arrange(rows)
        table = _make_table(divided, rows, cropped.crops, groups, class_names)
        _write_skipped(out, faults)
        provenance = Provenance(
            dataset=source.dataset,
            margin=options.margin,
            split=plan.split,
            seed=options.seed,
            source_fingerprint=_fingerprint_source(source, plan, cropped.digests),  # as before copies were known
            notes=(
                *source.notes,
                *describe_faces(table, options, source),
                *_report_copies(divided, groups, rows, out, options, subject),
            ),
            skipped=dict(sorted(count_by_reason(faults).items())),
            sample=options.num_faces,
            copies=options.copies,
            dropped=options.dropped,
            subject=subject.name,
        )
        writer.finish(table, class_names, provenance, _collect_votes([divided.faces[row] for row in rows]))
    return open_store(out)


def _report_missing(source: Source, missing: Mapping[str, Sequence[str]], has_joined_copies: bool) -> None:
    """Warn of classes without faces in a split; drawings may be so alike that they are all taken for copies."""
    nouns = source.classes.subject.nouns
    for split, names in missing.items():
        shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED:,} more" if names[MAX_NAMED:] else "")
        log.warning("no %s %s of %s: scores on that split leave them out", split, nouns, shown)
    if missing and has_joined_copies:
        log.warning("copies are kept in one split; if the %s only resemble each other: --copies skip", nouns)


def _find_dropped(
    plan: SplitPlan, groups: CopyGroups, rows: Sequence[int], options: PrepareOptions, class_names: Sequence[str]
) -> dict[int, Fault]:
    """Rows of copies that are left out on request, each with the reason."""
    dropped = find_conflicting_rows(plan.faces, groups, rows, class_names) if options.drop_conflicts else {}
    remaining = [row for row in rows if row not in dropped]
    return dropped | (find_leaking_rows(plan.faces, groups, remaining) if options.drop_leaks else {})


def _make_table(
    plan: SplitPlan,
    rows: Sequence[int],
    crops: Mapping[int, FaceCrop],
    groups: CopyGroups,
    class_names: Sequence[str],
) -> "pandas.DataFrame":
    """One row per face: where it comes from, and every column that is useful for slices."""
    import pandas

    by_name = sorted(range(len(plan.faces)), key=lambda row: (plan.faces[row].source, plan.faces[row].face_id))
    group = _renumber(groups.group[by_name].tolist(), groups.group[list(rows)].tolist())
    same_face = _renumber(groups.same_face[by_name].tolist(), groups.same_face[list(rows)].tolist())
    table = [
        {
            "source": face.source,
            "face_id": face.face_id,
            "split": face.split,
            "group": group[at],
            "copies": int(groups.num_copies[row]),
            "same_face": same_face[at],
            "label": face.label,
            "class_name": class_names[face.label],
            "top": crop.box.top,
            "left": crop.box.left,
            "right": crop.box.right,
            "bottom": crop.box.bottom,
            "face_px": crop.box.side_px,
            "photo_width_px": crop.photo_width_px,
            "photo_height_px": crop.photo_height_px,
            "gray": crop.is_gray,
            "overruns": crop.is_filled,
            **face.columns,
        }
        for at, (row, face, crop) in enumerate((row, plan.faces[row], crops[row]) for row in rows)
    ]
    frame = pandas.DataFrame(table)
    return frame.drop(columns=[name for name in frame if frame[name].isna().all()])  # a column needs a type


def _collect_votes(faces: Sequence[Face]) -> NDArray[np.uint16] | None:
    """The votes of faces, shape (faces, classes); None where one has none."""
    votes = [face.votes for face in faces if face.votes is not None]
    return np.asarray(votes, dtype=np.uint16) if len(votes) == len(faces) else None


def _renumber(order: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Replace ids by numbers from 0, given in the order in which the ids first occur in `order`."""
    used = set(ids)
    numbers = {one: number for number, one in enumerate(one for one in dict.fromkeys(order) if one in used)}
    return [numbers[one] for one in ids]


def _report_copies(
    plan: SplitPlan, groups: CopyGroups, rows: Sequence[int], out: Path, options: PrepareOptions, subject: Subject
) -> list[str]:
    """Notes on copies; a warning is logged where they cross the split."""
    if options.copies == "skip":
        return ["copies of photographs were not looked for"]
    notes = describe_copies(plan.faces, groups, rows)
    leaks = describe_leaks(plan.faces, groups, rows, subject)
    if leaks is None:
        return notes
    log.warning(
        "%s, so scores on those splits are too high: `python -m ferray.data check %s` lists them, --drop-leaks leaves "
        "them out",
        leaks,
        shlex.quote(str(out)),
    )
    return [*notes, f"{leaks}, which was given and is kept"]


def _open_same_store(source: Source, plan: SplitPlan, out: Path, options: PrepareOptions) -> Store:
    """Open an existing store, if it was made from the same photographs in the same way.

    Raises:
        DataError: It was not, or it is broken.
    """
    store = open_store(out)
    differences = _compare_settings(store, source, plan, options)
    if not differences and store.manifest.source_fingerprint != _read_fingerprint(source, plan, options):
        differences = ["other photographs or labels"]
    num_bad = sum(count for reason, count in store.manifest.skipped.items() if reason not in DELIBERATE)
    if not differences and options.on_bad == "fail" and num_bad:
        differences = [f"{num_bad} {source.classes.subject.nouns} skipped, and --on-bad is fail"]
    if differences:
        what = f"holds another store: {'; '.join(differences)}"
        raise DataError(str(out), what, "Name another folder with --out, or remove this one")
    log.info("%s: the same photographs and settings; nothing to do", out)
    return store


def _compare_settings(store: Store, source: Source, plan: SplitPlan, options: PrepareOptions) -> list[str]:
    """The settings that differ from those of an existing store."""
    existing = store.manifest
    settings = {
        "dataset": (existing.dataset, source.dataset),
        "size": (existing.size_px, options.size_px),
        "margin": (existing.margin, options.margin),
        "split": (existing.split, plan.split),
        "subject": (existing.subject, source.classes.subject.name),
        "seed": (existing.seed, options.seed),
        f"number of {source.classes.subject.nouns}": (existing.sample, options.num_faces),
        "copies": (existing.copies, options.copies),
        "copies left out": (", ".join(existing.dropped) or "none", ", ".join(options.dropped) or "none"),
    }
    differences = [f"{name} {old}, not {new}" for name, (old, new) in settings.items() if old != new]
    return differences + ["other classes"] * (existing.class_names != tuple(source.classes.names))


def _read_fingerprint(source: Source, plan: SplitPlan, options: PrepareOptions) -> str:
    """The fingerprint of a source, for which all photographs are read."""

    def digest(name: str) -> str:
        return digest_photograph(source, name)

    names = list(dict.fromkeys(face.source for face in plan.faces))
    digests = options.threads.map(digest, names, title="comparing", unit="photographs")
    return _fingerprint_source(source, plan, dict(zip(names, digests, strict=True)))


def _fingerprint_source(source: Source, plan: SplitPlan, digests: Mapping[str, str]) -> str:
    """SHA-256 over the label file and, for each planned face, its name, label, split and its photograph's bytes."""
    digest = hashlib.sha256(source.label_digest)
    for face in sorted(plan.faces, key=lambda face: (face.source, face.face_id)):
        row = [face.source, face.face_id, face.label, face.split, digests[face.source]]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _write_skipped(out: Path, faults: Sequence[Fault]) -> None:
    """List what was left out beside the store, or remove the list of an earlier store."""
    file = skipped_file(out)
    if not faults:
        file.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["reason", "place", "what", "source", "face_id"])
    writer.writerows([fault.reason, fault.place, fault.what, fault.source, fault.face_id] for fault in faults)
    storage.write_bytes(file, text.getvalue().encode("utf-8", "backslashreplace"))


@contextmanager
def _list_what_was_left_out(out: Path, faults: Sequence[Fault]) -> Iterator[None]:
    """Leave the list also where a preparation is refused, and name it; the list of a store that exists is kept."""
    try:
        yield
    except DataError as error:
        if not faults or (out / "manifest.json").is_file():
            raise
        _write_skipped(out, faults)
        place, what, way_out = error.args
        raise DataError(place, what, f"{way_out}\n  {len(faults):,} rows left out: {skipped_file(out)}") from error


@contextmanager
def list_unusable(out: Path) -> Iterator[None]:
    """While a source is read: leave the list of what cannot be used where nothing else is left, or too little.

    Args:
        out: The store's folder.

    Raises:
        DataError: The source is refused; it names the list.
    """
    try:
        yield
    except UnusableSourceError as error:
        with _list_what_was_left_out(out.resolve(), error.faults):
            raise


def skipped_file(out: Path) -> Path:
    """The list of what a store left out: `OUT.skipped.csv`."""
    return out.with_name(f"{out.name}.skipped.csv")
