"""The device that a command runs on, and this process's place among the ranks that `torchrun` started.

Begin at `choose_device` and `torchrun_ranks`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ferray.errors import RecipeError
from ferray.train.ranks import ALONE, Ranks, joined


def choose_device(asked: str | None) -> str:
    """The device that was asked for; else this rank's own GPU, or the CPU where there is no GPU.

    Raises:
        RecipeError: There is no such device.
    """
    if asked is not None:
        check_device(asked)
        return asked
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> None:
    """Refuse a device that torch does not know or that this machine does not have.

    Raises:
        RecipeError: There is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"--device {name}", "no such device", "Name cpu, cuda, or cuda:1 and so on") from error
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise RecipeError(f"--device {name}", f"this machine has {num_gpus} GPUs", "Name one of them, or cpu")


@contextmanager
def torchrun_ranks(device: str) -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started while the block runs; one rank where it did not start this process.

    Args:
        device: The device of this rank.

    Yields:
        This process's place.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    with joined("nccl" if device.startswith("cuda") else "gloo") as ranks:
        yield ranks
