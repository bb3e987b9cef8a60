"""Promises of what the page says of the data: only what is on record, and what was not checked."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas
import pytest
from fixtures.data import write_tiny_store
from fixtures.page_stores import store_of_many_classes

from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.report.page.data import DataNotes, describe_data
from ferray.report.page.notes import Command
from ferray.report.page.pictures import picture_groups


def store_with_copies(folder: Path, *, pairs: int = 40, conflicts: int = 10, **provenance: Any) -> Store:
    """Copies in pairs, of which some have different labels."""
    tiny = write_tiny_store(folder / "tiny", per_class=(12, 1, 1))
    table = pandas.DataFrame(tiny.table).drop(columns="sha256")
    same, labels = list(range(len(table))), table["label"].tolist()
    for pair in range(pairs):
        same[2 * pair + 1] = same[2 * pair]
        labels[2 * pair + 1] = (labels[2 * pair] + (pair < conflicts)) % 7
    table = table.assign(same_face=same, label=labels)
    with StoreWriter(folder / "store", num_faces=len(table), size_px=32) as writer:
        for row, face in enumerate(tiny.faces):
            writer.put(row, face)
        made = Provenance(dataset="csv", margin=0.0, source_fingerprint="x", **{"copies": "find", **provenance})
        writer.finish(table, tiny.class_names, made)
    return open_store(folder / "store")


def notes_of(store: Store) -> DataNotes:
    return describe_data(str(store.folder), store.manifest, store)


def test_the_noise_ceiling_is_measured_on_the_copies_of_the_store(tmp_path: Path) -> None:
    ceiling = notes_of(store_with_copies(tmp_path)).ceiling

    assert "By 40 groups of copies" in ceiling
    assert "two copies have the same label with probability 0.750" in ceiling
    assert "more accurate than 0.866" in ceiling


@pytest.mark.parametrize(
    "provenance, ceiling, copies",
    [
        ({"copies": "skip"}, "Not checked", "Not checked"),
        ({"dropped": ("conflicts",)}, "Not known: copies with different labels were left out", "all were left out"),
        ({"split": (0.7, 0.1, 0.2)}, "By 40 groups", "kept in one split each"),
        ({"split": None}, "By 40 groups", "makes scores too good"),
        ({"split": None, "dropped": ("leaks",)}, "By 40 groups", "those across the source's own splits were left out"),
    ],
)
def test_what_was_not_looked_for_is_not_claimed(
    provenance: dict[str, Any], ceiling: str, copies: str, tmp_path: Path
) -> None:
    notes = notes_of(store_with_copies(tmp_path, **provenance))

    assert ceiling in notes.ceiling
    assert copies in notes.copies


def test_a_store_without_a_copy_has_no_ceiling(tmp_path: Path) -> None:
    assert notes_of(store_with_copies(tmp_path, pairs=0)).ceiling == "Not known: no face has a copy."


def test_a_store_that_is_gone_is_named_with_the_command_that_checks_it() -> None:
    notes = describe_data("data/my faces", None, None)

    assert notes.counts is None
    assert notes.check.command == "python -m ferray.data check 'data/my faces'"
    assert "could not be read" in notes.ceiling


def test_copies_with_different_labels_are_shown_together(tmp_path: Path) -> None:
    (group,) = picture_groups(tmp_path, store_with_copies(tmp_path, conflicts=3), has_test_score=False)

    assert "3 groups of copies have different labels" in group.note
    assert [picture.text for picture in group.pictures] == [
        text for number in (1, 2, 3) for text in (f"group {number}: angry", f"group {number}: disgust")
    ]
    assert all(picture.source.startswith("data:image/jpeg;base64,") for picture in group.pictures)


def test_counts_of_many_classes_are_given_by_split_alone(tmp_path: Path) -> None:
    store = store_of_many_classes(tmp_path / "many", num_classes=30)
    counts = notes_of(store).counts

    assert counts is not None
    assert [row[0] for row in counts.rows] == ["all 30 classes"]
    assert dataclasses.asdict(counts)["head"][1:] == ("train", "validation", "test")


def test_a_command_of_two_lines_is_not_offered_to_be_copied() -> None:
    assert Command(text="one", command="python -m ferray.search").can_copy
    assert not Command(text="two", command="echo\nrm -r data").can_copy
