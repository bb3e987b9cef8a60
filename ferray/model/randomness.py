"""Random numbers as pure functions: (seed, purpose, place) names a stream, and no state is kept between steps.

A run that continues at epoch k draws the same numbers as without the interruption, on any number of ranks.

Begin at `make_generator`.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """The use of a stream of random numbers; the streams of two purposes are independent."""

    TRUNK = 1
    """Initial weights of a trunk without pretrained weights."""
    HEAD = 2
    """Initial weights of the head."""
    ORDER = 3
    """Order of the training faces in an epoch."""
    DROPOUT = 4
    """Units that a step drops."""
    MIXUP = 5
    """Pairs of faces that a step mixes, and their shares."""
    LABELS = 6
    """The permutation of labels with `shuffle_labels`."""


def make_seed(seed: int, purpose: Purpose, *place: int) -> int:
    """The 64-bit seed of one stream.

    Args:
        seed: The recipe's seed.
        purpose: The use of the stream.
        place: Epoch, step, or other numbers that distinguish the streams of one purpose.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(int(purpose), *place))
    return int(sequence.generate_state(1, np.uint64)[0])


def make_generator(seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """A torch generator on the CPU at the start of one stream; arguments as `make_seed`."""
    return torch.Generator().manual_seed(make_seed(seed, purpose, *place))
