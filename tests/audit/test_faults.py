"""Each planted fault is found by name, and a clean data set has no finding."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.planted import (
    Line,
    Row,
    altered,
    clean_rows,
    copies_of,
    draw_list,
    encode,
    mirrored,
    name_of,
    write_csv,
    write_list,
    write_tree,
)

from ferray.audit.dataset.check import DatasetReport, check_dataset
from ferray.audit.dataset.report_text import format_report
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.dataset.scan.read import scan_dataset
from ferray.audit.finding import Finding
from ferray.data.subject import CLASS_NAMES
from ferray.data.threads import Threads


def look(path: Path) -> DatasetReport:
    report = check_dataset(scan_dataset(path, Threads()))
    assert format_report(report)
    return report


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory: pytest.TempPathFactory) -> ScannedDataset:
    """The rows of `clean_rows()` as they were read, in the order of the tree."""
    return scan_dataset(write_tree(tmp_path_factory.mktemp("clean") / "tree", clean_rows()), Threads())


@pytest.fixture(scope="module")
def clean_list(tmp_path_factory: pytest.TempPathFactory) -> ScannedDataset:
    """The lines of `draw_list(210)` as they were read."""
    return scan_dataset(write_list(tmp_path_factory.mktemp("clean") / "expw", *draw_list(210)), Threads())


def rename(dataset: ScannedDataset, name: Callable[[int, str, str], str]) -> DatasetReport:
    """The same pictures under other names, each a function of row, class and present name."""
    names = []
    for row, old in enumerate(dataset.names):
        folder, _, file = old.rpartition("/")
        names.append(f"{folder}/{name(row, CLASS_NAMES[dataset.labels[row]], file)}")
    return check_dataset(replace(dataset, names=tuple(names)))


def severe(report: DatasetReport) -> dict[str, Finding]:
    """Findings that a clean set must not have."""
    return {finding.id: finding for finding in report.findings if finding.severity != "note"}


def of(rows: list[Row], split: str) -> list[Row]:
    return [row for row in rows if row.split == split]


def test_a_clean_tree_with_a_split_has_no_finding(clean_tree: ScannedDataset) -> None:
    assert check_dataset(clean_tree).findings == ()


def test_a_clean_tree_without_a_split_has_no_finding(tmp_path: Path) -> None:
    rows = [replace(row, split="") for row in clean_rows(70)]

    assert look(write_tree(tmp_path / "tree", rows)).findings == ()


def test_a_clean_list_has_no_finding(clean_list: ScannedDataset) -> None:
    assert check_dataset(clean_list).findings == ()


def test_unequal_classes_are_no_fault(tmp_path: Path) -> None:
    rows = [row for at, row in enumerate(clean_rows()) if row.label not in (1, 2) or at % 3 == 0]

    assert not severe(look(write_tree(tmp_path / "tree", rows)))


def test_rare_classes_copied_before_the_split_are_found(tmp_path: Path) -> None:
    rows = clean_rows()
    rare = [row for row in rows if row.label == 1][:6]
    rest = [row for row in rows if row.label != 1]
    balanced = [replace(row, name=name_of(20_000 + at)) for at, row in enumerate(rare * 5)]
    split = [replace(row, split="train" if at % 5 else "test") for at, row in enumerate(rest + balanced)]

    finding = severe(look(write_tree(tmp_path / "tree", split)))["classes-balanced-by-copies"]

    assert finding.severity == "fault"
    assert "disgust" in finding.seen
    assert "rarest" in finding.advice


def test_rare_classes_copied_within_train_are_a_note(tmp_path: Path) -> None:
    rows = [row for row in clean_rows() if row.label != 1 or row.split != "train"]
    rare = [row for row in of(clean_rows(), "train") if row.label == 1][:2]
    rows += [replace(row, name=name_of(20_000 + at)) for at, row in enumerate(rare * 6)]

    report = look(write_tree(tmp_path / "tree", rows))

    assert not severe(report)
    assert [finding.id for finding in report.findings] == ["classes-balanced-by-copies"]


@pytest.mark.parametrize("ending", ["", "_aug_1"])
def test_mirrored_copies_of_test_faces_in_train_are_found(tmp_path: Path, ending: str) -> None:
    rows = clean_rows()
    rows += copies_of(of(rows, "test"), "train", mirrored, ending=ending)

    finding = severe(look(write_tree(tmp_path / "tree", rows)))["augmented-copies-across-splits"]

    assert finding.severity == "fault"
    assert "26 of 26" in finding.seen


def test_the_same_photograph_in_two_splits_is_found(tmp_path: Path) -> None:
    rows = clean_rows()
    rows += copies_of(of(rows, "test")[:3], "train", lambda pixels: pixels)

    findings = severe(look(write_tree(tmp_path / "tree", rows)))

    assert set(findings) == {"same-photograph-across-splits"}
    assert findings["same-photograph-across-splits"].num == 3
    assert rows[-1].path in " ".join(findings["same-photograph-across-splits"].examples)


def test_a_near_copy_in_two_splits_is_found(tmp_path: Path) -> None:
    rows = clean_rows()
    rows += copies_of(of(rows, "test")[:8], "train", altered)

    findings = severe(look(write_tree(tmp_path / "tree", rows)))

    assert set(findings) == {"copies-across-splits"}
    assert findings["copies-across-splits"].severity == "fault"
    assert findings["copies-across-splits"].num >= 7


def test_validation_drawn_from_copies_of_training_faces_is_found(tmp_path: Path) -> None:
    rows = [row for row in clean_rows() if row.split != "validation"]
    rows += copies_of(of(rows, "train")[::3], "validation", altered)

    assert "validation-from-copies-of-training" in severe(look(write_tree(tmp_path / "tree", rows)))


def test_frames_of_one_person_in_two_splits_are_found(tmp_path: Path) -> None:
    rows = clean_rows(140)
    random = np.random.default_rng(0)
    for person, row in enumerate(of(rows, "train")[:10]):
        for frame in range(6):
            turn = cv2.getRotationMatrix2D((32, 32), 1.5 * frame, 1 + 0.01 * frame)
            moved = cv2.warpAffine(row.pixels, turn, (64, 64), borderMode=cv2.BORDER_REPLICATE)
            noisy = np.clip(moved + random.normal(0, 4, moved.shape), 0, 255).astype(np.uint8)
            split = ("train", "train", "test")[frame % 3]
            rows.append(Row(split, row.label, f"S{person:03}_001_{frame + 1:08}", noisy))

    finding = severe(look(write_tree(tmp_path / "tree", rows)))["series-across-splits"]

    assert finding.severity == "fault"
    assert finding.num == 20
    assert "S00" in finding.examples[0]


def test_numbered_pictures_of_different_people_are_not_a_series(clean_tree: ScannedDataset) -> None:
    assert not severe(rename(clean_tree, lambda row, word, file: f"face_{row:05}.png"))


def test_a_word_that_predicts_the_label_is_found(clean_tree: ScannedDataset) -> None:
    places = dict(zip(CLASS_NAMES, ("studio", "street", "film", "party", "news", "forum", "passport"), strict=True))

    finding = severe(rename(clean_tree, lambda row, word, file: f"{places[word]}_{file}"))["label-in-file-name"]

    assert "100.0 % of held-out labels" in finding.seen
    assert any(place in example for place in places.values() for example in finding.examples)


def test_the_name_of_the_class_in_a_file_name_is_a_note(clean_tree: ScannedDataset) -> None:
    report = rename(clean_tree, lambda row, word, file: f"{word}_{file}")

    assert [(finding.id, finding.severity) for finding in report.findings] == [("label-in-file-name", "note")]


def test_a_list_sorted_by_class_is_found(tmp_path: Path) -> None:
    lines, photographs = draw_list(70)

    report = look(write_list(tmp_path / "expw", sorted(lines, key=lambda line: line.label), photographs))

    assert set(severe(report)) == {"rows-sorted-by-class"}


def test_a_class_that_a_split_lacks_is_found(tmp_path: Path) -> None:
    rows = [row for row in clean_rows() if (row.split, row.label) != ("test", 2)]

    finding = severe(look(write_tree(tmp_path / "tree", rows)))["class-missing-in-split"]

    assert "fear has no face in test" in finding.seen


def test_a_class_that_the_set_lacks_is_found(tmp_path: Path) -> None:
    rows = [row for row in clean_rows() if row.label != 6]

    assert "neutral" in severe(look(write_tree(tmp_path / "tree", rows)))["class-missing"].seen


def test_class_names_in_another_order_in_test_are_found(tmp_path: Path) -> None:
    as_raf_db = (5, 2, 1, 3, 4, 0, 6)  # its numbers without names: surprise, fear, disgust, happy, sad, angry, neutral
    halves = [replace(row, split=("train", "test")[at // 7 % 2]) for at, row in enumerate(clean_rows(280))]
    rows = [replace(row, label=as_raf_db.index(row.label)) if row.split == "test" else row for row in halves]

    finding = severe(look(write_tree(tmp_path / "tree", rows)))["class-order-mixed-up"]

    assert "test angry looks like surprise" in finding.seen


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_shifted_by_one_row_are_found(clean_list: ScannedDataset, shift: int) -> None:
    finding = severe(check_dataset(replace(clean_list, labels=np.roll(clean_list.labels, shift))))[
        "labels-shifted-by-one-row"
    ]

    assert ("row below" if shift == 1 else "row above") in finding.seen


def test_box_columns_in_another_order_are_found_and_read_right(tmp_path: Path) -> None:
    lines, photographs = draw_list(70)
    clean = look(write_list(tmp_path / "clean", lines, photographs))

    report = look(write_list(tmp_path / "expw", lines, photographs, order=(1, 0, 2, 3)))

    assert "left, top, right, bottom" in severe(report)["box-columns-in-wrong-order"].seen
    assert set(severe(report)) == {"box-columns-in-wrong-order"}
    assert report.counts == clean.counts


def test_faces_that_overwrote_their_siblings_are_found(tmp_path: Path) -> None:
    lines, photographs = draw_list(140)
    crops = {line.name: _crop(photographs[line.name], line) for line in lines}  # the last face of a name is left

    finding = severe(look(write_list(tmp_path / "expw", lines, crops)))["siblings-overwritten"]

    assert finding.num == len(lines) - len(photographs)
    assert f"{len(lines)} rows, but {len(photographs)} pictures" in finding.seen


def _crop(jpeg: bytes, line: Line) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    top, left, right, bottom = line.box
    return encode(np.asarray(cv2.resize(pixels[top:bottom, left:right], (48, 48))), ".jpg")


def test_constant_and_broken_pictures_are_found(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[5:9] = [replace(row, pixels=np.full((64, 64, 3), 17, np.uint8)) for row in rows[5:9]]
    tree = write_tree(tmp_path / "tree", rows)
    file = tree / rows[20].path
    file.write_bytes(file.read_bytes()[:500])

    findings = severe(look(tree))

    assert set(findings) == {"constant-pictures", "unusable-rows"}
    assert findings["constant-pictures"].num == 4
    assert findings["unusable-rows"].num == 1
    assert rows[20].name in findings["unusable-rows"].examples[0]


def test_a_split_whose_classes_are_distributed_differently_is_found(tmp_path: Path) -> None:
    rows = [
        row for at, row in enumerate(clean_rows(280)) if (row.label in (3, 6)) == (row.split == "test") or not at % 4
    ]

    assert "class-shares-differ" in severe(look(write_tree(tmp_path / "tree", rows)))


def test_faces_in_a_csv_file_are_checked_like_others(tmp_path: Path) -> None:
    rows = clean_rows()
    clean = look(write_csv(tmp_path / "fer2013.csv", rows))
    rows += copies_of(of(rows, "test"), "train", mirrored)

    leaking = look(write_csv(tmp_path / "icml_face_data.csv", rows, header="emotion, Usage, pixels"))

    assert not severe(clean)
    assert "augmented-copies-across-splits" in severe(leaking)
    assert leaking.num_faces == len(rows)


def test_copies_with_different_labels_are_found(tmp_path: Path) -> None:
    rows = [replace(row, split="") for row in clean_rows()]
    rows += [replace(row, label=(row.label + 1) % 7) for row in copies_of(rows[:6], "", altered)]

    report = look(write_tree(tmp_path / "tree", rows))

    assert set(severe(report)) == {"copies-with-conflicting-labels"}
    assert report.ceiling is not None
    assert report.ceiling.conflicts.value == 1
