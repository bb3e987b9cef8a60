"""Which damage done to the coded picture of a JPEG is found, and is a whole photograph ever left out?

python benchmarks/damaged_photographs.py --images expw/origin
"""

import argparse
import random
from collections import Counter
from pathlib import Path

import numpy as np

from ferray.data.decoding.client import decode_photograph
from ferray.data.decoding.formats import BadPhotographError

NUM_ZEROS = 64


def main() -> None:
    """Decode all photographs, then damage some in four ways each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="photographs, sequential JPEG files")
    parser.add_argument("--num-damaged", type=int, default=200, metavar="N", help="photographs to damage")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the photographs and places")
    arguments = parser.parse_args()
    files = sorted(arguments.images.rglob("*.jpg"))
    print(f"{len(files):,} photographs: {dict(Counter(outcome(path.read_bytes(), None) for path in files))}")
    generator = random.Random(arguments.seed)
    counts = Counter[tuple[str, str]]()
    for _ in range(arguments.num_damaged):
        content = generator.choice(files).read_bytes()
        whole = decode_photograph(content, upright=True)
        counts.update((name, outcome(damaged, whole)) for name, damaged in damage(content, generator).items())
    for (name, result), num in sorted(counts.items()):
        print(f"{name:24} {result:14} {num:5}")


def damage(content: bytes, generator: random.Random) -> dict[str, bytes]:
    """The file with damage at a random place of its last scan."""
    scan, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    at = generator.randrange(scan + 2 + int.from_bytes(content[scan + 2 : scan + 4]), end)
    zeros = min(NUM_ZEROS, end - at)
    return {
        "cut off, end mark added": content[:at] + b"\xff\xd9",
        f"{NUM_ZEROS} zeros": content[:at] + bytes(zeros) + content[at + zeros :],
        "zeros to the end": content[:at] + bytes(end - at) + content[end:],
        "one bit": content[:at] + bytes([content[at] ^ 1 << generator.randrange(8)]) + content[at + 1 :],
    }


def outcome(content: bytes, whole: np.ndarray | None) -> str:
    """Whether it is left out, or its pixels are those of the whole photograph."""
    try:
        pixels = decode_photograph(content, upright=True)
    except BadPhotographError:
        return "left out"
    return "taken" if whole is None else "same pixels" if np.array_equal(pixels, whole) else "other pixels"


if __name__ == "__main__":
    main()
