"""How labels and folders are read; each bad line is reported with file, line and reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.expw import ExpW, format_line

from ferray.data.sources.expw import read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box
from ferray.data.subject import CLASS_NAMES, EXPRESSIONS
from ferray.errors import DataError


@pytest.fixture
def one(tmp_path: Path) -> ExpW:
    """One photograph, one good line."""
    expw = ExpW(tmp_path / "expw", per_class=1)
    expw.lines.clear()
    expw.add_lines(format_line("frightened_by_the_movie_man_0.jpg"))
    (expw.images / "frightened_by_the_movie_man_0.jpg").write_bytes(b"not opened here")
    return expw


def test_a_line_is_name_face_top_left_right_bottom_confidence_label(one: ExpW) -> None:
    one.add_lines(b"happy_man_0.jpg 4 14 74 162 102 50.3056 3")

    face = read_expw(one.images, one.labels).faces[1]

    assert (face.source, face.face_id, CLASS_NAMES[face.label]) == ("happy_man_0.jpg", 4, "happy")
    assert face.box == Box(top=14, left=74, right=162, bottom=102)
    assert face.place == f"{one.labels}:2"
    assert face.columns == {"confidence": 50.3056, "emotion_word": "happy", "subject_word": "man"}


def test_the_emotion_word_may_hold_underscores(one: ExpW) -> None:
    columns = read_expw(one.images, one.labels).faces[0].columns

    assert (columns["emotion_word"], columns["subject_word"]) == ("frightened_by_the_movie", "man")


def test_a_byte_order_mark_windows_line_ends_tabs_and_blank_lines_are_tolerated(one: ExpW) -> None:
    plain = read_expw(one.images, one.labels).faces
    one.labels.write_bytes(b"\xef\xbb\xbf" + one.lines[0].replace(b" ", b"\t") + b"\r\n\r\n")

    source = read_expw(one.images, one.labels)

    assert source.faces == plain
    assert not source.faults


BAD_LINES = [
    (b"sad_man_0.jpg 0 10 5 25 30 50.25", "wrong number of fields", "7 fields, not 8 (name, face id, top"),
    (b"sad_man_0.jpg 0 10 5 25 30 50.25 1 2", "wrong number of fields", "9 fields"),
    (b"sad_man_0.jpg 0 10 5 25 30 50.25 9", "unknown label", "label is 9; known: 0 angry, 1 disgust, 2 fear"),
    (b"sad_man_0.jpg 0 10 5 25 30 50.25 -1", "unknown label", "label is -1"),
    (b"sad_man_0.jpg 0 10 5 25 30 50.25 1.0", "not a number", "label is '1.0'"),
    (b"sad_man_0.jpg 0 10 5 5 30 50.25 1", "box of zero area", "left 5, right 5"),
    (b"sad_man_0.jpg 0 10 5 25 9 50.25 1", "box of zero area", "has no area"),
    (b"sad_man_0.jpg 0 10 x 25 30 50.25 1", "not a number", "left is 'x'"),
    (b"sad_man_0.jpg 0 1_0 5 25 30 50.25 1", "not a number", "top is '1_0'"),
    (b"sad_man_0.jpg 0 10 5 " + b"9" * 5000 + b" 30 50.25 1", "not a number", "right is '9999"),
    (b"sad_man_0.jpg -1 10 5 25 30 50.25 1", "not a number", "face id is -1"),
    (b"sad_man_0.jpg 0 10 5 25 30 nan 1", "not a number", "confidence is 'nan'"),
    (b"sad_man_0.jpg 0 10 5 25 30 inf 1", "not a number", "confidence is 'inf'"),
    (b"gone.jpg 0 10 5 25 30 50.25 1", "missing photograph", "there is no photograph gone.jpg"),
    (b"sub/gone.jpg 0 10 5 25 30 50.25 1", "missing photograph", "sub/gone.jpg"),
    (b"../label.lst 0 10 5 25 30 50.25 1", "name outside the folder", "'../label.lst' leads out"),
    (b"sub/../../label.lst 0 10 5 25 30 50.25 1", "name outside the folder", "leads out of the folder"),
    (b"..\\label.lst 0 10 5 25 30 50.25 1", "name outside the folder", "leads out of the folder"),
    (b"/etc/passwd 0 10 5 25 30 50.25 1", "name outside the folder", "'/etc/passwd'"),
    (b"C:\\a.jpg 0 10 5 25 30 50.25 1", "name outside the folder", "not a path below"),
    (b"a\0.jpg 0 10 5 25 30 50.25 1", "name outside the folder", "not a path below"),
    (b"sad_man_\xff.jpg 0 10 5 25 30 50.25 1", "not UTF-8", "byte 9 of the line is 0xff"),
]


@pytest.mark.parametrize("line, reason, what", BAD_LINES, ids=[f"{number}" for number in range(len(BAD_LINES))])
def test_a_bad_line_is_reported_with_file_line_and_reason(one: ExpW, line: bytes, reason: str, what: str) -> None:
    one.add_lines(line)

    source = read_expw(one.images, one.labels)

    (fault,) = source.faults
    assert len(source.faces) == 1
    assert (fault.place, fault.reason) == (f"{one.labels}:2", reason)
    assert what in fault.what
    assert len(fault.what) < 300


def test_of_two_equal_rows_for_one_face_the_first_is_kept(one: ExpW) -> None:
    one.add_lines(one.lines[0])

    source = read_expw(one.images, one.labels)

    assert [face.place for face in source.faces] == [f"{one.labels}:1"]
    (fault,) = source.faults
    assert (fault.place, fault.reason) == (f"{one.labels}:2", "two rows for one face")
    assert "also in line 1, with the same box and label" in fault.what


def test_of_two_different_rows_for_one_face_none_is_kept(one: ExpW) -> None:
    one.add_lines(format_line("frightened_by_the_movie_man_0.jpg", label=3))

    source = read_expw(one.images, one.labels)

    assert not source.faces
    assert [fault.place for fault in source.faults] == [f"{one.labels}:1", f"{one.labels}:2"]
    assert "also in line 1, with another box or label" in source.faults[1].what


def test_columns_in_another_order_are_refused_whatever_becomes_of_bad_rows(one: ExpW) -> None:
    for number in range(40):  # left, top, right, bottom, as many loaders read it
        one.add_lines(f"happy_man_0.jpg {number + 1} {60 + number} 10 {40 + 2 * number} 80 9 3".encode())

    with pytest.raises(DataError, match="boxes are not squares") as caught:
        read_expw(one.images, one.labels)

    assert "top, left, right, bottom" in str(caught.value)


@pytest.mark.parametrize("missing", ["origin", "label.lst"])
def test_the_error_for_a_missing_folder_or_list_names_it(tmp_path: Path, missing: str) -> None:
    (tmp_path / "origin").mkdir()
    (tmp_path / "label.lst").write_text("")

    with pytest.raises(DataError, match=f"gone-{missing}"):
        read_expw(
            tmp_path / ("gone-origin" if missing == "origin" else "origin"),
            tmp_path / ("gone-label.lst" if missing == "label.lst" else "label.lst"),
        )


def test_a_folder_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="directory"):
        read_expw(tmp_path, tmp_path)


def test_every_alias_means_one_class_and_the_order_is_expws() -> None:
    every = [alias for aliases in EXPRESSIONS.class_aliases.values() for alias in aliases]

    assert (
        tuple(EXPRESSIONS.class_aliases)
        == CLASS_NAMES
        == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    )
    assert len(every) == len(set(every))


def test_the_name_of_a_folder_is_the_class_in_any_case_and_place(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"Anger": 1, "SADNESS": 1, "natural": 1, "Surprised": 1, "joy": 1, "fearful": 1, "disgusting": 1})

    labels = {face.source.split("/")[0]: CLASS_NAMES[face.label] for face in read_folders(root).faces}

    assert labels == {
        "Anger": "angry", "SADNESS": "sad", "natural": "neutral", "Surprised": "surprise", "joy": "happy",
        "fearful": "fear", "disgusting": "disgust",
    }  # fmt: skip


def test_a_name_that_is_no_expression_is_refused_where_expressions_are_asked_for(
    make_tree: Callable[..., Path],
) -> None:
    with pytest.raises(DataError, match="'contempt' is of no class in --classes expressions") as caught:
        read_folders(make_tree({"angry": 1, "contempt": 1}), "expressions")

    assert "its classes: angry, disgust, fear" in str(caught.value)


def test_a_number_is_no_expression(make_tree: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="the folders '1', '7' are no known class"):
        read_folders(make_tree({"7": 1, "1": 1}), "expressions")


def test_a_given_split_is_kept_under_its_many_names(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"Training/happy": 2, "PublicTest/happy": 1, "PrivateTest/sad": 1})

    assert [(face.source, face.split) for face in read_folders(root).faces] == [
        ("PrivateTest/sad/0.png", "test"), ("PublicTest/happy/0.png", "validation"),
        ("Training/happy/0.png", "train"), ("Training/happy/1.png", "train"),
    ]  # fmt: skip


def test_a_class_beside_a_split_is_reported(make_tree: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no split, though a folder beside it is one"):
        read_folders(make_tree({"train/happy": 1, "happy": 1}))


def test_clutter_is_ignored_and_folders_within_a_class_are_read(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"happy/more": 1, "happy": 1, "sad": 0, "__MACOSX/happy": 1, ".cache": 1})
    for name in ("README.md", "happy/.DS_Store", "happy/._0.png", "happy/Thumbs.db"):
        (root / name).write_text("x")

    assert sorted(face.source for face in read_folders(root).faces) == ["happy/0.png", "happy/more/0.png"]


def test_a_linked_folder_is_not_ignored_silently(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    root = make_tree({"happy": 1, "sad": 1})
    (root / "happy" / "linked").symlink_to(tmp_path)

    assert "happy/linked" in [face.source for face in read_folders(root).faces]  # the error comes when it is read


def test_a_file_name_that_is_not_utf8_is_reported(make_tree: Callable[..., Path]) -> None:
    root = make_tree({"happy": 1, "sad": 1})
    (root / "happy" / "\udcff.png").write_bytes(b"x")

    source = read_folders(root)

    assert [fault.reason for fault in source.faults] == ["not UTF-8"]
    assert source.faults[0].source == "happy/\\xff.png"


def test_the_error_for_an_empty_or_missing_folder_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder for each class, or train, validation and test"):
        read_folders(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_folders(tmp_path / "gone")
