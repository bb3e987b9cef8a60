"""Copies in a store: grouped in one split, reported where a given split has them, left out on request."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.expw import WORDS, ExpW, format_line
from fixtures.prepare import content, make, make_folders, read_skipped

from ferray.data.copies.find import Copies, find_copies
from ferray.data.copies.sketch import Sketches
from ferray.data.prepare import grouping
from ferray.data.store.manifest import SPLITS
from ferray.data.threads import Threads

Tree = Callable[..., Path]


def find_among(
    wanted: str, sketches: Sketches, load: Callable[[int], np.ndarray], *, kind: str, **options: object
) -> Copies:
    """Copies among photographs only, or among faces only."""
    searched = sketches if kind == wanted else Sketches(len(sketches), digest_of="bytes")
    return find_copies(searched, load, kind=kind, threads=Threads())  # type: ignore[arg-type]


def copy_photograph(expw: ExpW, name: str, copy: str, *, quality: int | None = None, cut_px: int = 0) -> None:
    """The photograph under another name, its first face labeled anew with the copy's first word."""
    if quality is None:
        (expw.images / copy).write_bytes((expw.images / name).read_bytes())
    else:
        pixels = cv2.imread(str(expw.images / name))[cut_px:, cut_px:]
        cv2.imwrite(str(expw.images / copy), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    label = WORDS.index(copy.partition("_")[0])
    expw.add_lines(format_line(copy, label=label, top=10 - cut_px, left=5 - cut_px))


@pytest.fixture
def copied(expw: ExpW) -> ExpW:
    """With a copy of every second photograph of a class, in turn the same file and a compressed, cut one."""
    for word in WORDS:
        for number in range(0, 10, 2):
            quality = 60 if number % 4 else None
            name = f"{word}_man_{number}.jpg"
            copy_photograph(expw, name, f"{word}_copy_{number}.jpg", quality=quality, cut_px=2 if quality else 0)
    return expw


def test_a_photograph_and_its_copies_are_one_group_in_one_split(copied: ExpW) -> None:
    store = make(copied, size_px=32)

    table = store.table.assign(original=store.table["source"].str.replace("copy", "man"))
    assert (table.groupby("original")["group"].nunique() == 1).all()
    assert (table.groupby("group")["original"].nunique() == 1).all()
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert table["copies"].tolist() == [int(int(name[-5]) % 2 == 0) for name in table["source"]]
    sizes = table["split"].value_counts()
    assert [abs(sizes[split] - share * 129) < 8 for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True)]
    assert "70 of 105 photographs are copies of others among them, in 35 groups" in store.manifest.notes


def test_faces_keep_their_pixels_and_labels_when_copies_move_them_to_another_row(copied: ExpW) -> None:
    key = ["source", "face_id"]
    plain = make(copied, "plain", copies="skip").table.set_index(key)

    store = make(copied, "joined")

    joined = store.table.set_index(key)
    assert sorted(joined.index) == sorted(plain.index)
    assert (joined["sha256"] == plain.loc[joined.index, "sha256"]).all()
    assert (joined["label"] == plain.loc[joined.index, "label"]).all()
    digests = [hashlib.sha256(np.ascontiguousarray(face).tobytes()).hexdigest() for face in store.faces]
    assert digests == joined["sha256"].tolist()
    assert (joined["split"] != plain.loc[joined.index, "split"]).any()


def test_without_copies_the_search_for_them_changes_no_face_and_no_split(expw: ExpW) -> None:
    found, skipped = make(expw, "found"), make(expw, "skipped", copies="skip")

    assert found.fingerprint == skipped.fingerprint
    assert found.manifest.source_fingerprint == skipped.manifest.source_fingerprint
    assert "0 of 70 photographs are copies of others among them, in 0 groups" in found.manifest.notes
    assert "copies of photographs were not looked for" in skipped.manifest.notes


def test_with_copies_too_the_same_input_and_seed_make_the_same_bytes(copied: ExpW) -> None:
    first, second = (make(copied, str(num), threads=Threads(num=num)) for num in (1, 5))

    assert content(first) == content(second)
    assert make(copied, "1").manifest == first.manifest


@pytest.mark.parametrize("found_by", ["faces", "photographs"])
def test_of_two_faces_in_a_copied_photograph_each_matches_its_own_copy(
    expw: ExpW, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    if found_by == "photographs":
        monkeypatch.setattr(grouping, "find_copies", partial(find_among, "photographs"))
    name, copy = "angry_man_0.jpg", "sad_copy_0.jpg"  # has a second face, at the right
    copy_photograph(expw, name, copy, quality=80)
    expw.add_lines(format_line(copy, face_id=2, left=20, label=0))

    table = make(expw, size_px=32).table.set_index(["source", "face_id"])

    for face_id in (0, 2):
        assert table.loc[(name, face_id), "same_face"] == table.loc[(copy, face_id), "same_face"]
    assert table.loc[(name, 0), "same_face"] != table.loc[(name, 2), "same_face"]
    assert table["same_face"].nunique() == len(table) - 2


def test_faces_whose_copies_have_different_labels_can_be_left_out(copied: ExpW) -> None:
    copy_photograph(copied, "happy_man_1.jpg", "sad_copy_1.jpg", quality=70)
    copy_photograph(copied, "fear_man_3.jpg", "neutral_copy_3.jpg")

    store = make(copied, drop_conflicts=True, on_bad="fail")

    left_out = {(row["source"], row["reason"]) for row in read_skipped(store)}
    assert left_out == {
        (name, "copies with unlike labels")
        for name in ("happy_man_1.jpg", "sad_copy_1.jpg", "fear_man_3.jpg", "neutral_copy_3.jpg")
    }
    assert store.manifest.skipped == {"copies with unlike labels": 4}
    assert not set(store.table["source"]) & {name for name, _ in left_out}
    assert make(copied, drop_conflicts=True, on_bad="fail").fingerprint == store.fingerprint


@pytest.fixture
def leaking(make_tree: Tree) -> Path:
    """A tree with its own split, whose train and validation have copies of test faces."""
    root = make_tree({f"{split}/{word}": 4 for split in ("train", "validation", "test") for word in WORDS})
    for split, word in (("train", "happy"), ("train", "sad"), ("validation", "fear")):
        pixels = cv2.imread(str(root / "test" / word / "0.png"))
        cv2.imwrite(str(root / split / word / "leak.png"), np.ascontiguousarray(pixels[:, ::-1]))
    (root / "train" / "fear" / "leak.png").write_bytes((root / "validation" / "fear" / "leak.png").read_bytes())
    return root


LEAKS = ["train/fear/leak.png", "train/happy/leak.png", "train/sad/leak.png", "validation/fear/leak.png"]


def test_a_split_that_was_given_is_kept_and_the_copies_across_it_are_reported(
    leaking: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_folders(leaking)

    leaks = "3 train faces and 1 validation face are copies of faces in a later split"
    assert f"{leaks}, which was given and is kept" in store.manifest.notes
    assert leaks in caplog.text
    assert f"ferray.data check {store.folder}" in caplog.text
    assert store.manifest.num_faces == 88
    assert set(LEAKS) < set(store.table["source"])
    groups = store.table.set_index("source")["group"]
    assert groups["train/sad/leak.png"] == groups["test/sad/0.png"]


def test_copies_of_faces_in_a_later_split_can_be_left_out(leaking: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_folders(leaking, drop_leaks=True)

    assert sorted(row["source"] for row in read_skipped(store)) == LEAKS
    assert store.manifest.skipped == {"copy of a face in a later split": 4}
    assert store.table.groupby("group")["split"].nunique().max() == 1
    assert not caplog.text


def test_validation_taken_out_of_train_shares_no_copies_with_it(make_tree: Tree) -> None:
    root = make_tree({f"{split}/{word}": 10 for split in ("train", "test") for word in WORDS})
    for word in WORDS:
        for number in range(10):
            (root / "train" / word / f"copy-{number}.png").write_bytes(
                (root / "train" / word / f"{number}.png").read_bytes()
            )

    store = make_folders(root, split=(0.8, 0.2, 0.0))

    assert [sum(store.manifest.counts[split].values()) for split in SPLITS] == [112, 28, 70]
    assert store.table.groupby("group")["split"].nunique().max() == 1
