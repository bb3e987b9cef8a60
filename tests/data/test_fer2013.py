"""FER2013's CSV file as a source, with its own labels and with those that rules make of FER+'s votes."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from fixtures.prepare import read_skipped, small
from fixtures.public_sets import FERPLUS_HEADER, USAGES, pixels_of, write_fer2013, write_ferplus
from hypothesis import given
from hypothesis import strategies as st

from ferray.data.known_sets import WITH_CONTEMPT
from ferray.data.prepare.run import prepare
from ferray.data.sources.fer2013 import read_fer2013
from ferray.data.sources.ferplus import RULES, choose_label, read_votes
from ferray.data.store.reader import open_store
from ferray.data.store.verify import verify_store
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError

NO_COPIES = small(size_px=48, copies="skip")


def votes_of(**counts: int) -> list[int]:
    return [counts.get(name, 0) for name in (*WITH_CONTEMPT, "unknown", "NF")]


# Its own labels


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_a_store_has_the_files_pixels_labels_and_split(tmp_path: Path, header: str) -> None:
    store = prepare(read_fer2013(write_fer2013(tmp_path / "a.csv", header=header)), tmp_path / "store", NO_COPIES)

    assert store.manifest.dataset == "fer2013"
    assert store.class_names == CLASS_NAMES
    assert store.manifest.split is None
    assert store.manifest.split_sizes == {"train": 42, "validation": 14, "test": 14}
    for row in (0, 41, 42, 69):
        number = int(store.table["source"].iloc[row].removeprefix("row ")) - 2
        assert store.labels[row] == number % 7
        assert " ".join(map(str, store.faces[row, :, :, 0].ravel())) == pixels_of(number)
        assert (store.faces[row] == store.faces[row, :, :, :1]).all()
    assert store.votes is None


def test_the_same_file_is_the_same_store_and_another_is_not(tmp_path: Path) -> None:
    file = write_fer2013(tmp_path / "a.csv")
    first = prepare(read_fer2013(file), tmp_path / "store", NO_COPIES)

    assert prepare(read_fer2013(file), tmp_path / "store", NO_COPIES).fingerprint == first.fingerprint
    file.write_text(file.read_text().replace("\n0,", "\n1,", 1))
    with pytest.raises(DataError, match="other photographs or labels"):
        prepare(read_fer2013(file), tmp_path / "store", NO_COPIES)


def test_copies_across_the_split_are_found_and_left_out_on_request(tmp_path: Path) -> None:
    file = write_fer2013(tmp_path / "a.csv")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[1].replace("Training", "PrivateTest")]) + "\n")

    kept = prepare(read_fer2013(file), tmp_path / "kept", small(size_px=48))
    cleaned = prepare(read_fer2013(file), tmp_path / "cleaned", small(size_px=48, drop_leaks=True))

    assert any("1 train face is a copy" in note for note in kept.manifest.notes)
    assert any("1 by pixels" in note for note in kept.manifest.notes)
    assert (kept.manifest.num_faces, cleaned.manifest.num_faces) == (71, 70)
    assert "row 2" not in list(cleaned.table["source"])


def test_a_file_without_usage_is_divided_only_on_request(tmp_path: Path) -> None:
    file = write_fer2013(tmp_path / "train.csv", header="emotion,pixels")

    with pytest.raises(DataError, match=r"no column Usage.*\n.*--split 70/10/20"):
        read_fer2013(file)
    store = prepare(read_fer2013(file, may_divide=True), tmp_path / "s", small(copies="skip", split=(0.6, 0.2, 0.2)))
    assert store.manifest.split == (0.6, 0.2, 0.2)


def test_a_file_with_usage_keeps_its_split(tmp_path: Path) -> None:
    source = read_fer2013(write_fer2013(tmp_path / "a.csv"), may_divide=True)

    with pytest.raises(DataError, match="has its own split"):
        prepare(source, tmp_path / "store", small(split=(0.6, 0.2, 0.2)))


def test_a_file_without_labels_is_refused_with_the_file_to_take(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"faces without labels, as in Kaggle's test\.csv\n.*fer2013\.csv"):
        read_fer2013(write_fer2013(tmp_path / "test.csv", header="pixels"))


def test_a_face_without_2304_gray_levels_is_left_out_and_listed(tmp_path: Path) -> None:
    file = write_fer2013(tmp_path / "a.csv")
    file.write_text(file.read_text().replace(f",{pixels_of(3)},", f",{pixels_of(3)} 7,"))

    store = prepare(read_fer2013(file), tmp_path / "store", NO_COPIES)

    assert store.manifest.skipped == {"wrong number of pixels": 1}
    (row,) = read_skipped(store)
    assert row["place"] == f"{file}:5"
    assert row["what"] == "2,305 gray levels, not 2,304"


def test_published_counts_on_the_wrong_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ferray.data import known_sets

    file = write_fer2013(tmp_path / "a.csv", num=73)  # angry, disgust and fear have one more than the others
    counts = Counter(face.label for face in read_fer2013(file).faces)
    assert counts[2] == 11
    assert counts[3] == 10
    real = next(known for known in known_sets.KNOWN_SETS if known.name == "FER2013")
    slipped = known_sets.replace(real, parts={"all": (11, 11, 10, 11, 10, 10, 10)})
    monkeypatch.setattr(known_sets, "KNOWN_SETS", (slipped,))

    with pytest.raises(DataError, match="on other classes: fear 11 instead of 10, happy 10 instead of 11"):
        read_fer2013(file)


# FER+: the rules


@pytest.mark.parametrize(
    "votes, majority, plurality, microsoft",
    [
        (votes_of(happy=10), "happy", "happy", "happy"),
        (votes_of(happy=6, sad=4), "happy", "happy", "happy"),
        (votes_of(happy=5, sad=3, fear=2), "no majority of votes", "happy", "no majority of votes"),
        (votes_of(happy=5, sad=1, fear=1, angry=1, neutral=2), "no majority of votes", "happy", "happy"),
        (votes_of(happy=5, sad=5), "no majority of votes", "tied votes", "no majority of votes"),
        (votes_of(happy=4, sad=4, fear=2), "no majority of votes", "tied votes", "no majority of votes"),
        (votes_of(contempt=7, sad=3), "contempt", "contempt", "contempt"),
        (votes_of(unknown=6, sad=4), "voted unknown", "voted unknown", "voted unknown"),
        (votes_of(unknown=4, sad=3, happy=3), "no majority of votes", "voted unknown", "no majority of votes"),
        (votes_of(NF=10), "voted not a face", "voted not a face", "voted not a face"),
        (votes_of(), "no majority of votes", "no majority of votes", "no majority of votes"),
        (
            votes_of(happy=1, sad=1, fear=1, angry=1, neutral=1, disgust=1, surprise=1, contempt=1, unknown=1, NF=1),
            "no majority of votes", "tied votes", "no majority of votes",
        ),
    ],
)  # fmt: skip
def test_each_rule_makes_its_own_label(votes: list[int], majority: str, plurality: str, microsoft: str) -> None:
    found = [choose_label(votes, rule) for rule in ("majority", "plurality", "microsoft")]

    assert [label if isinstance(label, str) else WITH_CONTEMPT[label] for label in found] == [
        majority, plurality, microsoft
    ]  # fmt: skip


@given(st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_a_stricter_rule_never_gives_another_label(votes: list[int]) -> None:
    labels = {rule: choose_label(votes, rule) for rule in RULES}

    if isinstance(labels["majority"], int):
        assert labels["plurality"] == labels["majority"]
        if max(votes) > 1:
            assert labels["microsoft"] == labels["majority"]
    if isinstance(labels["microsoft"], int):
        assert labels["plurality"] == labels["microsoft"]


# FER+: as labels and votes of a store


ANSWERS: list[Mapping[str, int]] = [
    {"neutral": 8, "sad": 2},
    {"happy": 10},
    {"contempt": 6, "neutral": 4},
    {"angry": 5, "disgust": 5},
    {"unknown": 9, "fear": 1},
    {"NF": 10},
    {"surprise": 5, "fear": 1, "happy": 1, "sad": 1, "neutral": 2},
    {"angry": 7, "neutral": 3},
    {"disgust": 6, "angry": 4},
    {"fear": 10},
    {"sad": 10},
    {"surprise": 9, "neutral": 1},
    {"happy": 6, "contempt": 4},
    {"neutral": 10},
]


def ferplus(tmp_path: Path, votes: list[Mapping[str, int]] | None = None) -> tuple[Path, Path]:
    """70 faces and their votes, all kinds of answers in turn."""
    file = write_fer2013(tmp_path / "fer2013.csv")
    return file, write_ferplus(tmp_path / "fer2013new.csv", votes or ANSWERS * 5)


def test_labels_and_votes_are_in_the_store_and_the_rule_is_in_its_name(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)

    store = prepare(read_fer2013(file, ferplus=votes, rule="majority"), tmp_path / "store", NO_COPIES)

    assert store.manifest.dataset == "ferplus-majority"
    assert store.class_names == WITH_CONTEMPT
    assert store.manifest.skipped == {"no majority of votes": 10, "voted not a face": 5, "voted unknown": 5}
    assert store.manifest.num_faces == 50
    assert store.votes is not None
    places = [int(name.removeprefix("row ")) - 2 for name in store.table["source"]]
    for row, place in enumerate(places):
        answers = ANSWERS[place % 14]
        assert {WITH_CONTEMPT[at]: num for at, num in enumerate(store.votes[row].tolist()) if num} == answers
        assert answers[store.class_names[store.labels[row]]] == max(answers.values())
        assert store.table["agreement"].iloc[row] == max(answers.values()) / 10
        assert store.table["fer2013_class"].iloc[row] == CLASS_NAMES[place % 7]
    verify_store(store)


def test_another_rule_is_another_store(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)
    stores = [
        prepare(read_fer2013(file, ferplus=votes, rule=rule), tmp_path / rule, NO_COPIES) for rule in RULES
    ]  # fmt: skip

    assert [store.manifest.num_faces for store in stores] == [50, 55, 55]
    assert len({store.fingerprint for store in stores}) == 2  # the last two have the same labels here
    with pytest.raises(DataError, match="dataset ferplus-majority, not ferplus-plurality"):
        prepare(read_fer2013(file, ferplus=votes, rule="plurality"), tmp_path / "majority", NO_COPIES)


def test_contempt_is_left_out_and_counted_on_request(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)

    store = prepare(read_fer2013(file, ferplus=votes, with_contempt=False), tmp_path / "store", NO_COPIES)

    assert store.class_names == CLASS_NAMES
    assert store.manifest.skipped["of another class"] == 5
    assert store.votes is not None
    assert store.votes.shape == (45, 7)


def test_rows_left_out_by_a_rule_are_no_faults(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)
    strict = small(size_px=48, copies="skip", on_bad="fail")

    prepare(read_fer2013(file, ferplus=votes), tmp_path / "store", strict)

    assert prepare(read_fer2013(file, ferplus=votes), tmp_path / "store", strict).manifest.num_faces == 50


def test_votes_stay_with_their_faces_where_a_line_is_unusable(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)
    file.write_text(file.read_text().replace(f",{pixels_of(0)},", f",{pixels_of(0)} 7,"))

    source = read_fer2013(file, ferplus=votes)

    by_name = {face.source: face.votes for face in source.faces}
    assert "row 2" not in by_name
    assert by_name["row 3"] == (0, 0, 0, 10, 0, 0, 0, 0)
    assert len(source.faults) == 1


def test_a_changed_vote_changes_the_fingerprint_and_is_found(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)
    store = prepare(read_fer2013(file, ferplus=votes), tmp_path / "store", NO_COPIES)
    changed = [{"neutral": 9, "sad": 1}, *ANSWERS[1:]] * 5
    other = read_fer2013(file, ferplus=write_ferplus(votes, changed))
    assert prepare(other, tmp_path / "other", NO_COPIES).fingerprint != store.fingerprint

    saved = np.load(store.folder / "votes.npy")
    saved[0, 0] += 1
    np.save(store.folder / "votes.npy", saved)

    with pytest.raises(DataError, match="labels, votes or splits"):
        verify_store(open_store(store.folder))


def test_votes_of_other_faces_are_refused(tmp_path: Path) -> None:
    file, votes = ferplus(tmp_path)

    with pytest.raises(DataError, match="69 lines of votes, but there are 70 faces"):
        read_fer2013(file, ferplus=write_ferplus(votes, (ANSWERS * 5)[:69]))
    with pytest.raises(DataError, match="Usage of line 1 of the votes is 'PublicTest', but the face is in train"):
        read_fer2013(file, ferplus=write_ferplus(votes, ANSWERS * 5, usages=["PublicTest"] * 70))


def test_the_columns_of_votes_are_found_by_name(tmp_path: Path) -> None:
    names = FERPLUS_HEADER.split(",")
    shuffled = [names[at] for at in (11, 0, 2, 9, 3, 8, 4, 7, 5, 6, 10)]  # without the name, as its readme has it
    counts = {name: at for at, name in enumerate(shuffled)} | {"Usage": USAGES[0]}
    file = tmp_path / "votes.csv"
    file.write_text(",".join(shuffled) + "\n" + ",".join(str(counts[name]) for name in shuffled) + "\n")

    (row,) = read_votes(file).votes.tolist()

    words = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt", "unknown", "NF")
    assert row == [counts[word] for word in words]


@pytest.mark.parametrize(
    "text, message",
    [
        (FERPLUS_HEADER, "has no votes"),
        (FERPLUS_HEADER.replace(",contempt", ""), "no column of votes for contempt"),
        (FERPLUS_HEADER.replace("fear", "anger"), "two columns are 'anger'"),
        (f"{FERPLUS_HEADER}\nTraining,a.png,1,2\n", "4 fields, not 12"),
        (f"{FERPLUS_HEADER}\nTraining,a.png,1,2,3,4,5,6,7,8,9,-1\n", "a number of votes is '-1'"),
        (f"{FERPLUS_HEADER}\nTraining,a.png,1,2,3,4,5,6,7,8,9,x\n", "a number of votes is 'x'"),
    ],
)
def test_votes_that_cannot_be_read_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "votes.csv").write_text(text)

    with pytest.raises(DataError, match=message):
        read_votes(tmp_path / "votes.csv")
