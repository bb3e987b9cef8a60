"""Ranks: the processes that train one model together, and how they exchange values.

In a single process every method does nothing or returns its argument, so that the training loop is the same on one CPU
and on eight GPUs. The process group is the one of `torch.distributed` (gloo or nccl).

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
    """This process's rank among those that train together."""

    rank: int
    """Counted from 0; rank 0 writes."""
    world: int
    """The number of ranks."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def own_part(self, num_rows: int) -> slice:
        """This rank's rows of a batch, contiguous; none for some ranks where there are fewer rows than ranks."""
        return slice(self.rank * num_rows // self.world, (self.rank + 1) * num_rows // self.world)

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace a tensor, of the same shape on all ranks, by its sum over them."""
        if self.world > 1:
            dist.all_reduce(tensor)

    def from_first(self, value: Value) -> Value:
        """Rank 0's value, on all ranks; it is sent pickled."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, value: bool) -> bool:
        """Whether the value is true on any rank."""
        if self.world == 1:
            return value
        values: list[bool] = [False] * self.world
        dist.all_gather_object(values, value)
        return any(values)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block that may fail on one rank alone; if it does, all ranks raise, and none waits for the failed one.

        Raises:
            FerrayError: That of the first rank that failed with one.
            TrainError: A rank failed in another way; that rank raises its own exception.
        """
        if self.world == 1:
            yield
            return
        fault: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  the other ranks wait for the exchange below, whatever it is
            fault = error
        faults: list[FerrayError | str | None] = [None] * self.world
        dist.all_gather_object(faults, fault if fault is None or isinstance(fault, FerrayError) else repr(fault))
        if fault is not None:
            raise fault
        for rank, other in enumerate(faults):
            if isinstance(other, FerrayError):
                raise other
            if other is not None:
                raise TrainError(f"rank {rank}", f"failed: {other}", "See that rank's own log")


ALONE = Ranks(rank=0, world=1)
"""One process that trains by itself."""


def current_ranks() -> Ranks:
    """This process's rank in the initialized group of `torch.distributed`; `ALONE` where there is none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(rank=dist.get_rank(), world=dist.get_world_size())
    return ALONE


@contextmanager
def joined(backend: str, **how: Any) -> Iterator[Ranks]:
    """Be a rank of a process group while the block runs.

    Args:
        backend: `gloo` or `nccl`.
        how: Arguments of `torch.distributed.init_process_group`; by default it reads the variables of `torchrun`.

    Yields:
        This process's rank.
    """
    # The first optimizer imports this. A module of it then keeps the current group as a default argument until the
    # interpreter ends, where gloo's threads abort the process: 1 run in 8 ended with status 134. So import it before.
    import torch._dynamo  # noqa: F401

    dist.init_process_group(backend, **how)
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


def sum_gradients(parameters: list[torch.nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its sum over the ranks, in one exchange.

    A gradient that was not computed, as on a rank without faces, counts as 0.
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
