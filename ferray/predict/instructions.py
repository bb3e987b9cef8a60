"""The README of an exported file: what it is, and how a picture is prepared for it. Begin at `make_readme`."""

from collections.abc import Mapping
from typing import Any

from ferray.model.backbones import find_backbone
from ferray.wording import count_of

_PREPARE = """\
## How a picture is prepared

The file normalizes colors itself, but it does not crop or resize. With `size` = {size_px} and `margin` = {margin:g}:

1. Decode the picture to 8-bit RGB, turned upright as its EXIF orientation says.
2. Choose a square. Of a whole picture: `side` is its longer side. Of what is in a box: `side` is the box's longer side
   times 1 + 2 * `margin`, rounded. The square begins at left + floor((width - `side`) / 2) and
   top + floor((height - `side`) / 2), where left, top, width and height are those of the box, or of the picture.
3. The square may overrun the picture. Along each axis, its part inside goes from `a` to `b`, in pixels from the
   square's beginning; it is resized to pixels round(`a` * `size` / `side`) to round(`b` * `size` / `side`), at least
   one. Halves are rounded to even.
4. The rule of resizing is "{resize}": OpenCV's INTER_AREA if the part shrinks along an axis,
   otherwise {enlarging}.
5. Fill what is left of the square by repeating the outermost pixels (OpenCV's BORDER_REPLICATE).

The model was trained on squares of what is to be classified, with the margin. A picture with much else needs a box.
"""

_ENLARGING = {"area average down, bicubic up": "INTER_CUBIC", "area average down, linear up": "INTER_LINEAR"}

_USE = {
    "onnx": """\
    import numpy as np, onnxruntime

    session = onnxruntime.InferenceSession("{file}")
    pictures = np.zeros((1, {size_px}, {size_px}, 3), np.uint8)      # RGB
    (probabilities,) = session.run(["probabilities"], {{"pictures": pictures}})
""",
    "torch-export": """\
    import torch

    model = torch.export.load("{file}").module()
    pictures = torch.zeros((1, {size_px}, {size_px}, 3), dtype=torch.uint8)      # RGB
    with torch.no_grad():
        probabilities = model(pictures)
""",
    "safetensors": """\
    from safetensors.torch import load_file

    tensors = load_file("{file}")

The file has the tensors alone, so the rest must be built, in this order:

- colors in [0, 1] minus {mean}, divided by {std}
- {trunk}
{half}{scaling}- {pooling}
{hidden}- the linear layer `head.output`
- division by the temperature {temperature}
- softmax
""",
}

_ROUNDED = "- in it, the output of the last frozen layer rounded to float16\n"


def make_readme(values: Mapping[str, Any]) -> str:
    """The README, in Markdown.

    Args:
        values: Of `Exported.to_json`.
    """
    parity, recipe = values["parity"], values["recipe"]
    trained = parity["as_trained"]
    given = parity["num_pictures"] - parity["num_drawn"]
    fields = {
        **values,
        "trunk": find_backbone(recipe["backbone"]).described or f"`features` of torchvision's `{recipe['backbone']}`",
        "enlarging": _ENLARGING[values["resize"]],
        "half": "" if recipe["freeze"] == "none" else _ROUNDED,
        "scaling": (
            "- each channel minus `head.mean`, divided by `head.deviation`\n"
            if recipe["feature_scaling"] == "standardize"
            else ""
        ),
        "pooling": "the mean over height and width" if recipe["head_pooling"] == "average" else "flattened",
        "hidden": "" if recipe["hidden_units"] is None else "- the linear layer `head.hidden` and ReLU\n",
    }
    parts = [
        f"# {values['file']}",
        f"A classifier that ferray {values['ferray_version']} exported: trial {values['trial_id'] or 'unknown'},"
        f" {recipe['backbone']}, {values['bytes'] / 1e6:,.1f} MB, format {values['format']}.",
        "- Input: `pictures`, uint8, RGB, shape (batch, {0}, {0}, 3), batches of any size.\n".format(values["size_px"])
        + "- Output: `probabilities`, float32, shape (batch, {}); the temperature {:.6g} is applied.\n".format(
            len(values["class_names"]), values["temperature"]
        )
        + "- Classes, in the order of the output: "
        + ", ".join(values["class_names"])
        + ".",
        "## How it is run",
        _USE[values["format"]].format(**fields).rstrip(),
        _PREPARE.format(**fields).rstrip(),
        "## How it was checked",
        f"""\
{count_of(parity["num_pictures"], "picture")}: {parity["num_drawn"]} drawn at random, {given} given.

| compared with | same most probable class | largest difference of a probability |
| --- | --- | --- |
| torch, both in float32 | {parity["num_same"]} | {parity["max_difference"]:.1e} |
| `ferray predict`, in {recipe["precision"]} | {trained["num_same"]} | {trained["max_difference"]:.1e} |""",
        *_of_integers(values["int8"]),
    ]
    return "\n\n".join(parts) + "\n"


def _of_integers(cost: Mapping[str, Any] | None) -> list[str]:
    """What a file in integers of 8 bits costs."""
    if cost is None:
        return []
    low, high = cost["interval"]
    return [
        f"""\
## Integers of 8 bits

The table above is of the same model in float32 ({cost["num_bytes_float"] / 1e6:,.1f} MB). This file computes in
integers of 8 bits, with ranges from {count_of(cost["num_calibration"], "training picture")}. What that costs on
{count_of(cost["num_pictures"], "validation picture")}:

| | float32 | 8 bits |
| --- | --- | --- |
| accuracy | {cost["accuracy_float"]:.4f} | {cost["accuracy_int8"]:.4f} |

The difference is {cost["difference"]:+z.4f} [{low:+z.4f}, {high:+z.4f}]. The most probable class is the same for
{cost["num_same"]:,} of {cost["num_pictures"]:,}; a probability differs by up to {cost["max_difference"]:.2f}."""
    ]
