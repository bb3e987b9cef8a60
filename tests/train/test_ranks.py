"""Two ranks that train together have the numbers of one, and none waits for a rank that failed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ferray.train.ranks import ALONE, Ranks, current_ranks, sum_gradients

SCRIPT = Path(__file__).with_name("two_ranks.py")
ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "head",
    "block5",
    "all",
    "batches of one",
    "a last batch of one",
    "mixed features",
    "mixed pictures",
    "balanced sampling",
    "standardized",
    "a fold",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script of one rank, for its recipes."""
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "NO_ALBUMENTATIONS_UPDATE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_nothing_holds_a_group_that_has_ended(found: list[dict[str, Any]]) -> None:
    assert [each["holders of the group"] for each in found] == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_give_the_numbers_of_one_up_to_rounding(
    name: str, found: list[dict[str, Any]], script: ModuleType, small_rows: None
) -> None:
    assert set(NAMES) == set(script.RECIPES)
    alone = script.train(name)
    first, second = (each["trained"][name] for each in found)

    assert first == second
    assert len(first) == len(alone)
    for together, one in zip(first, alone, strict=True):
        assert together == pytest.approx(one, rel=2e-4, abs=1e-5)


def test_two_ranks_continue_from_rank_0s_checkpoint_with_the_same_bits(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["resumed"] == each["trained"]["block5"][1:]


def test_two_ranks_interrupted_at_the_same_step_continue_with_the_same_bits(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert len(each["interrupted"]) == 10
        for name, rows in each["interrupted"].items():
            assert rows == each["trained"][name.split(" after ")[0]], name


def test_two_ranks_share_checkpoints_for_short_epochs_alike(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["waited"] == each["trained"]["head"]
        assert each["waited and interrupted"] == each["trained"]["head"]
        assert each["waited and diverged"] == [1, 2]
        assert each["diverged and continued"] == each["trained"]["head"]
        assert each["diverged"].startswith("DivergedError: diverged in epoch 3, training, step 1 of 3: the loss is nan")


def test_computing_features_ends_if_any_rank_is_interrupted(found: list[dict[str, Any]]) -> None:
    assert [each["features left"] for each in found] == ["epoch 1 after 0 steps"] * 2


def test_all_ranks_skip_a_damaged_checkpoint_together(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["damaged"] == each["trained"]["block5"][2:], "from the one before"
        assert each["best lost"] == each["trained"]["head"], "from the start"


def test_a_fault_on_one_rank_ends_all(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["of another run"].startswith("CheckpointError: ")
        assert "last.safetensors" in each["of another run"]
        assert each["taken over"].startswith("FencedError: ")
        assert each["unwritable"].startswith("StorageError: ")
    assert [each["alone"] for each in found] == [
        "TrainError: rank 1: failed: KeyError('lost')\n  See that rank's own log",
        "KeyError: 'lost'",
    ]


def test_rank_0s_value_reaches_all(found: list[dict[str, Any]]) -> None:
    assert [each["shared"] for each in found] == [{"from": 0}, {"from": 0}]
    assert [each["ranks"] for each in found] == [[0, 2], [1, 2]]


@given(num_rows=st.integers(0, 300), world=st.integers(1, 12))
def test_the_parts_of_all_ranks_are_the_whole_batch_in_order(num_rows: int, world: int) -> None:
    rows = list(range(num_rows))
    parts = [rows[Ranks(rank, world).own_part(num_rows)] for rank in range(world)]

    assert sum(parts, []) == rows  # noqa: RUF017  a few hundred
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(3)
    ALONE.all_reduce_sum(tensor)
    parameter = torch.nn.Parameter(torch.ones(2))
    sum_gradients([parameter], ALONE)

    assert tensor.tolist() == [1, 1, 1]
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [0, 0]
    assert ALONE.from_first("mine") == "mine"
    assert current_ranks() == ALONE
