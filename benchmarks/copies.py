"""What does looking for copies cost, and how much of what is there does it find?

Faces are drawn: what all faces share, and fine structure of each one's own. One in fifty has a copy: equal, mirrored,
compressed, brightened or cut. Time, peak memory, what was found and what was joined wrongly are printed.

    python benchmarks/copies.py --num-faces 100000

How many altered copies of real pictures it finds, and which it does not, is measured by `altered_copies.py`.
"""

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.copies import find as copies
from ferray.data.copies.sketch import sketch_all
from ferray.data.threads import Threads

SIZE_PX = 96
EVERY = 50
CHUNK = 1000
Result = TypeVar("Result")
Face = NDArray[np.uint8]


def draw_face(seed: int) -> Face:
    """A face of its own, uint8 (96, 96, 3): a head of some size and place, eyes and a mouth, light from one side."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE_PX * 1j, -1 : 1 : SIZE_PX * 1j]
    across, down, grow = generator.normal(0, 0.04, 3)
    x, y = (x - across) * (1 + grow), (y - down) * (1 + grow)
    gray = generator.uniform(60, 190) + 0 * x
    head = 1 / (1 + np.exp(np.clip(8 * (x**2 / 0.5 + y**2 / 0.75 - 1), -50, 50)))
    gray += head * generator.uniform(-60, 60)
    for side in (-0.33, 0.33):
        gray -= 60 * np.exp(-60 * ((x - side) ** 2 + 2 * (y + 0.2) ** 2))
    gray -= 40 * np.exp(-25 * x**2 - 150 * (y - generator.normal(0.4, 0.05)) ** 2)
    gray += generator.normal(0, 30) * x + generator.normal(0, 15) * y
    for num_cells, strength in ((6, 11), (12, 10), (24, 8), (48, 5)):
        cells = generator.normal(0, strength, (num_cells, num_cells)).astype(np.float32)
        gray += cv2.resize(cells, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def compress(face: Face, quality: int = 40) -> Face:
    """As a JPEG file and back."""
    _, content = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), dtype=np.uint8)


def cut(face: Face) -> Face:
    """Framed closer, by three to five pixels on each side, and brought to size again."""
    part = face[3:-5, 5:-3]
    return np.asarray(cv2.resize(part, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


ALTER: dict[str, Callable[[Face], Face]] = {
    "equal": lambda face: face,
    "compressed": compress,
    "mirrored": lambda face: np.ascontiguousarray(face[:, ::-1]),
    "brightened": lambda face: cv2.convertScaleAbs(face, alpha=0.8, beta=30).astype(np.uint8),
    "cut": lambda face: compress(cut(face), 70),
}


def main() -> None:
    """Search among drawn faces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-faces", type=int, default=100_000, metavar="N", help="faces to draw")
    search_drawn(parser.parse_args().num_faces)


def search_drawn(num: int) -> None:
    """Draw, plant, find, count."""
    names = list(ALTER)
    num_copies = num // EVERY
    with TemporaryDirectory() as folder:
        file = Path(folder) / "faces.npy"
        np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(num, SIZE_PX, SIZE_PX, 3)).flush()
        with ProcessPoolExecutor() as pool:  # others than this one, whose memory is measured
            list(pool.map(draw_faces, [file] * num, range(0, num, CHUNK)))
        mapped = np.load(file, mmap_mode="r")

        def load(place: int) -> Face:
            return np.asarray(mapped[place])

        def search() -> copies.Copies:
            return copies.find_copies(sketch_all(num, load, Threads()), load, kind="faces", threads=Threads())

        found = measure(f"{num:,} drawn faces of {SIZE_PX} px", search)
    originals = num - num_copies
    groups = found.groups
    for at, name in enumerate(names):
        of_kind = range(at, num_copies, len(names))
        right = sum(int(groups[originals + copy] == original_of(copy, num)) for copy in of_kind)
        print(f"  {name}: {right:,} of {len(of_kind):,} found")
    wrong = sum(int(groups[place] != place) for place in range(originals))
    print(f"  {wrong:,} of {originals:,} faces that are no copies were joined to others")


def original_of(copy: int, num: int) -> int:
    """Which face the copy of a number is made of."""
    num_copies = num // EVERY
    return copy * ((num - num_copies) // num_copies)


def draw_faces(file: Path, begin: int) -> None:
    """Draw some of the faces of a file, the copies at its end."""
    faces = np.lib.format.open_memmap(file, mode="r+")
    names, num = list(ALTER), len(faces)
    originals = num - num // EVERY
    for place in range(begin, min(begin + CHUNK, num)):
        copy = place - originals
        if copy < 0:
            faces[place] = draw_face(place)
        else:
            faces[place] = ALTER[names[copy % len(names)]](draw_face(original_of(copy, num)))
    faces.flush()


def measure(what: str, work: Callable[[], Result]) -> Result:
    """Do it, print time and memory, and of copies their number by kind."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = work()
    wall_s, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {wall_s:.1f} s, {cpu_s:.1f} s of CPU; at most {after.ru_maxrss / 1024:,.0f} MB so far")
    if isinstance(result, copies.Copies):
        kinds = Counter(pair.kind for pair in result.pairs)
        _, sizes = np.unique(result.groups, return_counts=True)
        print(f"  {result.num_compared:,} pairs compared; {len(result.capped):,} pictures had too many candidates")
        print(f"  copies by kind: {dict(kinds)}; mirrored: {sum(pair.mirrored for pair in result.pairs):,}")
        print(f"  {int((sizes > 1).sum()):,} groups of {int(sizes[sizes > 1].sum()):,} pictures, at most {sizes.max()}")
        print(f"  nearly copies: {len(result.borderline):,}")
    return result


if __name__ == "__main__":
    main()
