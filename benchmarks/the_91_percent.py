"""What turns an honest score into 91 %, measured on the same faces: the order of two lines, and the name of a metric.

A frozen VGG16 trunk, a head of 256 units, dropout 0.5, Adam at 0.001, batches of 32, 10 epochs: the published winner.
Faces are drawn from a store's *training* split alone, in its own class proportions, and divided 70/10/20 anew for each
seed; the store's own test split stays sealed. Each procedure is what somebody did with those faces:

    python benchmarks/the_91_percent.py --data data/fer2013 --weights vgg16.safetensors [--faces 3600] [--seeds 4]

Begin at `main`; each of `PROCEDURES` is a function that says which examples are trained on, chosen by and tested.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ladder_rungs.part_of_store import copy_part
from ladder_rungs.prepare import spread
from numpy.typing import NDArray
from torch.nn import functional

from ferray.data.demo.photographs import demo_store
from ferray.data.prepare.split import split_groups
from ferray.data.store.reader import open_store
from ferray.files.storage import cache_dir
from ferray.metrics import confusion as confusions
from ferray.model.head import Head, draw_dropout_mask
from ferray.model.randomness import Purpose, make_generator
from ferray.model.weights import load_weights
from ferray.recipe import Recipe
from ferray.train.features.view import make_view, open_or_compute
from ferray.train.settle import settle
from ferray.train.spec import RunSpec

Examples = NDArray[np.int64]
"""Places in the pool of pictures: face + number of faces x view, where view 0 is the picture itself."""

SHARES = (0.7, 0.1, 0.2)
VIEWS = 3
"""Altered copies of each face (policy `light`)."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The faces, each as it is and altered, as the trunk sees them."""

    features: torch.Tensor
    """float16, shape ((1 + VIEWS) x faces, D, H, W)."""
    labels: NDArray[np.int64]
    """Shape (faces,)."""
    groups: NDArray[np.int64]
    """Photographs with their copies, shape (faces,)."""
    class_names: tuple[str, ...]

    @property
    def num_faces(self) -> int:
        """Faces, each of which has 1 + VIEWS pictures."""
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is done with the pool."""

    train: Examples
    validation: Examples
    test: Examples
    dropout: float = 0.5
    epochs: int = 10
    altered: bool = False
    """Whether each epoch trains on altered pictures."""
    shuffled: bool = False
    """Whether the pool's labels were dealt at random before all of it."""


def by_group(pool: Pool, seed: int) -> Protocol:
    """No photograph, and no copy of it, in two parts."""
    part = split_groups([str(group) for group in pool.groups], pool.labels.tolist(), SHARES, seed)
    train, validation, test = (np.flatnonzero(part == place) for place in range(3))
    return Protocol(train=train, validation=validation, test=test)


def by_face(pool: Pool, seed: int) -> Protocol:
    """Faces divided at random, whatever photograph they come from."""
    return divide(np.arange(pool.num_faces), seed)


def balanced_after(pool: Pool, seed: int) -> Protocol:
    """Faces of rare classes are copied inside the training part."""
    honest = by_group(pool, seed)
    return dataclasses.replace(honest, train=balance(honest.train, pool, seed))


def balanced_before(pool: Pool, seed: int) -> Protocol:
    """The same copies, but made before the split."""
    return divide(balance(np.arange(pool.num_faces), pool, seed), seed)


def altered_before(pool: Pool, seed: int) -> Protocol:
    """Altered copies instead, turned and shifted a little, made before the split."""
    grown = balance(np.arange(pool.num_faces), pool, seed)
    views = np.random.default_rng(seed).integers(1, 1 + VIEWS, len(grown))
    views[: pool.num_faces] = 0  # the first are the faces themselves
    return divide(grown + views * pool.num_faces, seed)


PROCEDURES: dict[str, Callable[[Pool, int], Protocol]] = {
    "split by photograph": by_group,
    "split by face": by_face,
    "split, then balanced by copies": balanced_after,
    "balanced by copies, then split": balanced_before,
    "balanced by altered copies, then split": altered_before,
    "labels shuffled, split by photograph": lambda pool, seed: dataclasses.replace(by_group(pool, seed), shuffled=True),
    "labels shuffled, balanced, then split": lambda pool, seed: dataclasses.replace(
        balanced_before(pool, seed), shuffled=True
    ),
    "split by photograph, dropout 0": lambda pool, seed: dataclasses.replace(by_group(pool, seed), dropout=0.0),
    "split by photograph, dropout 0.7": lambda pool, seed: dataclasses.replace(by_group(pool, seed), dropout=0.7),
    "split by photograph, augmented": lambda pool, seed: dataclasses.replace(by_group(pool, seed), altered=True),
    "split by photograph, 30 epochs": lambda pool, seed: dataclasses.replace(by_group(pool, seed), epochs=30),
}

COLUMNS = ("train", "validation", "top-1", "balanced", "one-vs-rest", "binary", "rarest recall")


def main() -> int:
    """Measure every procedure and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a store of faces (default: demo faces)")
    parser.add_argument(
        "--weights", metavar="FILE", help="of the trunk: file, imagenet, none (default with demo faces)"
    )
    parser.add_argument("--faces", type=int, default=3600, help="faces of the training split (default: 3600)")
    parser.add_argument("--size", type=int, metavar="PX", help="side of the pictures (default: the store's)")
    parser.add_argument("--seeds", type=int, default=4, help="of split, head and copies (default: 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the raw figures")
    options = parser.parse_args()
    weights = options.weights or ("none" if options.data is None else "imagenet")
    pool = open_pool(options.data or demo_store(cache_dir()), weights, options.faces, options.size)
    torch.set_num_threads(1)  # a head's steps are too small for two, which would wait for each other
    counts = np.bincount(pool.labels, minlength=len(pool.class_names))
    shown = ", ".join(f"{name} {count}" for name, count in zip(pool.class_names, counts, strict=True))
    print(f"{pool.num_faces} faces in {len(np.unique(pool.groups))} groups: {shown}")
    print(f"always {pool.class_names[counts.argmax()]}: {counts.max() / counts.sum():.3f}\n")
    print(f"{'test, mean +- sd over seeds':<40} " + " ".join(f"{name:>13}" for name in COLUMNS))
    raw: dict[str, list[list[float]]] = {}
    for name, procedure in PROCEDURES.items():
        raw[name] = [measure(pool, procedure(pool, seed), seed) for seed in range(options.seeds)]
        mean, deviation = np.mean(raw[name], axis=0), np.std(raw[name], axis=0, ddof=1)
        cells = (f"{one:.3f} +- {other:.3f}" for one, other in zip(mean, deviation, strict=True))
        print(f"{name:<40} " + " ".join(f"{cell:>13}" for cell in cells), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"columns": COLUMNS, "figures": raw, "counts": counts.tolist()}) + "\n")
    return 0


def open_pool(data: Path, weights_name: str, num_faces: int, size_px: int | None) -> Pool:
    """Draw the faces and send them through the trunk, once as they are and once a view."""
    whole = open_store(data)
    rows = spread(whole.rows("train"), num_faces)
    folder = cache_dir() / "the-91-percent" / f"{whole.fingerprint[:16]}-{len(rows)}"
    if not folder.exists():
        copy_part(whole, folder, rows, note="drawn from a training split for a benchmark")
    store, weights = open_store(folder), load_weights(weights_name, "vgg16")
    recipe = Recipe(augmentation="light", image_size=size_px, precision="float32")
    recipe = settle(recipe, store, precision="float32")
    spec = RunSpec(recipe, store, weights)
    frozen = spec.build_frozen(torch.device("cpu"))
    views = []
    for epoch in (None, *range(1, 1 + VIEWS)):
        view = make_view(spec, split="train", epoch=epoch, device="cpu")
        features = open_or_compute(view, spec, cache=cache_dir(), build_frozen=lambda: frozen)
        views.append(torch.from_numpy(np.array(features)))
    return Pool(
        features=torch.cat(views),
        labels=np.asarray(store.labels),
        groups=store.groups("train"),
        class_names=store.class_names,
    )


def divide(examples: Examples, seed: int) -> Protocol:
    """Examples in three parts at random."""
    order = np.random.default_rng(seed).permutation(examples)
    ends = [round(SHARES[0] * len(order)), round((SHARES[0] + SHARES[1]) * len(order))]
    train, validation, test = np.split(order, ends)
    return Protocol(train=train, validation=validation, test=test)


def balance(faces: Examples, pool: Pool, seed: int) -> Examples:
    """The faces, and copies of each class's until all classes are as large as the largest."""
    generator = np.random.default_rng(seed)
    members = [faces[pool.labels[faces] == label] for label in range(len(pool.class_names))]
    most = max(map(len, members))
    copies = [generator.choice(own, most - len(own)) for own in members]
    return np.concatenate([faces, *copies])


def measure(pool: Pool, protocol: Protocol, seed: int) -> list[float]:
    """Train a head, choose its epoch by validation accuracy, score it; see COLUMNS."""
    labels = pool.labels
    if protocol.shuffled:
        labels = np.random.default_rng([seed, 1]).permutation(labels)
    num_faces, num_classes = pool.num_faces, len(pool.class_names)
    shape = tuple(pool.features.shape[1:])
    generator = make_generator(seed, Purpose.HEAD)
    head = Head((shape[0], shape[1], shape[2]), num_classes, pooling="flatten", hidden_units=256, generator=generator)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, fused=True)
    best: tuple[float, NDArray[np.float32], float] | None = None
    for epoch in range(1, protocol.epochs + 1):
        order = np.random.default_rng([seed, 2, epoch]).permutation(protocol.train)
        if protocol.altered:
            order = order % num_faces + num_faces * (1 + (epoch - 1) % VIEWS)
        for step, begin in enumerate(range(0, len(order), 32)):
            batch = order[begin : begin + 32]
            mask = draw_dropout_mask(
                len(batch), head.num_units, dropout=protocol.dropout, seed=seed, epoch=epoch, step=step
            )
            logits = head(pool.features[batch], mask)
            loss = functional.cross_entropy(logits, torch.from_numpy(labels[batch % num_faces]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        validation = top_1(predict(head, pool, protocol.validation), labels[protocol.validation % num_faces])
        if best is None or validation > best[0]:
            trained = top_1(predict(head, pool, protocol.train), labels[protocol.train % num_faces])
            best = validation, predict(head, pool, protocol.test), trained
    assert best is not None
    validation, probabilities, trained = best
    return [trained, validation, *score(probabilities, labels[protocol.test % num_faces], pool)]


@torch.no_grad()
def predict(head: Head, pool: Pool, examples: Examples) -> NDArray[np.float32]:
    """Probabilities, shape (examples, classes)."""
    parts = [head(pool.features[examples[begin : begin + 512]]) for begin in range(0, len(examples), 512)]
    return torch.softmax(torch.cat(parts), dim=1).numpy()


def top_1(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of examples whose most probable class is their label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def score(probabilities: NDArray[np.float32], labels: NDArray[np.int64], pool: Pool) -> Sequence[float]:
    """Of the test part: the same answers under five names."""
    num_classes = probabilities.shape[1]
    confusion = confusions.make_confusion(labels, probabilities.argmax(axis=1), num_classes=num_classes)
    accuracy = confusions.accuracy(confusion)
    targets = np.eye(num_classes, dtype=bool)[labels]
    rarest = int(np.bincount(pool.labels, minlength=num_classes).argmin())
    return [
        accuracy,
        confusions.balanced_accuracy(confusion),
        1 - 2 * (1 - accuracy) / num_classes,  # mean over classes of (TP + TN) / N
        float(((probabilities > 0.5) == targets).mean()),  # Keras' BinaryAccuracy on one-hot targets
        float(confusion[rarest, rarest] / max(1, confusion[rarest].sum())),
    ]


if __name__ == "__main__":
    sys.exit(main())
