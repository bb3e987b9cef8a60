"""List the trials of a search, best score first.

python examples/read_a_search.py runs/first
"""

import sys
from pathlib import Path

from ferray import Run


def main(folder: str) -> int:
    """Print a line for each trial that has an epoch."""
    records = [record for record in Run(Path(folder)).read_trials() if record.epochs]
    for record in sorted(records, key=lambda record: record.score() or 0.0, reverse=True):
        settings = f"learning rate {record.recipe.learning_rate:g}, batch size {record.recipe.batch_size}"
        print(f"{record.trial_id} {record.state:8} {record.score():.4f} {settings}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
