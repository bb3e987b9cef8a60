"""Which way to make up for classes of unequal size pays, where they are as unequal as in ExpW.

FER2013 has more faces of the rare classes than any part of ExpW that lies at hand, so its training split is cut to
the shares that the 91,793 faces of ExpW have, 32 to 1; validation and test split stay whole. Each way trains the same
head on the same cached features, from several seeds, and keeps the epoch of the best balanced validation accuracy.

This compares methods, not models: the test split is read once for every run, at the end, and nothing is chosen by it.
Two intervals of 95 % stand beside a mean over the seeds: over seeds (t distribution), what another seed may change, and
over faces (bootstrap of whole photographs), what another test split may change. A difference to `none` is bootstrapped
face by face, which takes most of the split's chance out of it.

    python benchmarks/imbalance.py --data data/fer2013 --weights FILE [--seeds 5] [--epochs 10]
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from ladder_rungs.part_of_store import copy_part
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import stats

from ferray.data.demo.photographs import demo_store
from ferray.data.store.reader import Store, open_store
from ferray.files.storage import cache_dir
from ferray.metrics.scores import confusion_by_group
from ferray.model.classifier import build_free
from ferray.model.weights import Weights, load_weights
from ferray.recipe import Recipe
from ferray.train.checkpoints.checkpoint import BEST, copy_tensors
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.features.view import make_view, open_or_compute
from ferray.train.fit import fit
from ferray.train.spec import RunSpec

EXPW = {
    "angry": 3671,
    "disgust": 3995,
    "fear": 1088,
    "happy": 30537,
    "sad": 10559,
    "surprise": 7060,
    "neutral": 34883,
}
"""Faces of all of ExpW by class."""

VARIANTS: dict[str, dict[str, float | str]] = {
    "none": {},
    "inverse weights": {"class_balance": "inverse_weights"},
    "sqrt inverse weights": {"class_balance": "sqrt_inverse_weights"},
    "effective number, .999": {"class_balance": "effective_number_weights"},
    "balanced sampling": {"class_balance": "balanced_sampling"},
    "logit adjustment, tau 1": {"class_balance": "logit_adjustment"},
    "logit adjustment, tau .5": {"class_balance": "logit_adjustment", "logit_adjustment_tau": 0.5},
    "focal, gamma 2": {"focal_gamma": 2.0},
    "mixup, alpha .2": {"mixup_alpha": 0.2},
    "label smoothing .1": {"label_smoothing": 0.1},
}
RESAMPLES = 2000


def main() -> None:
    """Train every variant from every seed, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a store with the classes of ExpW (default: demo faces)"
    )
    parser.add_argument("--weights", default="none", metavar="W", help="a file, 'imagenet' or 'none' (default)")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2 (default: 5)")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    weights = load_weights(options.weights, "vgg16")
    with tempfile.TemporaryDirectory() as name:
        store = cut_training_split(open_store(options.data or demo_store(cache_dir())), Path(name) / "cut", EXPW)
        print(f"training faces: {store.manifest.counts['train']}")
        recipe = Recipe(
            epochs=options.epochs,
            monitor="val_balanced_accuracy",
            precision="float32",
            image_size=store.size_px,
        )
        results = {
            variant: [
                run(dataclasses.replace(recipe, seed=seed, **settings), store, weights, Path(name))
                for seed in range(options.seeds)
            ]
            for variant, settings in VARIANTS.items()
        }
    print_table(results)


def cut_training_split(store: Store, folder: Path, counts: dict[str, int]) -> Store:
    """A store whose training split has the shares of some counts and is as large as its classes allow.

    Args:
        store: Validation and test split are taken over as they are.
        folder: Of the new store.
        counts: By class name.
    """
    train = np.arange(store.rows("train").start, store.rows("train").stop)
    members = [train[store.labels[train] == label] for label in range(len(store.class_names))]
    scale = min(len(rows) / counts[name] for name, rows in zip(store.class_names, members, strict=True))
    generator = np.random.default_rng(0)
    chosen = [
        generator.permutation(rows)[: round(scale * counts[name])]
        for name, rows in zip(store.class_names, members, strict=True)
    ]
    kept = np.concatenate([np.sort(np.concatenate(chosen)), np.arange(train[-1] + 1, len(store.labels))])
    return copy_part(store, folder, kept, note="training split cut to the class shares of ExpW")


def read_test_features(recipe: Recipe, store: Store, weights: Weights) -> torch.Tensor:
    """What the frozen trunk makes of the test faces, shape (faces, 512, height, width)."""
    spec = RunSpec(recipe, store, weights)
    view = make_view(spec, split="test", epoch=None, device="cpu")
    features = open_or_compute(
        view, spec, cache=cache_dir(), build_frozen=lambda: spec.build_frozen(torch.device("cpu"))
    )
    return torch.from_numpy(np.array(features))


@dataclasses.dataclass(frozen=True)
class Result:
    """One run: its best epoch, validated and tested."""

    validation: float
    """Balanced accuracy."""
    by_group: NDArray[np.int64]
    """A confusion matrix of the test split's answers for each photograph."""


def run(recipe: Recipe, store: Store, weights: Weights, folder: Path) -> Result:
    """Train one recipe and read the test split with its best epoch."""
    checkpoints = Path(tempfile.mkdtemp(dir=folder))
    environment = Environment(cache=cache_dir())
    rows = list(fit(recipe, store, weights, checkpointing=Checkpointing(checkpoints), environment=environment))
    free = build_free(recipe, {}, num_classes=len(store.class_names))
    copy_tensors(free, load_file(checkpoints / BEST))
    with torch.no_grad():
        predictions = free(read_test_features(recipe, store, weights)).argmax(dim=1).numpy()
    labels = np.asarray(store.labels[store.rows("test")])
    by_group = confusion_by_group(labels, predictions, store.groups("test"), num_classes=len(store.class_names))
    return Result(max(row.val_balanced_accuracy for row in rows), by_group)


def print_table(results: dict[str, list[Result]]) -> None:
    """One line a variant."""
    plain = results["none"]
    print(
        "| way | val. balanced | test balanced | over seeds | over faces | minus none | its interval | test accuracy |"
    )
    print("| --- " * 8 + "|")
    for variant, runs in results.items():
        balanced, top_1 = scores([one.by_group.sum(axis=0) for one in runs])
        reach = stats.t.ppf(0.975, len(runs) - 1) * stats.sem(balanced)
        drawn, drawn_plain = (resampled(some) for some in (runs, plain))
        cells = [
            variant,
            f"{np.mean([one.validation for one in runs]):.3f}",
            f"{balanced.mean():.3f}",
            interval(balanced.mean() - reach, balanced.mean() + reach),
            interval(*np.quantile(drawn, [0.025, 0.975])),
            f"{balanced.mean() - scores([one.by_group.sum(axis=0) for one in plain])[0].mean():+.3f}",
            "" if runs is plain else interval(*np.quantile(drawn - drawn_plain, [0.025, 0.975])),
            f"{top_1.mean():.3f}",
        ]
        print("| " + " | ".join(cells) + " |")


def scores(confusions: list[NDArray[np.int64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced and plain accuracy of each run."""
    hits, faces = (np.array([one.diagonal() for one in confusions]), np.array([one.sum(axis=1) for one in confusions]))
    return (hits / faces).mean(axis=1), hits.sum(axis=1) / faces.sum(axis=1)


def resampled(runs: list[Result]) -> NDArray[np.float64]:
    """Mean balanced accuracy of the runs on each of `RESAMPLES` draws of photographs, the same for all variants."""
    num_groups = len(runs[0].by_group)
    draws = np.random.default_rng(0).multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=RESAMPLES)
    means = np.zeros(RESAMPLES)
    for one in runs:
        hits = draws @ np.diagonal(one.by_group, axis1=1, axis2=2)
        means += (hits / np.maximum(1, draws @ one.by_group.sum(axis=2))).mean(axis=1)
    return means / len(runs)


def interval(low: float, high: float) -> str:
    """Both ends."""
    return f"[{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
