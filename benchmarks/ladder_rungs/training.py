"""The training code that rungs 2 to 6 of the ladder share, so that they differ only in what a rung is about.

It is what a careful user writes without ferray: faces as uint8 in memory, the frozen layers under `no_grad` in
channels_last and in the faster number format, a fused Adam. Of ferray it takes the store's arrays and the pictures that
an augmentation policy makes.

Shapes: B faces, S pixels along a side, C colors, D channels, H and W places, K classes.

Begin at `train_point`; `Job` is what the ladder asks of a rung.
"""

import copy
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vgg import cfgs, make_layers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HIDDEN_UNITS = 256
TRUNK_LR_FACTOR = 0.1
"""Learning rate of the trunk's free layers as a fraction of the head's."""
FIRST_FREE_LAYER = {"trunk": 31, "blocks1-4": 24, "none": 0}
READ_BATCH = 32
"""Faces that are validated, or turned into features, at once."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Split = Literal["train", "validation"]
Read = Callable[[Split, Tensor], Tensor]
"""The frozen layers' output for rows of a split, shape (B, D, H, W)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a rung has to do: plain values, handed over as a JSON file."""

    store: str
    """Folder of the cut store."""
    pictures: str
    """Folder of the same faces as PNG files: train/CLASS/ROW.png and validation/CLASS/ROW.png."""
    trunk: str
    """The trunk's weights, a safetensors file."""
    results: str
    """File to which every point adds a line of JSON."""
    scratch: str
    """Folder for whatever a rung leaves behind."""
    freeze: str
    precision: str
    """Of the tuned rungs' convolutions, as measured: `float32` or `bfloat16`."""
    epochs: int
    views: int
    """Altered copies of each picture that the epochs use in turn."""
    seed: int
    cpus: int
    """Cores that this process may use."""
    lanes: int
    """Points that train at once, 1 where the rung takes one after the other."""
    points: tuple[dict[str, Any], ...]


def read_job(file: str) -> Job:
    """The job of a file that the ladder wrote."""
    return Job(**json.loads(Path(file).read_text()))


def write_job(job: Job, file: Path) -> None:
    """Hand a job over to a rung's process."""
    file.write_text(json.dumps(asdict(job)))


def add_result(job: Job, number: int, *, begun: float, trained_s: float, accuracies: list[float]) -> None:
    """Add a point's line; lines of processes that train at once do not mix, since each is one short write.

    Args:
        job: Names the file.
        number: Of the point.
        begun: When the point began, its own start-up included, by `time.time`.
        trained_s: Seconds of training and validation.
        accuracies: On the validation split, one an epoch.
    """
    row = {"point": number, "begun": begun, "ended": time.time(), "trained_s": trained_s, "accuracies": accuracies}
    file = os.open(job.results, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (json.dumps(row) + "\n").encode())
    os.close(file)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The faces of a store, uint8 (faces, S, S, C), and their labels, on the device."""

    faces: dict[Split, Tensor]
    labels: dict[Split, Tensor]
    num_classes: int


@lru_cache(maxsize=1)
def load_data(folder: str) -> Data:
    """The faces of a store in memory, read once a process."""
    from ferray.data.store.reader import open_store

    store = open_store(Path(folder))
    rows: dict[Split, slice] = {"train": store.rows("train"), "validation": store.rows("validation")}
    return Data(
        faces={split: torch.tensor(store.faces[part]).to(DEVICE) for split, part in rows.items()},
        labels={split: torch.tensor(store.labels[part]).to(DEVICE) for split, part in rows.items()},
        num_classes=len(store.class_names),
    )


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """VGG16's convolutions in two parts."""

    frozen: nn.Sequential
    """Keeps its weights; in the job's precision."""
    free: nn.Sequential
    """Is trained, by each point from the start; float32."""
    precision: torch.dtype


@lru_cache(maxsize=1)
def load_trunk(file: str, freeze: str, precision: str) -> Trunk:
    """The trunk with its first weights, read once a process."""
    layers = make_layers(cfgs["D"], batch_norm=False)
    layers.load_state_dict({name.removeprefix("features."): tensor for name, tensor in load_file(file).items()})
    layers = layers.to(DEVICE, memory_format=torch.channels_last)
    cut, dtype = FIRST_FREE_LAYER[freeze], torch.float32 if precision == "float32" else torch.bfloat16
    return Trunk(frozen=layers[:cut].requires_grad_(False).to(dtype), free=layers[cut:], precision=dtype)


@lru_cache(maxsize=8)
def altered_faces(folder: str, policy: str, seed: int, view: int) -> Tensor:
    """A view's training pictures, made once a process, as whoever uses copies in turn would."""
    from ferray.augment import augment

    faces = load_data(folder).faces["train"]
    if policy == "none":
        return faces
    altered = augment(faces.cpu().numpy(), range(len(faces)), policy=policy, strength=1.0, seed=seed, epoch=view)
    return torch.from_numpy(altered).to(DEVICE)


def view_of(job: Job, point: dict[str, Any], epoch: int) -> int:
    """The altered copy that an epoch, counted from 1, trains on; 0 where nothing is altered."""
    return 0 if point["augmentation"] == "none" else (epoch - 1) % job.views + 1


@torch.no_grad()
def run_frozen(trunk: Trunk, faces_BSSC: Tensor) -> Tensor:
    """Normalized faces through the frozen layers, shape (B, D, H, W)."""
    mean, std = (torch.tensor(numbers, device=DEVICE).mul(255).view(3, 1, 1) for numbers in (MEAN, STD))
    features_BDHW: Tensor = trunk.frozen(((faces_BSSC.permute(0, 3, 1, 2) - mean) / std).to(trunk.precision))
    return features_BDHW.float()


def read_pictures(job: Job, point: dict[str, Any], epoch: int) -> Read:
    """Inputs of an epoch without a cache: the faces go through the frozen layers each time."""
    trunk, data = load_trunk(job.trunk, job.freeze, job.precision), load_data(job.store)
    view = altered_faces(job.store, point["augmentation"], job.seed, view_of(job, point, epoch))
    faces: dict[Split, Tensor] = {"train": view, "validation": data.faces["validation"]}
    return lambda split, rows_B: run_frozen(trunk, faces[split][rows_B])


def train_point(
    job: Job,
    number: int,
    *,
    open_epoch: Callable[[Job, dict[str, Any], int], Read] = read_pictures,
    told: Callable[[float], None] = lambda accuracy: None,
    begun: float | None = None,
) -> float:
    """Train one point and write its result.

    Args:
        job: With the point.
        number: Of the point.
        open_epoch: Gives the inputs of an epoch; by default there is no cache.
        told: Is called with the validation accuracy after each epoch.
        begun: When the point began, if before this call.

    Returns:
        The best validation accuracy.
    """
    begun = time.time() if begun is None else begun
    point, data, trunk = job.points[number], load_data(job.store), load_trunk(job.trunk, job.freeze, job.precision)
    started = time.perf_counter()
    torch.manual_seed(job.seed)
    order = torch.Generator().manual_seed(job.seed)
    head = build_head(data.faces["train"].shape[1], data.num_classes, point["dropout"]).to(DEVICE)
    model = nn.Sequential(copy.deepcopy(trunk.free), head)
    lower = trunk.precision != torch.float32 and len(trunk.free) > 0
    optimizer = torch.optim.Adam(parameter_groups(model, point["learning_rate"]), fused=True)
    accuracies: list[float] = []
    for epoch in range(1, job.epochs + 1):
        read = open_epoch(job, point, epoch)
        model.train()
        for rows_B in torch.randperm(len(data.labels["train"]), generator=order).split(point["batch_size"]):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=lower):
                logits_BK = model(read("train", rows_B))
            optimizer.zero_grad()
            functional.cross_entropy(logits_BK.float(), data.labels["train"][rows_B]).backward()
            optimizer.step()
        accuracies.append(validate(model, read, data.labels["validation"], lower=lower))
        told(accuracies[-1])
    add_result(job, number, begun=begun, trained_s=time.perf_counter() - started, accuracies=accuracies)
    return max(accuracies)


@torch.no_grad()
def validate(model: nn.Module, read: Read, labels: Tensor, *, lower: bool) -> float:
    """Accuracy on the validation split."""
    model.eval()
    right = torch.zeros((), device=DEVICE)
    for rows_B in torch.arange(len(labels)).split(READ_BATCH):
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=lower):
            right += (model(read("validation", rows_B)).argmax(dim=1) == labels[rows_B]).sum()
    return float(right) / len(labels)


def build_head(size_px: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Flatten, hidden layer, dropout, output layer."""
    units = 512 * (size_px // 32) ** 2
    hidden, output = nn.Linear(units, HIDDEN_UNITS), nn.Linear(HIDDEN_UNITS, num_classes)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(dropout), output)


def parameter_groups(model: nn.Sequential, learning_rate: float) -> list[dict[str, Any]]:
    """The head at the point's rate, the trunk's free layers, if any, at a tenth of it."""
    free = [tensor for tensor in model[0].parameters() if tensor.requires_grad]
    groups = [{"params": list(model[1].parameters()), "lr": learning_rate}]
    return [*groups, {"params": free, "lr": learning_rate * TRUNK_LR_FACTOR}] if free else groups
