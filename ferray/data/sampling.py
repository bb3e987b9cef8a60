"""Samples without a random generator: they do not change with numpy's version or with the order of a list.

Begin at `draw_sample`; `evenly_spaced` is for examples.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw_sample(keys: Sequence[str], strata: Sequence[object], num: int, seed: int) -> list[int]:
    """Draw without replacement, every stratum in its own proportion.

    A sample of 1,000 is a part of the sample of 2,000, unless the number of a stratum is rounded down in between.

    Args:
        keys: One per face, unique.
        strata: One per face: its class, or its split and class.
        num: How many to draw; at most as many as there are.
        seed: Another seed draws other faces.

    Returns:
        Places in `keys`, ascending.
    """
    members: dict[object, list[int]] = {}
    for place in sorted(range(len(keys)), key=lambda place: hash_rank("sample", seed, keys[place])):
        members.setdefault(strata[place], []).append(place)
    order = sorted(members, key=repr)
    exact = [num * len(members[stratum]) / len(keys) for stratum in order]
    quota = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(order)), key=lambda at: (quota[at] - exact[at], at))
    for at in by_remainder[: num - sum(quota)]:
        quota[at] += 1
    return sorted(place for stratum, n in zip(order, quota, strict=True) for place in members[stratum][:n])


def evenly_spaced(rows: NDArray[np.int64], max_num: int) -> NDArray[np.int64]:
    """At most so many of the rows: the first, the last, and rows at even distances between them."""
    if len(rows) <= max_num:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max_num).round().astype(np.int64)]


def hash_rank(use: str, seed: int, key: str) -> bytes:
    """The rank of a key in the order of a seed; another `use` has an independent order."""
    return hashlib.sha256(f"{use}\n{seed}\n{key}".encode()).digest()
