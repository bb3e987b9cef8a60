"""`check`: what it reads, its report, its exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.expw import WORDS
from fixtures.planted import altered, clean_rows, copies_of, draw_list, write_csv, write_list, write_tree
from fixtures.prepare import small

from ferray.audit.dataset.check import CopyCounts, DatasetReport, check_dataset
from ferray.audit.dataset.faults.class_order import find_mixed_order
from ferray.audit.dataset.faults.labels import find_shifted_labels
from ferray.audit.dataset.report_text import REPORT_WIDTH, _copy_lines, format_report
from ferray.audit.dataset.scan.photographs import scan_expw
from ferray.audit.dataset.scan.read import scan_dataset
from ferray.commands.data import main
from ferray.data.prepare.run import prepare
from ferray.data.sources.boxes import EXPW_ORDER, KNOWN_ORDERS, infer_box_order, to_box
from ferray.data.sources.expw import read_expw
from ferray.data.sources.fer2013_csv import read_fer2013_csv
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box
from ferray.data.threads import Threads
from ferray.errors import DataError


def check(path: Path) -> DatasetReport:
    return check_dataset(scan_dataset(path, Threads()))


@pytest.fixture(scope="module")
def leaking_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = clean_rows()
    rows += copies_of([row for row in rows if row.split == "test"][:9], "train", altered)
    return write_tree(tmp_path_factory.mktemp("leaking") / "tree", rows)


@pytest.fixture(scope="module")
def leaking_report(leaking_tree: Path) -> DatasetReport:
    return check(leaking_tree)


def test_a_store_that_ferray_split_is_clean_though_its_photographs_have_copies(tmp_path: Path) -> None:
    rows = [replace(row, split="") for row in clean_rows()]
    rows += copies_of(rows[::4], "", altered)
    store = prepare(read_folders(write_tree(tmp_path / "tree", rows)), tmp_path / "store", small(size_px=64))

    report = check(store.folder)

    assert report.copies.num_groups > 30
    assert all(leak.num == 0 for leak in report.leaks)
    assert not report.has_fault


def test_a_store_with_a_given_split_shows_its_leaks(leaking_tree: Path, tmp_path: Path) -> None:
    store = prepare(read_folders(leaking_tree), tmp_path / "store", small(size_px=64))

    report = check(store.folder)

    (leak,) = [leak for leak in report.leaks if (leak.earlier, leak.later) == ("train", "test")]
    assert 8 <= leak.num <= 9
    assert report.has_fault


def test_a_list_and_its_store_are_the_same_faces(tmp_path: Path) -> None:
    folder = write_list(tmp_path / "drawn", *draw_list(70))
    store = prepare(read_expw(folder / "origin", folder / "label.lst"), tmp_path / "store", small(size_px=64))

    by_path = check(folder)
    by_files = check_dataset(scan_expw(folder / "origin", folder / "label.lst", Threads()))
    of_store = check(store.folder)

    assert by_path == by_files
    assert by_path.num_faces == of_store.num_faces == store.manifest.num_faces
    assert by_path.num_photographs == of_store.num_photographs == 70


def test_the_text_is_narrow_and_the_json_has_the_same_content(leaking_report: DatasetReport) -> None:
    text = format_report(leaking_report)
    values = json.loads(json.dumps(leaking_report.to_json()))

    assert text.startswith("A score on this data would be wrong: 1 fault, listed below.\n")
    assert REPORT_WIDTH == 80
    assert [line for line in text.splitlines() if len(line) > 80 and "/" not in line] == []
    assert "FAULT   copies-across-splits" in text
    assert [finding["id"] for finding in values["findings"]] == ["copies-across-splits"]
    assert values["counts"]["test"]["happy"] > 0
    assert {"seen", "matters", "advice", "severity", "examples"} <= set(values["findings"][0])


def test_strict_exits_with_1_at_a_fault(leaking_tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(leaking_tree), "--strict"]) == 1

    printed = capsys.readouterr()
    assert "FAULT   copies-across-splits" in printed.out
    assert "reading" in printed.err


def test_one_group_and_one_pair_are_not_several() -> None:
    one = CopyCounts(num_groups=1, num_pictures=2, pairs={"bytes": 1}, mirrored=1, borderline=1000, capped=0, chained=0)

    assert _copy_lines("faces", one, 94) == [
        "copies of faces: 2 of 94 (2.1 %), in 1 group; 1 pair mirrored",
        "         1 pair   the same file",
        "     1,000 pairs  nearly similar enough, not counted",
    ]


def test_strict_exits_with_0_at_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [replace(row, name=f"{WORDS[row.label]}_{row.name}") for row in clean_rows(70)]

    assert main(["check", str(write_tree(tmp_path / "tree", named)), "--strict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["severity"] == "note"


@pytest.mark.parametrize("words", [[], ["tree", "--images", "x"], ["--images", "x"], ["no-such-folder"]])
def test_a_wrong_use_exits_with_2_and_says_what_to_name(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    assert "error: " in capsys.readouterr().err


def test_every_finding_says_what_why_and_what_to_do(leaking_report: DatasetReport) -> None:
    for finding in leaking_report.findings:
        assert all(len(text) > 40 for text in (finding.seen, finding.matters, finding.advice))
        assert finding.examples


@pytest.mark.parametrize("order", KNOWN_ORDERS)
def test_the_order_of_box_columns_is_inferred_from_the_boxes(order: tuple[str, str, str, str]) -> None:
    random = np.random.default_rng(0)
    sides = random.integers(40, 90, 50)
    boxes = [Box(5, 100 + at, 100 + at + int(side), 5 + int(side)) for at, side in enumerate(sides)]
    values = [
        {"top": box.top, "left": box.left, "right": box.right, "bottom": box.bottom, "width": box.right - box.left,
         "height": box.bottom - box.top}
        for box in boxes
    ]  # fmt: skip
    columns = [("wide.jpg", [value[name] for name in order]) for value in values]

    found = infer_box_order(columns, {"wide.jpg": (100, 260)})

    assert found is not None
    read = [to_box(corners, found) for _, corners in columns]
    own = [to_box(corners, EXPW_ORDER) for _, corners in columns]
    assert read == boxes or (found == EXPW_ORDER and all(box.right - box.left == box.bottom - box.top for box in own))


def test_boxes_that_are_not_squares_in_any_order_are_refused(tmp_path: Path) -> None:
    lines, photographs = draw_list(70)
    oblong = [replace(line, box=(*line.box[:3], line.box[3] + 30 + at % 7)) for at, line in enumerate(lines)]

    with pytest.raises(DataError, match="not squares in any order"):
        check(write_list(tmp_path / "expw", oblong, photographs))


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_both_forms_of_fer2013s_file_are_read(tmp_path: Path, header: str) -> None:
    rows = clean_rows(35)

    table = read_fer2013_csv(write_csv(tmp_path / "faces.csv", rows, header=header))

    assert table.pixels.shape == (35, 48, 48)
    assert table.labels.tolist() == [row.label for row in rows]
    assert table.splits == tuple(row.split for row in rows)
    assert table.names[0] == "row 2"
    assert not table.faults


def test_bad_lines_of_a_csv_file_are_listed_with_their_place(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "faces.csv", clean_rows(14))
    good = file.read_text().splitlines()[1]
    pixels = good.split(",")[1]
    bad = [f"7,{pixels},Training", f"0,{pixels} 3,Training", f"0,{pixels[:-2]}999,Training", f"0,{pixels},Other", "0,1"]
    file.write_text(file.read_text() + "\n".join(bad) + "\n")

    faults = read_fer2013_csv(file).faults

    assert [fault.reason for fault in faults] == [
        "unknown label", "wrong number of pixels", "not a number", "unknown split", "wrong number of fields"
    ]  # fmt: skip
    assert faults[0].place == f"{file}:16"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "emotion,pixels\n"])
def test_a_csv_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.csv").write_text(text)

    with pytest.raises(DataError, match=r"emotion and pixels|emotion, pixels|no usable line"):
        check(tmp_path / "other.csv")


@pytest.mark.slow
def test_fer2013s_official_split_leaks_and_expws_list_is_no_fault(shared_dir: Path) -> None:
    fer2013 = check(shared_dir / "fer2013")
    expw = check(shared_dir / "expw")

    assert {"copies-across-splits"} <= {finding.id for finding in fer2013.findings if finding.severity == "fault"}
    assert fer2013.ceiling is not None
    assert 0.85 < fer2013.ceiling.agreement.value < 0.97
    assert not expw.has_fault
    assert "label-in-file-name" in {finding.id for finding in expw.findings if finding.severity == "note"}


@pytest.mark.slow
def test_labels_of_a_real_list_shifted_by_one_row_are_found_though_faces_are_learned_badly(shared_dir: Path) -> None:
    expw = scan_dataset(shared_dir / "expw", Threads())

    for shift in (-1, 1):
        findings = {finding.id for finding in find_shifted_labels(replace(expw, labels=np.roll(expw.labels, shift)))}
        assert findings == {"labels-shifted-by-one-row"}
    assert not find_shifted_labels(expw)


@pytest.mark.slow
def test_class_names_of_a_real_test_split_read_by_the_alphabet_are_found(shared_dir: Path) -> None:
    fer2013 = scan_dataset(shared_dir / "fer2013", Threads())
    by_alphabet = np.asarray([0, 1, 2, 3, 5, 6, 4])
    labels = np.where(fer2013.splits == 2, by_alphabet[fer2013.labels], fer2013.labels)

    (finding,) = find_mixed_order(replace(fer2013, labels=labels))

    assert "test sad looks like neutral" in finding.seen
    assert not find_mixed_order(fer2013)


def test_a_store_with_a_changed_byte_is_refused_by_the_name_of_the_face(tmp_path: Path) -> None:
    store = prepare(read_folders(write_tree(tmp_path / "tree", clean_rows())), tmp_path / "store", small())
    faces = np.load(store.folder / "faces.npy", mmap_mode="r+")
    faces[3, 0, 0, 0] ^= 1
    faces.flush()

    with pytest.raises(DataError, match=r"face 3 \(.*\): damaged: its checksum has changed"):
        scan_dataset(store.folder, Threads())
