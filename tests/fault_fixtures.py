"""Data sets with a planted fault, made of demo faces, and clean ones beside them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.demo import Photograph, draw_photograph
from ferray.data.photographs import crop_face
from ferray.data.sources.rows import CLASS_NAMES, Box

Pixels = NDArray[np.uint8]
TOO_ALIKE = {133}
"""Photographs left out: cartoons are drawn of few parts, and this one is another's near-copy by chance."""
SPLITS_OF_FIVE = ("train", "train", "train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One picture of a tree of folders."""

    split: str
    label: int
    name: str
    pixels: Pixels

    @property
    def path(self) -> str:
        parts = [self.split, CLASS_NAMES[self.label], f"{self.name}.png"]
        return "/".join(part for part in parts if part)


@cache
def _photograph(number: int) -> Photograph:
    return draw_photograph(number, seed=11)


@cache
def draw_face(number: int) -> tuple[int, Pixels]:
    """Label and picture, 64x64 BGR, of the first face of a demo photograph, with what is around it."""
    photograph = _photograph(number)
    fields = photograph.lines[0].split()
    box, label = Box(*(int(fields[at]) for at in (2, 3, 4, 5))), int(fields[7])
    pixels = cv2.imdecode(np.frombuffer(photograph.jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    face = crop_face(np.asarray(pixels, dtype=np.uint8), box, size_px=64, margin=0.25)[0]
    return label, face[..., ::-1].copy()


def clean_rows(num: int = 140) -> list[Row]:
    """Demo faces, divided 60/20/20 in each class, under names that say nothing."""
    return [Row(SPLITS_OF_FIVE[number // 7 % 5], *_named(number)) for number in range(num) if number not in TOO_ALIKE]


def _named(number: int) -> tuple[int, str, Pixels]:
    label, pixels = draw_face(number)
    return label, name_of(number), pixels


def name_of(number: int) -> str:
    """A name that says nothing: far from its neighbors' numbers."""
    return str(int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16))


def write_tree(root: Path, rows: Iterable[Row]) -> Path:
    """Write pictures into folders by split and class."""
    for row in rows:
        file = root / row.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(row.pixels))
    return root


def encode(pixels: Pixels, suffix: str = ".png") -> bytes:
    encoded, content = cv2.imencode(suffix, pixels)
    assert encoded
    return content.tobytes()


def altered(pixels: Pixels) -> Pixels:
    """What happens to a picture on the web: a little cropped, rescaled, recompressed."""
    small = cv2.resize(pixels[2:62, 1:61], (56, 56), interpolation=cv2.INTER_AREA)
    decoded = cv2.imdecode(np.frombuffer(encode(small, ".jpg"), dtype=np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded, dtype=np.uint8)


def mirrored(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.flip(pixels, 1), dtype=np.uint8)


def copies_of(
    rows: Iterable[Row], split: str, change: Callable[[Pixels], Pixels], *, ending: str = "", start: int = 10_000
) -> list[Row]:
    """Copies of rows in a split; with an ending they keep the name, without one they get another that says nothing."""
    return [
        replace(
            row, split=split, name=f"{row.name}{ending}" if ending else name_of(start + at), pixels=change(row.pixels)
        )
        for at, row in enumerate(rows)
    ]


@dataclass(frozen=True)
class Line:
    """One line of ExpW's list, and its photograph."""

    name: str
    face_id: int
    box: tuple[int, int, int, int]
    label: int

    def text(self, order: tuple[int, int, int, int] = (0, 1, 2, 3)) -> str:
        return " ".join(map(str, [self.name, self.face_id, *(self.box[at] for at in order), "50.25", self.label]))


def draw_list(num: int) -> tuple[list[Line], dict[str, bytes]]:
    """Demo photographs in ExpW's layout, under names that say nothing, in the order of the names."""
    photographs = {f"a_cartoon_{name_of(number)}.jpg": _photograph(number) for number in range(num)}
    lines = []
    for name in sorted(photographs):
        for text in photographs[name].lines:
            _, face_id, top, left, right, bottom, _, label = text.split()
            lines.append(Line(name, int(face_id), (int(top), int(left), int(right), int(bottom)), int(label)))
    return lines, {name: photograph.jpeg for name, photograph in photographs.items()}


def write_list(
    root: Path, lines: Iterable[Line], photographs: dict[str, bytes], order: tuple[int, int, int, int] = (0, 1, 2, 3)
) -> Path:
    """Write ExpW's layout; `order` says which corner stands in which column."""
    (root / "origin").mkdir(parents=True)
    for name, content in photographs.items():
        (root / "origin" / name).write_bytes(content)
    (root / "label.lst").write_text("".join(f"{line.text(order)}\n" for line in lines), encoding="utf-8")
    return root


def write_csv(file: Path, rows: Iterable[Row], *, header: str = "emotion,pixels,Usage") -> Path:
    """Write FER2013's file; the columns follow the header's order."""
    usages = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
    text = [header]
    for row in rows:
        gray = cv2.cvtColor(cv2.resize(row.pixels, (48, 48), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        values = {
            "emotion": str(row.label), "pixels": " ".join(map(str, gray.ravel())), "Usage": usages.get(row.split, ""),
        }  # fmt: skip
        text.append(",".join(values[name.strip()] for name in header.split(",")))
    file.write_text("\n".join(text) + "\n", encoding="utf-8")
    return file
