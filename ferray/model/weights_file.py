"""Whether a file of weights fits a backbone, as far as that is known without torch: names and shapes.

A .safetensors file begins with a JSON object of both, so that a plan can refuse a file of another model before anything
is started. Other files must be unpickled, and are checked when they are loaded. Begin at `check_header`.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ferray.errors import WeightsError
from ferray.files import untrusted
from ferray.libraries import TIMM
from ferray.model.backbone import Backbone, Counts, Shape

MAX_HEADER_BYTES = 10_000_000
"""A longer header is refused; that of a VGG16 has 3 kB."""

NOT_OF_THE_TRUNK = ("classifier.", "fc.", "head.", "heads.")
"""Prefixes of tensors of a whole model that are ignored: the classifier of torchvision or timm, and ferray's head."""

NO_NUMBERS = ("num_batches_tracked", "relative_position_index")
"""Ends of names of tensors that have no real numbers: a count without effect, and a table that the model makes."""


SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Ends of files in a folder of weights; the first that is there counts."""


def find_file(source: str, backbone: str) -> str:
    """Where a backbone's weights are.

    Args:
        source: `imagenet`, `none`, a file, or a folder with a file for each backbone: `resnet18.safetensors`,
            `timm/NAME.pth` and so on.
        backbone: Name of a row of the table.

    Returns:
        `imagenet`, `none`, or the file's name.

    Raises:
        WeightsError: The folder has no file for it.
    """
    if source in ("imagenet", "none") or not os.path.isdir(source):
        return source
    for suffix in SUFFIXES:
        if os.path.isfile(file := os.path.join(source, f"{backbone}{suffix}")):
            return file
    way_out = f"Put {backbone}.safetensors there, or a torch state dict as {backbone}.pth; or leave the backbone out"
    raise WeightsError(source, f"has no file of weights for {backbone}", way_out)


def check_header(file: Path, backbone: Backbone) -> None:
    """Refuse a .safetensors file whose tensors are not those of a backbone; any other file is let through.

    Raises:
        WeightsError: It is no such file, or one of another model.
        StorageError: It cannot be read.
    """
    if file.suffix == ".safetensors":
        shapes = _read_header(file)
        faults = find_misfits(shapes, backbone) if backbone.counts is None else _compare_counts(shapes, backbone.counts)
        if faults:
            raise misfit_error(str(file), backbone, faults)


def is_of_trunk(name: str) -> bool:
    """Whether a tensor of a whole model may be one that a trunk needs."""
    return not name.startswith(NOT_OF_THE_TRUNK) and not name.endswith(NO_NUMBERS)


def find_misfits(shapes: Mapping[str, Shape], backbone: Backbone) -> list[str]:
    """What is missing, foreign or of another shape, one text each.

    Args:
        shapes: Of all tensors of a model, by name.
        backbone: Whose trunk they are meant for.
    """
    expected = backbone.shapes_in_files()
    given = {name: shape for name, shape in shapes.items() if name in expected or is_of_trunk(name)}
    faults = [f"{name} is missing" for name in expected if name not in given]
    faults += [f"{name} is not one of its tensors" for name in given if name not in expected]
    for name, shape in expected.items():
        if name in given and tuple(given[name]) != tuple(shape):
            faults.append(f"{name} has shape {tuple(given[name])}, not {tuple(shape)}")
    return faults


def misfit_error(where: str, backbone: Backbone, faults: Iterable[str]) -> WeightsError:
    """The error that names the first faults of a file of weights, and counts the others."""
    faults = list(faults)
    shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
    way_out = f"Give weights in the layout of {backbone.library}'s {backbone.name.removeprefix(TIMM)}"
    return WeightsError(where, f"not the weights of {backbone.name}: {shown}", way_out)


def _compare_counts(shapes: Mapping[str, Shape], expected: Counts) -> list[str]:
    """Whether there are as many tensors and numbers as a trunk has; their names are compared when they are loaded."""
    given = [shape for name, shape in shapes.items() if is_of_trunk(name)]
    numbers = sum(map(math.prod, given))
    if (len(given), numbers) == (expected.tensors, expected.numbers):
        return []
    return [f"{len(given):,} tensors of {numbers:,} numbers, not {expected.tensors:,} of {expected.numbers:,}"]


def _read_header(file: Path) -> dict[str, Shape]:
    """Name and shape of each tensor."""
    try:
        with untrusted.open_file(file, max_bytes=2**62) as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            values = json.loads(opened.read(length))
        return {name: tuple(map(int, one["shape"])) for name, one in values.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"cannot be read as weights: {error}"
        raise WeightsError(str(file), what, "Give a .safetensors file or a torch state dict of tensors only") from error
