"""What `ferray fit` chooses for a folder of pictures: the split, the size, the space and a few of its settings.

The frozen trunk takes most of the time, and its work grows with the area of a picture. So the size is the largest one
for which its passes take at most `SHARE` of the time, by a measurement on this machine; where even the smallest takes
more, pictures are not altered, which leaves one pass of four. Begin at `choose_options`.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferray.data.prepare.options import DEFAULT_SPLIT, Shares
from ferray.errors import DataError
from ferray.files import storage
from ferray.recipe import Recipe
from ferray.search.forecast import num_gpus
from ferray.space import find_space, read_space

if TYPE_CHECKING:
    from ferray.data.sources.rows import Source
    from ferray.data.store.reader import Store
    from ferray.model.weights import Weights

SIZES_PX = (32, 48, 64, 96, 128, 224)
"""Sides that are chosen among; 32 is VGG's smallest, 224 what its ImageNet weights were trained on."""

SHARE = 0.4
"""Part of the time that the passes of the frozen trunk may take."""

NUM_PASSES = 4
"""Of the space `grid`: unaltered pictures, and three altered copies."""

MIN_PICTURES = 10
"""Of a class, in all."""

SMALL_CLASS = 100
"""Below so many pictures in its smallest class, a tenth for validation would rank points by a few pictures."""

SMALL_SPLIT: Shares = (0.6, 0.2, 0.2)
VALIDATION_FROM_TRAIN: Shares = (0.9, 0.1, 0.0)

MIN_STEPS = 400
"""Steps of a trial with the smaller batches: few pictures need more epochs than the ten of the space."""

MAX_EPOCHS = 40
BATCHES = ((100, (8, 16)), (1000, (16, 32)), (math.inf, (32, 128)))
"""Batch sizes below so many pictures for training and validation; the last ones are the space's."""

NUM_SAMPLED = 40
"""Pictures whose size is looked at."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen."""

    size_px: int
    space: str
    settings: tuple[str, ...]
    """`KEY=VALUE`, for the space."""
    reason: str
    """In words, for people."""


def check_enough(source: "Source") -> None:
    """Refuse classes of too few pictures to train and judge a classifier on; a source has at least two classes.

    Raises:
        DataError: A class has fewer than `MIN_PICTURES`.
    """
    counts = Counter(face.label for face in source.faces)
    names = source.classes.names
    few = {name: counts[label] for label, name in enumerate(names) if counts[label] < MIN_PICTURES}
    if few:
        shown = ", ".join(f"{name} has {num}" for name, num in list(few.items())[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        what = f"too few pictures: {shown}{more}; training, validation and test need {MIN_PICTURES} of each class"
        raise DataError(str(source.root), what, "Add pictures, or move the folders of small classes away")


def check_split(store: "Store", source: "Source") -> None:
    """Refuse a division that left a class without validation pictures: points would be ranked without it.

    A division that the pictures came with is theirs.

    Raises:
        DataError: It names the classes.
    """
    missing = [name for name, num in store.manifest.counts["validation"].items() if not num]
    if find_split(source) is None or not missing:
        return
    what = f"no validation {store.manifest.shown.nouns} of {', '.join(missing[:5])}"
    what += f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    if store.manifest.copies == "find":
        what += ": so many look like copies, which are kept together"
    way_out = "Remove the store; run again with --copies skip, or with more pictures"
    raise DataError(str(store.folder), what, way_out)


def find_split(source: "Source") -> Shares | None:
    """The shares of train, validation and test; None for a tree with a whole split of its own."""
    given = {face.split for face in source.faces}
    if given == {None}:
        smallest = min(Counter(face.label for face in source.faces).values())
        return SMALL_SPLIT if smallest < SMALL_CLASS else DEFAULT_SPLIT
    return None if "validation" in given else VALIDATION_FROM_TRAIN


def backbone_of_space(space: str | None) -> str:
    """The first backbone that a space asks for; that of the shipped spaces where none is given.

    Raises:
        SpaceError: There is no such space.
    """
    parameters = () if space is None else read_space(find_space(space)).parameters
    return next((str(one.values[0]) for one in parameters if one.name == "backbone"), Recipe().backbone)


def choose_options(
    source: "Source", weights: "Weights", *, minutes: float, space: str | None, size_px: int | None
) -> Choice:
    """Choose what was not given.

    Args:
        source: The pictures.
        weights: Of the trunk.
        minutes: For all.
        space: None to choose.
        size_px: None to choose.
    """
    device = "cuda" if num_gpus() else "cpu"
    if space is None:
        space = "finetune" if device == "cuda" and weights.tensors else "grid"
    num_trained = _num_trained(source)
    settings: list[str] = []
    reason = "the size is given" if size_px is not None else ""
    if size_px is None:
        from ferray.train.features.speed import measure_trunk_speed

        def speed(size: int) -> float:
            return measure_trunk_speed(weights, size_px=size, device=device, cache=storage.cache_dir())

        largest = _useful_size(source)
        size_px, alters, reason = choose_size(num_trained, largest, limit_s=60 * minutes * SHARE, speed=speed)
        settings += [] if alters or space != "grid" else ["augmentation=none"]
    if space == "grid":
        batches = next(sizes for limit, sizes in BATCHES if num_trained < limit)
        epochs = min(MAX_EPOCHS, max(10, math.ceil(MIN_STEPS * batches[0] / num_trained)))
        settings += [f"batch_size=[{batches[0]}, {batches[1]}]", f"epochs={epochs}"]
    return Choice(size_px=size_px, space=space, settings=tuple(settings), reason=f"{size_px} px, {reason}")


def choose_size(
    num_pictures: int, largest: int, *, limit_s: float, speed: Callable[[int], float]
) -> tuple[int, bool, str]:
    """The largest size whose features are ready in time.

    Args:
        num_pictures: That pass the trunk.
        largest: A larger size shows nothing more.
        limit_s: For all passes.
        speed: Measures the pictures a second that pass the trunk at a size; only called as long as one is too slow.

    Returns:
        The size, whether there is time to alter pictures, and the reason in words.
    """
    sizes = [size for size in SIZES_PX if size <= largest]
    for size in reversed(sizes):
        if NUM_PASSES * num_pictures / speed(size) <= limit_s:
            return size, True, "as large as the pictures" if size == largest else "the largest that the time allows"
    return sizes[0], False, "the smallest, and pictures are not altered: more takes longer than the time allows"


def _num_trained(source: "Source") -> int:
    """About how many pictures are in train and validation, those that pass the trunk."""
    given = sum(face.split in ("train", "validation") for face in source.faces)
    if given:
        return given
    split = find_split(source) or DEFAULT_SPLIT
    return max(1, round(len(source.faces) * (split[0] + split[1])))


def _useful_size(source: "Source") -> int:
    """The first of `SIZES_PX` that is not below the median side of a sample of the pictures."""
    from ferray.data.decoding.formats import BadPhotographError
    from ferray.data.prepare.photographs import read_photograph

    names = [face.source for face in source.faces]
    sides = []
    for name in names[:: math.ceil(len(names) / NUM_SAMPLED)]:
        with suppress(BadPhotographError):  # preparing says what is wrong with it
            sides.append(max(read_photograph(source.root, name, upright=source.upright).pixels.shape[:2]))
    median = statistics.median(sides) if sides else SIZES_PX[-1]
    return next((size for size in SIZES_PX if size >= median), SIZES_PX[-1])
