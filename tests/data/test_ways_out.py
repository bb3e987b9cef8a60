"""A refusal names what most often cannot be used, its first row, and the way out for just that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from fixtures.expw import WORDS, ExpW
from fixtures.prepare import make, make_folders, small
from fixtures.public_sets import write_affectnet_sets, write_ckplus, write_rafdb

from ferray.audit.dataset.scan.read import scan_dataset
from ferray.data.prepare.run import list_unusable, prepare, skipped_file
from ferray.data.sources.affectnet import read_affectnet
from ferray.data.sources.ckplus import read_ckplus
from ferray.data.sources.expw import read_expw
from ferray.data.sources.fer2013 import read_fer2013
from ferray.data.sources.rafdb import read_rafdb
from ferray.data.sources.rows import Fault, Reason
from ferray.data.sources.table import read_table_source
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


def table_of(root: Path, *lines: str, head: str = "path,label") -> Path:
    file = root.parent / "table.csv"
    file.write_text("\n".join([head, *lines]))
    return file


def test_a_table_of_which_no_line_can_be_used_leaves_the_list(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"cat": 3, "dog": 3})
    file = table_of(root, *(f"{name}/{at}.jpg,{name}" for name in ("cat", "dog") for at in range(3)))

    with pytest.raises(DataError) as caught:
        prepare(read_table_source(file, root), root.parent / "store", small())

    _, what, way_out = caught.value.args
    assert f"6 missing photograph (first {file}:2: there is no photograph cat/0.jpg in {root}" in what
    assert str(skipped_file(root.parent / "store")) in way_out
    assert skipped_file(root.parent / "store").read_text().count("missing photograph") == 6


def test_a_class_of_a_table_of_which_no_line_can_be_used_is_missed_and_explained(
    make_tree: Callable[..., Path],
) -> None:
    root = make_tree({"cat": 12, "dog": 12})
    file = table_of(root, *(f"cat/{at}.png,cat" for at in range(12)), *(f"hound/{at}.png,dog" for at in range(12)))

    with pytest.raises(DataError) as caught:
        prepare(read_table_source(file, root), root.parent / "store", small())

    _, what, _ = caught.value.args
    assert "class dog has no picture" in what
    assert f"12 missing photograph (first {file}:14: there is no photograph hound/0.png" in what
    assert skipped_file(root.parent / "store").read_text().count("missing photograph") == 12


def test_too_few_classes_are_explained_by_labels_that_are_missing(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"cat": 3, "dog": 3})
    file = table_of(root, "cat/0.png,cat", *(f"dog/{at}.png," for at in range(3)))

    with pytest.raises(DataError) as caught, list_unusable(root.parent / "store"):
        read_table_source(file, root)

    _, what, way_out = caught.value.args
    assert skipped_file(root.parent / "store").read_text().count("empty cell") == 3
    assert f"only one class, 'cat'; left out: 3 empty cell (first {file}:3: the label is empty)" in what
    assert WAYS_OUT["empty cell"] in way_out


def test_a_box_of_a_table_whose_sides_are_exchanged_is_not_explained_by_expws_list_alone(
    make_tree: Callable[..., Path],
) -> None:
    root = make_tree({"cat": 3, "dog": 3})
    file = table_of(
        root,
        *(f"{name}/{at}.png,{name},20,0,0,20" for name in ("cat", "dog") for at in range(3)),
        head="path,label,left,top,right,bottom",
    )

    with pytest.raises(DataError, match=r"6 box of zero area[\s\S]*left must be below right, and top below bottom"):
        prepare(read_table_source(file, root), root.parent / "store", small())


def test_public_sets_without_a_usable_face_are_explained_and_leave_the_list(tmp_path: Path) -> None:
    rafdb = write_rafdb(tmp_path / "rafdb")
    file = rafdb / "EmoLabel" / "list_patition_label.txt"
    num = len(file.read_text().splitlines())
    file.write_text(file.read_text().replace(" ", ","))
    fer2013 = tmp_path / "fer2013.csv"
    fer2013.write_text("emotion,pixels,Usage\n" + "0.0,7 7,Training\n" * 5)
    affectnet = write_affectnet_sets(tmp_path / "affectnet", {"train_set": [0, 1], "val_set": [0]})
    for annotation in affectnet.rglob("*_exp.npy"):
        annotation.unlink()
    ckplus = write_ckplus(tmp_path / "ck+", people=2)
    for label in ckplus.rglob("*_emotion.txt"):
        label.write_text("seven")

    for read, expected in (
        (lambda: read_rafdb(rafdb), f"{num} wrong number of fields (first {file}:1: 1 fields, not 2"),
        (lambda: read_fer2013(fer2013), f"5 unknown label (first {fer2013}:2: label is '0.0'"),
        (lambda: read_affectnet(affectnet), "3 no annotation (first "),
        (lambda: read_ckplus(ckplus), "14 unknown label (first "),
    ):
        out = tmp_path / "stores" / expected[:4].strip()
        with pytest.raises(DataError) as caught, list_unusable(out):
            prepare(read(), out, small())
        assert expected in caught.value.args[1]
        assert str(skipped_file(out)) in caught.value.args[2]
        assert skipped_file(out).exists()
