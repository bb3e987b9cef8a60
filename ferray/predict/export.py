"""A model as one file that runs without ferray, compared with ferray's own answers before it gets its name.

    FILE         the model: pictures of its size in, calibrated probabilities out
    FILE.json    the facts that the file's metadata has, too, and the comparison
    FILE.md      how a picture is cropped and resized before, in words and in numbers

Begin at `export_model`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, DataError
from ferray.files import storage
from ferray.model.inference import BATCH, INPUT, OUTPUT
from ferray.predict.instructions import make_readme
from ferray.predict.model import Model, PictureFile, Prepared, Unreadable, find_folder, load, read_temperature
from ferray.predict.quantize import QuantizationCost, quantize
from ferray.recipe import to_values
from ferray.train.checkpoints.export import load_model
from ferray.train.checkpoints.portable import encode, make_inference, make_runner, open_encoded, with_facts

FORMATS = ("onnx", "torch-export", "safetensors")

TOLERANCE = 1e-3
"""Largest difference in a probability between the file and torch, both with a trunk in float32. Features are rounded to
float16, as in training, and some fall on the other side; 3e-5 was seen with a whole VGG16."""

NUM_DRAWN = 32
"""Pictures that are drawn at random for the comparison: half noise, half large patches of color."""

BATCH_SIZE = 32
"""Pictures that are compared at a time; the first one is compared alone, to try another size of batch."""


@dataclass
class Parity:
    """How far two ways to run a model agree."""

    num_pictures: int = 0
    num_same: int = 0
    """Pictures whose most probable class is the same."""
    max_difference: float = 0.0
    """Largest difference in a probability; NaN if one of them is."""

    def add(self, some: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> None:
        """Compare probabilities, both of shape (pictures, classes)."""
        self.num_pictures += len(some)
        self.num_same += int((some.argmax(axis=1) == others.argmax(axis=1)).sum())
        self.max_difference = float(np.maximum(self.max_difference, np.abs(some - others).max()))

    @property
    def is_close(self) -> bool:
        """Whether all probabilities are within `TOLERANCE`; then classes differ only where two are as probable."""
        return self.max_difference <= TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how it was compared."""

    file: Path
    num_bytes: int
    facts: dict[str, Any]
    num_drawn: int
    """Pictures of the comparison that were drawn at random; the others were given."""
    parity: Parity
    """The file against torch, both in float32."""
    parity_as_trained: Parity
    """The file against `ferray predict`, which computes in the number format of the training."""
    cost: QuantizationCost | None
    """Of a file in integers, whose parities are those of the file in float32 that it was made from."""
    unreadable: tuple[Unreadable, ...]
    """Pictures that were given and could not be read."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **self.facts,
            "file": self.file.name,
            "bytes": self.num_bytes,
            "parity": {
                **asdict(self.parity),
                "num_drawn": self.num_drawn,
                "tolerance": TOLERANCE,
                "as_trained": asdict(self.parity_as_trained),
            },
            "int8": None if self.cost is None else asdict(self.cost),
        }


def export_model(
    folder: str | os.PathLike[str],
    out: Path,
    *,
    form: str,
    pictures: Sequence[PictureFile] = (),
    int8: Store | None = None,
) -> Exported:
    """Write a model as one file, with its facts and a README beside it.

    The trunk computes in float32, whatever it was trained in: not every runtime has bfloat16.

    Args:
        folder: `runs/NAME/best`, a copy of it, or `runs/NAME`.
        out: The file to write.
        form: One of `FORMATS`.
        pictures: Compared besides those that are drawn at random.
        int8: Pictures for writing the file in integers of 8 bits: see `ferray.predict.quantize`. ONNX only.

    Raises:
        CheckpointError: There is no model, or the file does not give its answers; nothing is written.
        DataError: A package is missing, none of the pictures can be read, or the store is not the model's.
        StorageError: The files cannot be written.
    """
    path = find_folder(folder)
    temperature = read_temperature(path)
    loaded = load_model(path, precision="float32")
    facts = {
        "class_names": list(loaded.class_names),
        **asdict(loaded.preprocessing),
        "temperature": temperature,
        "input": {"name": INPUT, "type": "uint8", "shape": [BATCH, *[loaded.preprocessing.size_px] * 2, 3]},
        "output": {"name": OUTPUT, "type": "float32", "shape": [BATCH, len(loaded.class_names)]},
        "trial_id": loaded.trial_id,
        "recipe": to_values(loaded.recipe),
        "format": form,
        "numbers": "float32" if int8 is None else "int8",
        "ferray_version": version("ferray"),
    }
    module = make_inference(loaded, temperature=temperature)
    data = encode(module, form, size_px=loaded.preprocessing.size_px, facts=facts)
    run_file, _ = open_encoded(data, form)
    run_twin = make_runner(module, device=loaded.device)
    model = load(path)
    parity, parity_as_trained = Parity(), Parity()
    unreadable: list[Unreadable] = []
    for batch in _batches(model, pictures, unreadable):
        answers = run_file(batch)
        parity.add(answers, run_twin(batch))
        parity_as_trained.add(answers, model.probabilities(batch))
    if not parity.is_close:
        what = (
            f"the same most probable class for {parity.num_same} of {parity.num_pictures} pictures, probabilities up to"
            f" {parity.max_difference:.2g} from torch's; at most {TOLERANCE:g} is accepted"
        )
        raise CheckpointError(f"--format {form}", what, "Nothing was written; choose another format")
    cost = None
    if int8 is not None:
        data, cost = quantize(data, loaded, int8)
        data = with_facts(data, facts | {"int8": asdict(cost)})
    exported = Exported(
        file=out,
        num_bytes=len(data),
        facts=facts,
        num_drawn=NUM_DRAWN,
        parity=parity,
        parity_as_trained=parity_as_trained,
        unreadable=tuple(unreadable),
        cost=cost,
    )
    storage.write_bytes(out, data)
    storage.write_json(beside(out, ".json"), exported.to_json())
    storage.write_bytes(beside(out, ".md"), make_readme(exported.to_json()).encode())
    return exported


def beside(out: Path, suffix: str) -> Path:
    """The file beside an exported one: its whole name and a suffix."""
    return out.with_name(out.name + suffix)


def draw_pictures(num: int, *, size_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pictures, shape (num, size, size, 3): noise in turn with 16 patches of one color each."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 256, (num, size_px, size_px, 3), dtype=np.uint8)
    places = np.arange(size_px) * 4 // size_px
    patches = random.integers(0, 256, (num, 4, 4, 3), dtype=np.uint8)[:, places][:, :, places]
    drawn[1::2] = patches[1::2]
    return drawn


def _batches(
    model: Model, pictures: Sequence[PictureFile], unreadable: list[Unreadable]
) -> Iterator[NDArray[np.uint8]]:
    """One drawn picture, the others, and those that were given; what cannot be read is added to `unreadable`.

    Raises:
        DataError: None of those that were given can be read.
    """
    drawn = draw_pictures(NUM_DRAWN, size_px=model.loaded.preprocessing.size_px)
    yield drawn[:1]
    yield drawn[1:]
    for begin in range(0, len(pictures), BATCH_SIZE):
        made = [model.prepare(picture) for picture in pictures[begin : begin + BATCH_SIZE]]
        unreadable += [one for one in made if isinstance(one, Unreadable)]
        if whole := [one.pixels for one in made if isinstance(one, Prepared)]:
            yield np.stack(whole)
    if pictures and len(unreadable) == len(pictures):
        what = f"none of {len(pictures)} pictures can be read; {unreadable[0].path}: {unreadable[0].reason}"
        raise DataError("--pictures", what, "Give pictures, or leave the option out")
