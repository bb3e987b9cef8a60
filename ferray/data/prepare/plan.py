"""Which faces a store will hold, in which split and in which row.

All of it is decided before a photograph is opened, as if there were no copies: begin at `make_plan`. When copies are
known, `divide_again` divides what was divided, each group of copies as one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ferray.data.prepare.options import DEFAULT_SPLIT, Options, Shares
from ferray.data.prepare.split import sample, split_groups
from ferray.data.sources.rows import CLASS_NAMES, Face, Fault, Source
from ferray.data.store.manifest import SPLITS
from ferray.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows of a store to be."""

    faces: Sequence[Face]
    """Each with its split; ordered by split, photograph and face id."""
    split: Shares | None
    """The shares that divided them; None where the source's own split was kept."""
    kept: Sequence[str]
    """The splits that are the source's own."""
    wanted: Sequence[str]
    """The splits that must hold every class."""


def make_plan(source: Source, options: Options) -> Plan:
    """Draw and divide the faces of a source.

    Raises:
        DataError: There are no faces or too few, the source has a split of its own, or a class is empty in a split.
    """
    num_faces, split, seed = options.num_faces, options.split, options.seed
    faces = sorted(source.faces, key=lambda face: (face.source, face.face_id))
    if not faces:
        shown = _count_faults(source.faults) or "there are none"
        raise DataError(str(source.root), f"no usable faces: {shown}", "Check the folder and the labels")
    if num_faces is not None:
        if num_faces > len(faces):
            what = f"{num_faces:,} are asked for, but only {len(faces):,} faces are usable"
            raise DataError(str(source.root), what, "Ask for fewer, or leave --num-faces out to take all")
        keys = [f"{face.source}\n{face.face_id}" for face in faces]
        strata = [(face.split or "", face.label) for face in faces]
        faces = [faces[at] for at in sample(keys, strata, num_faces, seed)]
    given = sorted({face.split for face in faces if face.split is not None}, key=SPLITS.index)
    kept = given
    if not given:
        split = split or DEFAULT_SPLIT
        faces = _divide(faces, [face.source for face in faces], split, seed)
        wanted = [name for name, share in zip(SPLITS, split, strict=True) if share > 0]
    elif split is None:
        wanted = given
    else:
        _check_divisible(source, given, split)
        kept = ["test"]
        train = [face for face in faces if face.split == "train"]
        train = _divide(train, [face.source for face in train], split, seed)
        faces = train + [face for face in faces if face.split == "test"]
        wanted = [name for name in SPLITS if name in given or (name == "validation" and split[1] > 0)]
    check_classes(source, faces, wanted, source.faults)
    faces = [faces[at] for at in in_order(faces, range(len(faces)))]
    return Plan(faces=faces, split=split, kept=kept, wanted=wanted)


def divide_again(plan: Plan, groups: Sequence[int], seed: int) -> Plan:
    """The same faces in the same order, what ferray divides divided so that no group crosses a split.

    A group goes by the name of its first photograph, so that photographs without copies are divided as before.

    Args:
        plan: As made.
        groups: One number a face; equal for those that must stay together.
        seed: Of the split.
    """
    if plan.split is None:
        return plan
    rows = [row for row, face in enumerate(plan.faces) if face.split not in plan.kept]
    names: dict[int, str] = {}
    for row in rows:
        name = plan.faces[row].source
        names[groups[row]] = min(names.get(groups[row], name), name)
    divided = _divide([plan.faces[row] for row in rows], [names[groups[row]] for row in rows], plan.split, seed)
    faces = list(plan.faces)
    for row, face in zip(rows, divided, strict=True):
        faces[row] = face
    return replace(plan, faces=faces)


def in_order(faces: Sequence[Face], rows: Iterable[int]) -> list[int]:
    """Rows in the order of a store: by split, photograph and face id."""
    return sorted(rows, key=lambda row: (SPLITS.index(faces[row].split or ""), faces[row].source, faces[row].face_id))


def check_classes(source: Source, faces: Sequence[Face], wanted: Sequence[str], faults: Sequence[Fault]) -> None:
    """Refuse a split without faces of a class: its scores would not mean what they say.

    Args:
        source: Where the faces come from.
        faces: Those that are left.
        wanted: The splits that must hold every class.
        faults: What was left out, which may be why.

    Raises:
        DataError: It names the class and the split.
    """
    counts = Counter((face.split, face.label) for face in faces)
    totals = Counter(face.label for face in faces)
    for split in wanted:
        for label, name in enumerate(CLASS_NAMES):
            if not counts[split, label]:
                what = f"class {name} has no face in the {split} split, of {totals[label]} in all"
                left_out = _count_faults(faults)
                what += f"; left out: {left_out}" if left_out else ""
                way_out = "Take more faces (--num-faces), other shares (--split) or another --seed"
                raise DataError(str(source.root), what, way_out)


def _count_faults(faults: Sequence[Fault]) -> str:
    """How many rows were left out, by reason."""
    reasons = Counter(fault.reason for fault in faults)
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


def _divide(faces: Sequence[Face], groups: Sequence[str], shares: Shares, seed: int) -> list[Face]:
    parts = split_groups(groups, [face.label for face in faces], shares, seed)
    return [replace(face, split=SPLITS[part]) for face, part in zip(faces, parts, strict=True)]


def _check_divisible(source: Source, given: Sequence[str], shares: Shares) -> None:
    """Refuse to divide a tree with a split of its own, but for one of train and test that lacks validation faces."""
    if list(given) != ["train", "test"] or shares[2] > 0:
        what = f"has its own split ({', '.join(given)}), which is kept"
        way_out = "Leave --split out"
        if list(given) == ["train", "test"]:
            way_out += "; or write --split 90/10/0 to take validation faces out of train"
        raise DataError(str(source.root), what, way_out)
