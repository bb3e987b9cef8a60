"""Rung 1: the script that a tutorial would have: ImageFolder, DataLoader, float32, the whole network in every epoch.

python -m ladder_rungs.naive JOB POINT
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ladder_rungs.training import (
    DEVICE,
    FIRST_FREE_LAYER,
    MEAN,
    STD,
    Job,
    add_result,
    build_head,
    parameter_groups,
    read_job,
    view_of,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import vgg16

from ferray.augment import POLICIES, compose, seed_by_place


class AlteredFolder(ImageFolder):
    """Pictures of a folder, altered by a policy, the same ones as in the other rungs."""

    def __init__(self, root: Path, *, policy: str, seed: int, **arguments: Any) -> None:
        super().__init__(root, **arguments)
        self.view = 0
        self._policy, self._seed, self._compose = policy, seed, None

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A picture and its label."""
        path, label = self.samples[index]
        picture = np.asarray(self.loader(path))
        if self._policy != "none":
            picture = self._alter(picture, sample=int(Path(path).stem))
        return self.transform(picture), label

    def _alter(self, picture: np.ndarray, *, sample: int) -> np.ndarray:
        if self._compose is None:  # once a process of the loader
            self._compose = compose(POLICIES[self._policy](1.0))
        seed_by_place(self._compose, seed=self._seed, epoch=self.view, sample=sample)
        return self._compose(image=picture)["image"]


def main(job: Job, number: int) -> None:
    """Train one point."""
    begun, started, point = time.time(), time.perf_counter(), job.points[number]
    torch.manual_seed(job.seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    arguments = {"seed": job.seed, "transform": transform, "allow_empty": True}
    train = AlteredFolder(Path(job.pictures) / "train", policy=point["augmentation"], **arguments)
    validation = AlteredFolder(Path(job.pictures) / "validation", policy="none", **arguments)
    model = build_model(job, size_px=train[0][0].shape[-1], num_classes=len(train.classes), dropout=point["dropout"])
    optimizer = torch.optim.Adam(parameter_groups(model, point["learning_rate"]))
    train_loader = DataLoader(train, batch_size=point["batch_size"], shuffle=True, num_workers=2)
    validation_loader = DataLoader(validation, batch_size=32, num_workers=2)
    criterion = nn.CrossEntropyLoss()
    accuracies = []
    for epoch in range(1, job.epochs + 1):
        train.view = view_of(job, point, epoch)
        model.train()
        for pictures, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(pictures.to(DEVICE)), labels.to(DEVICE)).backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for pictures, labels in validation_loader:
                right += int((model(pictures.to(DEVICE)).argmax(dim=1) == labels.to(DEVICE)).sum())
        accuracies.append(right / len(validation))
    add_result(job, number, begun=begun, trained_s=time.perf_counter() - started, accuracies=accuracies)


def build_model(job: Job, *, size_px: int, num_classes: int, dropout: float) -> nn.Sequential:
    """VGG16's convolutions and a new head; the first layers keep their weights."""
    trunk = vgg16(init_weights=False).features
    trunk.load_state_dict({name.removeprefix("features."): tensor for name, tensor in load_file(job.trunk).items()})
    trunk[: FIRST_FREE_LAYER[job.freeze]].requires_grad_(False)
    return nn.Sequential(trunk, build_head(size_px, num_classes, dropout)).to(DEVICE)


if __name__ == "__main__":
    main(read_job(sys.argv[1]), int(sys.argv[2]))
