"""Which faces a store will hold, in which split and in which row.

All of this is decided before a photograph is opened, as if there were no copies: begin at `plan_split`. When the copies
are known, `divide_again` repeats the division and keeps each group of copies together.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ferray.data.copies.find import join_places
from ferray.data.prepare.options import DEFAULT_SPLIT, VALIDATION_FROM_TRAIN, PrepareOptions, Shares
from ferray.data.prepare.split import split_groups
from ferray.data.sampling import draw_sample
from ferray.data.sources.rows import Face, Fault, Source
from ferray.data.sources.ways_out import explain_faults
from ferray.data.store.manifest import SPLITS, split_place
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The planned rows of a store."""

    faces: Sequence[Face]
    """Each with its split; ordered by split, photograph and face id."""
    split: Shares | None
    """The shares of the division; None where the source's own split was kept."""
    given: Sequence[str]
    """The splits that the source brought and that are kept as they are."""
    required: Sequence[str]
    """The splits that must hold every class."""


def plan_split(source: Source, options: PrepareOptions) -> SplitPlan:
    """Draw and divide the faces of a source.

    Raises:
        DataError: There are no faces or too few, the source has a split of its own, or a class is empty in a split.
    """
    faces = _draw_faces(source, options)
    present = {face.split for face in faces}
    given = tuple(split for split in SPLITS if split in present)
    if not given:
        plan = _plan_own_split(faces, options.split or DEFAULT_SPLIT, options.seed)
    elif options.split is None:
        plan = SplitPlan(faces=faces, split=None, given=given, required=given)
    else:
        _check_divisible(source, given, options.split)
        plan = _plan_validation_from_train(faces, options.split, options.seed)
    check_classes(source, options, plan.faces, plan.required, source.unused)
    return replace(plan, faces=[plan.faces[row] for row in order_rows(plan.faces, range(len(plan.faces)))])


def take_validation_from_train(options: PrepareOptions, source: Source) -> PrepareOptions:
    """The options, with a validation split out of train where the source has none and no shares are given."""
    given = {face.split for face in source.faces}
    if options.split is None and given == {"train", "test"}:
        return replace(options, split=VALIDATION_FROM_TRAIN)
    return options


def divide_again(plan: SplitPlan, groups: Sequence[int], seed: int) -> SplitPlan:
    """Repeat the division so that no group crosses a split; the faces and their order stay.

    A group is named after its first photograph, so that photographs without copies are divided as before.

    Args:
        plan: The division without groups.
        groups: One number per face, equal for faces that must stay together.
        seed: Seed of the split.
    """
    if plan.split is None:
        return plan
    rows = [row for row, face in enumerate(plan.faces) if face.split not in plan.given]
    names: dict[int, str] = {}
    for row in rows:
        name = plan.faces[row].source
        names[groups[row]] = min(names.get(groups[row], name), name)
    divided = _divide([plan.faces[row] for row in rows], [names[groups[row]] for row in rows], plan.split, seed)
    faces = list(plan.faces)
    for row, face in zip(rows, divided, strict=True):
        faces[row] = face
    return replace(plan, faces=faces)


def order_rows(faces: Sequence[Face], rows: Iterable[int]) -> list[int]:
    """Rows in the order of a store: by split, photograph and face id."""
    return sorted(rows, key=lambda row: (split_place(faces[row].split), faces[row].source, faces[row].face_id))


def check_classes(
    source: Source, options: PrepareOptions, faces: Sequence[Face], required: Sequence[str], faults: Sequence[Fault]
) -> dict[str, list[str]]:
    """Refuse classes without faces where a model needs them.

    Every class needs faces in train, and in each split where the source requires its classes: scores of a split
    without a class could not be compared with others.

    Args:
        source: Where the faces come from.
        options: How they were drawn and divided, for the way out.
        faces: The faces that remain.
        required: The splits that must hold the classes.
        faults: What was left out, for the message.

    Returns:
        The classes that are missing from other splits, by split.

    Raises:
        DataError: It names the class and the split.
    """
    counts = Counter((face.split, face.label) for face in faces)
    totals = Counter(face.label for face in faces)
    noun, missing = source.classes.subject.noun, dict[str, list[str]]()
    for split in required:
        for label, name in enumerate(source.classes.names):
            if counts[split, label]:
                continue
            if totals[label] and split != "train" and not source.classes.are_required:
                missing.setdefault(split, []).append(name)
                continue
            what = f"class {name} has no {noun} in the {split} split, of {totals[label]} in all"
            way_out = _way_out_of_empty_class(source, options, label, split)
            if faults:
                left_out, way_out_of_faults = explain_faults(faults, source.root)
                what += f"; left out: {left_out}"
                way_out = f"{way_out_of_faults}; or: {way_out}" if totals[label] else way_out_of_faults
            raise DataError(str(source.root), what, way_out)
    return missing


def _way_out_of_empty_class(source: Source, options: PrepareOptions, label: int, split: str) -> str:
    """What to do where a class has no face in a split, apart from what was left out."""
    name, nouns = source.classes.names[label], source.classes.subject.nouns
    if options.num_faces is not None:
        return "Take more faces (--num-faces), other shares (--split) or another --seed"
    if not any(face.label == label for face in source.faces):
        if source.classes.names == CLASS_NAMES:
            return f"Add {nouns} of {name}: a model has the seven classes {', '.join(CLASS_NAMES)}"
        return f"Add {nouns} of {name}, or take the class away"
    if any(face.split == split for face in source.faces):
        return f"The split is the data set's own: add {nouns} of {name} to its {split} split"
    return f"Take other shares (--split) or another --seed, or add {nouns}"


def _draw_faces(source: Source, options: PrepareOptions) -> list[Face]:
    """All usable faces, or a sample of them, by photograph and face id."""
    faces = sorted(source.faces, key=lambda face: (face.source, face.face_id))
    if not faces:
        nothing = "there are none", "Name a folder that holds photographs, or a list that names some"
        shown, way_out = explain_faults(source.unused, source.root) if source.unused else nothing
        raise DataError(str(source.root), f"no usable {source.classes.subject.nouns}: {shown}", way_out)
    if options.num_faces is None:
        return faces
    if options.num_faces > len(faces):
        what = f"{options.num_faces:,} are asked for, but only {len(faces):,} {source.classes.subject.nouns} are usable"
        way_out = "Ask for fewer, or leave --num-faces out to take all"
        if source.unused:
            left_out, way_out_of_faults = explain_faults(source.unused, source.root)
            what, way_out = f"{what}; left out: {left_out}", f"{way_out}; or: {way_out_of_faults}"
        raise DataError(str(source.root), what, way_out)
    keys = [f"{face.source}\n{face.face_id}" for face in faces]
    strata = [(face.split or "", face.label) for face in faces]
    return [faces[place] for place in draw_sample(keys, strata, options.num_faces, options.seed)]


def _plan_own_split(faces: Sequence[Face], shares: Shares, seed: int) -> SplitPlan:
    """Divide faces that have no split."""
    divided = _divide(faces, name_groups(faces), shares, seed)
    required = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    return SplitPlan(faces=divided, split=shares, given=(), required=required)


def _plan_validation_from_train(faces: Sequence[Face], shares: Shares, seed: int) -> SplitPlan:
    """Divide the faces of train, and keep the faces of test."""
    train = [face for face in faces if face.split == "train"]
    test = [face for face in faces if face.split == "test"]
    divided = _divide(train, name_groups(train), shares, seed)
    required = SPLITS if shares[1] > 0 else ("train", "test")
    return SplitPlan(faces=[*divided, *test], split=shares, given=("test",), required=required)


def _check_divisible(source: Source, given: Sequence[str], shares: Shares) -> None:
    """Refuse to divide a source that has its own split, unless it is train and test without validation."""
    has_no_validation = tuple(given) == ("train", "test")
    if has_no_validation and not shares[2] > 0:
        return
    way_out = "Leave --split out"
    if has_no_validation:
        way_out += f"; or write --split 90/10/0 to take validation {source.classes.subject.nouns} out of train"
    raise DataError(str(source.root), f"has its own split ({', '.join(given)}), which is kept", way_out)


def name_groups(faces: Sequence[Face]) -> list[str]:
    """What keeps each face together with others: its photograph, or the first one of all that its group joins."""
    if all(face.group is None for face in faces):
        return [face.source for face in faces]
    firsts: dict[tuple[str, str], int] = {}
    pairs = []
    for place, face in enumerate(faces):
        pairs.append((place, firsts.setdefault(("photograph", face.source), place)))
        if face.group is not None:
            pairs.append((place, firsts.setdefault(("group", face.group), place)))
    groups = join_places(len(faces), pairs).tolist()
    names: dict[int, str] = {}
    for group, face in zip(groups, faces, strict=True):
        names[group] = min(names.get(group, face.source), face.source)
    return [names[group] for group in groups]


def _divide(faces: Sequence[Face], groups: Sequence[str], shares: Shares, seed: int) -> list[Face]:
    parts = split_groups(groups, [face.label for face in faces], shares, seed)
    return [replace(face, split=SPLITS[part]) for face, part in zip(faces, parts, strict=True)]
