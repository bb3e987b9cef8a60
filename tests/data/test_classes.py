"""Which classes a source has: any names, aliases, and what cannot be a class."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.prepare import make_folders

from ferray.data.sources.classes import choose_classes
from ferray.data.sources.folders import read_folders
from ferray.data.store.manifest import MAX_CLASSES, manifest_to_json, read_manifest
from ferray.data.subject import CLASS_NAMES, EXPRESSIONS, PICTURES
from ferray.errors import DataError
from ferray.files import storage
from ferray.metrics.predictions import RESERVED

Tree = Callable[..., Path]


def labels_of(root: Path, classes: str | None = None) -> dict[str, str]:
    """Folder to class."""
    source = read_folders(root, classes)
    return {str(Path(face.source).parent): source.classes.names[face.label] for face in source.faces}


def test_the_names_of_folders_are_the_classes_by_the_alphabet(make_tree: Tree) -> None:
    source = read_folders(make_tree({"OK": 1, "broken": 2, "two words": 1}))

    assert source.classes.names == ("OK", "broken", "two words")
    assert source.classes.subject is PICTURES
    assert [face.label for face in source.faces] == [0, 1, 1, 2]


def test_numbers_are_ordered_by_size(make_tree: Tree) -> None:
    assert read_folders(make_tree(dict.fromkeys(("10", "9", "1"), 1))).classes.names == ("1", "9", "10")


def test_some_of_the_expressions_are_expressions_in_their_order(make_tree: Tree) -> None:
    classes = read_folders(make_tree({"joy": 1, "Anger": 1, "sad": 1})).classes

    assert (classes.names, classes.subject) == (("angry", "happy", "sad"), EXPRESSIONS)


def test_expressions_with_an_eighth_one_are_still_expressions(make_tree: Tree) -> None:
    classes = read_folders(make_tree(dict.fromkeys((*CLASS_NAMES, "contempt"), 1))).classes

    assert classes.names == tuple(sorted((*CLASS_NAMES, "contempt")))
    assert classes.subject is EXPRESSIONS  # so that the card keeps what holds for models of expressions


@pytest.mark.parametrize("suffix", [".yaml", ".csv"])
def test_a_file_gives_names_and_order(make_tree: Tree, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"classes{suffix}"
    file.write_text(
        "no: [dogs, Hund]\ncat: [cats]\n" if suffix == ".yaml" else "class,name\nno,dogs\nno,Hund\ncat,cats\n"
    )

    root = make_tree({"cats": 1, "HUND": 1, "dogs": 1})

    assert labels_of(root, str(file)) == {"cats": "cat", "HUND": "no", "dogs": "no"}
    assert read_folders(root, str(file)).classes.names == ("no", "cat")


@pytest.mark.parametrize(
    "content, message",
    [
        ("a: [x]\nb: [x]\n", "'x' means two classes, 'a' and 'b'"),
        ("a: [x]\na: [y]\n", "the class 'a' is named twice"),
        ("a: [x]\n", "has only one class"),
        ("[a, b]\n", "no mapping of classes"),
        ("a: {b: c}\nd:\n", "no class with its names"),
        ("a: &x [1]\nb: *x\n", "means two classes"),
        ("a: [\n", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("id: [x]\nb: [y]\n", "has the name of a column of predictions.csv"),
        ("A: [x]\na: [y]\n", "differ only in case"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(content)

    with pytest.raises(DataError, match=message):
        choose_classes(str(file), ["x"], "here")


def test_a_class_of_the_file_must_be_there_and_a_folder_must_be_in_the_file(make_tree: Tree, tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text("cat:\ndog:\nbird:\n")
    root = make_tree({"cat": 10, "dog": 10})

    with pytest.raises(DataError, match="class bird has no picture in the train split, of 0 in all"):
        make_folders(root, classes=str(file))
    file.write_text("cat:\nbird:\n")
    with pytest.raises(DataError, match="'dog' is of no class in --classes"):
        read_folders(root, str(file))


def test_names_that_look_the_same_are_refused_and_a_file_tells_them_apart(make_tree: Tree, tmp_path: Path) -> None:
    root = make_tree({"A": 1, "a": 1})
    with pytest.raises(DataError, match="the classes 'A' and 'a' differ only in case"):
        read_folders(root)
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    with pytest.raises(DataError, match="differ only in how Unicode composes them"):
        choose_classes(None, [composed, decomposed], "here")

    file = tmp_path / "classes.yaml"
    file.write_text("upper a: [A]\nlower a: [a]\n")

    assert labels_of(root, str(file)) == {"A": "upper a", "a": "lower a"}


@pytest.mark.parametrize("name", ["a\nb", "x" * 101, " ", "\u202e", *RESERVED])
def test_a_name_that_no_table_can_show_is_no_class(name: str) -> None:
    with pytest.raises(DataError, match="--classes FILE") as caught:
        choose_classes(None, [name, "other"], "here")

    assert str(caught.value).isprintable() or "\n" not in caught.value.args[1]


def test_from_2_to_10000_classes_are_taken() -> None:
    assert len(choose_classes(None, map(str, range(MAX_CLASSES)), "here").names) == 10_000
    with pytest.raises(DataError, match="has 10,001 classes; at most 10,000"):
        choose_classes(None, map(str, range(MAX_CLASSES + 1)), "here")
    with pytest.raises(DataError, match="has only one class, 'cat'"):
        choose_classes(None, ["cat"], "here")


# Trees


def test_a_folder_of_pictures_named_like_a_split_is_a_class(make_tree: Tree) -> None:
    source = read_folders(make_tree({"blood": 1, "test": 1, "val": 1}))

    assert source.classes.names == ("blood", "test", "val")
    assert {face.split for face in source.faces} == {None}


def test_classes_named_like_splits_inside_splits_are_classes(make_tree: Tree) -> None:
    root = make_tree({f"{split}/{name}": 1 for split in ("train", "test") for name in ("test", "valid")})

    assert read_folders(root).classes.names == ("test", "valid")


@pytest.mark.parametrize(
    "folders, message",
    [
        (("train/cat", "train/dog", "test"), "the folder 'test' is named like a split, but without folders of classes"),
        (("train", "test"), "are named like a split, but without folders of classes"),
        (("train/train/cat", "train/train/dog"), "train/train holds folders of classes once more"),
        (("train/cat", "train/dog", "train/train/cat", "train/train/dog"), "train/train holds folders of classes once"),
        (("seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_test/dog"), "looks like a split"),
        (("set/train/cat", "set/train/dog"), "one folder below"),
        (("cat",), "has only one class, 'cat'"),
    ],
)
def test_a_tree_that_would_be_misread_is_refused_with_the_reason(
    make_tree: Tree, folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_folders(make_tree(dict.fromkeys(folders, 1)))


def test_a_link_to_a_folder_above_is_refused(make_tree: Tree) -> None:
    root = make_tree({"cat": 1, "dog": 1})
    (root / "loop").symlink_to(root)

    with pytest.raises(DataError, match="is a link to a folder that it lies in"):
        read_folders(root)


def test_hidden_files_and_folders_are_ignored(make_tree: Tree) -> None:
    root = make_tree({"cat": 1, "dog": 1, ".git": 1, "cat/.checkpoints": 1})
    (root / "dog" / ".hidden.png").write_bytes(b"x")

    assert [face.source for face in read_folders(root).faces] == ["cat/0.png", "dog/0.png"]


# Stores


def test_a_store_records_its_classes_and_its_subject(make_tree: Tree) -> None:
    store = make_folders(make_tree({"cat": 10, "dog": 10}))

    assert (store.manifest.class_names, store.manifest.subject) == (("cat", "dog"), "pictures")
    assert set(store.table["class_name"]) == {"cat", "dog"}
    assert not any("face" in note for note in store.manifest.notes)


def test_a_store_of_other_classes_is_another_store(make_tree: Tree, tmp_path: Path) -> None:
    root, file = make_tree({"cat": 10, "dog": 10}), tmp_path / "classes.yaml"
    file.write_text("feline: [cat]\ncanine: [dog]\n")
    make_folders(root)

    with pytest.raises(DataError, match="holds another store: other classes"):
        make_folders(root, classes=str(file))


def test_a_class_that_a_later_split_lacks_is_a_warning(make_tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    store = make_folders(make_tree({"train/cat": 2, "train/dog": 2, "test/dog": 2}))

    assert store.manifest.counts["test"] == {"cat": 0, "dog": 2}
    assert "no test pictures of cat" in caplog.text


def test_a_class_that_train_lacks_is_refused(make_tree: Tree) -> None:
    with pytest.raises(DataError, match="class dog has no picture in the train split, of 2 in all"):
        make_folders(make_tree({"train/bird": 2, "train/cat": 2, "test/cat": 2, "test/dog": 2}))


def test_a_store_of_before_is_one_of_expressions(make_tree: Tree) -> None:
    store = make_folders(make_tree(dict.fromkeys(CLASS_NAMES, 10)))
    values = manifest_to_json(store.manifest)
    del values["subject"]
    storage.write_json(store.folder / "manifest.json", values)

    assert read_manifest(store.folder).shown is EXPRESSIONS


def test_words_in_quotes_stay_and_apostrophes_are_no_quotes() -> None:
    text = "each class's faces, 'face' and a face's neighbor"

    assert PICTURES.reword(text) == "each class's pictures, 'face' and a picture's neighbor"
    assert EXPRESSIONS.reword(text) == text


def test_spaces_around_the_name_of_a_folder_are_no_part_of_its_class(make_tree: Tree) -> None:
    root = make_tree({" cat": 3, "dog ": 3})

    assert read_folders(root).classes.names == ("cat", "dog")
    (root / "cat").mkdir()
    with pytest.raises(DataError, match="differ only in spaces around them"):
        read_folders(root)


def test_one_number_in_two_spellings_is_refused_and_versions_are_no_numbers() -> None:
    with pytest.raises(DataError, match=r"'0' and '0\.0' differ only in how a number is written"):
        choose_classes(None, ["0", "1", "0.0"], "table")

    assert choose_classes(None, ["0.0", "1.0"], "table").names == ("0.0", "1.0")
    assert choose_classes(None, ["v1", "v1.0"], "table").names == ("v1", "v1.0")
