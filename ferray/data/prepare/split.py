"""Samples and splits that depend on nothing but the seed and each photograph's name.

The order that decides is a hash of seed and name, not a generator's stream: it does not change with numpy's version or
with the order of the list, and a sample of 1,000 faces lies within the sample of 2,000 wherever no class's share is
rounded down in between. Begin at `split_groups`; `sample` comes before it.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.data.prepare.options import Shares, check_shares


def sample(keys: Sequence[str], strata: Sequence[object], num: int, seed: int) -> list[int]:
    """Draw without replacement, every stratum in its own proportion.

    Args:
        keys: One a face, unique.
        strata: One a face; its class, or its split and class.
        num: How many to draw; at most as many as there are.
        seed: Another seed draws others.

    Returns:
        Places in `keys`, ascending.
    """
    members: dict[object, list[int]] = {}
    for place in sorted(range(len(keys)), key=lambda place: _rank("sample", seed, keys[place])):
        members.setdefault(strata[place], []).append(place)
    order = sorted(members, key=repr)
    exact = [num * len(members[stratum]) / len(keys) for stratum in order]
    quota = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(order)), key=lambda at: (quota[at] - exact[at], at))
    for at in by_remainder[: num - sum(quota)]:
        quota[at] += 1
    return sorted(place for stratum, n in zip(order, quota, strict=True) for place in members[stratum][:n])


def split_groups(groups: Sequence[str], labels: Sequence[int], shares: Shares, seed: int) -> NDArray[np.int64]:
    """Divide faces so that no group crosses a split and every class is divided as `shares` say.

    Groups are dealt out one by one, those of many faces first, each to the split that lacks most of its classes; where
    every group is one face, each class misses its share by less than one face.

    Args:
        groups: The photograph of each face.
        labels: The class of each face.
        shares: Of train, validation and test.
        seed: Another seed divides otherwise.

    Returns:
        0, 1 or 2 for each face, shape (faces,).
    """
    check_shares(shares)
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    num_classes = max(labels, default=0) + 1
    totals = np.bincount(np.asarray(labels, dtype=np.int64), minlength=num_classes)
    lacking = [[share * int(total) for total in totals] for share in shares]
    open_splits = [at for at in range(3) if shares[at] > 0]
    result = np.zeros(len(groups), dtype=np.int64)
    for group in sorted(members, key=lambda group: (-len(members[group]), _rank("split", seed, group))):
        places = members[group]
        chosen = max(open_splits, key=lambda at: (sum(lacking[at][labels[place]] for place in places), -shares[at]))
        for place in places:
            lacking[chosen][labels[place]] -= 1
            result[place] = chosen
    return result


def _rank(use: str, seed: int, key: str) -> bytes:
    """Where a key comes in the order of a seed; the use keeps samples and splits independent."""
    return hashlib.sha256(f"{use}\n{seed}\n{key}".encode()).digest()
