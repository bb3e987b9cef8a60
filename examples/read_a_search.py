"""List the trials of a search, best score first; of one that is running, too.

python examples/read_a_search.py runs/first
"""

import sys

import ferray


def main(folder: str) -> int:
    """Print a line for each trial that has an epoch."""
    search = ferray.open(folder)
    score = f"best_{search.metric}"
    trials = search.trials.dropna(subset=score).sort_values(score, ascending=search.goal == "minimize")
    print(trials[["trial_id", "state", score, "learning_rate", "batch_size"]].to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
