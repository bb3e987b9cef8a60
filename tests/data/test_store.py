"""A store is whole or it is not opened, and it is written whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas
import pytest
from fixtures.data import write_tiny_store
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.data.store.reader import Store, StoreWriter, open_store
from ferray.data.store.verify import verify_store
from ferray.errors import DataError, StorageError
from ferray.files import storage


@pytest.fixture
def copy(tiny_store: Store, tmp_path: Path) -> Path:
    """A store that a test may break."""
    return Path(shutil.copytree(tiny_store.folder, tmp_path / "copy"))


def edit(folder: Path, **values: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **values}))


def test_a_split_is_one_slice_and_the_table_has_its_rows(tiny_store: Store) -> None:
    rows = [tiny_store.rows(split) for split in ("train", "validation", "test")]

    assert [(each.start, each.stop) for each in rows] == [(0, 42), (42, 63), (63, 84)]
    assert tiny_store.table["split"][rows[1]].unique().tolist() == ["validation"]
    assert len(tiny_store.groups("test")) == 21
    assert tiny_store.faces.shape == (84, 32, 32, 3)
    assert not tiny_store.faces.flags.writeable


def test_an_unknown_split_lists_the_known(tiny_store: Store) -> None:
    with pytest.raises(DataError, match="train, validation, test"):
        tiny_store.rows("val")


def test_an_empty_split_says_which_there_are(tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "test-only", per_class=(0, 0, 2))

    with pytest.raises(DataError, match="has no train faces\n  It has test"):
        store.rows("train")


def test_the_same_faces_have_the_same_fingerprint_and_one_other_pixel_another(tmp_path: Path) -> None:
    first, second = (write_tiny_store(tmp_path / name) for name in ("first", "second"))
    other = write_tiny_store(tmp_path / "third", per_class=(6, 3, 4))

    assert first.fingerprint == second.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "values, told",
    [
        ({"version": 99}, "format 99"),
        ({"version": None}, "format None"),
        ({"num_faces": 83}, r"faces\.npy is not \|u1 of shape \(83, 32, 32, 3\)"),
        ({"size_px": 33}, r"shape \(84, 33, 33, 3\)"),
        ({"size_px": 0}, "size_px"),
        ({"counts": {"train": {"angry": 84_000}}}, "disagree"),
        ({"class_names": ["happy"]}, "disagree"),
        ({"surprise": 1}, "surprise"),
        ({"split": [1, 0]}, "split"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(copy: Path, values: dict[str, object], told: str) -> None:
    edit(copy, **values)

    with pytest.raises(DataError, match=told):
        open_store(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": 1}'])
def test_a_manifest_that_is_none_is_told(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)

    with pytest.raises(DataError, match="copy"):
        open_store(copy)


@pytest.mark.parametrize("name", ["faces.npy", "labels.npy"])
@pytest.mark.parametrize("left", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_array_is_told(copy: Path, name: str, left: float) -> None:
    size = (copy / name).stat().st_size
    os.truncate(copy / name, int(left if left >= 1 else size * left))

    with pytest.raises(DataError, match="broken store"):
        open_store(copy)


@pytest.mark.parametrize("name", ["faces.npy", "labels.npy", "manifest.json"])
def test_a_missing_file_is_an_error(copy: Path, name: str) -> None:
    (copy / name).unlink()

    with pytest.raises(DataError, match="copy"):
        open_store(copy)


def test_an_array_that_would_run_code_is_refused(copy: Path) -> None:
    np.save(copy / "labels.npy", np.array([print], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="broken store"):
        open_store(copy)


def test_labels_beyond_the_classes_are_told(copy: Path) -> None:
    np.save(copy / "labels.npy", np.full(84, 7, dtype=np.int64))

    with pytest.raises(DataError, match="disagree"):
        open_store(copy)


def test_a_table_cut_off_missing_or_of_other_length_is_told_when_it_is_read(copy: Path) -> None:
    pandas.read_parquet(copy / "table.parquet").head(10).to_parquet(copy / "table.parquet")
    with pytest.raises(DataError, match="10 rows, but there are 84 faces"):
        _ = open_store(copy).table

    os.truncate(copy / "table.parquet", 100)
    with pytest.raises(DataError, match="cannot be read"):
        _ = open_store(copy).table

    (copy / "table.parquet").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        _ = open_store(copy).table


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_store_says_how_to_make_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(DataError, match=r"python -m ferray\.data prepare"):
        open_store(tmp_path / name)


class Stop(Exception):  # noqa: N818
    pass


def facts() -> dict[str, object]:
    unknown = {"dataset": "demo", "margin": 0.0, "split": None, "seed": 0, "source_fingerprint": ""}
    return {**unknown, "notes": (), "skipped": {}}


def table(num: int) -> pandas.DataFrame:
    return pandas.DataFrame({"label": [0] * num, "split": ["test"] * num, "group": range(num)})


def face(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, dtype=np.uint8)


def write_one(folder: Path) -> None:
    with StoreWriter(folder, num_faces=1, size_px=8) as writer:
        writer.put(0, face(1))
        writer.finish(table(1), class_names=["happy"], **facts())


def test_a_store_left_half_written_is_never_read_as_whole(tmp_path: Path) -> None:
    def write() -> None:
        with StoreWriter(tmp_path / "store", num_faces=2, size_px=8) as writer:
            writer.put(0, face(1))
            raise Stop

    with pytest.raises(Stop):
        write()

    assert [path.name for path in tmp_path.iterdir()] == [".store.lock"]
    with pytest.raises(DataError):
        open_store(tmp_path / "store")


def test_the_rest_of_a_killed_run_is_no_store_and_the_next_run_clears_it(tmp_path: Path) -> None:
    rest = tmp_path / ".store.part"
    rest.mkdir()
    (rest / "faces.npy").write_bytes(b"half")
    (rest / "old").write_text("x")
    with pytest.raises(DataError):
        open_store(rest)

    write_one(tmp_path / "store")

    assert not rest.exists()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "faces.npy", "labels.npy", "manifest.json", "table.parquet",
    ]  # fmt: skip


def test_rows_left_out_close_up(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", num_faces=1000, size_px=8) as writer:
        for row in range(0, 1000, 3):
            writer.put(row, face(row % 251))
        writer.arrange(list(range(0, 1000, 3)))
        writer.finish(table(334), class_names=["happy"], **facts())

    store = open_store(tmp_path / "store")
    assert store.faces[:, 0, 0, 0].tolist() == [row % 251 for row in range(0, 1000, 3)]
    assert (store.folder / "faces.npy").stat().st_size == 128 + 334 * 192


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_faces_are_put_in_any_order_in_place(order: list[int], num: int) -> None:
    with TemporaryDirectory() as folder, StoreWriter(Path(folder) / "store", num_faces=12, size_px=8) as writer:
        for row in range(12):
            writer.put(row, face(row))

        writer.arrange(order[:num])

        assert [int(writer.get(row)[0, 0, 0]) for row in range(num)] == order[:num]
        writer.finish(table(num), class_names=["happy"], **facts())
        store = open_store(Path(folder) / "store")
        assert store.faces[:, 7, 7, 2].tolist() == order[:num]
        assert store.table["sha256"].tolist() == [
            hashlib.sha256(face(row).tobytes()).hexdigest() for row in order[:num]
        ]


def test_faces_put_from_several_threads_end_in_their_rows(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", num_faces=200, size_px=8) as writer:
        threads = [
            threading.Thread(target=lambda first=first: [writer.put(row, face(row)) for row in range(first, 200, 4)])
            for first in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.finish(table(200), class_names=["happy"], **facts())

    assert open_store(tmp_path / "store").faces[:, 3, 3, 1].tolist() == list(range(200))


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("x")

    with pytest.raises(DataError, match="exists already"), StoreWriter(tmp_path / "store", num_faces=1, size_px=8):
        pass

    assert (tmp_path / "store" / "thesis.tex").read_text() == "x"


def test_an_empty_folder_may_become_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()

    write_one(tmp_path / "store")

    assert open_store(tmp_path / "store").manifest.num_faces == 1


def test_two_runs_never_write_the_same_store(tmp_path: Path) -> None:
    with (
        storage.lock(tmp_path / ".store.lock"),
        pytest.raises(StorageError, match="another process"),
        StoreWriter(tmp_path / "store", num_faces=1, size_px=8),
    ):
        pass


def test_a_disk_without_room_is_told_before_the_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with (
        pytest.raises(StorageError, match=r"needs 2\.9 GiB, and 1\.0 GiB are free"),
        StoreWriter(tmp_path / "store", num_faces=1000, size_px=1024),
    ):
        pass

    assert [path.name for path in tmp_path.iterdir()] == [".store.lock"]


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match="No space left"):
        write_one(tmp_path / "store")

    assert [path.name for path in tmp_path.iterdir()] == [".store.lock"]


def test_a_disk_that_takes_only_a_part_of_a_face_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:100] if len(data) == 192 else data, at))

    with pytest.raises(StorageError, match="No space left"):
        write_one(tmp_path / "store")

    assert not (tmp_path / "store").exists()


def test_a_flipped_bit_of_a_face_is_found_and_the_face_named(copy: Path) -> None:
    verify_store(open_store(copy))
    faces = np.load(copy / "faces.npy", mmap_mode="r+")
    faces[5, 3, 2, 1] ^= 16
    faces.flush()

    with pytest.raises(DataError, match=r"faces.npy, face 5 \(train-.*: damaged"):
        verify_store(open_store(copy))


def test_labels_that_changed_places_are_found(copy: Path) -> None:
    labels = np.load(copy / "labels.npy")
    labels[[0, 41]] = labels[[41, 0]]
    np.save(copy / "labels.npy", labels)

    with pytest.raises(DataError, match=r"not th(at of labels.npy|ose of the manifest)"):
        verify_store(open_store(copy))
