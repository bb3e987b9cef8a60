"""An exported model as one file that other programs read: ONNX, torch.export's archive, or safetensors.

    onnx            a graph from pictures to probabilities; runs in onnxruntime and others
    torch-export    the same graph; runs in torch, also in C++
    safetensors     the tensors alone, under torchvision's names; the graph must be built around them

Each has one text `ferray` in its metadata, a JSON object of facts.

Begin at `encode`; `open_encoded` runs what it wrote.
"""

import importlib
import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from ferray.errors import DataError
from ferray.model.backbone import PREFIX, Backbone
from ferray.model.backbones import find_backbone
from ferray.model.classifier import build_classifier
from ferray.model.inference import BATCH, INPUT, OUTPUT, Inference, trace
from ferray.recipe import make_recipe
from ferray.train.checkpoints.checkpoint import copy_tensors
from ferray.train.checkpoints.export import LoadedModel
from ferray.train.transfer import to_device

if TYPE_CHECKING:
    import onnx

FACTS = "ferray"
"""Name of the text in a file's metadata."""

Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Probabilities, shape (pictures, classes), for RGB pictures of the model's size, shape (pictures, size, size, 3)."""


def make_inference(model: LoadedModel, *, temperature: float) -> Inference:
    """The whole model as one module, on the model's device."""
    return Inference(model.classifier, temperature=temperature).eval()


def make_runner(module: Inference, *, device: torch.device) -> Runner:
    """A function that runs the module, and returns when its answer is in memory."""

    def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = module(to_device(torch.from_numpy(pictures), device)).cpu().numpy()
        return probabilities

    return run


def encode(module: Inference, form: str, *, size_px: int, facts: Mapping[str, Any]) -> bytes:
    """The content of a file.

    Args:
        module: On the CPU, with a trunk in float32, which every runtime has.
        form: `onnx`, `torch-export` or `safetensors`.
        size_px: Side of the pictures.
        facts: JSON values for the file's metadata; safetensors needs `recipe`, `class_names` and `temperature` to be
            run again.

    Raises:
        DataError: A package that writes the format is missing.
    """
    text = json.dumps(facts, allow_nan=False)
    if form == "safetensors":
        return save(_tensors(module, find_backbone(facts["recipe"]["backbone"])), metadata={FACTS: text})
    if form == "onnx":
        return _encode_onnx(module, size_px=size_px, text=text)
    file = io.BytesIO()
    torch.export.save(trace(module, size_px=size_px), file, extra_files={FACTS: text})
    return file.getvalue()


def open_encoded(data: bytes, form: str) -> tuple[Runner, dict[str, Any]]:
    """A function that runs a file which `encode` has just written, and its facts.

    Args:
        data: The file's content; it is trusted.
        form: As for `encode`.

    Raises:
        DataError: A package that runs the format is missing.
    """
    if form == "onnx":
        return _decode_onnx(data)
    if form == "safetensors":
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][FACTS])
        return make_runner(_rebuild(load(data), facts), device=torch.device("cpu")), facts
    extra = {FACTS: ""}
    graph = torch.export.load(io.BytesIO(data), extra_files=extra).module()
    return lambda pictures: graph(torch.from_numpy(pictures)).numpy(), json.loads(extra[FACTS])


def _tensors(module: Inference, backbone: Backbone) -> dict[str, Tensor]:
    """All tensors of real numbers: the trunk's by the names of its library, the head's as in `model.safetensors`."""
    frozen, free = module.classifier.frozen, module.classifier.free
    parts = {"features": frozen.layers, "head": free.head}
    named = {f"{part}.{name}": tensor for part, layers in parts.items() for name, tensor in layers.state_dict().items()}
    named |= {f"features.{name}": tensor for name, tensor in free.features.state_dict().items()}
    return {
        backbone.name_in_files(name) if name.startswith(PREFIX) else name: tensor.contiguous()
        for name, tensor in named.items()
        if tensor.is_floating_point()
    }


def _rebuild(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Inference:
    recipe = make_recipe(facts["recipe"] | {"precision": "float32"}, where="the file")
    backbone = find_backbone(recipe.backbone)
    trunk = {name: tensors[backbone.name_in_files(name)] for name in backbone.tensor_shapes()}
    classifier = build_classifier(recipe, trunk, num_classes=len(facts["class_names"]))
    copy_tensors(classifier.free, {**tensors, **trunk})
    return Inference(classifier.eval(), temperature=facts["temperature"])


def with_facts(data: bytes, facts: Mapping[str, Any]) -> bytes:
    """The content of an ONNX file with other facts."""
    import onnx

    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {FACTS: json.dumps(facts, allow_nan=False)})
    return bytes(model.SerializeToString(deterministic=True))


def require_onnx() -> None:
    """Check that the packages are there which write and run ONNX.

    Raises:
        DataError: One is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            what = f"{package} is not installed"
            raise DataError("--format onnx", what, "pip install 'ferray[export]'") from error


def _encode_onnx(module: Inference, *, size_px: int, text: str) -> bytes:
    require_onnx()  # torch's exporter names what it lacks less clearly
    import onnx

    program = torch.onnx.export(
        trace(module, size_px=size_px),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: {0: BATCH}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _remove_traces(model)
    onnx.helper.set_model_props(model, {FACTS: text})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _remove_traces(model: "onnx.ModelProto") -> None:
    """Remove the exporter's notes on where each part came from: lines of source, and names of files."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""


def _decode_onnx(data: bytes) -> tuple[Runner, dict[str, Any]]:
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map[FACTS])
    return lambda pictures: session.run([OUTPUT], {INPUT: pictures})[0], facts
