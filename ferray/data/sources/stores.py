"""Prepared stores as one source, to be merged: their faces, splits, groups, columns and votes.

Names are put behind the store's: `expw/happy_man_3.jpg`. A column `store` says where a face comes from, so that scores
can be compared by it. Classes are mapped by name: `anger` of one store is `angry` of another, since both mean the same
expression. Begin at `read_stores`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ferray.data.sources.classes import Classes, choose_classes, classes_of_expressions
from ferray.data.sources.rows import TABLE_COLUMNS, Face, Fault, Source
from ferray.data.store.reader import Store, open_store
from ferray.data.store.verify import verify_store
from ferray.data.subject import CLASS_NAMES, EXPRESSIONS
from ferray.errors import DataError

if TYPE_CHECKING:
    import pandas

ClassChoice = Literal["same", "all", "common"]
"""Refuse stores with unlike classes; take the classes of all; or only those that all stores have."""

STORE_COLUMN = "store"
MAX_STORES = 100
MAX_COLUMNS = 150
_PICTURE_COLUMNS = (
    "top", "left", "right", "bottom", "face_px", "photo_width_px", "photo_height_px", "gray", "overruns",
)  # fmt: skip
"""What a store's table says of the photograph that a face was cropped from: it stays true of the face."""


def read_stores(folders: Sequence[Path], classes: ClassChoice = "same") -> Source:
    """The faces of several stores.

    Args:
        folders: The stores.
        classes: What to do about classes that not all of them have.

    Raises:
        DataError: There are fewer than two; one is no store, or damaged; their sizes, margins or classes differ.
    """
    if not 2 <= len(folders) <= MAX_STORES:
        raise DataError("merge", f"{len(folders)} stores", f"Name 2 to {MAX_STORES} stores")
    stores = [open_store(folder) for folder in folders]
    names = _name_stores(stores)
    _check_size(stores)
    margin = _common_margin(stores)
    for store in stores:
        verify_store(store)
    known, labels = _map_classes(stores, names, classes)
    have_votes = all(store.votes is not None for store in stores)
    columns = list(dict.fromkeys(name for store in stores for name in _own_columns(store.table)))
    if len(columns) > MAX_COLUMNS:
        raise DataError("merge", f"the stores have {len(columns)} columns together", f"At most {MAX_COLUMNS} are kept")
    faces: list[Face] = []
    left_out: list[Fault] = []
    places: dict[str, tuple[Store, int]] = {}
    for number, (store, name) in enumerate(zip(stores, names, strict=True)):
        rows: list[dict[str, Any]] = store.table.to_dict("records")  # type: ignore[assignment]
        for row, values in enumerate(rows):
            source = _name_face(name, values)
            label = labels[number][int(store.labels[row])]
            if label is None:
                what = f"{store.class_names[store.labels[row]]} is not a class of all stores"
                left_out.append(Fault("of another class", f"{name}, row {row}", what, source))
                continue
            places[source] = store, row
            faces.append(
                Face(
                    source,
                    0,
                    label,
                    f"{name}, row {row}",
                    split=str(values["split"]),
                    group=f"{number}/{values['group']}",
                    columns=_columns_of(values, columns, name),
                    votes=_votes_of(store, row, labels[number], len(known.names)) if have_votes else None,
                )
            )
    if len(places) < len(faces):
        twice = Counter(face.source for face in faces).most_common(1)[0][0]
        raise DataError("merge", f"two faces are named {twice}", "Prepare that store again")

    def pixels(source: str) -> NDArray[np.uint8]:
        store, row = places[source]
        return np.ascontiguousarray(store.faces[row][..., ::-1])

    return Source(
        dataset="+".join(_merged_datasets(stores)),
        root=stores[0].folder.parent,
        faces=faces,
        faults=[],
        upright=True,
        classes=known,
        is_listed=True,
        label_digest=hashlib.sha256("\n".join(store.fingerprint for store in stores).encode()).digest(),
        left_out=left_out,
        notes=_describe(stores, names, have_votes),
        pixels=pixels,
        margin=margin,
    )


def _name_stores(stores: Sequence[Store]) -> list[str]:
    """The name of each store's folder; with the folder above, where two have one name."""
    names = [store.folder.name for store in stores]
    if len(set(names)) < len(names):
        names = ["/".join(store.folder.parts[-2:]) for store in stores]
    if len({store.folder for store in stores}) < len(stores) or len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError("merge", f"the store {twice} is named twice", "Name each once, in folders of unlike names")
    return names


def _check_size(stores: Sequence[Store]) -> None:
    sizes = Counter(store.size_px for store in stores)
    if len(sizes) > 1:
        shown = ", ".join(f"{store.folder.name} {store.size_px} px" for store in stores)
        usual = max(sizes, key=lambda size: (sizes[size], size))
        other = next(store for store in stores if store.size_px != usual)
        raise DataError(
            "merge", f"the stores have unlike sizes: {shown}", f"Prepare {other.folder.name} again with --size {usual}"
        )


def _common_margin(stores: Sequence[Store]) -> float:
    """The margin of the stores whose faces were cropped; 0 where all took whole pictures.

    A model's preprocessing has one margin, by which faces of new photographs are cropped.
    """
    margins = {store.manifest.margin for store in stores} - {0.0}
    if len(margins) > 1:
        shown = ", ".join(f"{store.folder.name} {store.manifest.margin:g}" for store in stores)
        raise DataError("merge", f"the stores have unlike margins: {shown}", "Prepare them again with one --margin")
    return next(iter(margins), 0.0)


def _map_classes(
    stores: Sequence[Store], names: Sequence[str], choice: ClassChoice
) -> tuple[Classes, list[list[int | None]]]:
    """The classes of the merged store, and for each store the new label of each of its own, None where it has none."""
    own = [_common_names(store) for store in stores]
    for store, renamed in zip(stores, own, strict=True):
        if len(set(renamed)) < len(renamed):
            twice = Counter(renamed).most_common(1)[0][0]
            what = f"two classes of {store.folder.name} mean {twice!r}: {', '.join(store.class_names)[:200]}"
            raise DataError("merge", what, "Prepare it again with --classes FILE, which joins them")
    union = list(dict.fromkeys(name for renamed in own for name in renamed))
    common = [name for name in union if all(name in renamed for renamed in own)]
    if choice == "same" and len(common) < len(union):
        raise DataError("merge", _describe_missing(names, own, union), _WAYS_OUT)
    kept = common if choice == "common" else union
    if len(kept) < 2:
        what = f"only {len(kept)} classes are in all stores: {', '.join(kept) or 'none'}"
        raise DataError("merge", what, "Take the classes of all: --classes all")
    are_expressions = set(kept) <= set(_IN_ORDER)
    known = (
        classes_of_expressions([name for name in _IN_ORDER if name in kept])
        if are_expressions
        else choose_classes(None, kept, "merge")
    )
    return known, [[known.find(name) if name in kept else None for name in renamed] for renamed in own]


_IN_ORDER = (*CLASS_NAMES, "contempt")
_EIGHT = classes_of_expressions(_IN_ORDER)
_WAYS_OUT = (
    "A model would learn such a class from some sources alone, and could tell it by the source. Take only the classes "
    "of all stores: --classes common; or, knowing this, the classes of any: --classes all"
)


def _common_names(store: Store) -> list[str]:
    """The classes of a store, with the usual words for expressions."""
    if store.manifest.shown is not EXPRESSIONS:
        return list(store.class_names)
    known = [_EIGHT.find(name) for name in store.class_names]
    return [
        name if label is None else _EIGHT.names[label] for name, label in zip(store.class_names, known, strict=True)
    ]


def _describe_missing(names: Sequence[str], own: Sequence[Sequence[str]], union: Sequence[str]) -> str:
    lacking = [
        f"{name} lacks {', '.join(missing[:8])}"
        for name, renamed in zip(names, own, strict=True)
        if (missing := [one for one in union if one not in renamed])
    ]
    return f"the stores have unlike classes: {'; '.join(lacking)}"


def _own_columns(table: "pandas.DataFrame") -> list[str]:
    return [str(name) for name in table.columns if name not in TABLE_COLUMNS or name in _PICTURE_COLUMNS]


def _columns_of(values: Mapping[str, Any], columns: Sequence[str], name: str) -> dict[str, str | float | None]:
    """A face's values of the columns of all stores; None of a column that its store does not have."""
    found = {column: _plain_value(values.get(column)) for column in columns}
    inner = found.get(STORE_COLUMN)
    return found | {STORE_COLUMN: f"{name}/{inner}" if inner else name}


def _plain_value(value: Any) -> str | float | None:
    if value is None or value != value:  # NaN, which a column of numbers has in place of None
        return None
    plain: str | float = value.item() if isinstance(value, np.generic) else value
    return plain


def _name_face(name: str, values: Mapping[str, Any]) -> str:
    """A name of its own for each face, since each is a picture here; the second one of a photograph has its number."""
    source, face_id = values.get("source", values["sha256"]), int(values.get("face_id", 0))
    return f"{name}/{source}#{face_id}" if face_id else f"{name}/{source}"


def _votes_of(store: Store, row: int, labels: Sequence[int | None], num: int) -> tuple[int, ...]:
    """The votes for the classes of the merged store; at least the label has one."""
    assert store.votes is not None
    votes = [0] * num
    for count, label in zip(store.votes[row].tolist(), labels, strict=True):
        if label is not None:
            votes[label] += count
    label = labels[int(store.labels[row])]
    if label is not None and not any(votes):
        votes[label] = 1
    return tuple(votes)


def _merged_datasets(stores: Sequence[Store]) -> list[str]:
    """The sets of all stores; one that is merged with itself is named twice, so that the name shows it."""
    sets = list(dict.fromkeys(name for store in stores for name in store.manifest.datasets))
    return sets if len(sets) > 1 else sets * 2


_COUNTED_AGAIN = ("are copies of", "pairs of copies", "copies of photographs were not looked for")
"""Notes of a store that do not hold for the merged one, whose copies are looked for and left out anew."""


def _describe(stores: Sequence[Store], names: Sequence[str], have_votes: bool) -> list[str]:
    notes = [
        f"{name}: {store.manifest.num_faces:,} {store.manifest.shown.nouns} from {store.manifest.dataset}, "
        f"fingerprint {store.fingerprint[:16]}"
        for store, name in zip(stores, names, strict=True)
    ]
    notes += [
        f"{name}: {note}"
        for store, name in zip(stores, names, strict=True)
        for note in store.manifest.notes
        if not any(words in note for words in _COUNTED_AGAIN)
    ]
    voted = [name for store, name in zip(stores, names, strict=True) if store.votes is not None]
    if voted and not have_votes:
        notes.append(f"only {', '.join(voted)} had votes, so labels alone were kept")
    return notes
