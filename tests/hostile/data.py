"""Hostile photographs, lists, stores and spaces. Each function makes the parser of one kind of file."""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
from fixtures.data import write_tiny_store
from fixtures.expw import draw, format_line
from fixtures.pictures import encode
from hostile.cases import BrokenPromiseError, Parser
from hostile.edits import Edits, edit_json, edit_text, pick
from pyarrow import parquet

from ferray import space as spaces
from ferray.audit.dataset.scan.photographs import read_expw_list
from ferray.audit.score.audit import audit
from ferray.audit.score.claims import ClaimedScores
from ferray.data.decoding.formats import BadPhotographError
from ferray.data.prepare.photographs import crop_face, read_file, read_photograph
from ferray.data.sources.classes import read_classes
from ferray.data.sources.expw import read_expw
from ferray.data.sources.fer2013_csv import read_fer2013_csv
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box, Source
from ferray.data.sources.table import read_table_source
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import open_store
from ferray.data.store.summary import format_counts
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, SpaceError
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.predictions import read_confusion, read_predictions
from ferray.recipe import Recipe, read_recipe, to_json, trial_id
from ferray.report.slices import score_slices
from ferray.report.terminal import format_audit


def expect(holds: object, what: str) -> None:
    if not holds:
        raise BrokenPromiseError(what)


def check_names(source: Source) -> None:
    """Every face that a list names can only be read from its folder."""
    for face in list(source.faces)[:20]:
        try:
            read_file(source.root, face.source)
        except BadPhotographError:
            continue
        real = os.path.realpath(source.root / face.source)
        expect(real.startswith(f"{source.root}/"), f"{face.source} was read from {real}")


def check_classes(source: Source) -> None:
    """The classes of a source are at least two, can be shown, and are those that the labels number."""
    names = source.classes.names
    expect(len(names) >= 2 and len({name.casefold() for name in names}) == len(names), "classes that are one")
    expect(all(name.isprintable() and 0 < len(name) <= 100 for name in names), "a class that does not print")
    expect(all(0 <= face.label < len(names) for face in source.faces), "a label of no class")


def photograph(folder: Path) -> Parser:
    pictures = [draw(seed, 24, 32) for seed in (1, 2)]
    seeds = [cv2.imencode(suffix, picture)[1].tobytes() for picture in pictures for suffix in (".jpg", ".png")]
    seeds += [cv2.imencode(".jpg", pictures[0], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()]
    seeds += [encode(kind, pictures[0]) for kind in ("WebP", "GIF", "TIFF", "BMP")]

    def read() -> None:
        try:
            pixels = read_photograph(folder.resolve(), "a.jpg", upright=True).pixels
            face, _ = crop_face(pixels, Box(2, 2, 20, 20), size_px=16, margin=0.1)
        except BadPhotographError as error:
            raise DataError("a.jpg", error.what, error.reason) from error
        expect(face.shape == (16, 16, 3) and face.dtype == np.uint8, f"a face of {face.dtype} {face.shape}")

    return Parser(name="photograph", seeds=tuple(seeds), file=folder / "a.jpg", read=read, folder=folder)


def label_list(folder: Path) -> Parser:
    images, file = folder / "origin", folder / "label.lst"
    images.mkdir()
    for number in range(2):
        cv2.imwrite(str(images / f"happy_man_{number}.jpg"), draw(number, 40, 48))
    (folder / "secret.jpg").write_bytes((images / "happy_man_0.jpg").read_bytes())
    (images / "out.jpg").symlink_to(folder / "secret.jpg")
    lines = [format_line(f"happy_man_{row % 2}.jpg", face_id=row, label=row % 7, left=row) for row in range(25)]
    seeds = (b"\n".join(lines[:4]) + b"\n", b"\n".join(lines) + b"\n", b"\xef\xbb\xbf" + b"\r\n".join(lines[:3]))

    def read() -> None:
        source, _ = read_expw_list(images, file)
        check_names(source)
        check_names(read_expw(images, file))

    return Parser(name="label_list", seeds=seeds, file=file, read=read, folder=folder)


def folder_names(folder: Path) -> Parser:
    """A line is a path of a photograph, or `path>target` a link; what the system cannot name is left out."""
    top = folder / "tree"
    (folder / "secret.jpg").write_bytes(b"secret")
    seeds = (
        b"train/happy/1.jpg\ntrain/sad/2.jpg\ntest/happy/3.jpg",
        b"happy/1.jpg\nsad/inner/2.jpg\nfear/3.jpg>../../secret.jpg\nfear/.4.jpg\nsad/loop>..\n",
        b"OK/1.jpg\nnot OK/2.jpg\ntest/3.jpg\n\xc3\x89/4.jpg\ne\xcc\x80/5.jpg",
        b"train/test/1.jpg\ntrain/b/2.jpg\ntest/b/3.jpg>..",
        b"train/angry/1.jpg\nvalidation/Anger/2.jpg\nPrivateTest/joy/3.jpg>3.jpg",
    )

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
                    Path(os.fsdecode(path)).write_bytes(b"x")
            except (OSError, ValueError):
                continue

    def read() -> None:
        source = read_folders(top)
        check_names(source)
        check_classes(source)

    return Parser(name="folder_names", seeds=seeds, file=top, write=write, read=read, folder=folder)


def picture_table(folder: Path) -> Parser:
    file, images = folder / "table.csv", folder / "images"
    images.mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(images / f"{name}.jpg"), draw(ord(name), 24, 32))
    (folder / "secret.jpg").write_bytes((images / "a.jpg").read_bytes())
    (images / "out.jpg").symlink_to(folder / "secret.jpg")
    seeds = (
        b"path,label\na.jpg,cat\nb.jpg,dog\nout.jpg,dog\n",
        b"path,label,left,top,right,bottom,split,group\na.jpg,1,0,0,9,9,train,x\nb.jpg,2,1,1,9,9,test,y\n",
        '\ufefflabel,light,path,camera\r\ncafé,1e3,c.jpg,"x, y"\r\nb,nan,b.jpg,z\r\n'.encode(),
    )

    def read() -> None:
        source = read_table_source(file, images)
        check_names(source)
        check_classes(source)

    return Parser(name="picture_table", seeds=seeds, file=file, read=read, folder=folder)


def class_file(folder: Path) -> Parser:
    file = folder / "classes.yaml"
    seeds = (
        b"cat: [cats, felis]\ndog:\n'no': no\n",
        "café: &names [a, 'b c']\nÉ: [1, 2.0, ~]\n".encode(),
        b"{a: b, c: [d, e]}\n",
    )

    def read() -> None:
        classes = read_classes(file)
        expect(2 <= len(classes.names) <= 10_000, f"{len(classes.names)} classes")
        expect(all(classes.find(name) == label for label, name in enumerate(classes.names)), "a class without a name")
        expect(all(name.isprintable() and len(name) <= 100 for name in classes.names), "a class that does not print")

    return Parser(name="class_file", seeds=seeds, file=file, read=read, folder=folder)


def fer2013_csv(folder: Path) -> Parser:
    file = folder / "fer2013.csv"
    row = " ".join(str(value % 256) for value in range(48 * 48))
    seeds = (
        f"emotion,pixels,Usage\n0,{row},Training\n6,{row},PrivateTest\n".encode(),
        f"emotion, Usage, pixels\n3,PublicTest,{row}\n".encode(),
        f"emotion,pixels\n3,{row}\n".encode(),
    )

    def read() -> None:
        table = read_fer2013_csv(file)
        expect(table.pixels.shape == (len(table.labels), 48, 48), f"pixels {table.pixels.shape}")
        expect(bool(((table.labels >= 0) & (table.labels < len(CLASS_NAMES))).all()), "a label of no class")
        expect(set(table.splits) <= {*SPLITS, None}, "a split of no name")

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        """Mostly outside the pixels, which are nearly all of a file."""
        short = data.replace(row.encode(), b"@")
        return edit_text(short, edits, other=other).replace(b"@", row.encode())

    return Parser(name="fer2013_csv", seeds=seeds, file=file, read=read, folder=folder, edit=edit)


def answers(folder: Path) -> Parser:
    file = folder / "answers.csv"
    seeds = (
        b"id,label,happy,sad,group\na#0,happy,0.75,0.25,1\nb#0,sad,0.25,0.75,1\nc#0,sad,0.5,0.5,2\n",
        b"id,label,prediction,split\na,happy,sad,test\nb,sad,sad,train\nc,happy,happy,test\n",
        b"label,0,1,2,trial,seed\n0,0.5,0.25,0.25,a,1\n2,0.125,0.125,0.75,a,1\n",
    )

    def read() -> None:
        table = read_predictions(file)
        predictions, num = table.predictions, len(table.predictions.class_names)
        expect(((predictions.labels >= 0) & (predictions.labels < num)).all(), "a label of no class")
        expect(((predictions.predicted >= 0) & (predictions.predicted < num)).all(), "a prediction of no class")
        found = audit(table, ClaimedScores(texts=("0.5",)))
        format_audit(found, "answers")
        json.dumps(found.to_json(), allow_nan=False)

    return Parser(name="answers", seeds=seeds, file=file, read=read, folder=folder)


def confusion(folder: Path) -> Parser:
    file = folder / "matrix.csv"
    seeds = (b"label,happy,sad\nhappy,5,1\nsad,2,7\n", b",a,b,c\na,1,0,0\nb,0,2,0\nc,0,1,4\n")

    def read() -> None:
        table = read_confusion(file)
        audit(table)

    return Parser(name="confusion", seeds=seeds, file=file, read=read, folder=folder)


class _Store:
    """A tiny store, one file of which is replaced in each case."""

    def __init__(self, folder: Path, changed: str) -> None:
        self.folder = folder / "store"
        write_tiny_store(self.folder, size_px=8, per_class=(2, 1, 1))
        self.file = self.folder / changed
        self.valid = self.file.read_bytes()

    def read(self) -> None:
        store = open_store(self.folder)
        expect(store.faces.shape == (len(store.labels), store.size_px, store.size_px, 3), "faces of another shape")
        format_counts(store)
        for split in SPLITS:
            rows, groups = store.rows(split), store.groups(split)
            expect(0 <= rows.start < rows.stop <= len(store.labels), f"rows {rows}")
            expect(len(groups) == rows.stop - rows.start, f"{len(groups)} groups")
        np.asarray(store.faces[-1])


def manifest(folder: Path) -> Parser:
    store = _Store(folder, "manifest.json")

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return edit_json(data, edits)

    return Parser(name="manifest", seeds=(store.valid,), file=store.file, read=store.read, folder=folder, edit=edit)


def npy_edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
    """The header's text, with a length that is right for it; the last edit may be of the numbers after it."""
    size = int.from_bytes(data[8:10], "little")
    last = edits[-1:] if edits[-1][0] > 0.7 else []
    header = edit_text(data[10 : 10 + size], edits[: len(edits) - len(last)])[:65_000]
    rest = edit_text(data[10 + size :], [(kind / 2, place, value) for kind, place, value in last])
    return data[:8] + len(header).to_bytes(2, "little") + header + rest


def _npy(changed: str) -> Callable[[Path], Parser]:
    def make(folder: Path) -> Parser:
        store = _Store(folder, changed)
        return Parser(
            name=changed,
            seeds=(store.valid,),
            file=store.file,
            read=store.read,
            folder=folder,
            edit=npy_edit,
        )

    return make


def table(folder: Path) -> Parser:
    store = _Store(folder, "table.parquet")
    columns = parquet.read_table(io.BytesIO(store.valid))
    num = columns.num_rows
    hostile: Sequence[Any] = (
        [None] * num, [2**63 - 1] * num, [-1] * num, [1.5] * num, [float("nan")] * num, ["x"] * num, ["\x00"] * num,
        [b"\xff"] * num, [[1]] * num, [{"a": 1}] * num, [True] * num, ["../../etc/passwd"] * num, ["train"] * num,
        [10**18] * num, ["y" * 5000] * num, list(range(num)), [str(row) for row in range(num)], [0] * num,
    )  # fmt: skip

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        """Columns replaced, renamed, removed, doubled or cut, as a whole file; the last edit may be of its bytes."""
        changed, last = columns, edits[-1:] if edits[-1][0] < 0.3 else []
        for kind, place, value in edits[: len(edits) - len(last)]:
            at = int(place * changed.num_columns)
            if not changed.num_columns:
                break
            name = changed.column_names[at]
            if kind < 0.6:
                changed = changed.set_column(at, name, pyarrow.array(pick(hostile, value)[: changed.num_rows]))
            elif kind < 0.7:
                changed = changed.remove_column(at)
            elif kind < 0.8:
                new = pick(("", "split", "group", "\x00", "a" * 300, "label"), value)
                changed = changed.rename_columns(
                    [new if row == at else old for row, old in enumerate(changed.column_names)]
                )
            elif kind < 0.9:
                changed = changed.append_column(pick((name, "new", ""), value), changed.column(at))
            else:
                changed = changed.slice(0, int(value * changed.num_rows))
        if changed is columns:
            return edit_text(data, edits)
        out = io.BytesIO()
        parquet.write_table(changed, out)
        return edit_text(out.getvalue(), last)

    def read() -> None:
        store.read()
        opened = open_store(store.folder)
        rows = opened.rows("train")
        labels = opened.labels[rows]
        predictions = LabeledPredictions(
            class_names=opened.class_names,
            labels=labels,
            predicted=labels,
            probabilities=None,
            groups=opened.groups("train"),
        )
        score_slices(opened.table.iloc[rows], predictions, bootstrap=Bootstrap(resamples=5))

    return Parser(name="table.parquet", seeds=(store.valid,), file=store.file, read=read, folder=folder, edit=edit)


SPACES = (
    b"method: grid\nmetric: {name: val_accuracy, goal: maximize}\nparameters:\n  learning_rate: {values: [0.1, 1e-3]}\n"
    b"  dropout: {min: 0.0, max: 0.5, q: 0.25, distribution: q_uniform}\n  epochs: {value: 3}\n",
    b"method: random\nmetric:\n  name: val_loss\n  goal: minimize\nrun_cap: 10\n"
    b"early_terminate: {type: hyperband, min_iter: 1, eta: 3}\nparameters:\n"
    b"  learning_rate: {distribution: log_uniform_values, min: 0.00001, max: 0.1}\n  dropout: {min: 0.0, max: 0.8}\n"
    b"  weight_decay: {distribution: log_normal, mu: -9, sigma: 1}\n  epochs: {min: 1, max: 9}\n",
    b"method: bayes\nmetric: {name: val_macro_f1, goal: maximize}\nrun_cap: 4\nproject: p\nreplicates: 2\nparameters:\n"
    b"  learning_rate: {distribution: log_uniform, min: -9, max: -2}\n  optimizer: {values: [adam, sgd]}\n"
    b"  inner: {parameters: {batch_size: {values: [16, 32]}}}\n  folds: {value: 3}\n",
)


def _use(space: spaces.Space) -> None:
    """What a dry run does with a space."""
    total = spaces.num_points(space)
    expect(total is None or total >= 1, f"{total} points")
    if space.method == "bayes":
        return
    for _, point in zip(range(3), spaces.points(space, seed=1), strict=False):
        recipe = spaces.to_recipe(space, point, seed=1)
        expect(isinstance(recipe, Recipe), "no recipe")
        to_json(recipe)


def space(folder: Path) -> Parser:
    file = folder / "space.yaml"

    def read() -> None:
        _use(spaces.read_space(file))

    return Parser(name="space", seeds=SPACES, file=file, read=read, folder=folder)


def settings(folder: Path) -> Parser:
    file = folder / "space.yaml"
    file.write_bytes(SPACES[0])
    seeds = (b"epochs=5", b"dropout=[0, 0.5]\nhidden_units=null", b"optimizer=sgd\nlearning_rate=1e-2\nfolds=5")

    written: list[bytes] = []

    def read() -> None:
        given = written[-1].decode("utf-8", "surrogateescape").split("\n")
        _use(spaces.read_space(file, spaces.parse_settings([one for one in given if one])))

    return Parser(
        name="settings",
        seeds=seeds,
        file=folder / "none",
        write=lambda data: written.__setitem__(slice(None), [data]),
        read=read,
        folder=folder,
    )


def recipe(folder: Path) -> Parser:
    seeds = tuple(
        to_json(one).encode()
        for one in (
            Recipe(), Recipe(image_size=64, precision="float32", folds=3, fold=1),
            Recipe(freeze="none", mixup_alpha=0.2),
        )
    )  # fmt: skip

    written: list[bytes] = []

    def read() -> None:
        try:
            text = written[-1].decode()
        except UnicodeDecodeError as error:
            raise SpaceError("recipe", "not UTF-8", "skip") from error
        value = read_recipe(text, where="recipe.json")
        if value.precision != "auto" and value.image_size is not None:
            expect(len(trial_id(value, data_fingerprint="a", weights_fingerprint="b")) == 12, "no identity")

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return edit_json(data, edits)

    return Parser(
        name="recipe",
        seeds=seeds,
        file=folder / "none",
        write=lambda data: written.__setitem__(slice(None), [data]),
        read=read,
        folder=folder,
        edit=edit,
    )


faces_npy, labels_npy = _npy("faces.npy"), _npy("labels.npy")
