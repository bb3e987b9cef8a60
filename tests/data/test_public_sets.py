"""RAF-DB, AffectNet and CK+ in all layouts that circulate, drawn by code."""

import dataclasses
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fixtures.expw import encode
from fixtures.prepare import read_skipped, small
from fixtures.public_sets import (
    AFFECTNET_HEADER,
    NUMBER_OF_CK,
    NUMBER_OF_RAFDB,
    write_affectnet_lists,
    write_affectnet_sets,
    write_ckplus,
    write_rafdb,
)

from ferray.data.known_sets import WITH_CONTEMPT, WITHOUT_NEUTRAL
from ferray.data.prepare.plan import take_validation_from_train
from ferray.data.prepare.run import prepare
from ferray.data.sources import rafdb
from ferray.data.sources.affectnet import read_affectnet
from ferray.data.sources.ckplus import read_ckplus
from ferray.data.sources.folders import read_folders
from ferray.data.sources.number_files import read_number_file
from ferray.data.sources.rafdb import read_rafdb
from ferray.data.sources.rows import Box, Source
from ferray.data.store.reader import Store
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError

AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")


def make(source: Source, out: Path) -> Store:
    options = small(copies="skip")
    return prepare(source, out, take_validation_from_train(options, source))


def classes_by_name(source: Source) -> dict[str, str]:
    return {face.source: source.classes.names[face.label] for face in source.faces}


# RAF-DB


def test_rafdbs_own_layout_is_read_in_its_own_order_with_the_split_of_the_names(tmp_path: Path) -> None:
    source = read_rafdb(write_rafdb(tmp_path / "basic"))

    assert source.classes.names == CLASS_NAMES
    assert len(source.faces) == 42
    for face in source.faces:
        stem = face.source.removeprefix("Image/aligned/")
        number = int(stem.split("_")[1]) // 100
        assert NUMBER_OF_RAFDB[CLASS_NAMES[face.label]] == number
        assert face.split == stem.split("_")[0]


def test_validation_is_taken_out_of_train_and_test_stays(tmp_path: Path) -> None:
    store = make(read_rafdb(write_rafdb(tmp_path / "basic", per_class=30)), tmp_path / "store")

    assert store.manifest.split_sizes == {"train": 126, "validation": 14, "test": 70}
    assert store.manifest.split == (0.9, 0.1, 0.0)
    assert store.manifest.dataset == "rafdb"
    assert all(name.startswith("Image/aligned/test_") for name in store.table["source"][store.rows("test")])
    assert "order of the labels: rafdb (1 surprise, 2 fear, 3 disgust" in store.manifest.notes[0]


def test_lines_of_rafdbs_list_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    root = write_rafdb(tmp_path / "basic")
    file = root / "EmoLabel" / "list_patition_label.txt"
    lines = [
        "train_00100.jpg 1", "train_00101.jpg 3", "gone_1.jpg 2", "train_99999.jpg 2", "train_00103.jpg 9",
        "train_00104.jpg", "../../etc/train_1.jpg 2",
    ]  # fmt: skip
    file.write_text(file.read_text() + "\n".join(lines) + "\n")

    source = read_rafdb(root)

    assert Counter(fault.reason for fault in source.faults) == {
        "two rows for one face": 3, "unknown split": 1, "missing photograph": 1, "unknown label": 1,
        "wrong number of fields": 1, "name outside the folder": 1,
    }  # fmt: skip
    names = classes_by_name(source)
    assert names["Image/aligned/train_00100_aligned.jpg"] == "surprise"  # listed twice, alike
    assert "Image/aligned/train_00101_aligned.jpg" not in names  # listed as two classes


def numbered_tree(root: Path, counts: dict[str, tuple[int, ...]], *, first: int) -> Path:
    for split, numbers in counts.items():
        for number, count in enumerate(numbers, start=first):
            folder = root / split / str(number)
            folder.mkdir(parents=True)
            for at in range(count):
                (folder / f"{at}.jpg").write_bytes(encode(number * 50 + at + 5000 * (split == "test"), ".jpg"))
    return root


def small_rafdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A RAF-DB of 4 to 10 training and 2 to 8 test pictures a class, in ferray's order."""
    known = dataclasses.replace(rafdb.KNOWN[0], parts={"train": (4, 5, 6, 7, 8, 9, 10), "test": (2, 3, 4, 5, 6, 7, 8)})
    monkeypatch.setattr(rafdb, "KNOWN", [known])


def test_folders_by_number_are_read_in_the_order_that_the_counts_prove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_rafdb(monkeypatch)
    # surprise, fear, disgust, happy, sad, angry, neutral; and neutral, happy, sad, surprise, fear, disgust, angry
    own = numbered_tree(tmp_path / "own", {"train": (9, 6, 5, 7, 8, 4, 10), "test": (7, 4, 3, 5, 6, 2, 8)}, first=1)
    other = numbered_tree(tmp_path / "other", {"train": (10, 7, 8, 9, 6, 5, 4), "test": (8, 5, 6, 7, 4, 3, 2)}, first=0)

    sources = [read_rafdb(root) for root in (own, other)]

    assert classes_by_name(sources[0])["train/1/0.jpg"] == "surprise"
    assert classes_by_name(sources[1])["train/0/0.jpg"] == "neutral"
    assert classes_by_name(sources[1])["test/6/0.jpg"] == "angry"
    counts = [Counter((face.split, face.label) for face in source.faces) for source in sources]
    assert counts[0] == counts[1]
    assert "proved by the published counts" in make(sources[1], tmp_path / "store").manifest.notes[0]


def test_folders_by_number_with_other_counts_are_refused_until_the_order_is_named(tmp_path: Path) -> None:
    root = numbered_tree(tmp_path / "raf", {"train": (4,) * 7, "test": (2,) * 7}, first=1)

    with pytest.raises(DataError, match="not certain"):
        read_rafdb(root)
    source = read_rafdb(root, order="rafdb")

    assert classes_by_name(source)["train/7/0.jpg"] == "neutral"
    assert "not proved" in source.notes[0]


def test_folders_by_name_are_read_by_name(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"):
            (tmp_path / "raf" / split / name).mkdir(parents=True)
            (tmp_path / "raf" / split / name / "1.jpg").write_bytes(encode(1, ".jpg"))

    assert classes_by_name(read_rafdb(tmp_path / "raf"))["train/sadness/1.jpg"] == "sad"
    with pytest.raises(DataError, match="by name, not by number"):
        read_rafdb(tmp_path / "raf", order="rafdb")


@pytest.mark.parametrize("numbers", [range(1, 8), range(7), range(8)])
def test_prepare_folders_says_of_such_numbers_where_they_are_read(
    tmp_path: Path, numbers: range, caplog: pytest.LogCaptureFixture
) -> None:
    root = numbered_tree(tmp_path / "raf", {"train": (1,) * len(numbers)}, first=numbers[0])

    with caplog.at_level(logging.WARNING):
        read_folders(root)

    assert "`prepare rafdb` and `prepare affectnet`" in caplog.text


def test_prepare_folders_says_nothing_of_ten_digits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_folders(numbered_tree(tmp_path / "digits", {"train": (1,) * 10}, first=0))

    assert not caplog.text


@pytest.mark.parametrize("missing", ["Image", "EmoLabel"])
def test_half_of_rafdb_is_refused_with_its_layout(tmp_path: Path, missing: str) -> None:
    root = write_rafdb(tmp_path / "basic")
    (root / missing).rename(tmp_path / "elsewhere")

    with pytest.raises(DataError, match=r"aligned|EmoLabel"):
        read_rafdb(root)


# AffectNet


LABELS = {"train_set": [*range(8)] * 5 + [8, 9, 10], "val_set": [*range(8)] * 2}


@pytest.mark.parametrize("as_text", [False, True])
def test_affectnets_sets_become_train_and_test_in_its_own_order(tmp_path: Path, as_text: bool) -> None:
    source = read_affectnet(write_affectnet_sets(tmp_path / "affectnet", LABELS, as_text=as_text))

    assert source.classes.names == WITH_CONTEMPT
    assert Counter(face.split for face in source.faces) == {"train": 40, "test": 16}
    for face in source.faces:
        at = int(face.source.rpartition("/")[2].removesuffix(".jpg"))
        assert AFFECTNET[at % 8] == WITH_CONTEMPT[face.label]
        assert face.columns == {"valence": 0.5, "arousal": None}


def test_faces_without_an_expression_are_left_out_and_counted(tmp_path: Path) -> None:
    store = make(read_affectnet(write_affectnet_sets(tmp_path / "affectnet", LABELS)), tmp_path / "store")

    assert store.manifest.skipped == {"of another class": 3}
    assert {row["what"] for row in read_skipped(store)} == {
        "label is 8, none", "label is 9, uncertain", "label is 10, no face"
    }  # fmt: skip
    assert any("test is AffectNet's own validation set" in note for note in store.manifest.notes)
    assert all(name.startswith("val_set/") for name in store.table["source"][store.rows("test")])
    assert all(name.startswith("train_set/") for name in store.table["source"][store.rows("validation")])


def test_contempt_can_be_left_out(tmp_path: Path) -> None:
    source = read_affectnet(write_affectnet_sets(tmp_path / "affectnet", LABELS), with_contempt=False)

    assert source.classes.names == CLASS_NAMES
    assert Counter(fault.what for fault in source.left_out)["label is contempt"] == 7
    assert max(face.label for face in source.faces) == 6


def test_a_copy_that_has_seven_classes_is_one_of_seven(tmp_path: Path) -> None:
    seven = {"train_set": [*range(7)] * 5, "val_set": [*range(7)]}

    assert read_affectnet(write_affectnet_sets(tmp_path / "affectnet", seven)).classes.names == CLASS_NAMES


def test_pictures_without_a_readable_annotation_are_listed(tmp_path: Path) -> None:
    root = write_affectnet_sets(tmp_path / "affectnet", LABELS)
    annotations = root / "train_set" / "annotations"
    (annotations / "0_exp.npy").unlink()
    np.save(annotations / "1_exp.npy", np.array(11))
    np.save(annotations / "2_exp.npy", np.arange(3))
    np.save(annotations / "3_exp.npy", np.array(float("nan")))
    np.save(annotations / "4_exp.npy", np.array({"label": 1}, dtype=object), allow_pickle=True)

    faults = read_affectnet(root).faults

    assert Counter(fault.reason for fault in faults) == {"no annotation": 3, "unknown label": 2}


def test_the_lists_are_read_with_their_boxes(tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path, {"training": LABELS["train_set"], "validation": LABELS["val_set"]})

    source = read_affectnet(
        root / "Manually_Annotated_Images", training=root / "training.csv", validation=root / "validation.csv"
    )

    assert Counter(face.split for face in source.faces) == {"train": 40, "test": 16}
    assert all(face.box == Box(8, 5, 25, 30) for face in source.faces)  # face_x 5, face_y 8, 20 wide, 22 high
    assert classes_by_name(source)["0/training0.jpg"] == "neutral"
    assert source.faces[0].columns == {"valence": -0.25, "arousal": 0.5}
    assert len(source.left_out) == 3
    store = make(source, tmp_path / "store")
    assert store.manifest.margin == 0.1
    assert set(store.table["face_px"]) == {22}


def test_lines_of_the_lists_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path, {"training": [*range(8)], "validation": [*range(8)]})
    file = root / "training.csv"
    bad = [
        "0/training0.jpg,5,8,20,22,,3,0,0", "0/gone.jpg,5,8,20,22,,3,0,0", "0/training3.jpg,5,8,0,22,,3,0,0",
        "0/training3.jpg,x,8,20,22,,3,0,0", "0/training3.jpg,5,8,20,22,,11,0,0", "0/training3.jpg,5,8",
        "../../secret.jpg,5,8,20,22,,3,0,0", "0/training3.jpg,nan,8,20,22,,3,0,0", "0/training3.jpg,inf,8,2,2,,3,0,0",
    ]  # fmt: skip
    file.write_text(file.read_text() + "\n".join(bad) + "\n")

    source = read_affectnet(root / "Manually_Annotated_Images", training=file)

    assert Counter(fault.reason for fault in source.faults) == {
        "two rows for one face": 2, "missing photograph": 1, "box of zero area": 1, "not a number": 3,
        "unknown label": 1, "wrong number of fields": 1, "name outside the folder": 1,
    }  # fmt: skip


def test_a_face_in_both_lists_is_in_neither_split(tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path, {"training": [*range(8)], "validation": [*range(8)]})
    line = (root / "training.csv").read_text().splitlines()[1]
    with (root / "validation.csv").open("a") as file:
        file.write(line + "\n")

    source = read_affectnet(
        root / "Manually_Annotated_Images", training=root / "training.csv", validation=root / "validation.csv"
    )

    assert "0/training0.jpg" not in classes_by_name(source)
    assert [fault.what for fault in source.faults] == [
        "0/training0.jpg is listed twice, with another label or in the other list"
    ] * 2


def test_a_list_with_a_column_missing_is_refused(tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path, {"training": [*range(8)]})
    file = root / "training.csv"
    file.write_text(file.read_text().replace(AFFECTNET_HEADER, AFFECTNET_HEADER.replace("expression", "emotion")))

    with pytest.raises(DataError, match="no column expression"):
        read_affectnet(root / "Manually_Annotated_Images", training=file)


def test_affectnet_in_folders_by_number_needs_its_order_named(tmp_path: Path) -> None:
    root = numbered_tree(tmp_path / "affectnet", {"train": (5,) * 8, "val": (2,) * 8}, first=0)

    with pytest.raises(DataError, match=r"--order affectnet .*7 contempt.*--order alphabetical .*1 contempt"):
        read_affectnet(root)
    source = read_affectnet(root, order="alphabetical", with_contempt=False)

    assert Counter(face.split for face in source.faces) == {"train": 35, "test": 14}
    assert classes_by_name(source)["train/7/0.jpg"] == "surprise"
    assert "train/1/0.jpg" not in classes_by_name(source)


# Numbers in .npy files


@pytest.mark.parametrize("value", [3, np.uint8(3), np.float32(3), "3", b"3", "3.0", np.array([3]), np.array(["3"])])
def test_a_number_is_read_whatever_its_type(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "a.npy", np.asarray(value))

    assert read_number_file(tmp_path / "a.npy", inside=tmp_path) == 3


@pytest.mark.parametrize("value", ["happy", "", b"\xff", "३x"])
def test_a_text_that_is_no_number_is_none(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "a.npy", np.asarray(value))

    try:
        assert read_number_file(tmp_path / "a.npy", inside=tmp_path) is None
    except DataError:
        assert value == ""


# CK+


def test_the_last_frames_of_labeled_sequences_are_taken(tmp_path: Path) -> None:
    source = read_ckplus(write_ckplus(tmp_path / "ck", people=3))

    assert source.dataset == "ckplus"
    assert source.classes.names == WITHOUT_NEUTRAL
    assert len(source.faces) == 3 * 7 * 3
    numbers = dict(enumerate(NUMBER_OF_CK, start=1))
    for face in source.faces:
        _, sequence, frame = face.source.rpartition("/")[2].removesuffix(".png").split("_")
        assert source.classes.names[face.label] == numbers[int(sequence)]
        assert face.columns["frames_before_peak"] == 6 - int(frame)
        assert int(frame) in (4, 5, 6)
    assert Counter(fault.reason for fault in source.left_out) == {"no label": 3}
    assert not source.faults


def test_no_person_is_in_two_splits(tmp_path: Path) -> None:
    store = make(read_ckplus(write_ckplus(tmp_path / "ck")), tmp_path / "store")

    table = store.table
    assert set(table["split"]) == {"train", "validation", "test"}
    assert (table.groupby("subject")["split"].nunique() == 1).all()
    assert (table.groupby("subject")["group"].nunique() == 1).all()
    assert "faces of 12 people; no person is in two splits" in store.manifest.notes


def test_frames_contempt_and_neutral_are_options_and_other_frames_are_another_set(tmp_path: Path) -> None:
    source = read_ckplus(
        write_ckplus(tmp_path / "ck", people=2), frames=1, with_neutral=True, with_contempt=False
    )  # fmt: skip

    assert source.dataset == "ckplus-1-frames"
    assert source.classes.names == CLASS_NAMES
    assert Counter(source.classes.names[face.label] for face in source.faces) == {
        "angry": 2, "disgust": 2, "fear": 2, "happy": 2, "sad": 2, "surprise": 2, "neutral": 12
    }  # fmt: skip
    assert {face.source[-5:-4] for face in source.faces if CLASS_NAMES[face.label] == "neutral"} == {"1"}
    assert Counter(fault.reason for fault in source.left_out) == {"no label": 2, "of another class": 2}


def test_a_sequence_too_short_for_a_neutral_frame_has_none(tmp_path: Path) -> None:
    source = read_ckplus(write_ckplus(tmp_path / "ck", people=1, frames=3), with_neutral=True)

    assert "neutral" not in {source.classes.names[face.label] for face in source.faces}
    assert len({face.source for face in source.faces}) == len(source.faces) == 21


@pytest.mark.parametrize(
    "text, reason",
    [("9.0", "unknown label"), ("happy", "unknown label"), ("", "unknown label"), ("nan", "unknown label")],
)
def test_a_label_that_is_none_is_listed(tmp_path: Path, text: str, reason: str) -> None:
    root = write_ckplus(tmp_path / "ck", people=2)
    (root / "Emotion" / "S000" / "001" / "S000_001_00000006_emotion.txt").write_text(text)

    assert [fault.reason for fault in read_ckplus(root).faults] == [reason]


def copy_by_class(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for at, file in enumerate(files):
            (root / folder / file).write_bytes(encode(at + 10 * len(folder), ".png"))
    return root


def test_a_copy_in_folders_by_class_is_split_by_the_people_in_its_names(tmp_path: Path) -> None:
    people = [
        f"S{person:03}_00{sequence}_0000000{frame}.png"
        for person in range(8)
        for sequence in (1, 2)
        for frame in (8, 9)
    ]
    root = copy_by_class(tmp_path / "CK+48", {"anger": people[::2], "contempt": people[1::2], "happy": people})

    store = make(read_ckplus(root), tmp_path / "store")

    assert store.class_names == ("angry", "happy", "contempt")
    assert (store.table.groupby("subject")["split"].nunique() == 1).all()


def test_prepare_folders_says_of_such_a_copy_that_people_are_in_all_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_by_class(tmp_path / "CK+48", {"anger": ["S001_001_00000001.png"], "happy": ["S001_002_00000001.png"]})

    with caplog.at_level(logging.WARNING):
        read_ckplus(root)
        assert not caplog.text
        read_folders(root)

    assert "`prepare ckplus` splits by person" in caplog.text


def test_a_copy_without_the_names_of_the_frames_is_refused(tmp_path: Path) -> None:
    root = copy_by_class(tmp_path / "CK+", {"anger": ["S001_001_00000001.png"], "happy": ["1.png"]})

    with pytest.raises(DataError, match="whose face it is is not known"):
        read_ckplus(root)


def test_a_copy_with_a_person_on_both_sides_is_refused(tmp_path: Path) -> None:
    one = ["S001_001_00000001.png"]
    root = copy_by_class(
        tmp_path / "CK+", {"train/anger": one, "train/happy": ["S002_001_00000001.png"], "test/anger": one}
    )

    with pytest.raises(DataError, match=r"S001 is in (test and in train|train and in test)"):
        read_ckplus(root)


def test_options_about_sequences_are_refused_where_there_are_none(tmp_path: Path) -> None:
    root = copy_by_class(tmp_path / "CK+", {"anger": ["S001_001_00000001.png"], "happy": ["S001_002_00000001.png"]})

    with pytest.raises(DataError, match="Leave out --frames"):
        read_ckplus(root, frames=2)
    with pytest.raises(DataError, match="not between 1 and 20"):
        read_ckplus(root, frames=0)


def test_sequences_without_the_folder_of_labels_are_refused(tmp_path: Path) -> None:
    root = write_ckplus(tmp_path / "ck" / "ck", people=1)
    (root / "Emotion").rename(tmp_path / "labels")

    with pytest.raises(DataError, match="no folder Emotion"):
        read_ckplus(root)
    assert len(read_ckplus(root, labels=tmp_path / "labels").faces) == 21
