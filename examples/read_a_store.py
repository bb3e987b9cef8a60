"""Count the faces of a store, and show what an error looks like.

python examples/read_a_store.py data/expw
"""

import sys

from ferray import FerrayError, Store, open_store


def count_faces(store: Store) -> dict[str, int]:
    """Training faces of each class."""
    labels = list(store.labels[store.rows("train")])
    return {name: labels.count(label) for label, name in enumerate(store.class_names)}


def main(folder: str) -> int:
    """Print the counts; an error names the place, the fault and the way out."""
    try:
        store = open_store(folder)
    except FerrayError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(store.labels)} faces of {store.size_px} pixels, fingerprint {store.fingerprint}")
    for name, count in count_faces(store).items():
        print(f"{name:10} {count:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
