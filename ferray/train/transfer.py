"""Tensors on their way from the CPU to the device of a run. Begin at `to_device`."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; to a GPU without waiting for the copy.

    The pinned memory is a new block each time: torch gives it out again only after the copy is over.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
