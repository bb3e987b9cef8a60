"""Hostile lists, annotations, votes and trees of public sets, and stores that are merged."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow
from fixtures.data import CLASSES, write_tiny_store
from fixtures.public_sets import (
    AFFECTNET_HEADER,
    FERPLUS_HEADER,
    pixels_of,
    write_affectnet_sets,
    write_ckplus,
    write_rafdb,
)
from hostile.cases import Parser
from hostile.data import check_classes, check_names, expect, npy_edit, table
from hostile.edits import Edits, edit_text
from pyarrow import parquet

from ferray.data.sources.affectnet import read_affectnet
from ferray.data.sources.ckplus import read_ckplus
from ferray.data.sources.fer2013 import read_fer2013
from ferray.data.sources.ferplus import RULES
from ferray.data.sources.rafdb import read_rafdb
from ferray.data.sources.stores import read_stores
from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter


def ferplus_csv(folder: Path) -> Parser:
    faces, file = folder / "fer2013.csv", folder / "fer2013new.csv"
    lines = [f"{at % 7},{pixels_of(at)},Training" for at in range(4)]
    faces.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    names = FERPLUS_HEADER.split(",")
    votes = ["4,0,0,1,3,2,0,0,0,0", "0,10,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10", "5,1,1,1,1,0,0,0,1,0"]
    seeds = (
        "\n".join([FERPLUS_HEADER, *(f"Training,fer{at}.png,{text}" for at, text in enumerate(votes))]).encode(),
        "\n".join([", ".join(names[2:]), *votes]).encode(),
        "\r\n".join([",".join([names[0], *names[2:]]), *(f"Training,{text}" for text in votes)]).encode(),
    )

    def read() -> None:
        for rule in RULES:
            source = read_fer2013(faces, ferplus=file, rule=rule)
            check_classes(source)
            expect(len(source.faces) + len(source.left_out) == 4, "a face without a label or a reason")
            expect(all(face.votes and face.votes[face.label] for face in source.faces), "a label without a vote")

    return Parser(name="ferplus_csv", seeds=seeds, file=file, read=read, folder=folder)


def rafdb_list(folder: Path) -> Parser:
    root = write_rafdb(folder / "basic", per_class=1)
    file = root / "EmoLabel" / "list_patition_label.txt"
    aligned = root / "Image" / "aligned"
    (folder / "secret.jpg").write_bytes(b"secret")
    (aligned / "train_00009_aligned.jpg").symlink_to(folder / "secret.jpg")
    seeds = (file.read_bytes(), b"train_00100.jpg 0\r\ntrain_00009.jpg 6\r\n", b"\xef\xbb\xbftrain_00700.jpg 7\n")

    def read() -> None:
        source = read_rafdb(root)
        check_names(source)
        check_classes(source)

    return Parser(name="rafdb_list", seeds=seeds, file=file, read=read, folder=folder)


def affectnet_list(folder: Path) -> Parser:
    images, file = folder / "images", folder / "training.csv"
    images.mkdir()
    (folder / "secret.jpg").write_bytes(b"secret")
    for name in ("a.jpg", "b.jpg"):
        (images / name).write_bytes(b"x")
    (images / "out.jpg").symlink_to(folder / "secret.jpg")
    seeds = (
        f"{AFFECTNET_HEADER}\na.jpg,1,2,3,4,5;6,0,0.5,-0.5\nb.jpg,1.5,2,3,4,,7,-2,-2\n".encode(),
        f"{AFFECTNET_HEADER}\r\nout.jpg,1,2,3,4,5;6,1,0.5,nan\r\na.jpg,1,2,3,4,,10,,\r\n".encode(),
    )

    def read() -> None:
        source = read_affectnet(images, training=file)
        check_names(source)
        check_classes(source)
        for face in source.faces:
            expect(all(value is None or -1 <= value <= 1 for value in face.columns.values()), f"{face.columns}")  # type: ignore[operator]

    return Parser(name="affectnet_list", seeds=seeds, file=file, read=read, folder=folder)


def affectnet_npy(folder: Path) -> Parser:
    root = write_affectnet_sets(folder / "affectnet", {"train_set": [3]})
    seeds = []
    for value in (np.int64(3), np.uint8(3), np.float32(3), np.array("3"), np.array([b"3"])):
        written = io.BytesIO()
        np.save(written, np.asarray(value))
        seeds.append(written.getvalue())

    def read() -> None:
        source = read_affectnet(root)
        check_classes(source)
        expect(len(source.faces) == 1, f"{len(source.faces)} faces")

    return Parser(
        name="affectnet_npy", seeds=tuple(seeds), file=root / "train_set" / "annotations" / "0_exp.npy", read=read,
        folder=folder, edit=npy_edit,
    )  # fmt: skip


def ckplus_label(folder: Path) -> Parser:
    root = write_ckplus(folder / "ck", people=1, frames=2)
    for sequence in range(2, 8):
        shutil.rmtree(root / "Emotion" / "S000" / f"{sequence:03}")
    file = next((root / "Emotion" / "S000" / "001").iterdir())

    def read() -> None:
        source = read_ckplus(root, with_neutral=True)
        check_names(source)
        check_classes(source)

    seeds = (b"   1.0000000e+00\n", b"7", b"3.0\r\n")
    return Parser(name="ckplus_label", seeds=seeds, file=file, read=read, folder=folder)


def set_names(folder: Path) -> Parser:
    """A line is a path of a file, or `path>target` a link, in the tree of any of the sets."""
    top = folder / "tree"
    (folder / "secret.jpg").write_bytes(b"secret")
    seeds = (
        b"train/1/1.jpg\ntrain/2/2.jpg\ntrain/3/3.jpg\ntrain/4/4.jpg\ntrain/5/5.jpg\ntrain/6/6.jpg\ntest/7/7.jpg",
        b"train/0/1.jpg\ntrain/1/2.jpg\ntrain/2/3.jpg\ntrain/3/4.jpg\ntrain/4/5.jpg\ntrain/5/6.jpg\nval/6/7.jpg>../x",
        b"cohn-kanade-images/S001/001/S001_001_00000001.png\nEmotion/S001/001/S001_001_00000001_emotion.txt\n"
        b"cohn-kanade-images/S001/002/S001_002_00000001.png>../../../../secret.jpg",
        b"anger/S001_001_00000001.png\nhappy/S001_002_00000001.png\ncontempt/S002_001_00000001.png",
        b"train_set/images/1.jpg\ntrain_set/annotations/1_exp.npy\nval_set/images/1.jpg>../../../secret.jpg\n"
        b"val_set/annotations/1_exp.npy",
        b"EmoLabel/list_patition_label.txt\nImage/aligned/train_1_aligned.jpg>../../../secret.jpg",
    )
    contents = {"_emotion.txt": b"1.0", ".npy": _npy(3), "label.txt": b"train_1.jpg 1\n"}

    def write(data: bytes) -> None:
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir()
        for line in data.split(b"\n")[:12]:
            name, _, target = line[:400].partition(b">")
            parts = [part for part in name.split(b"/") if part not in (b"", b".", b"..")]
            try:
                path = os.path.join(os.fsencode(top), *parts)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if target:
                    os.symlink(target, path)
                else:
                    text = next((text for end, text in contents.items() if path.endswith(end.encode())), b"x")
                    Path(os.fsdecode(path)).write_bytes(text)
            except (OSError, ValueError):
                continue

    def read() -> None:
        errors = []
        for reader in (
            lambda: read_rafdb(top, order="rafdb"),
            lambda: read_affectnet(top, order="affectnet"),
            lambda: read_ckplus(top),
        ):
            try:
                source = reader()
            except Exception as error:  # noqa: BLE001  judged below, when all have been tried
                errors.append(error)
                continue
            check_names(source)
            check_classes(source)
        wrong = [error for error in errors if type(error).__name__ != "DataError"]
        if wrong or len(errors) == 3:
            raise (wrong or errors)[0]

    return Parser(name="set_names", seeds=seeds, file=top, write=write, read=read, folder=folder)


def _npy(value: int) -> bytes:
    written = io.BytesIO()
    np.save(written, np.array(value))
    return written.getvalue()


def _write_voted(folder: Path) -> Store:
    """A tiny store with votes."""
    tiny = write_tiny_store(folder.with_name("tiny"), size_px=8, per_class=(2, 1, 1))
    votes = (1 + np.eye(7, dtype=np.uint16)[tiny.labels]).astype(np.uint16)
    with StoreWriter(folder, num_faces=len(tiny.labels), size_px=8) as writer:
        for row in range(len(tiny.labels)):
            writer.put(row, np.asarray(tiny.faces[row]))
        made = Provenance(dataset="ferplus-majority", source_fingerprint="voted")
        writer.finish(tiny.table.drop(columns="sha256"), CLASSES, made, votes)
    return open_store(folder)


def votes_npy(folder: Path) -> Parser:
    file = _write_voted(folder / "store").folder / "votes.npy"

    def read() -> None:
        store = open_store(folder / "store")
        assert store.votes is not None
        expect(store.votes.shape == (len(store.labels), 7), f"votes {store.votes.shape}")
        expect(store.votes.sum(axis=1).all(), "a face without a vote")

    return Parser(name="votes_npy", seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=npy_edit)


def merged_table(folder: Path) -> Parser:
    """The table of one of two stores that are merged."""
    parser = table(folder)
    other = write_tiny_store(folder / "other", size_px=8, per_class=(1, 1, 1))

    def read() -> None:
        source = read_stores([folder / "store", other.folder])
        check_classes(source)
        expect(len({face.source for face in source.faces}) == len(source.faces), "two faces of one name")
        assert source.pixels is not None
        for face in source.faces[:10]:
            expect(source.pixels(face.source).shape == (8, 8, 3), "pixels of another shape")

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        """As for a store, and sources that are paths elsewhere, of unlike types or repeated."""
        if edits[0][0] < 0.7:
            return parser.edit(data, edits, other=other)
        columns = parquet.read_table(io.BytesIO(data))
        name = ("source", "face_id", "group", "new")[int(edits[0][1] * 4)]
        num = columns.num_rows
        values = (["../../etc/passwd"] * num, [None] * num, [-(2**62)] * num, [float("nan")] * num, ["a#1", "a"] * num)
        column = pyarrow.array(values[int(edits[0][2] * 5)][:num])
        at = columns.column_names.index(name) if name in columns.column_names else -1
        changed = columns.set_column(at, name, column) if at >= 0 else columns.append_column(name, column)
        out = io.BytesIO()
        parquet.write_table(changed, out)
        return edit_text(out.getvalue(), edits[1:]) if edits[0][0] > 0.95 else out.getvalue()

    return Parser(
        name="merged_table", seeds=parser.seeds, file=parser.file, read=read, folder=folder, edit=edit
    )  # fmt: skip
