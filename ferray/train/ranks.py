"""Ranks: the processes that train one model together, and what they say to each other.

Alone, every method is what one process would do anyway, so that the training loop is the same on one CPU and on eight
GPUs. A group is whatever `torch.distributed` was initialized with (gloo or nccl).

Begin at `Ranks`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ferray.errors import FerrayError, TrainError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train together."""

    rank: int
    """Counted from 0; rank 0 writes."""
    world: int
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def own_part(self, num_rows: int) -> slice:
        """This rank's rows of a batch, contiguous; some ranks have none where there are fewer rows than ranks."""
        return slice(self.rank * num_rows // self.world, (self.rank + 1) * num_rows // self.world)

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace a tensor, of the same shape on all ranks, by its sum over them."""
        if self.world > 1:
            dist.all_reduce(tensor)

    def from_first(self, value: Value) -> Value:
        """Rank 0's value, on all ranks; it travels pickled."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank."""
        if self.world == 1:
            return value
        told: list[bool] = [False] * self.world
        dist.all_gather_object(told, value)
        return any(told)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block that may fail on one rank alone; if it does, all raise, and none waits for one that is gone.

        Raises:
            FerrayError: The first rank's that failed with one.
            TrainError: A rank failed in another way; that rank raises its own exception.
        """
        if self.world == 1:
            yield
            return
        fault: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  the other ranks wait to be told of it, whatever it is
            fault = error
        told: list[FerrayError | str | None] = [None] * self.world
        dist.all_gather_object(told, fault if fault is None or isinstance(fault, FerrayError) else repr(fault))
        if fault is not None:
            raise fault
        for rank, said in enumerate(told):
            if isinstance(said, FerrayError):
                raise said
            if said is not None:
                raise TrainError(f"rank {rank}", f"failed: {said}", "See that rank's own log")


ALONE = Ranks(rank=0, world=1)
"""One process that trains by itself."""


def current_ranks() -> Ranks:
    """This process's place in the initialized group of `torch.distributed`; `ALONE` where there is none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(rank=dist.get_rank(), world=dist.get_world_size())
    return ALONE


@contextmanager
def joined(backend: str, **how: Any) -> Iterator[Ranks]:
    """Train together with others while the block runs.

    Args:
        backend: `gloo` or `nccl`.
        how: Of `torch.distributed.init_process_group`; by default what `torchrun` says.

    Yields:
        This process's place.
    """
    # The first optimizer imports this. What it brings takes the group of that moment for a default argument and holds
    # it until the interpreter ends, where gloo's threads abort the process: 1 run in 8 ended with status 134.
    import torch._dynamo  # noqa: F401

    dist.init_process_group(backend, **how)
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


def sum_gradients(parameters: list[torch.nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its sum over the ranks, in one exchange; a rank without faces adds nothing.

    Gradients that were never computed count as 0.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if ranks.world == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    ranks.all_reduce_sum(flat)
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))
