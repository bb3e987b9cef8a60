"""Random numbers as pure functions: (seed, purpose, place) names a stream, and no state is carried from step to step.

A run that goes on at epoch k draws what it would have drawn without the break, on any number of ranks.

Begin at `make_generator`.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream of random numbers is for; two purposes never share numbers."""

    TRUNK = 1
    """First weights of a trunk that starts from none."""
    HEAD = 2
    """First weights of the head."""
    ORDER = 3
    """Order of the training faces in an epoch."""
    DROPOUT = 4
    """Units that a step leaves out."""
    MIXUP = 5
    """Pairs of faces that a step mixes, and their shares."""
    LABELS = 6
    """Labels dealt at random, where a recipe asks for that."""


def make_seed(seed: int, purpose: Purpose, *place: int) -> int:
    """The 64-bit seed of one stream.

    Args:
        seed: Of the recipe.
        purpose: What the stream is for.
        place: Epoch, step, or whatever tells streams of one purpose apart.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(int(purpose), *place))
    return int(sequence.generate_state(1, np.uint64)[0])


def make_generator(seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """A torch generator on the CPU at the start of one stream; arguments as `make_seed`."""
    return torch.Generator().manual_seed(make_seed(seed, purpose, *place))
