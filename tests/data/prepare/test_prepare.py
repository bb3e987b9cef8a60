"""From photographs to a store: whole, the same every time, and everything left out is listed."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.expw import WORDS, ExpW, draw, encode, format_line
from fixtures.prepare import content, make, make_folders, read_skipped, small

from ferray.data.prepare import cropping
from ferray.data.prepare.photographs import crop_face
from ferray.data.prepare.run import prepare, skipped_file
from ferray.data.sources.expw import read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import open_store
from ferray.data.threads import Threads
from ferray.errors import DataError, StorageError

Tree = Callable[..., Path]
SEVEN = dict.fromkeys(WORDS, 10)


# What a store holds


def test_every_face_is_in_the_store_with_its_label_box_and_pixels(expw: ExpW) -> None:
    store = make(expw, size_px=20, margin=0.1)

    assert store.manifest.num_faces == len(store.table) == len(expw.lines) == 94
    assert store.class_names == WORDS
    for row in (0, 40, 93):
        facts = store.table.iloc[row]
        box = Box(*(int(facts[side]) for side in ("top", "left", "right", "bottom")))
        line = (
            f"{facts['source']} {facts['face_id']} {box.top} {box.left} {box.right} {box.bottom} 50.25 {facts['label']}"
        )
        assert line.encode() in expw.lines
        expected, _ = crop_face(cv2.imread(str(expw.images / facts["source"])), box, size_px=20, margin=0.1)
        assert np.array_equal(store.faces[row], expected)
        assert store.labels[row] == facts["label"]


def test_the_table_has_every_column_that_slices_use(expw: ExpW) -> None:
    cv2.imwrite(str(expw.images / "sad_man_0.jpg"), np.repeat(draw(0)[..., :1], 3, axis=2))

    facts = make(expw).table.set_index(["source", "face_id"]).loc[("sad_man_0.jpg", 0)]

    expected = {
        "label": 4, "class_name": "sad", "face_px": 20, "photo_width_px": 48, "photo_height_px": 40, "gray": True,
        "overruns": False, "confidence": 50.25, "emotion_word": "sad", "subject_word": "man",
    }  # fmt: skip
    assert {name: facts[name] for name in expected} == expected


def test_rows_are_ordered_by_split_photograph_and_face(expw: ExpW) -> None:
    table = make(expw).table

    keys = list(zip(table["split"].map(SPLITS.index), table["source"], table["face_id"], strict=True))
    assert keys == sorted(keys)


def test_no_photograph_is_in_two_splits_and_its_faces_have_one_group(expw: ExpW) -> None:
    table = make(expw).table

    assert (table.groupby("source")["split"].nunique() == 1).all()
    assert (table.groupby("source")["group"].nunique() == 1).all()
    assert (table.groupby("group")["source"].nunique() == 1).all()
    assert table["group"].nunique() == 70


def test_a_pure_test_store_has_no_other_faces(expw: ExpW) -> None:
    store = make(expw, split=(0.0, 0.0, 1.0))

    assert store.rows("test") == slice(0, 94)
    with pytest.raises(DataError, match="no train faces"):
        store.rows("train")


def test_a_sample_has_as_many_faces_as_asked_for_and_classes_in_proportion(expw: ExpW) -> None:
    store = make(expw, num_faces=47)

    assert store.manifest.num_faces == 47
    whole, drawn = Counter(line.rsplit(b" ", 1)[1] for line in expw.lines), Counter(store.table["label"])
    assert all(abs(drawn[label] - whole[str(label).encode()] / 2) < 1 for label in range(7))


def test_the_notes_say_what_was_done_to_the_faces(expw: ExpW) -> None:
    up, down = make(expw, "up", size_px=64).manifest.notes, make(expw, "down", size_px=16).manifest.notes

    assert "94 of 94 faces upsampled to 64 px (bicubic); median face before: 20 px" in up
    assert "94 of 94 faces scaled down to 16 px (INTER_AREA)" in down
    assert up[0] == "square crops, 10% of the box added all round"


# The same every time


def test_the_same_input_and_seed_make_the_same_bytes_whatever_the_number_of_threads(expw: ExpW) -> None:
    first, second = (make(expw, str(num), threads=Threads(num=num)) for num in (1, 5))

    assert content(first) == content(second)


def test_another_seed_divides_differently(expw: ExpW) -> None:
    assert make(expw, "one").fingerprint != make(expw, "two", seed=1).fingerprint


def test_the_order_of_the_lines_does_not_matter_to_the_faces(expw: ExpW) -> None:
    first = make(expw, "one")
    expw.labels.write_bytes(b"\n".join(reversed(expw.lines)))

    assert make(expw, "two").fingerprint == first.fingerprint


def test_a_second_run_finds_the_store_and_changes_nothing(expw: ExpW) -> None:
    store = make(expw)
    times = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}

    again = make(expw)

    assert again.manifest == store.manifest
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == times


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size_px": 32}, "size 16, not 32"),
        ({"margin": 0.2}, "margin 0.1, not 0.2"),
        ({"seed": 7}, "seed 0, not 7"),
        ({"num_faces": 60}, "number of faces None, not 60"),
        ({"split": (0.6, 0.2, 0.2)}, "split"),
        ({"dataset": "demo"}, "dataset expw, not demo"),
        ({"copies": "skip"}, "copies find, not skip"),
        ({"drop_conflicts": True}, "copies left out none, not conflicts"),
    ],
)
def test_a_store_made_with_other_settings_is_refused_and_kept(
    expw: ExpW, options: dict[str, object], message: str
) -> None:
    before = content(make(expw))

    with pytest.raises(DataError, match="holds another store") as caught:
        make(expw, **options)

    assert message in str(caught.value)
    assert "--out" in str(caught.value)
    assert content(open_store(expw.folder.parent / "store")) == before


def test_a_store_of_other_photographs_or_labels_is_refused(expw: ExpW) -> None:
    make(expw)
    (expw.images / "happy_man_0.jpg").write_bytes(encode(999, ".jpg"))

    with pytest.raises(DataError, match="other photographs or labels"):
        make(expw)


def test_a_folder_that_is_not_a_store_is_refused(expw: ExpW) -> None:
    out = expw.folder.parent / "store"
    out.mkdir()
    (out / "thesis.tex").write_text("x")

    with pytest.raises(DataError, match="exists already"):
        make(expw)


def test_a_store_among_its_own_photographs_is_refused(make_tree: Tree) -> None:
    with pytest.raises(DataError, match="lies in the folder of the photographs"):
        prepare(read_folders(root := make_tree(SEVEN)), root / "store", small())


# Bad input


def spoil_line(expw: ExpW) -> str:
    expw.add_lines(b"sad_man_0.jpg 7 1 2 3")
    return f"{expw.labels}:95"


def spoil_photograph(expw: ExpW) -> str:
    file = expw.images / "happy_man_1.jpg"
    file.write_bytes(file.read_bytes()[:-40])
    return f"{expw.labels}:{next(n for n, line in enumerate(expw.lines, 1) if line.startswith(b'happy_man_1.jpg'))}"


def spoil_box(expw: ExpW) -> str:
    expw.add_lines(format_line("sad_man_1.jpg", face_id=7, left=48))
    return f"{expw.labels}:95"


def remove_photograph(expw: ExpW) -> str:
    (expw.images / "happy_man_1.jpg").unlink()
    return f"{expw.labels}:{next(n for n, line in enumerate(expw.lines, 1) if line.startswith(b'happy_man_1.jpg'))}"


def link_photograph_out(expw: ExpW) -> str:
    place = remove_photograph(expw)
    (expw.images / "happy_man_1.jpg").symlink_to(expw.labels)
    return place


def swell_photograph(expw: ExpW) -> str:
    file = expw.images / "happy_man_1.jpg"
    data = file.read_bytes()
    at = data.index(b"\xff\xc0") + 5
    file.write_bytes(data[:at] + b"\xff\x00\xff\x00" + data[at + 4 :])
    return f"{expw.labels}:{next(n for n, line in enumerate(expw.lines, 1) if line.startswith(b'happy_man_1.jpg'))}"


SPOIL = [
    (spoil_line, "wrong number of fields", "5 fields, not 8"),
    (spoil_photograph, "truncated photograph", "happy_man_1.jpg is cut off after"),
    (
        spoil_box,
        "box outside the photograph",
        "sad_man_1.jpg the box top 10, left 48, right 68, bottom 30 lies outside",
    ),
    (remove_photograph, "missing photograph", "there is no photograph happy_man_1.jpg"),
    (link_photograph_out, "name outside the folder", "happy_man_1.jpg is a link that leads out of the folder"),
    (swell_photograph, "photograph too large", "happy_man_1.jpg is 65280x65280 by its header"),
]


@pytest.mark.parametrize("spoil, reason, what", SPOIL, ids=[reason for _, reason, _ in SPOIL])
def test_what_is_bad_is_left_out_counted_and_listed_with_file_and_line(
    expw: ExpW, spoil: Callable[[ExpW], str], reason: str, what: str
) -> None:
    place = spoil(expw)

    store = make(expw)

    assert store.manifest.skipped == {reason: 1}
    (row,) = read_skipped(store)
    assert (row["place"], row["reason"]) == (place, reason)
    assert what in row["what"]
    assert store.manifest.num_faces == len(store.table) == (94 if len(expw.lines) > 94 else 93)


@pytest.mark.parametrize("spoil, reason, what", SPOIL, ids=[reason for _, reason, _ in SPOIL])
def test_with_on_bad_fail_the_first_fault_ends_it_and_nothing_is_left(
    expw: ExpW, spoil: Callable[[ExpW], str], reason: str, what: str
) -> None:
    place = spoil(expw)

    with pytest.raises(DataError, match="--on-bad skip") as caught:
        make(expw, on_bad="fail")

    assert caught.value.args[0] == place
    assert what in caught.value.args[1]
    left = {path.name for path in expw.folder.parent.iterdir()}
    assert left <= {"expw", ".store.lock"}


def test_faces_after_a_bad_photograph_keep_their_pixels_and_labels(expw: ExpW) -> None:
    whole = make(expw, "whole").table.set_index(["source", "face_id"])["sha256"]
    for name in ("angry_man_0.jpg", "fear_man_3.jpg", "neutral_man_9.jpg"):
        (expw.images / name).write_bytes(b"\xff\xd8")

    store = make(expw, "part")

    part = store.table.set_index(["source", "face_id"])
    assert len(part) == 94 - store.manifest.skipped["truncated photograph"]
    assert (part["sha256"] == whole[part.index]).all()
    assert store.labels.tolist() == part["label"].tolist()
    assert Counter(store.table["split"]) == {split: sum(store.manifest.counts[split].values()) for split in SPLITS}


def test_a_store_with_faces_left_out_is_the_same_store_for_a_second_run_but_not_for_on_bad_fail(expw: ExpW) -> None:
    spoil_photograph(expw)
    store = make(expw)

    assert make(expw).fingerprint == store.fingerprint
    with pytest.raises(DataError, match="1 faces skipped, and --on-bad is fail"):
        make(expw, on_bad="fail")


def test_without_faults_there_is_no_list_and_an_old_one_is_removed(expw: ExpW) -> None:
    skipped_file(expw.folder.parent / "store").write_text("old")

    assert not skipped_file(make(expw).folder).exists()


@pytest.mark.parametrize("on_bad", ["skip", "fail"])
def test_a_class_that_is_empty_in_a_split_asked_for_is_always_an_error(expw: ExpW, on_bad: str) -> None:
    with pytest.raises(DataError, match=r"class \w+ has no face in the validation split, of \d in all"):
        make(expw, num_faces=10, on_bad=on_bad)
    assert [path.name for path in expw.folder.parent.iterdir()] == ["expw"]  # it is checked before the work begins
    assert make(expw, num_faces=10, split=(0.0, 0.0, 1.0)).manifest.num_faces == 10


def test_a_class_emptied_by_bad_photographs_is_an_error_and_leaves_no_store(tmp_path: Path) -> None:
    expw = ExpW(tmp_path / "expw", per_class=2)
    for file in expw.images.glob("fear*"):
        file.write_bytes(b"\xff\xd8")
    expw.lines = [line for line in expw.lines if not (line.startswith(b"disgust") and line.endswith(b" 2"))]
    expw.add_lines()

    with pytest.raises(DataError, match="class fear has no face in the test split, of 0 in all"):
        make(expw, split=(0.0, 0.0, 1.0))

    assert not (tmp_path / "store").exists()


def test_the_error_for_nothing_usable_lists_the_reasons(expw: ExpW) -> None:
    for file in expw.images.iterdir():
        file.unlink()

    with pytest.raises(DataError, match="no usable faces: 94 missing photograph"):
        make(expw)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_faces": 1000}, "only 94 faces are usable"),
        ({"num_faces": 0}, "below 1"),
        ({"size_px": 4}, "not between 8 and 1024"),
        ({"size_px": 5000}, "not between 8 and 1024"),
        ({"margin": -0.1}, "not between 0 and 2"),
        ({"margin": float("nan")}, "not between 0 and 2"),
        ({"split": (0.5, 0.5, 0.5)}, "add up to 1"),
        ({"copies": "maybe"}, "Known: find, skip"),
        ({"copies": "skip", "drop_conflicts": True}, "needs the copies"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(expw: ExpW, options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(expw, **options)


# Whole or not at all


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, StorageError("disk", "is full", "Free space")])
def test_a_preparation_that_ends_in_the_middle_leaves_nothing_readable(
    expw: ExpW, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    done = []
    real = cropping.crop_photograph

    def crop(*arguments: object) -> object:
        done.append(arguments)
        if len(done) == 20:
            raise error
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cropping, "crop_photograph", crop)
    with pytest.raises((Stop, KeyboardInterrupt, StorageError)):
        make(expw)

    assert {path.name for path in expw.folder.parent.iterdir()} == {"expw", ".store.lock"}
    monkeypatch.undo()
    assert make(expw).manifest.num_faces == 94


KILLED = """
import os, signal, sys
from pathlib import Path
from ferray.data.prepare import cropping
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.run import prepare
from ferray.data.sources.expw import read_expw
from ferray.data.store import writer
if sys.argv[2] == "cropping":
    real = cropping.crop_photograph
    def crop(source, name, *rest):
        if name.startswith("neutral"):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(source, name, *rest)
    cropping.crop_photograph = crop
else:
    writer.storage.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[1])
source = read_expw(folder / "origin", folder / "label.lst")
prepare(source, folder.parent / "store", PrepareOptions(size_px=16))
"""


@pytest.mark.parametrize("when", ["cropping", pytest.param("finishing", marks=pytest.mark.slow)])
def test_a_preparation_killed_leaves_nothing_readable_and_the_next_run_is_whole(expw: ExpW, when: str) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(expw.folder), when], check=False, timeout=60)

    assert died.returncode == -signal.SIGKILL
    for folder in (expw.folder.parent / "store", expw.folder.parent / ".store.part"):
        with pytest.raises(DataError, match=r"no manifest\.json"):
            open_store(folder)
    store = make(expw)
    assert content(store) == content(make(expw, "other"))
    assert not (expw.folder.parent / ".store.part").exists()


def test_the_number_of_opencvs_threads_is_restored(expw: ExpW) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        make(expw)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


# Folders


def test_one_tree_is_split_and_whole_photographs_are_taken(make_tree: Tree) -> None:
    store = make_folders(make_tree(SEVEN))

    assert [sum(store.manifest.counts[split].values()) for split in SPLITS] == [49, 7, 14]
    assert store.manifest.split == (0.7, 0.1, 0.2)
    assert store.manifest.notes[0] == "whole photographs"
    assert (
        "70 of 70 overrun their photograph or are not square; filled from its edge, not squashed"
        in store.manifest.notes
    )


def test_a_trees_own_split_is_kept_and_another_refused(make_tree: Tree) -> None:
    root = make_tree({f"{split}/{word}": 2 for split in ("train", "val", "test") for word in WORDS})

    store = make_folders(root)

    assert store.manifest.split is None
    assert [sum(store.manifest.counts[split].values()) for split in SPLITS] == [14, 14, 14]
    assert all(
        source.startswith(split[:3]) for source, split in zip(store.table["source"], store.table["split"], strict=True)
    )
    with pytest.raises(DataError, match="has its own split"):
        make_folders(root, "other", split=(0.7, 0.1, 0.2))


def test_validation_faces_can_be_taken_out_of_train_and_test_is_kept(make_tree: Tree) -> None:
    root = make_tree({f"{split}/{word}": 10 for split in ("train", "test") for word in WORDS})

    assert sum(make_folders(root, "plain").manifest.counts["validation"].values()) == 0
    store = make_folders(root, "divided", split=(0.9, 0.1, 0.0))

    assert [sum(store.manifest.counts[split].values()) for split in SPLITS] == [63, 7, 70]
    assert store.table["source"][store.rows("test")].str.startswith("test/").all()
    with pytest.raises(DataError, match="90/10/0"):
        make_folders(root, "other", split=(0.7, 0.1, 0.2))


def test_gray_photographs_become_three_equal_channels_and_the_manifest_says_so(make_tree: Tree) -> None:
    root = make_tree(SEVEN)
    for file in root.rglob("*.png"):
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[:40, :40])

    store = make_folders(root, size_px=48)

    assert (store.faces[..., 0] == store.faces[..., 2]).all()
    assert "70 of 70 faces are gray; gray to RGB, three equal channels" in store.manifest.notes
    assert "70 of 70 faces upsampled to 48 px (bicubic); median face before: 40 px" in store.manifest.notes


def test_bad_photographs_in_folders_are_listed_by_their_path(make_tree: Tree) -> None:
    root = make_tree(SEVEN)
    (root / "happy" / "notes.txt").write_text("not a picture")

    store = make_folders(root)

    (row,) = read_skipped(store)
    assert (row["reason"], row["place"]) == ("not a picture", str(root / "happy" / "notes.txt"))


def test_a_missing_class_is_reported_where_all_are_asked_for(make_tree: Tree) -> None:
    root = make_tree({word: 10 for word in WORDS if word != "neutral"})

    with pytest.raises(DataError, match="class neutral has no face in the train split, of 0 in all"):
        make_folders(root, classes="expressions")
    assert make_folders(root).class_names == tuple(word for word in WORDS if word != "neutral")


# Real photographs


@pytest.mark.slow
def test_real_expw_rows_become_a_store_with_every_face(shared_dir: Path, tmp_path: Path) -> None:
    lines = (shared_dir / "expw" / "label.lst").read_bytes().splitlines()[::12]
    (tmp_path / "label.lst").write_bytes(b"\n".join(lines))

    source = read_expw(shared_dir / "expw" / "origin", tmp_path / "label.lst")
    store = prepare(source, tmp_path / "store", small(size_px=32, on_bad="fail"))

    table = store.table
    assert store.manifest.num_faces == len(lines)
    off_square = (table["right"] - table["left"]) - (table["bottom"] - table["top"])
    assert (off_square.abs() <= 2).all()  # squares in the original; here scaled down and rounded
    assert (table.groupby("source")["split"].nunique() == 1).all()
    assert set(table["emotion_word"]) >= {"angry"}
    assert store.faces.std() > 30
