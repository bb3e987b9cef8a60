"""The device that a command runs on, and this process's place among the ranks that `torchrun` started.

Begin at `choose_device` and `torchrun_ranks`; `device_of_worker` is for Ray's workers.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ferray.errors import RecipeError, SearchError
from ferray.train.ranks import ALONE, Ranks, joined


def choose_device(asked: str | None) -> str:
    """The device that was asked for; else, and for `cuda`, this rank's own GPU, or the CPU where there is no GPU.

    Raises:
        RecipeError: There is no such device, or no GPU for this rank.
    """
    if asked is not None:
        check_device(asked)
        if asked != "cuda":
            return asked
    return _own_gpu() if torch.cuda.is_available() else "cpu"


def _own_gpu() -> str:
    """The GPU with the number of this rank; the only one that the process sees, as a launcher may show each its own.

    Raises:
        RecipeError: There are more ranks than GPUs.
    """
    rank, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= num_gpus > 1:
        what = f"rank {rank}, counted from 0, sees {num_gpus} GPUs"
        raise RecipeError("torchrun", what, "Start as many ranks on a machine as it has GPUs, or give --device cpu")
    return "cuda:0" if num_gpus == 1 else f"cuda:{rank}"


def device_of_worker(gpu_ids: Sequence[str]) -> str:
    """The first GPU that Ray gave to this worker, by its number in this process, which is made current; else the CPU.

    A process may see other GPUs as well: one without any of its own sees all of its node (ray#54928), and workers of
    one group see those of the group.

    Args:
        gpu_ids: The GPUs from Ray, as its variable CUDA_VISIBLE_DEVICES names them.

    Raises:
        SearchError: Torch does not see the GPU: on the CPU training would be many times slower.
    """
    if not gpu_ids:
        return "cpu"
    if not torch.cuda.is_available():
        raise SearchError(
            "a worker",
            "has a GPU from Ray, but its torch sees none",
            "Install the build of torch for its driver, or train on CPUs: --gpus-per-worker 0",
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    num_gpus = torch.cuda.device_count()
    names = [str(number) for number in range(num_gpus)] if visible is None else visible.replace(" ", "").split(",")
    if gpu_ids[0] not in names[:num_gpus]:
        raise SearchError(
            "a worker",
            f"has GPU {gpu_ids[0]} from Ray, but its torch sees {num_gpus} GPUs, with CUDA_VISIBLE_DEVICES={visible}",
            "Leave CUDA_VISIBLE_DEVICES of workers to Ray",
        )
    device = f"cuda:{names.index(gpu_ids[0])}"
    torch.cuda.set_device(device)
    return device


def check_device(name: str) -> None:
    """Refuse a device that ferray or torch does not know, or that this process does not see.

    Raises:
        RecipeError: There is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"--device {name}", "no such device", "Name cpu, cuda, or cuda:1 and so on") from error
    if device.type not in ("cpu", "cuda"):
        raise RecipeError(f"--device {name}", "ferray does not train there", "Name cpu, cuda, or cuda:1 and so on")
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        what = f"this process sees {num_gpus} GPUs" + ("" if visible is None else f", CUDA_VISIBLE_DEVICES={visible}")
        raise RecipeError(f"--device {name}", what, "Name one of them, counted from cuda:0, or cpu")


def set_threads(num: int | None) -> int:
    """Let one operator of torch use this many threads of the CPU, in the whole process; None leaves it as it is.

    Returns:
        The number of threads.
    """
    if num is not None:
        torch.set_num_threads(num)
    return torch.get_num_threads()


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
