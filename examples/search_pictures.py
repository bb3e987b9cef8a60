"""Prepare a folder of pictures, search on it, and label pictures with the best model; run again, it goes on.

python examples/search_pictures.py pets
"""

import sys
from pathlib import Path

import ferray

SPACE = {
    "method": "random",
    "run_cap": 8,
    "metric": {"name": "val_balanced_accuracy", "goal": "maximize"},
    "parameters": {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "dropout": {"values": [0.0, 0.5]},
        "epochs": {"value": 5},
    },
}


def main(images: str, *, size_px: int = 64, weights: str = "imagenet") -> int:
    """Print every epoch, the search, and a few predictions."""
    name = Path(images).name
    try:
        store = ferray.prepare(images, out=Path("data") / name, size_px=size_px)
        if (Path("runs") / name).exists():
            search = ferray.search(resume=name, on_epoch=show)
        else:
            search = ferray.search(SPACE, data=store.folder, name=name, weights=weights, on_epoch=show)
    except ferray.FerrayError as error:
        print(error, file=sys.stderr)
        return 2
    print(search)
    for answer in search.model().predict(sorted(Path(images).rglob("*.*"))[:5]):
        print(f"{answer.path}: {answer.label}, {answer.confidence:.2f}")
    return 0


def show(trial: ferray.TrialRecord, epoch: ferray.EpochResult) -> None:
    """Called after every epoch."""
    print(f"trial {trial.number}, epoch {epoch.epoch}: balanced accuracy {epoch.val_balanced_accuracy:.3f}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
