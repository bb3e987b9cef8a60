"""A split that depends only on the seed, the labels and each photograph's name. Begin at `split_groups`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.data.prepare.options import Shares, check_shares
from ferray.data.sampling import hash_rank


def split_groups(groups: Sequence[str], labels: Sequence[int], shares: Shares, seed: int) -> NDArray[np.int64]:
    """Divide faces so that no group crosses a split and every class is divided in the given shares.

    Groups are assigned one by one, the largest first, each to the split that lacks most faces of the group's classes.
    Where every group is one face, each class misses its share by less than one face.

    Args:
        groups: The photograph of each face.
        labels: The class of each face.
        shares: Shares of train, validation and test.
        seed: Another seed divides differently.

    Returns:
        The place in `SPLITS` for each face, shape (faces,).
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
    for group in sorted(members, key=lambda group: (-len(members[group]), hash_rank("split", seed, group))):
        places = members[group]
        chosen = max(open_splits, key=lambda at: (sum(lacking[at][labels[place]] for place in places), -shares[at]))
        for place in places:
            lacking[chosen][labels[place]] -= 1
            result[place] = chosen
    return result
