"""Train one recipe from random weights on a CPU, epoch by epoch; run again, it continues from its checkpoints.

python examples/train_one_recipe.py data/expw runs/alone
"""

import sys
from pathlib import Path

from ferray import Checkpointing, Environment, Recipe, fit, open_store
from ferray.model.weights import load_weights
from ferray.train.settle import settle


def main(folder: str, out: str) -> int:
    """Print each epoch; stop after two epochs without a better validation accuracy."""
    store = open_store(folder)
    recipe = Recipe(weights="none", learning_rate=3e-4, batch_size=16, epochs=3, patience=2)
    recipe = settle(recipe, store, precision="float32")  # the picture's size is the store's
    weights = load_weights("none", recipe.backbone)
    checkpointing, environment = Checkpointing(Path(out)), Environment(device="cpu")
    for epoch in fit(recipe, store, weights, checkpointing=checkpointing, environment=environment):
        print(f"epoch {epoch.epoch}: validation accuracy {epoch.val_accuracy:.3f}, {epoch.images_per_s:.0f} faces/s")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
