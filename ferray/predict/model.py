"""A model from the folder `best` of a search, and its predictions for pictures: files or arrays.

Begin at `load`, then `Model.predict`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.formats import BadPhotographError
from ferray.data.prepare.photographs import crop_face, read_photograph
from ferray.data.sources.rows import Box
from ferray.data.threads import Threads, progress_bar
from ferray.errors import CheckpointError, DataError
from ferray.files import storage
from ferray.metrics.calibration import apply_temperature
from ferray.records.bucket.fetch import best_folder
from ferray.train.checkpoints.export import LoadedModel, load_model, predict_probabilities
from ferray.train.device import check_device

BATCH = 256
"""Pictures that are read, by all threads, before the model gets them; 38 MB at 224 pixels."""

Picture = str | os.PathLike[str] | NDArray[np.uint8]
"""A file, or RGB of shape (height, width, 3)."""


@dataclass(frozen=True)
class PictureFile:
    """A picture, or a box in it."""

    path: str
    box: Box | None = None
    """In pixels; None for the whole picture."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model predicts for one picture."""

    path: str
    """As it was given; empty for an array."""
    box: Box | None
    label: str
    """The most probable class."""
    probabilities: dict[str, float]
    """By class, in the model's order; they sum to 1."""

    @property
    def confidence(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A picture that has no prediction."""

    path: str
    reason: str


class Model:
    """A trained classifier.

    Args:
        loaded: The network, its classes and how pictures are prepared for it.
        temperature: Divisor of the logits; 1 for the probabilities as trained.
    """

    def __init__(self, loaded: LoadedModel, *, temperature: float) -> None:
        self.loaded = loaded
        self.temperature = temperature

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the network's outputs."""
        return self.loaded.class_names

    def predict(self, pictures: Picture | Iterable[Picture]) -> list[Prediction]:
        """Predict pictures, in the order in which they are given.

        Args:
            pictures: One picture or several. A picture that is not square is made so by repeating its edge, as
                `ferray.data prepare` does.

        Raises:
            DataError: A file cannot be read, or an array is no picture; nothing is skipped.
        """
        if isinstance(pictures, str | os.PathLike | np.ndarray):
            pictures = [pictures]
        found = []
        for answer in self.predict_each(list(pictures)):
            if isinstance(answer, Unreadable):
                raise DataError(answer.path or "picture", answer.reason, "Leave it out, or give another file")
            found.append(answer)
        return found

    def predict_each(
        self, pictures: Sequence[Picture | PictureFile], *, threads: Threads | None = None
    ) -> Iterator[Prediction | Unreadable]:
        """Predict pictures one batch after the other; those that cannot be read are named and skipped.

        Args:
            pictures: Files, boxes in files, or arrays.
            threads: How many read pictures, and whether a progress bar is shown.
        """
        readers = Threads(num=threads.num if threads else None)
        shown = threads is not None and threads.show_progress
        with progress_bar("predicting", len(pictures), "pictures", is_shown=shown) as advance:
            for begin in range(0, len(pictures), BATCH):  # so that memory holds one batch, however slow the model is
                batch = list(readers.map(self.prepare, pictures[begin : begin + BATCH], title="", unit=""))
                whole = [picture for picture in batch if isinstance(picture, Prepared)]
                answers = self._answer(whole)
                advance(len(batch))
                for picture in batch:
                    yield picture if isinstance(picture, Unreadable) else next(answers)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probabilities for prepared pictures.

        Args:
            pixels: RGB of the model's size, shape (pictures, size, size, 3).

        Returns:
            Shape (pictures, classes); every row sums to 1.
        """
        return apply_temperature(predict_probabilities(self.loaded, pixels), self.temperature)

    def prepare(self, picture: Picture | PictureFile) -> "Prepared | Unreadable":
        """A picture as the network gets it, cropped and scaled like the pictures that it was trained on."""
        file = picture if isinstance(picture, PictureFile) else PictureFile(_path_of(picture))
        settings = self.loaded.preprocessing
        try:
            if isinstance(picture, np.ndarray):
                pixels = _as_bgr(picture)
            else:
                path = Path(os.path.realpath(file.path))  # a link that the user has named may lead anywhere
                pixels = read_photograph(path.parent, path.name, upright=True).pixels
            # The margin is for faces: a whole picture has none.
            margin = 0.0 if file.box is None else settings.margin
            cropped, _ = crop_face(pixels, file.box, size_px=settings.crop_px, margin=margin)
        except BadPhotographError as error:
            return Unreadable(path=file.path, reason=error.what)
        return Prepared(file, cropped)

    def _answer(self, pictures: "Sequence[Prepared]") -> Iterator[Prediction]:
        if not pictures:
            return
        found = self.probabilities(np.stack([picture.pixels for picture in pictures]))
        for picture, row in zip(pictures, found, strict=True):
            probabilities = dict(zip(self.class_names, row.tolist(), strict=True))
            label = self.class_names[int(row.argmax())]
            yield Prediction(path=picture.file.path, box=picture.file.box, label=label, probabilities=probabilities)


@dataclass(frozen=True)
class Prepared:
    """A picture as the network gets it."""

    file: PictureFile
    pixels: NDArray[np.uint8]
    """RGB, of the size of the store's pictures, shape (size, size, 3)."""


def load(folder: str | os.PathLike[str], *, device: str = "cpu", use_temperature: bool = True) -> Model:
    """The best model of a search.

    Args:
        folder: `runs/NAME/best`, a copy of it, `runs/NAME`, or `s3://BUCKET/RUNS/NAME`.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        use_temperature: Whether the probabilities are calibrated by the temperature that was fitted on the validation
            pictures, where the folder has one. The label is the same either way.

    Raises:
        CheckpointError: There is no model, or a file of it is damaged.
        RecipeError: There is no such device.
    """
    path = find_folder(folder)
    check_device(device)
    loaded = load_model(path, device=device)
    return Model(loaded, temperature=read_temperature(path) if use_temperature else 1.0)


def find_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a model: the one that is given, or `best` in it.

    Raises:
        CheckpointError: There is no such folder.
        BucketError: The bucket cannot be read.
    """
    path = best_folder(os.fspath(folder), option="MODEL")
    if not (path / "model.safetensors").exists() and (path / "best" / "model.safetensors").exists():
        path = path / "best"
    if not path.is_dir():
        raise CheckpointError(str(path), "no such folder", "Give runs/NAME/best of a finished search")
    return path


def read_temperature(folder: Path) -> float:
    """The temperature beside a model; 1 where none was fitted.

    Raises:
        CheckpointError: The file has none that can be used.
    """
    file = folder / "calibration.json"
    if not file.exists():
        return 1.0
    content = storage.read_json(file)
    value = content.get("temperature") if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(str(file), f"temperature {value!r} is not above 0", "Remove the file, or restore it")
    return float(value)


def _path_of(picture: Picture) -> str:
    return "" if isinstance(picture, np.ndarray) else os.fspath(picture)


def _as_bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An array as OpenCV has it."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        what = f"an array of {picture.dtype}, shape {picture.shape}, is not RGB of uint8, shape (height, width, 3)"
        raise BadPhotographError("not a picture", what)
    return np.ascontiguousarray(picture[..., ::-1])
