"""A CSV file with a line for each picture, or for each box in one."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.prepare import small

from ferray.audit.dataset.check import check_dataset
from ferray.audit.dataset.report_text import format_report
from ferray.audit.dataset.scan.read import scan_dataset
from ferray.data.prepare.run import prepare, skipped_file
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box, Source
from ferray.data.sources.table import read_table_source
from ferray.data.threads import Threads
from ferray.errors import DataError

Tree = Callable[..., Path]


@pytest.fixture
def tree(make_tree: Tree) -> Path:
    return make_tree({"cat": 10, "dog": 10})


def table(root: Path, *lines: str, head: str = "path,label") -> Source:
    file = root.parent / "table.csv"
    file.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return read_table_source(file, root)


def all_lines(further: Callable[[int], str] = lambda _: "") -> list[str]:
    return [f"{name}/{at}.png,{name}{further(at)}" for name in ("cat", "dog") for at in range(10)]


def test_a_table_makes_the_store_that_the_folders_make(tree: Path) -> None:
    listed = prepare(table(tree, *all_lines()), tree.parent / "listed", small())
    folders = prepare(read_folders(tree), tree.parent / "folders", small())

    assert (listed.fingerprint, listed.class_names) == (folders.fingerprint, folders.class_names)
    assert (listed.manifest.dataset, listed.manifest.subject) == ("csv", "pictures")


def test_a_store_may_lie_beside_the_table_that_it_is_made_of(tree: Path) -> None:
    file = tree / "table.csv"
    file.write_text("\n".join(["path,label", *all_lines()]))

    assert prepare(read_table_source(file), tree / "store", small()).manifest.num_faces == 20


def test_boxes_are_cropped_and_numbered_within_their_picture(tree: Path) -> None:
    source = table(
        tree, "cat/0.png,cat,0,0,20,20", "cat/0.png,dog,20,0,40,20", "dog/0.png,dog,,,,",
        head="path,label,left,top,right,bottom",
    )  # fmt: skip

    assert [(face.source, face.face_id, face.box) for face in source.faces] == [
        ("cat/0.png", 0, Box(0, 0, 20, 20)), ("cat/0.png", 1, Box(0, 20, 40, 20)), ("dog/0.png", 0, None),
    ]  # fmt: skip


def test_the_split_of_a_table_is_kept(tree: Path) -> None:
    lines = all_lines(lambda at: f",{('Training', 'test')[at % 2]}")

    store = prepare(table(tree, *lines, head="path,label,split"), tree.parent / "store", small(copies="skip"))

    assert store.manifest.split is None
    assert {split: size for split, size in store.manifest.split_sizes.items() if size} == {"train": 10, "test": 10}


def test_a_group_stays_in_one_split_and_in_the_stores_groups(tree: Path) -> None:
    source = table(tree, *all_lines(lambda at: f",litter {at // 2}"), head="path,label,group")

    store = prepare(source, tree.parent / "store", small(split=(0.5, 0.2, 0.3), copies="skip"))

    of_litter = store.table.groupby(store.table["source"].str.extract(r"(\d+)")[0].astype(int) // 2)
    assert set(of_litter["split"].nunique()) == set(of_litter["group"].nunique()) == {1}
    assert not store.table["copies"].any()


@pytest.mark.parametrize("kind", ["group", "photograph"])
def test_a_group_or_a_photograph_in_two_splits_is_refused(tree: Path, kind: str) -> None:
    second = "cat/1.png,cat,test,a,0,0,9,9" if kind == "group" else "cat/0.png,cat,test,b,0,0,9,9"
    with pytest.raises(DataError, match=f"the {kind} '.*' is in train and in test"):
        table(
            tree, "cat/0.png,cat,train,a,9,9,30,30", second, "dog/0.png,dog,train,c,0,0,9,9",
            head="path,label,split,group,left,top,right,bottom",
        )  # fmt: skip


def test_further_columns_are_kept_as_numbers_or_texts(tree: Path) -> None:
    lines = all_lines(lambda at: f",{at / 2},phone {at % 2},7")

    store = prepare(table(tree, *lines, head="path,label,light,camera,"), tree.parent / "store", small())

    assert store.table["light"].dtype.kind == "f"
    assert set(store.table["camera"]) == {"phone 0", "phone 1"}


@pytest.mark.parametrize(
    "line, reason",
    [
        ("cat/0.png", "wrong number of fields"),
        ("cat/0.png,cat,1,2", "wrong number of fields"),
        (",cat,1", "empty cell"),
        ("cat/0.png,,1", "empty cell"),
        ("../cat/0.png,cat,1", "name outside the folder"),
        ("/etc/passwd,cat,1", "name outside the folder"),
        ("cat/gone.png,cat,1", "missing photograph"),
        ('"cat/0\n.png",cat,1', "name that is none"),
        ('cat/0.png,cat,"a\nb"', "value that does not print"),
        (f"cat/0.png,cat,{'x' * 1001}", "value that does not print"),
        ("cat/1.png,cat,1", "two rows for one face"),
    ],
)
def test_a_line_that_cannot_be_used_is_left_out_with_the_reason(tree: Path, line: str, reason: str) -> None:
    source = table(tree, "cat/1.png,cat,1", "dog/1.png,dog,1", line, head="path,label,light")

    assert [fault.reason for fault in source.faults] == [reason]
    assert [face.source for face in source.faces] == ["cat/1.png", "dog/1.png"]


def test_two_labels_for_one_picture_leave_both_lines_out(tree: Path) -> None:
    source = table(tree, "cat/1.png,cat", "dog/1.png,dog", "cat/2.png,cat", "cat/2.png,dog")

    assert [fault.place.rpartition(":")[2] for fault in source.faults] == ["4", "5"]
    assert "cat/2.png" not in [face.source for face in source.faces]


@pytest.mark.parametrize(
    "head, message",
    [
        ("file,label", "has no column path"),
        ("path,class", "has no column label"),
        ("path,label,left", "has no top, right, bottom"),
        ("path,label,sha256", "a column that ferray writes itself"),
        ("path,label,a,a", "is there twice"),
        ("path,label,label", "is there twice"),
        (f"path,label,{','.join(f'c{at}' for at in range(101))}", "at most 100 are kept"),
    ],
)
def test_columns_that_cannot_be_read_are_refused(tree: Path, head: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tree, head=head)


def test_check_reads_a_table_and_speaks_of_pictures(tree: Path) -> None:
    (tree / "table.csv").write_text("\n".join(["path,label", *all_lines()]))

    text = format_report(check_dataset(scan_dataset(tree / "table.csv", Threads())))

    assert "20 pictures" in text
    assert "face" not in text


def test_a_path_may_begin_with_a_point_or_with_a_link_to_the_folder(tree: Path) -> None:
    (tree.parent / "linked").symlink_to(tree)
    file = tree.parent / "table.csv"
    file.write_text(f"path,label\n./cat/0.png,cat\n{tree.parent}/linked/cat//1.png,cat\n{tree}/dog/0.png,dog\n")

    source = read_table_source(file, tree.parent / "linked")

    assert [face.source for face in source.faces] == ["cat/0.png", "cat/1.png", "dog/0.png"]
    assert not source.faults


def test_one_picture_under_two_spellings_of_its_path_is_one(tree: Path) -> None:
    source = table(tree, "cat/1.png,cat", "./cat//1.png,cat", "dog/1.png,dog")

    assert [face.source for face in source.faces] == ["cat/1.png", "dog/1.png"]
    assert [fault.reason for fault in source.faults] == ["two rows for one face"]


def test_names_of_columns_may_have_spaces_around_them(tree: Path) -> None:
    assert len(table(tree, "cat/0.png, cat", "dog/0.png, dog", head="path, label").faces) == 2


@pytest.mark.parametrize("between", [";", "\t"])
def test_cells_with_something_else_than_commas_between_them_are_named(tree: Path, between: str) -> None:
    with pytest.raises(DataError, match=f"Write commas between the cells, not {between!r}".replace("\\", r"\\")):
        table(tree, f"cat/0.png{between}cat", head=f"path{between}label")


def test_backslashes_in_paths_are_what_a_refusal_is_about(tree: Path) -> None:
    source = table(tree, "cat\\0.png,cat", "dog\\0.png,dog")

    with pytest.raises(DataError, match=r"2 missing photograph[\s\S]*Write / between the folders"):
        prepare(source, tree.parent / "store", small())


def test_names_with_underscores_are_no_numbers(tree: Path) -> None:
    source = table(tree, *all_lines(lambda at: f",1_{at}"), head="path,label,scene")

    assert {face.columns["scene"] for face in source.faces} == {f"1_{at}" for at in range(10)}


def test_a_box_outside_its_picture_is_found_by_check_too(tree: Path) -> None:
    file, width = tree / "table.csv", 10_000
    lines = [f"{line},0,0,20,20" for line in all_lines()]
    file.write_text("\n".join(["path,label,left,top,right,bottom", *lines, f"cat/0.png,cat,{width},0,{width + 20},20"]))

    (fault,) = scan_dataset(file, Threads()).faults

    assert (fault.reason, fault.place) == ("box outside the photograph", f"{file}:22")


def test_a_path_whose_letters_the_disk_composes_otherwise_is_found(tree: Path) -> None:
    (tree / "cat" / "0.png").rename(tree / "cat" / unicodedata.normalize("NFD", "é.png"))
    composed = unicodedata.normalize("NFC", "cat/é.png")

    source = table(tree, f"{composed},cat", "dog/0.png,dog")

    assert [face.source for face in source.faces] == [unicodedata.normalize("NFD", composed), "dog/0.png"]


def test_whole_pixels_in_a_column_of_fractions_are_a_box_and_other_fractions_are_none(tree: Path) -> None:
    source = table(
        tree, "cat/0.png,cat,0.0,0.0,20.0,20.00", "cat/1.png,cat,,,,", "dog/0.png,dog,0.5,0,20,20", "dog/1.png,dog,,,,",
        head="path,label,left,top,right,bottom",
    )  # fmt: skip

    assert [face.box for face in source.faces] == [Box(0, 0, 20, 20), None, None]
    assert [fault.reason for fault in source.faults] == ["not a number"]


def test_a_quote_that_is_never_closed_swallows_no_lines(tree: Path) -> None:
    with pytest.raises(DataError, match=r"table.csv:3: cannot be read: unexpected end of data; a quote in this line"):
        table(tree, "cat/0.png,cat", '"cat/1.png,cat', *all_lines())


def test_lines_of_another_length_are_explained_and_listed_where_all_are(tree: Path) -> None:
    source = table(tree, *(f"{line}," for line in all_lines()))

    with pytest.raises(DataError, match=r"no usable pictures: 20 wrong number of fields \(first .*table.csv:2: more"):
        prepare(source, tree.parent / "store", small())
    assert skipped_file(tree.parent / "store").exists()
