"""How many altered copies does the search for copies find, by kind and strength of the alteration?

The truth is known: pictures are drawn from a folder, each is altered once, and the altered ones are put among all
pictures of the folder. A copy is found if it is in the group of its original. Each alteration is searched for alone, so
that altered copies do not find their original through each other. "Judge" is the share that the last step, the aligned
comparison, accepts if it is given the pair: no search can find more.

    python benchmarks/altered_copies.py --images fer2013/test --kind faces
    python benchmarks/altered_copies.py --images expw/origin --kind photographs

The alterations are Pillow's, not OpenCV's, with which the finder aligns and resizes.
"""

import argparse
import io
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from ferray.data.copies.find import find_copies
from ferray.data.copies.gradients import Candidate
from ferray.data.copies.sketch import Sketches, make_sketch
from ferray.data.prepare.photographs import read_photograph
from ferray.data.threads import Threads

Pixels = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png"}


def move(picture: Image.Image, share: float) -> Image.Image:
    """The frame moved by a share of each side, the uncovered edge filled from its last pixels."""
    across, down = round(picture.width * share), -round(picture.height * share)
    wide = np.pad(np.asarray(picture), ((picture.height,) * 2, (picture.width,) * 2, (0, 0)), mode="edge")
    left, top = picture.width + across, picture.height + down
    return Image.fromarray(wide).crop((left, top, left + picture.width, top + picture.height))


def cut(picture: Image.Image, share: float, *, at: float = 0.3, restore: bool = True) -> Image.Image:
    """A part of each side, not from the middle, scaled to the former size if asked for."""
    width, height = round(picture.width * share), round(picture.height * share)
    left, top = round((picture.width - width) * at), round((picture.height - height) * (1 - at))
    part = picture.crop((left, top, left + width, top + height))
    return part.resize(picture.size, Image.Resampling.LANCZOS) if restore else part


def turn(picture: Image.Image, degrees: float) -> Image.Image:
    """Turned about the middle, and cut so that no corner is empty."""
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
    return cut(turned, 1 - abs(degrees) / 60, at=0.5)


def frame(picture: Image.Image, share: float) -> Image.Image:
    """With a black frame, at the former size."""
    framed = ImageOps.expand(picture, border=round(picture.width * share), fill="black")
    return framed.resize(picture.size, Image.Resampling.LANCZOS)


def compress(picture: Image.Image, quality: int) -> Image.Image:
    """As a JPEG file and back."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def shrink(picture: Image.Image, share: float) -> Image.Image:
    """Scaled down."""
    size = max(8, round(picture.width * share)), max(8, round(picture.height * share))
    return picture.resize(size, Image.Resampling.BILINEAR)


def add_noise(picture: Image.Image, levels: float) -> Image.Image:
    """With noise of a standard deviation in gray levels."""
    noise = np.random.default_rng(7).normal(0, levels, (picture.height, picture.width, 1))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def cover(picture: Image.Image, share: float) -> Image.Image:
    """A white bar with dark writing over a share of the height."""
    covered, height = picture.copy(), round(picture.height * share)
    draw = ImageDraw.Draw(covered)
    draw.rectangle((0, picture.height - height, picture.width, picture.height), fill="white")
    draw.text((2, picture.height - height), "Such a day", fill="black")
    return covered


Alter = Callable[[Image.Image], Image.Image]
ALTERATIONS: dict[str, Alter] = {
    **{f"moved by {share:.0%} of its side": lambda p, s=share: move(p, s) for share in (0.02, 0.04, 0.06, 0.1, 0.15)},
    **{f"cut to {share:.0%} of its side": lambda p, s=share: cut(p, s) for share in (0.95, 0.9, 0.8, 0.7)},
    **{f"turned by {degrees} degrees": lambda p, d=degrees: turn(p, d) for degrees in (3, 8, 15)},
    **{f"framed by {share:.0%}": lambda p, s=share: frame(p, s) for share in (0.05, 0.12)},
    "mirrored": ImageOps.mirror,
    "mirrored and cut to 85%": lambda p: ImageOps.mirror(cut(p, 0.85)),
    "mirrored and moved by 5%": lambda p: ImageOps.mirror(move(p, 0.05)),
    **{f"compressed, quality {quality}": lambda p, q=quality: compress(p, q) for quality in (50, 20)},
    **{f"scaled to {share:.0%}": lambda p, s=share: shrink(p, s) for share in (0.7, 0.4)},
    **{f"blurred by {px} px": lambda p, r=px: p.filter(ImageFilter.GaussianBlur(r)) for px in (0.7, 1.5)},
    **{f"contrast {f}": lambda p, f=f: ImageEnhance.Contrast(p).enhance(f) for f in (0.5, 1.6)},
    "brightness 1.4": lambda p: ImageEnhance.Brightness(p).enhance(1.4),
    "equalized": ImageOps.equalize,
    **{f"noise of {levels} levels": lambda p, n=levels: add_noise(p, n) for levels in (8, 20)},
    **{f"covered by {share:.0%}": lambda p, s=share: cover(p, s) for share in (0.15, 0.3)},
}


def main() -> None:
    """Search for each alteration and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, anywhere below a folder")
    parser.add_argument("--kind", choices=("faces", "photographs"), required=True, help="how pictures are compared")
    parser.add_argument("--num-altered", type=int, default=120, metavar="N", help="pictures that are altered")
    parser.add_argument("--num-pictures", type=int, default=1800, metavar="N", help="pictures among which they lie")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draw")
    arguments = parser.parse_args()
    root = arguments.images.resolve()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in SUFFIXES)
    random.Random(arguments.seed).shuffle(names)
    pictures = [read_photograph(root, name, upright=True).pixels for name in names[: arguments.num_pictures]]
    print(f"{len(pictures):,} {arguments.kind} of {root.name}, {arguments.num_altered} altered, seed {arguments.seed}")
    print(f"{'alteration':28} {'found':>6} {'judge':>6} {'compared':>9} {'seconds':>8}")
    sketches = [make_sketch(picture) for picture in pictures]
    for name, alter in ALTERATIONS.items():
        altered = [_apply(alter, picture) for picture in pictures[: arguments.num_altered]]
        begin = time.perf_counter()
        found, compared = find_altered(pictures, sketches, altered, arguments.kind)
        wall_s = time.perf_counter() - begin
        accepted = judge(pictures, altered, arguments.kind, is_mirrored="mirrored" in name)
        print(f"{name:28} {found:6.2f} {accepted:6.2f} {compared:9,} {wall_s:8.1f}", flush=True)


def find_altered(pictures: list[Pixels], sketches: list[object], altered: list[Pixels], kind: str) -> tuple[float, int]:
    """Share of the altered pictures that are in the group of their original, and the number of compared pairs."""
    both = [*pictures, *altered]
    all_sketches = Sketches(len(both), digest_of="pixels")
    for place, sketch in enumerate([*sketches, *map(make_sketch, altered)]):
        all_sketches.put(place, sketch)
    copies = find_copies(all_sketches, both.__getitem__, kind=kind, threads=Threads())
    found = np.mean([copies.groups[len(pictures) + at] == copies.groups[at] for at in range(len(altered))])
    return float(found), copies.num_compared


def judge(pictures: list[Pixels], altered: list[Pixels], kind: str, *, is_mirrored: bool) -> float:
    """Share of the pairs that the aligned comparison accepts, without any search."""
    num = len(altered)
    both = [*pictures[:num], *altered]
    pairs = [Candidate(at, num + at, is_mirrored) for at in range(num)]
    copies = find_copies(
        Sketches(len(both), digest_of="pixels"), both.__getitem__, kind=kind, also=pairs, threads=Threads()
    )
    return float(np.mean([copies.groups[num + at] == copies.groups[at] for at in range(num)]))


def _apply(alter: Alter, picture: Pixels) -> Pixels:
    altered = alter(Image.fromarray(np.ascontiguousarray(picture[..., ::-1])))
    return np.ascontiguousarray(np.asarray(altered.convert("RGB"))[..., ::-1])


if __name__ == "__main__":
    main()
