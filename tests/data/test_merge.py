"""Several stores as one: classes by name, splits kept, no photograph on two sides, the source in a column."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
import pytest
from fixtures.data import CLASSES, write_tiny_store
from fixtures.expw import draw, encode
from fixtures.prepare import make_folders, read_skipped
from numpy.typing import NDArray

from ferray.commands.data import main
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.run import prepare
from ferray.data.sources.stores import ClassChoice, read_stores
from ferray.data.store.reader import Store, open_store
from ferray.data.store.verify import verify_store
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.errors import DataError
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.labeled import LabeledPredictions
from ferray.report.slices import score_slices

THREE = ("cat", "dog", "newt")


def write_store(
    folder: Path,
    pictures: list[tuple[str, str, NDArray[np.uint8]]],
    *,
    classes: tuple[str, ...] = THREE,
    votes: NDArray[np.uint16] | None = None,
    columns: dict[str, Any] | None = None,
    **provenance: Any,
) -> Store:
    """A store of pictures, each with its split and class, ordered by split."""
    rows = [
        {"source": f"{at}.jpg", "face_id": 0, "split": split, "group": at, "label": classes.index(name)}
        for at, (split, name, _) in enumerate(pictures)
    ]
    size_px = pictures[0][2].shape[0]
    with StoreWriter(folder, num_faces=len(rows), size_px=size_px) as writer:
        for row, (_, _, pixels) in enumerate(pictures):
            writer.put(row, pixels)
        made = Provenance(dataset="folders", source_fingerprint=folder.name, subject="pictures", **provenance)
        writer.finish(pandas.DataFrame(rows).assign(**(columns or {})), classes, made, votes)
    return open_store(folder)


def pictures(
    seed: int, *, classes: tuple[str, ...] = THREE, size_px: int = 48
) -> list[tuple[str, str, NDArray[np.uint8]]]:
    """Two pictures of each class in each split."""
    return [
        (split, name, draw(seed + 100 * at + 10 * number + again, size_px, size_px))
        for at, split in enumerate(("train", "validation", "test"))
        for number, name in enumerate(classes)
        for again in range(2)
    ]


def merge(*stores: Store, out: Path, classes: ClassChoice = "same", copies: str = "find", **options: Any) -> Store:
    """As the command does it."""
    source = read_stores([store.folder for store in stores], classes)
    drop_leaks = copies == "find"
    settings = PrepareOptions(size_px=stores[0].size_px, copies=copies, drop_leaks=drop_leaks, **options)  # type: ignore[arg-type]
    return prepare(source, out, settings)


def test_a_merged_store_has_all_pictures_with_their_splits_labels_and_source(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / name, pictures(seed)) for name, seed in (("one", 0), ("two", 5000))]

    merged = merge(*stores, out=tmp_path / "both")

    assert merged.manifest.num_faces == 36
    assert merged.manifest.split_sizes == {"train": 12, "validation": 12, "test": 12}
    assert merged.class_names == THREE
    assert merged.manifest.dataset == "folders+folders"
    assert merged.table["store"].value_counts().to_dict() == {"one": 18, "two": 18}
    for row, facts in merged.table.iterrows():
        store = stores[("one", "two").index(facts["store"])]
        name, _, source = facts["source"].partition("/")
        (own,) = np.flatnonzero(store.table["source"] == source)
        assert name == facts["store"]
        assert np.array_equal(merged.faces[row], store.faces[own])
        assert merged.labels[row] == store.labels[own]
        assert facts["split"] == store.table["split"].iloc[own]
    verify_store(merged)
    assert any(
        f"one: 18 pictures from folders, fingerprint {stores[0].fingerprint[:16]}" in n for n in merged.manifest.notes
    )


def test_merging_again_is_the_same_store_and_other_stores_are_not(tmp_path: Path) -> None:
    stores = [
        write_store(tmp_path / name, pictures(seed)) for name, seed in (("one", 0), ("two", 5000), ("three", 9000))
    ]
    merged = merge(*stores[:2], out=tmp_path / "both")

    assert merge(*stores[:2], out=tmp_path / "both").fingerprint == merged.fingerprint
    with pytest.raises(DataError, match="holds another store"):
        merge(stores[0], stores[2], out=tmp_path / "both")


def test_no_photograph_is_on_two_sides_of_the_merged_split(tmp_path: Path) -> None:
    """In train of one store and in test of the other, as it is, mirrored and recompressed."""
    one, two = pictures(0), pictures(5000)
    size, height = one[0][2].shape[0], one[0][2].shape[1]
    assert (size, height) == (48, 48)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", one[2][2], [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)
    two[12] = ("test", "cat", one[0][2])
    two[13] = ("test", "cat", np.ascontiguousarray(one[1][2][:, ::-1]))
    two[6] = ("validation", "dog", np.asarray(jpeg, dtype=np.uint8))
    own = ("2 train faces are copies of faces in a later split, which was given and is kept",)
    stores = [write_store(tmp_path / "one", one, notes=own), write_store(tmp_path / "two", two)]

    merged = merge(*stores, out=tmp_path / "both")

    left_out = {row["source"]: row["what"] for row in read_skipped(merged)}
    assert set(left_out) == {"one/0.jpg", "one/1.jpg", "one/2.jpg"}
    assert left_out["one/0.jpg"] == "one/0.jpg is a copy of two/12.jpg, a test face"
    assert merged.manifest.skipped == {"copy of a face in a later split": 3}
    assert (merged.table.groupby("group")["split"].nunique() == 1).all()
    assert merged.manifest.split_sizes["test"] == 12
    assert sum("are copies of" in note for note in merged.manifest.notes) == 1, "of those that are left"


def test_copies_in_one_split_share_a_group_so_that_no_fold_divides_them(tmp_path: Path) -> None:
    one, two = pictures(0), pictures(5000)
    two[3] = ("train", "dog", one[2][2])
    stores = [write_store(tmp_path / "one", one), write_store(tmp_path / "two", two)]

    table = merge(*stores, out=tmp_path / "both").table.set_index("source")

    assert table["group"]["one/2.jpg"] == table["group"]["two/3.jpg"]
    assert table["copies"]["one/2.jpg"] == 1
    assert table["group"].nunique() == len(table) - 1


def test_groups_of_a_store_stay_together_and_apart_from_those_of_another(tmp_path: Path) -> None:
    groups = {"group": [row // 6 for row in range(18)]}
    stores = [
        write_store(tmp_path / name, pictures(seed), columns=groups) for name, seed in (("one", 0), ("two", 5000))
    ]

    table = merge(*stores, out=tmp_path / "both").table

    assert table["group"].nunique() == 6
    assert (table.groupby("group")["store"].nunique() == 1).all()
    assert (table.groupby("group")["source"].count() == 6).all()


def test_slices_compare_the_sources(tmp_path: Path) -> None:
    def many(seed: int) -> list[tuple[str, str, NDArray[np.uint8]]]:
        return [
            (split, name, draw(seed + 1000 * at + number, 16, 16))
            for at, split in enumerate(("train", "test"))
            for number, name in enumerate(THREE * 12)
        ]

    stores = [write_store(tmp_path / name, many(seed)) for name, seed in (("one", 0), ("two", 5000))]
    merged = merge(*stores, out=tmp_path / "both", copies="skip")
    rows = merged.rows("test")
    labels, table = merged.labels[rows], merged.table.iloc[rows]
    predicted = np.where(table["store"] == "one", labels, (labels + 1) % 3)
    predictions = LabeledPredictions(
        class_names=THREE, labels=labels, predicted=predicted, probabilities=None, groups=merged.groups("test")
    )

    slices = {
        one.value: one
        for one in score_slices(table, predictions, bootstrap=Bootstrap(resamples=20))
        if one.column == "store"
    }

    assert {name: (one.n, one.accuracy) for name, one in slices.items()} == {"one": (36, 1.0), "two": (36, 0.0)}


# Classes


def test_classes_are_mapped_by_name_whatever_their_order_and_word(tmp_path: Path) -> None:
    for name, folders in (("a", ("anger", "happiness", "sadness")), ("b", ("sad", "joyful", "angry"))):
        (tmp_path / name).mkdir()
        for number, folder in enumerate(folders):
            for split in ("train", "test"):
                (tmp_path / name / split / folder).mkdir(parents=True)
                seed = 10 * number + 100 * (split == "test") + 1000 * (name == "b")
                (tmp_path / name / split / folder / "1.png").write_bytes(encode(seed, ".png"))
    stores = [make_folders(tmp_path / name, f"{name}-store") for name in ("a", "b")]

    merged = merge(*stores, out=tmp_path / "both")

    assert merged.class_names == ("angry", "happy", "sad")
    assert merged.manifest.subject == "expressions"
    words = {"anger": "angry", "happiness": "happy", "joyful": "happy", "sadness": "sad"}
    for source, label in zip(merged.table["source"], merged.labels, strict=True):
        folder = source.split("/")[2]
        assert merged.class_names[label] == words.get(folder, folder)


def test_natural_is_no_expression_where_the_classes_are_none(tmp_path: Path) -> None:
    classes = ("natural", "painted")
    stores = [
        write_store(tmp_path / name, pictures(seed, classes=classes), classes=classes)
        for name, seed in (("a", 0), ("b", 5000))
    ]

    assert merge(*stores, out=tmp_path / "both").class_names == classes


def test_unlike_classes_are_refused_and_both_ways_out_work(tmp_path: Path) -> None:
    two = ("newt", "cat")
    stores = [
        write_store(tmp_path / "three", pictures(0)),
        write_store(tmp_path / "two", pictures(5000, classes=two), classes=two),
    ]

    with pytest.raises(DataError, match=r"two lacks dog[\s\S]*--classes common[\s\S]*--classes all"):
        merge(*stores, out=tmp_path / "both")
    common = merge(*stores, out=tmp_path / "common", classes="common")
    every = merge(*stores, out=tmp_path / "all", classes="all")

    assert common.class_names == ("cat", "newt")
    assert common.manifest.skipped == {"of another class": 6}
    assert read_skipped(common)[0]["what"] == "dog is not a class of all stores"
    assert every.class_names == THREE
    assert every.manifest.num_faces == 18 + 12
    assert set(every.table["store"][every.table["class_name"] == "dog"]) == {"three"}


def test_stores_without_a_common_class_are_refused(tmp_path: Path) -> None:
    other = ("oak", "elm")
    stores = [
        write_store(tmp_path / "animals", pictures(0)),
        write_store(tmp_path / "trees", pictures(5000, classes=other), classes=other),
    ]

    with pytest.raises(DataError, match="only 0 classes are in all stores"):
        merge(*stores, out=tmp_path / "both", classes="common")


# Columns, votes, what must agree


def test_columns_of_one_store_are_empty_in_the_other_and_the_photographs_size_is_kept(tmp_path: Path) -> None:
    stores = [
        write_store(tmp_path / "one", pictures(0), columns={"light": ["low", "high"] * 9, "face_px": [70] * 18}),
        write_store(
            tmp_path / "two", pictures(5000), columns={"zoom": [1.5] * 18, "face_px": [20] * 18, "gray": [True] * 18}
        ),
    ]

    table = merge(*stores, out=tmp_path / "both").table
    one, two = table[table["store"] == "one"], table[table["store"] == "two"]

    assert set(one["light"]) == {"low", "high"}
    assert two["light"].isna().all()
    assert one["zoom"].isna().all()
    assert set(two["zoom"]) == {1.5}
    assert set(one["face_px"]) == {70}
    assert set(two["face_px"]) == {20}


def test_votes_follow_their_classes_and_are_kept_where_all_stores_have_them(tmp_path: Path) -> None:
    other = ("newt", "cat", "dog")
    generator = np.random.default_rng(0)

    def votes(labels: list[int]) -> NDArray[np.uint16]:
        return (generator.integers(0, 3, (18, 3)) + 5 * np.eye(3, dtype=np.int64)[labels]).astype(np.uint16)

    some, others = pictures(0), pictures(5000, classes=other)
    voted = write_store(tmp_path / "one", some, votes=votes([THREE.index(name) for _, name, _ in some]))
    too = write_store(
        tmp_path / "two", others, classes=other, votes=votes([other.index(name) for _, name, _ in others])
    )  # fmt: skip
    without = write_store(tmp_path / "three", pictures(9000))

    both, mixed = merge(voted, too, out=tmp_path / "both"), merge(voted, without, out=tmp_path / "mixed")

    assert both.votes is not None
    assert too.votes is not None
    for row, facts in both.table[both.table["store"] == "two"].iterrows():
        own = int(facts["source"].removeprefix("two/").removesuffix(".jpg"))
        assert both.votes[row].tolist() == [too.votes[own][other.index(name)] for name in THREE]
    assert (both.votes.argmax(axis=1) == both.labels).all()
    assert mixed.votes is None
    assert "only one had votes, so labels alone were kept" in mixed.manifest.notes


def test_sizes_that_differ_are_refused_with_the_command_to_change(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / "one", pictures(0)), write_store(tmp_path / "two", pictures(1, size_px=32))]

    with pytest.raises(DataError, match=r"one 48 px, two 32 px[\s\S]*Prepare two again with --size 48"):
        merge(*stores, out=tmp_path / "both")


def test_margins_that_differ_are_refused_but_whole_pictures_go_with_crops(tmp_path: Path) -> None:
    stores = [
        write_store(tmp_path / name, pictures(seed), margin=margin)
        for name, seed, margin in (("a", 0, 0.1), ("b", 3000, 0.0), ("c", 6000, 0.3))
    ]

    assert merge(stores[0], stores[1], out=tmp_path / "ab").manifest.margin == 0.1
    with pytest.raises(DataError, match=r"unlike margins: a 0.1, c 0.3"):
        merge(stores[0], stores[2], out=tmp_path / "ac")


def test_a_damaged_store_is_not_merged(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / "one", pictures(0)), write_store(tmp_path / "two", pictures(5000))]
    file = stores[1].folder / "faces.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(DataError, match="damaged"):
        merge(*stores, out=tmp_path / "both")


def test_one_store_or_one_twice_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "one", pictures(0))

    with pytest.raises(DataError, match="1 stores"):
        read_stores([store.folder])
    with pytest.raises(DataError, match="named twice"):
        read_stores([store.folder, tmp_path / "." / "one"])


def test_stores_of_one_name_are_told_apart_by_the_folder_above(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / name / "store", pictures(seed)) for name, seed in (("a", 0), ("b", 5000))]

    assert set(merge(*stores, out=tmp_path / "both").table["store"]) == {"a/store", "b/store"}


def test_a_merged_store_can_be_merged(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / name, pictures(seed)) for name, seed in (("a", 0), ("b", 3000), ("c", 6000))]

    merged = merge(merge(*stores[:2], out=tmp_path / "ab"), stores[2], out=tmp_path / "abc")

    assert set(merged.table["store"]) == {"ab/a", "ab/b", "c"}
    assert merged.manifest.num_faces == 54


def test_two_faces_of_one_photograph_stay_two_of_one_group(tmp_path: Path) -> None:
    columns = {
        "source": [f"{row // 2}.jpg" for row in range(18)], "face_id": [3 * (row % 2) for row in range(18)],
        "group": [row // 2 for row in range(18)],
    }  # fmt: skip
    stores = [
        write_store(tmp_path / "one", pictures(0), columns=columns), write_store(tmp_path / "two", pictures(5000))
    ]  # fmt: skip

    table = merge(*stores, out=tmp_path / "both").table

    assert table["source"].is_unique
    assert (table[table["store"] == "one"].groupby("group")["source"].count() == 2).all()
    assert "one/0.jpg#3" in set(table["source"])


def test_the_command_merges_and_names_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_store(tmp_path / "one")
    one, two = pictures(0, classes=CLASSES, size_px=32), pictures(5000, classes=CLASSES, size_px=32)
    two[-1] = ("test", "neutral", one[0][2])
    for name, some in (("one", one), ("two", two)):
        write_store(tmp_path / f"{name}-pictures", some, classes=CLASSES)

    folders = [str(tmp_path / f"{name}-pictures") for name in ("one", "two")]
    assert main(["merge", *folders, "--out", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    assert "83 faces of 32 px from folders+folders" in printed
    assert "left out: 1 copy of a face in a later split" in printed
    assert main(["merge", *folders, "--out", str(tmp_path / "both")]) == 0
    assert "same store already" in capsys.readouterr().out
    assert main(["merge", folders[0], "--out", str(tmp_path / "none")]) == 2
    assert main(["merge", folders[0], str(tmp_path), "--out", str(tmp_path / "none")]) == 2
    assert "not a store" in capsys.readouterr().err
