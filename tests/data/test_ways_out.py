"""A refusal names what most often cannot be used, its first row, and the way out for just that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from fixtures.expw import WORDS, ExpW
from fixtures.prepare import make, make_folders, small

from ferray.audit.dataset.scan.read import scan_dataset
from ferray.data.prepare.run import prepare, skipped_file
from ferray.data.sources.expw import read_expw
from ferray.data.sources.rows import Fault, Reason
from ferray.data.sources.ways_out import WAYS_OUT, explain_faults
from ferray.data.threads import Threads
from ferray.errors import DataError


def fault(reason: Reason, number: int) -> Fault:
    return Fault(reason, f"list:{number}", f"fault {number}")


def test_every_reason_has_a_way_out_of_its_own() -> None:
    assert set(WAYS_OUT) == set(get_args(Reason))


def test_the_commonest_fault_is_named_with_its_first_row_and_its_way_out() -> None:
    faults = [fault("unknown label", 1), *(fault("not UTF-8", number) for number in range(2, 12))]

    what, way_out = explain_faults(faults)

    assert what == "10 not UTF-8 (first list:2: fault 2), 1 unknown label"
    assert way_out == WAYS_OUT["not UTF-8"]


def test_two_leading_causes_are_both_explained() -> None:
    faults = [*(fault("not UTF-8", number) for number in range(5)), *(fault("not a number", 9) for _ in range(4))]

    what, way_out = explain_faults(faults)

    assert what == "5 not UTF-8 (first list:0: fault 0), 4 not a number (first list:9: fault 9)"
    assert way_out == f"{WAYS_OUT['not UTF-8']}; {WAYS_OUT['not a number']}"


def test_class_folders_that_are_links_are_named_and_the_list_is_left(make_tree: Callable[..., Path]) -> None:
    root = make_tree(dict.fromkeys(WORDS, 6))
    shutil.move(root / "angry", root.parent / "elsewhere")
    (root / "angry").symlink_to(root.parent / "elsewhere")

    with pytest.raises(DataError) as caught:
        make_folders(root)

    _, what, way_out = caught.value.args
    assert "class angry has no face" in what
    assert f"6 name outside the folder (first {root}/angry/" in what
    assert "a link that leads out of the folder" in what
    assert "cp -rL" in way_out
    assert "Take more faces" not in way_out
    listed = skipped_file(root.parent / "store")
    assert str(listed) in way_out
    assert listed.read_text().count("name outside the folder") == 6


@pytest.mark.parametrize("images", ["", "beside"])
def test_photographs_in_another_folder_are_found_there(expw: ExpW, images: str) -> None:
    folder = expw.folder / images
    folder.mkdir(exist_ok=True)

    with pytest.raises(DataError) as caught:
        prepare(read_expw(folder, expw.labels), expw.folder.parent / "store", small())

    _, what, way_out = caught.value.args
    assert "no usable faces: 94 missing photograph (first " in what
    assert "label.lst:1: there is no photograph angry_man_0.jpg" in what
    assert f"--images {expw.images}" in way_out
    assert skipped_file(expw.folder.parent / "store").read_text().count("missing photograph") == 94


def test_a_refusal_keeps_the_list_of_a_store_that_exists(expw: ExpW) -> None:
    expw.add_lines(b"gone.jpg 0 1 1 9 9 1.0 3")
    store = make(expw)
    before = skipped_file(store.folder).read_bytes()
    shutil.move(expw.images, expw.folder / "moved")
    expw.images.mkdir()

    with pytest.raises(DataError, match="no usable faces"):
        make(expw)

    assert skipped_file(store.folder).read_bytes() == before


def test_a_csv_with_labels_that_are_no_whole_numbers_says_so(tmp_path: Path) -> None:
    file = tmp_path / "fer2013.csv"
    pixels = " ".join(["7"] * 48 * 48)
    file.write_text("emotion,pixels\n" + f"0.0,{pixels}\n" * 98)

    with pytest.raises(DataError) as caught:
        scan_dataset(file, Threads())

    _, what, way_out = caught.value.args
    assert f"no usable line of 98: 98 unknown label (first {file}:2: label is '0.0'" in what
    assert "whole numbers: 0 angry" in way_out


def test_folders_with_numbers_are_all_named_and_sets_are_named_whose_numbers_are_known(
    make_tree: Callable[..., Path],
) -> None:
    root = make_tree({f"{split}/{number}": 1 for split in ("train", "test") for number in range(1, 8)})

    with pytest.raises(DataError) as caught:
        make_folders(root, classes="expressions")

    _, what, way_out = caught.value.args
    assert what == "the folders '1', '2', '3', '4', '5', '6', '7' are no known class"
    assert "RAF-DB has 1 surprise, 2 fear" in way_out


def test_a_tree_one_folder_below_is_found(make_tree: Callable[..., Path]) -> None:
    root = make_tree({f"fer2013/train/{word}": 1 for word in WORDS})

    with pytest.raises(DataError, match=f"--images {root}/fer2013"):
        make_folders(root)


def test_a_class_that_the_data_set_does_not_have_is_not_blamed_on_the_seed(make_tree: Callable[..., Path]) -> None:
    root = make_tree({word: 4 for word in WORDS if word != "fear"})

    with pytest.raises(DataError, match="Add faces of fear"):
        make_folders(root, classes="expressions")


def test_a_class_that_is_missing_in_a_given_split_is_not_blamed_on_the_shares(make_tree: Callable[..., Path]) -> None:
    root = make_tree(
        {f"{split}/{word}": 2 for split in ("train", "test") for word in WORDS if split + word != "testsad"}
    )

    with pytest.raises(DataError, match="add faces of sad to its test split"):
        make_folders(root, classes="expressions")


def test_check_explains_why_no_picture_can_be_used(make_tree: Callable[..., Path]) -> None:
    root = make_tree(dict.fromkeys(WORDS, 2))
    for file in root.rglob("*.png"):
        file.write_bytes(b"<html>")
    (root / "angry" / "a.jpg").write_bytes(b"")

    with pytest.raises(DataError) as caught:
        scan_dataset(root, Threads())

    _, what, way_out = caught.value.args
    assert "14 not a picture (first " in what
    assert "1 truncated photograph" in what
    assert way_out == WAYS_OUT["not a picture"]
