"""Are an augmentation's draws independent, do they keep the policy's shares, and what do they leave of a face?

Every policy alters many faces. Printed are, at strength 1: faces that stay as they are; sets of transforms that were
applied together, of all that are possible; the largest correlation between two transforms' being applied, and that of
brightness and vertical shift; the time a picture. And at strength 2: the share of a face's parts that is still there.

    python benchmarks/draws.py [--data data/fer2013] [--draws 1500]

With `--one-seed` all transforms draw with the same seed, as they did before `NUMBERS_VERSION` 2.

A face has 4 by 4 parts. A part is still there if flattening it to its mean color changes the altered picture by at
least a tenth of what it changes the face (root of the sum of squares), with the same draws.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.augment import POLICIES, compose, seed_by_place
from ferray.data.demo.photographs import demo_store
from ferray.data.store.reader import open_store
from ferray.files.storage import cache_dir

Face = NDArray[np.uint8]

NUM_PARTS = 4
LEAST_CHANGE = 0.1


def main() -> None:
    """Measure every policy that alters pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a store of faces (default: demo faces)")
    parser.add_argument("--draws", type=int, default=1500, help="pictures of each policy (default: 1500)")
    parser.add_argument("--one-seed", action="store_true", help="all transforms draw with the same seed")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    store = open_store(options.data or demo_store(cache_dir()))
    rows = np.random.default_rng(0).choice(len(store.faces), options.draws, replace=len(store.faces) < options.draws)
    faces = np.asarray(store.faces[np.sort(rows)])
    for policy in sorted(set(POLICIES) - {"none"}):
        print(f"{policy}: {describe(policy, faces, one_seed=options.one_seed)}")


def describe(policy: Any, faces: Face, *, one_seed: bool) -> str:
    """What a policy's draws do to some faces, each of which is a sample of its own."""
    transforms = POLICIES[policy](1.0)
    whole = compose(transforms)
    applied, moves, unchanged = [], [], 0
    started = time.process_time()
    altered = [alter(whole, face, sample, one_seed) for sample, face in enumerate(faces)]
    microseconds = (time.process_time() - started) / len(faces) * 1e6
    for sample, face in enumerate(faces):
        unchanged += np.array_equal(altered[sample], face)
        seed(whole, sample, one_seed)
        whole(image=face)
        drawn = [transform.get_applied_params() for transform in transforms]
        applied.append([bool(values) for values in drawn])
        if drawn[1] and drawn[2]:
            center = np.array([*face.shape[:2], 2]) / 2
            moves.append((drawn[1]["matrix"][1] @ center - center[1], drawn[2]["beta"]))
    together = np.corrcoef(np.array(applied).T)
    largest = np.abs(together[np.triu_indices(len(transforms), 1)]).max()
    strong = compose(POLICIES[policy](2.0))
    kept = np.array(
        [parts_kept(strong, face, sample, one_seed) for sample, face in enumerate(faces[: len(faces) // 3])]
    )
    return (
        f"{unchanged / len(faces):.2%} unchanged, {len(set(map(tuple, applied)))} of {2 ** len(transforms)} sets, "
        f"largest correlation {largest:.2f}, of brightness and shift {np.corrcoef(np.array(moves).T)[0, 1]:+.2f}, "
        f"{microseconds:.0f} us a picture; parts kept at strength 2: least {kept.min():.2f}, "
        f"one in a hundred {np.quantile(kept, 0.01):.2f}, mean {kept.mean():.2f}"
    )


def alter(whole: Any, face: Face, sample: int, one_seed: bool) -> Face:
    """A face altered with the draws of a sample."""
    seed(whole, sample, one_seed)
    altered: Face = whole(image=face)["image"]
    return altered


def seed(whole: Any, sample: int, one_seed: bool) -> None:
    """Set the draws of a sample."""
    if one_seed:
        whole.set_random_seed(int(np.random.SeedSequence([0, 1, sample]).generate_state(1)[0]))
    else:
        seed_by_place(whole, seed=0, epoch=1, sample=sample)


def parts_kept(whole: Any, face: Face, sample: int, one_seed: bool) -> float:
    """The share of a face's parts that are still there in the altered picture."""
    altered = alter(whole, face, sample, one_seed).astype(float)
    step, kept = len(face) // NUM_PARTS, []
    for top in range(0, step * NUM_PARTS, step):
        for left in range(0, step * NUM_PARTS, step):
            flattened = face.copy()
            part = flattened[top : top + step, left : left + step]
            part[:] = part.mean(axis=(0, 1)).round()
            there = np.linalg.norm(flattened.astype(float) - face)
            here = np.linalg.norm(alter(whole, flattened, sample, one_seed) - altered)
            if there > 0:
                kept.append(here >= LEAST_CHANGE * there)
    return float(np.mean(kept)) if kept else 1.0


if __name__ == "__main__":
    main()
