"""The pretended GPU computes like a CPU and punishes what a GPU would punish."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fixtures.pretended import DeviceFault, PretendedGpu, device_of
from torch import Tensor

HERE = "test_pretended.py"
GPU = torch.device("cuda:0")


def on_gpu(*shape: int) -> Tensor:
    return torch.ones(shape, device=GPU)


def test_its_tensors_say_that_they_are_on_the_gpu_and_so_do_their_views_and_results() -> None:
    with PretendedGpu() as gpu:
        weight = torch.nn.Parameter(on_gpu(3))
        loss = (weight.view(1, 3) * 2).softmax(dim=1).square().sum()
        loss.backward()
        assert weight.grad is not None
        tensors = [weight, loss, weight.grad, torch.zeros_like(weight), weight.detach()[1:]]

        assert [tensor.device for tensor in tensors] == [GPU] * 5
        assert all(tensor.is_cuda for tensor in tensors)
        assert torch.ones(2).device == torch.device("cpu")
    assert not gpu.waits


def test_modules_optimizers_and_clipping_work_on_it_without_a_wait() -> None:
    with PretendedGpu(
        may_wait=[f"{HERE} {test_modules_optimizers_and_clipping_work_on_it_without_a_wait.__name__}"]
    ) as gpu:
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()).to(GPU)
        begun = gpu.waits.total()
        for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
            optimizer = kind(module.parameters(), lr=0.1, fused=True)
            module(on_gpu(2, 3, 5, 5)).sum().backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            optimizer.step()

        assert {parameter.device for parameter in module.parameters()} == {GPU}
        assert gpu.waits.total() == begun
        assert {(one.device, one.dtype) for one in gpu.convolutions} == {(GPU, torch.float32)}


def overwrite_pinned(gpu: PretendedGpu) -> None:
    buffer = torch.zeros(3).pin_memory()
    buffer.to(GPU, non_blocking=True)
    buffer += 1
    gpu._finish_uploads()


FAULTS: dict[str, tuple[str, Callable[[PretendedGpu], object]]] = {
    "two devices": ("on two devices", lambda gpu: on_gpu(3) + torch.ones(3)),
    "two devices in the backward pass": ("on two devices", lambda gpu: backward_of_two_devices()),
    "two GPUs": ("on two devices", lambda gpu: on_gpu(3) @ torch.ones(3, device="cuda:1")),
    "a device that is not seen": ("invalid device ordinal", lambda gpu: torch.ones(3, device="cuda:2")),
    "a number on the CPU where the operation is not elementwise": (
        "on two devices",
        lambda gpu: torch.cat([on_gpu(1), torch.ones(())[None]]),
    ),
    "numpy": ("is no NumPy array", lambda gpu: on_gpu(3).numpy()),
    "asarray": ("is no NumPy array", lambda gpu: np.asarray(on_gpu(3))),
    "item": ("waits", lambda gpu: on_gpu().item()),
    "float": ("waits", lambda gpu: float(on_gpu())),
    "bool": ("waits", lambda gpu: bool(on_gpu() > 0)),
    "tolist": ("waits", lambda gpu: on_gpu(3).tolist()),
    "cpu": ("waits", lambda gpu: on_gpu(3).cpu()),
    "to the CPU": ("waits", lambda gpu: on_gpu(3).to("cpu")),
    "a copy into a tensor on the CPU": ("waits", lambda gpu: torch.zeros(3).copy_(on_gpu(3))),
    "nonzero": ("waits", lambda gpu: on_gpu(3).nonzero()),
    "rows by a mask": ("waits", lambda gpu: on_gpu(3)[on_gpu(3) > 0]),
    "equal": ("waits", lambda gpu: torch.equal(on_gpu(3), on_gpu(3))),
    "synchronize": ("waits", lambda gpu: torch.cuda.synchronize()),
    "a copy to the CPU that does not wait": ("may be read", lambda gpu: on_gpu(3).to("cpu", non_blocking=True)),
    "an upload from pageable memory": ("from pageable", lambda gpu: torch.ones(3).to(GPU, non_blocking=True)),
    "an upload that waits": ("from pinned", lambda gpu: torch.ones(3).pin_memory().to(GPU)),
    "an upload into a tensor": ("from pageable", lambda gpu: on_gpu(3).copy_(torch.ones(3))),
    "a tensor from a list": ("from pageable", lambda gpu: torch.tensor([1.0], device=GPU)),
    "rows by positions on the CPU": ("from pageable", lambda gpu: on_gpu(3)[torch.tensor([0, 2])]),
    "pinned memory that is used again too soon": ("is overwritten", overwrite_pinned),
    "pinning the GPU's memory": ("can be pinned", lambda gpu: on_gpu(3).pin_memory()),
}


def backward_of_two_devices() -> None:
    class Returns(torch.autograd.Function):
        @staticmethod
        def forward(context: object, values: Tensor) -> Tensor:
            return values * 1

        @staticmethod
        def backward(context: object, gradient: Tensor) -> Tensor:
            return torch.ones(3) * gradient

    Returns.apply(on_gpu(3).requires_grad_()).sum().backward()


@pytest.mark.parametrize("words, act", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_of_a_device_is_an_error(words: str, act: Callable[[PretendedGpu], object]) -> None:
    with PretendedGpu(count=2) as gpu, pytest.raises(DeviceFault, match=words):
        act(gpu)


def test_what_cuda_allows_is_no_fault() -> None:
    with PretendedGpu() as gpu:
        results = [
            on_gpu(3) * 2,
            on_gpu(3) + torch.tensor(2.0),
            torch.ones(3).pin_memory().to(GPU, non_blocking=True) + on_gpu(3),
            on_gpu(3).to(torch.float16),
            on_gpu(3)[1:],
            on_gpu(3).fill_(torch.tensor(2.0)),
        ]

        assert {tensor.device for tensor in results} == {GPU}
        assert list(gpu.uploads.values()) == [1]


def test_a_wait_is_allowed_and_counted_where_the_place_is_stated() -> None:
    with PretendedGpu(
        may_wait=[f"{HERE} {test_a_wait_is_allowed_and_counted_where_the_place_is_stated.__name__}"]
    ) as gpu:
        assert on_gpu(2).cpu().numpy().tolist() == [1, 1]
        assert gpu.waits.total() == 1


def test_autocast_lowers_formats_on_the_device_that_it_names_alone() -> None:
    with PretendedGpu() as gpu:
        for kind in ("cuda", "cpu"):
            with torch.autocast(kind, dtype=torch.bfloat16):
                torch.nn.functional.conv2d(on_gpu(1, 1, 3, 3), on_gpu(1, 1, 3, 3))

    assert [one.dtype for one in gpu.convolutions] == [torch.bfloat16, torch.float32]


def test_a_convolution_that_must_rearrange_its_input_is_recorded() -> None:
    with PretendedGpu() as gpu:
        weight = on_gpu(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
        pictures = on_gpu(2, 3, 8, 8)
        for faces in (pictures, pictures.contiguous(memory_format=torch.channels_last)):
            torch.nn.functional.conv2d(faces, weight)

    assert [one.channels_last for one in gpu.convolutions] == [False, True]


def test_nothing_of_it_is_left_afterwards() -> None:
    with PretendedGpu():
        tensor = on_gpu(3)

    assert not torch.cuda.is_available() or torch.cuda.get_device_name() != "a pretended GPU"
    assert tensor.device == torch.device("cpu")
    assert device_of(tensor) == GPU
    assert tensor.tolist() == [1, 1, 1]
