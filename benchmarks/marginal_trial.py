"""What one more trial costs a search beyond its training.

A search with one worker group is run; the time between the ends of two trials is what a trial costs. The first third
is left out: Ray's helpers still come up then, and take the cores. The training alone, checkpoints included, is timed in
this process on the same store with the features cached. The difference is the overhead: Tune, proxy, dispatcher,
records, W&B.

    python benchmarks/marginal_trial.py [--points 72] [--epochs 10]
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas

from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.model.weights import load_weights
from ferray.recipe import Recipe
from ferray.search.fleet.worker import SAVE_EVERY_S
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.fit import fit

NUM_FACES = {"train": 256, "validation": 64, "test": 64}
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def main() -> None:
    """Time the search and the training alone, print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=72)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = write_store(folder / "store")
        gaps = time_search(folder, options.points, options.epochs)
        alone = time_training(folder, store, options.points, options.epochs)
    print(f"a trial of {options.epochs} epochs in a search of {options.points} points: {words(gaps)}")
    print(f"its training alone: {words(alone)}")
    print(f"marginal cost of a trial beyond its training: {np.mean(gaps) - np.mean(alone):.3f} s by the means")


def write_store(folder: Path) -> Store:
    """Noise of 32 pixels: only time matters here."""
    splits = [split for split, count in NUM_FACES.items() for _ in range(count)]
    table = pandas.DataFrame({"split": splits, "label": [row % 7 for row in range(len(splits))]})
    with StoreWriter(folder, num_faces=len(table), size_px=32) as writer:
        generator = np.random.default_rng(0)
        for row in range(len(table)):
            writer.put(row, generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        writer.finish(
            table.assign(group=range(len(table)), source="noise"),
            CLASSES,
            Provenance(dataset="folders", source_fingerprint="noise"),
        )
    return open_store(folder)


def rates(num_points: int) -> list[float]:
    """Learning rates that differ, since equal points would be one trial."""
    return [float(f"{rate:.6g}") for rate in np.geomspace(1e-5, 1e-3, num_points)]


def words(seconds: list[float]) -> str:
    """Mean, median and quartiles."""
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return f"mean {np.mean(seconds):.3f} s, median {middle:.3f} s (quartiles {low:.3f} to {high:.3f})"


def time_search(folder: Path, num_points: int, epochs: int) -> list[float]:
    """Seconds from the end of each trial of `python -m ferray.search` to the end of the next."""
    space = folder / f"points-{num_points}.yaml"
    space.write_text(
        "method: grid\nmetric: {name: val_accuracy, goal: maximize}\nparameters:\n"
        f"  learning_rate: {{values: {rates(num_points)}}}\n"
        f"  epochs: {{value: {epochs}}}\n"
        "  batch_size: {value: 64}\n"
    )
    asked = [sys.executable, "-m", "ferray.search", "--space", str(space), "--data", str(folder / "store")]
    subprocess.run(
        [*asked, "--weights", "none", "--concurrent-trials", "1", "--out", str(folder / "runs"), "--name", space.stem],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = (folder / "runs" / space.stem / "trials").glob("*/record.json")
    ends = sorted(record.stat().st_mtime for record in records)  # a trial's last write
    return np.diff(ends)[num_points // 3 :].tolist()


def time_training(folder: Path, store: Store, num_points: int, epochs: int) -> list[float]:
    """Seconds of each trial of the same points, one after the other in this process, checkpoints written."""
    weights = load_weights("none", "vgg16")
    recipe = Recipe(weights="none", precision="float32", image_size=32, epochs=epochs, batch_size=64)
    environment = Environment(cache=folder / "cache")
    seconds = []
    for number, rate in enumerate(rates(num_points)):
        one = dataclasses.replace(recipe, learning_rate=rate)
        begun = time.perf_counter()
        place = folder / "alone" / str(number)
        checkpointing = Checkpointing(place, min_interval_s=SAVE_EVERY_S)
        for _ in fit(one, store, weights, checkpointing=checkpointing, environment=environment):
            pass
        seconds.append(time.perf_counter() - begun)
    return seconds[1:]  # the first one computes the features


if __name__ == "__main__":
    main()
