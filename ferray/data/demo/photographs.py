"""Demo faces: a thousand photographs drawn by code in ExpW's layout, so that a search needs no download.

    origin/happy_cartoon_17.jpg   a photograph of one face or two, 75 to 95 pixels each
    label.lst                     name face_id top left right bottom confidence label

People, poses, light, noise, occlusion and background vary; expressions are weak or strong, and one label in twelve is
wrong. Accuracy on these faces says nothing about accuracy on real ones. One core draws them in 15 seconds.

Begin at `demo_store`; `draw_demo` writes the photographs, `ferray.data.demo.cartoon` draws the faces.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.demo import SIZE_PX
from ferray.data.demo.cartoon import Person, draw_expression, draw_face, draw_person
from ferray.data.demo.shapes import Pose, mix, oval, pick_color, shade
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.run import prepare
from ferray.data.sources.expw import read_expw
from ferray.data.store.reader import open_store
from ferray.data.store.writer import as_storage_error
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError
from ferray.files import storage

log = logging.getLogger(__name__)

VERSION = 2
"""Raised by every change of the drawings or of their preparation: a store of another version is not used."""

NUM_PHOTOGRAPHS = 1050
MARGIN = 0.05

TWO_FACES = 0.12
"""Share of photographs with two faces."""
WRONG_LABEL = 0.08
"""Share of faces whose label is not the class that was drawn."""
INTENSITY = (0.55, 1.15)
"""Range of the strength of an expression; 0 would be neutral, 1 is the expression as named."""
OCCLUDED = 0.2
"""Share of faces behind a hand or a bar."""
OVERSAMPLING = 3
"""A photograph is drawn this many times as large as it is saved."""


def demo_store(cache: Path) -> Path:
    """Draw and prepare the demo faces, once, and return the folder of their store.

    Args:
        cache: The node's cache folder.

    Raises:
        StorageError: The cache cannot be written.
    """
    folder = cache / f"demo-{VERSION}"
    if (found := _find_demo(folder)) is not None:  # a finished store needs no lock
        return found
    with storage.cache_errors(folder), storage.lock(cache / f"demo-{VERSION}.lock"):
        if (found := _find_demo(folder)) is not None:
            return found
        if folder.exists():
            log.warning("%s is damaged: the demo faces are made again", folder)
            shutil.rmtree(folder)
        with _temporary_folder(cache, "demo-photographs") as photographs:
            log.info("demo faces: drawing %d photographs", NUM_PHOTOGRAPHS)
            demo = photographs / "demo"
            draw_demo(demo, num_photographs=NUM_PHOTOGRAPHS)
            # Copies are not looked for: each face is drawn anew, but drawings resemble each other.
            options = PrepareOptions(size_px=SIZE_PX, margin=MARGIN, on_bad="fail", copies="skip")
            prepare(read_expw(demo / "origin", demo / "label.lst", dataset="demo"), folder, options)
    return folder.resolve()


def _find_demo(folder: Path) -> Path | None:
    """The store of demo faces, if it is there and whole."""
    if not folder.exists():
        return None
    try:
        return open_store(folder).folder
    except DataError as error:
        log.info("%s", error)
        return None


def draw_demo(folder: Path, *, num_photographs: int = NUM_PHOTOGRAPHS, seed: int = 0) -> None:
    """Draw photographs and their labels into a new folder, whole or not at all.

    Args:
        folder: Must not exist.
        num_photographs: A smaller number draws the first photographs of a larger one.
        seed: The same seed draws the same bytes.

    Raises:
        DataError: The folder exists.
        StorageError: It cannot be written.
    """
    if folder.exists():
        raise DataError(str(folder), "exists already", "Name another folder, or remove this one")
    with _temporary_folder(folder.parent, folder.name) as temporary:
        try:
            (temporary / "origin").mkdir()
            lines: list[str] = []
            for number in range(num_photographs):
                photograph = draw_photograph(number, seed=seed)
                (temporary / "origin" / photograph.name).write_bytes(photograph.jpeg)
                lines += photograph.lines
            (temporary / "label.lst").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            temporary.chmod(0o755)
            temporary.rename(folder)
        except OSError as error:
            raise as_storage_error(folder, error) from error


@dataclass(frozen=True)
class DemoPhotograph:
    """One drawn photograph."""

    name: str
    jpeg: bytes
    lines: tuple[str, ...]
    """Its faces, as `label.lst` has them."""


def draw_photograph(number: int, *, seed: int) -> DemoPhotograph:
    """Draw one photograph, a pure function of its number and the seed."""
    random = np.random.default_rng([seed, number])
    num_faces = 2 if random.random() < TWO_FACES else 1
    drawn = [number % len(CLASS_NAMES), int(random.integers(len(CLASS_NAMES)))][:num_faces]
    height, width = int(random.integers(132, 156)), int(random.integers(132, 156)) + 120 * (num_faces - 1)
    canvas = _draw_background(height, width, random)
    name = f"{CLASS_NAMES[drawn[0]]}_cartoon_{number}.jpg"
    lines = []
    for face_id, label in enumerate(drawn):
        pose = _draw_pose(face_id, num_faces, height, width, random)
        person = draw_person(random)
        expression = draw_expression(CLASS_NAMES[label], random, intensity=float(random.uniform(*INTENSITY)))
        draw_face(canvas, person, expression, pose)
        if random.random() < OCCLUDED:
            _occlude(canvas, person, pose, random)
        box = _box(pose, height, width, random)
        given = int(random.integers(len(CLASS_NAMES) - 1)) if random.random() < WRONG_LABEL else None
        label = label if given is None else given + (given >= label)
        lines.append(f"{name} {face_id} {box} {random.uniform(20, 100):.4f} {label}")
    drawing = np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return DemoPhotograph(name, _photograph(drawing, random), tuple(lines))


def _draw_pose(face_id: int, num_faces: int, height: int, width: int, random: np.random.Generator) -> Pose:
    """A head in its own part of the photograph."""
    middle = np.array([width * (face_id + 0.5) / num_faces, height * 0.5])
    x, y = OVERSAMPLING * (middle + random.normal(0, 4, 2).clip(-8, 8))
    roll, yaw, pitch = random.normal(0, (0.09, 0.22, 0.10)).clip(-0.5, 0.5)
    return Pose(
        (float(x), float(y)), OVERSAMPLING * float(random.uniform(40, 48)), float(roll), float(yaw), float(pitch)
    )


def _box(pose: Pose, height: int, width: int, random: np.random.Generator) -> str:
    """Top, left, right and bottom of a square around the face, as inexact as a detector's."""
    side = round(1.95 * pose.scale / OVERSAMPLING * float(random.normal(1, 0.03)))
    x, y = pose.place(np.array([[0.0, 0.1]]))[0] / OVERSAMPLING + random.normal(0, 1.5, 2)
    left = min(max(0, round(float(x) - side / 2)), width - side)
    top = min(max(0, round(float(y) - side / 2)), height - side)
    return f"{top} {left} {left + side} {top + side}"


def _draw_background(height: int, width: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A wall with shapes on it, often out of focus, at the size of the drawing."""
    rows = np.linspace(0, 1, height)[:, None, None]
    canvas = (1 - rows) * np.array(pick_color(random)) + rows * np.array(pick_color(random))
    canvas = np.tile(canvas.astype(np.uint8), (1, width, 1))
    for _ in range(int(random.integers(0, 9))):
        x, y = (int(v) for v in random.uniform(0, (width, height)))
        size, color = int(random.uniform(7, 37)), pick_color(random)
        kind = random.integers(3)
        if kind == 0:
            cv2.circle(canvas, (x, y), size, color, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(canvas, (x, y), (x + 2 * size, y + size), color, -1, cv2.LINE_AA)
        else:
            dx, dy = (int(v) for v in random.normal(0, width, 2))
            cv2.line(canvas, (x - dx, y - dy), (x + dx, y + dy), color, 2 + size // 5, cv2.LINE_AA)
    if random.random() < 0.7:
        cv2.GaussianBlur(canvas, (0, 0), float(random.uniform(1, 4)), dst=canvas)
    return np.asarray(cv2.resize(canvas, None, fx=OVERSAMPLING, fy=OVERSAMPLING), dtype=np.uint8)


def _occlude(canvas: NDArray[np.uint8], person: Person, pose: Pose, random: np.random.Generator) -> None:
    """Draw a hand or a bar in front of a part of the face."""
    side, scale = float(random.choice([-1, 1])), pose.scale
    if random.random() < 0.5:
        begin = pose.place(np.array([[side * random.uniform(0.5, 1.1), -1.6]]))[0]
        end = pose.place(np.array([[side * random.uniform(0.1, 1.1), 1.8]]))[0]
        color, thickness = pick_color(random), int(scale * random.uniform(0.12, 0.3))
        cv2.line(canvas, _pixel(begin), _pixel(end), color, thickness, cv2.LINE_AA)
        return
    x, y = side * random.uniform(0.35, 0.7), random.uniform(0.45, 0.9)
    fingers = [
        ((x + side * (0.12 - 0.13 * place), y), (x + side * (0.1 - 0.16 * place), y - 0.5 + 0.06 * place))
        for place in range(4)
    ]
    for color, grow in ((shade(person.skin, 0.6), 0.05), (mix(person.skin, (255, 255, 255), 0.06), 0.0)):
        wrist = [(x, y + 0.1), (x + side * 0.5, y + 1.6)]
        for (begin, end), width in [(wrist, 0.36), *((finger, 0.13) for finger in fingers)]:
            points = pose.place(np.array([begin, end]))
            cv2.line(canvas, _pixel(points[0]), _pixel(points[1]), color, int(scale * (width + grow)), cv2.LINE_AA)
        palm = pose.place(oval(x - side * 0.08, y + 0.1, 0.26 + grow / 2, 0.28 + grow / 2))
        cv2.fillPoly(canvas, [palm.astype(np.int32)], color, cv2.LINE_AA)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _photograph(drawing: NDArray[np.uint8], random: np.random.Generator) -> bytes:
    """Turn a drawing into a photograph: light from one side, exposure, blur, noise, JPEG."""
    height, width = drawing.shape[:2]
    angle, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 0.3)
    across = np.cos(angle) * np.linspace(-1, 1, width)[None, :] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    picture = drawing * (1 + slope * across[..., None]).astype(np.float32)
    metered = picture[height // 5 : height * 4 // 5, width // 5 : width * 4 // 5].mean(axis=2)
    contrast = np.clip(55 / metered.std(), 0.8, 1.5)
    tint = random.normal(116, 7) * random.normal(1, 0.02, 3)
    picture = (picture - metered.mean()) * np.float32(contrast) + tint.astype(np.float32)
    if random.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(random.uniform(0.4, 1.0)))
    picture += np.float32(random.uniform(1, 8)) * random.standard_normal(picture.shape, dtype=np.float32)
    pixels = picture.clip(0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(70, 96))]
    is_done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    assert is_done
    return jpeg.tobytes()


@contextmanager
def _temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder that is removed after the block, unless it has been renamed."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}."))
    except OSError as error:
        raise as_storage_error(parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
