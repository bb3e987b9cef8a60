"""A process trains on the GPU that is its own, by the number that it has in this process."""

import pytest
import torch
from fixtures.pretended import PretendedGpu

from ferray.errors import RecipeError, SearchError
from ferray.search.fleet.worker import choose_device as choose_in_worker
from ferray.train.device import check_device, choose_device, torchrun_ranks


@pytest.mark.parametrize(
    "given, visible, seen, device",
    [
        (["0"], "0", 1, "cuda:0"),
        (["3"], "3", 1, "cuda:0"),  # the fourth GPU of a node is the first that its worker sees
        (["3"], "2,3", 2, "cuda:1"),  # the second worker of a group sees the GPUs of both
        (["2"], "2,3", 2, "cuda:0"),
        (["1", "0"], "1,0", 2, "cuda:0"),
        (["1"], None, 2, "cuda:1"),  # RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES
        (["GPU-b"], "GPU-a, GPU-b", 2, "cuda:1"),
        ([], None, 2, "cpu"),  # without a GPU of its own a worker sees those of others
        ([], "", 0, "cpu"),
    ],
)
def test_a_worker_trains_on_the_gpu_that_ray_gave_it_and_on_no_other(
    given: list[str], visible: str | None, seen: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with PretendedGpu(count=seen):
        current: list[object] = []
        monkeypatch.setattr(torch.cuda, "set_device", current.append)

        assert choose_in_worker(given) == device
        assert current == ([] if device == "cpu" else [device])


@pytest.mark.parametrize("given, visible, seen", [("1", "0", 1), ("1", "0,1", 1), ("GPU-a", None, 1)])
def test_a_worker_whose_gpu_is_hidden_from_it_takes_no_other_one(
    given: str, visible: str | None, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with (
        PretendedGpu(count=seen),
        pytest.raises(SearchError, match=f"(?s)has GPU {given} from Ray.*Leave CUDA_VISIBLE"),
    ):
        choose_in_worker([given])


@pytest.mark.parametrize(
    "asked, rank, seen, device",
    [
        (None, None, 0, "cpu"),
        (None, None, 1, "cuda:0"),
        (None, "1", 2, "cuda:1"),
        (None, "1", 1, "cuda:0"),  # a launcher that shows each rank its own GPU
        ("cuda", "1", 2, "cuda:1"),
        ("cuda", None, 2, "cuda:0"),
        ("cuda:1", "0", 2, "cuda:1"),
        ("cpu", None, 2, "cpu"),
    ],
)
def test_a_command_takes_the_gpu_of_its_rank(
    asked: str | None, rank: str | None, seen: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    with PretendedGpu(count=seen):
        assert choose_device(asked) == device
        with torchrun_ranks(choose_device(asked)) as ranks:
            assert ranks.world == 1


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with PretendedGpu(count=2), pytest.raises(RecipeError, match=r"rank 2, counted from 0, sees 2 GPUs"):
        choose_device(None)


@pytest.mark.parametrize(
    "name, words", [("cuda:1", "sees 1 GPUs, CUDA_VISIBLE_DEVICES=5"), ("meta", "not train there")]
)
def test_a_device_that_the_process_does_not_see_is_refused_by_name(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with PretendedGpu(count=1), pytest.raises(RecipeError, match=f"--device {name}.*{words}"):
        check_device(name)


def test_a_process_that_sees_one_gpu_can_use_no_second() -> None:
    with PretendedGpu(count=1), pytest.raises(BaseException, match="cuda:1 is an invalid device ordinal"):
        torch.zeros(1, device="cuda:1")
