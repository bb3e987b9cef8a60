"""A run that is killed at any write step of a checkpoint and run again ends with the bits of one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.train import same_tensors
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("checkpoint_kills.py")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(1500)  # a limit for hangs: on a busy machine some 50 processes take minutes to start
FILES = ["best.safetensors", "last.safetensors", "last.safetensors.previous"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the killed runs left when they were run again."""
    folder = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "NO_ALBUMENTATIONS_UPDATE": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def killed_at(folder: Path) -> list[str]:
    steps: list[str] = json.loads((folder / "killed.json").read_text())
    return steps


def test_a_run_killed_at_any_write_step_ends_with_the_same_bits(folder: Path) -> None:
    whole = {name: load_file(folder / "whole" / name) for name in FILES[:2]}
    rows = json.loads((folder / "whole.json").read_text())
    assert len(rows) == 2

    for number, step in enumerate(killed_at(folder)):
        place = f"killed at write step {number}, {step}"
        assert json.loads((folder / f"{number}.json").read_text()) == rows, place
        for name, tensors in whole.items():
            assert same_tensors(load_file(folder / str(number) / name), tensors), place


def test_a_killed_run_leaves_no_file_behind_when_it_is_run_again(folder: Path) -> None:
    for number, step in enumerate(killed_at(folder)):
        left = sorted(file.name for file in (folder / str(number)).iterdir())
        assert left == FILES, f"killed at write step {number}, {step}"


def test_every_write_step_was_killed_at(folder: Path) -> None:
    steps = killed_at(folder)
    for name, times in (("best", 2), ("last", 3)):  # two epochs, and one that was interrupted
        for begin in (f"before .{name}.", f".{name}.safe half", f".{name}.safe written"):
            assert sum(step.startswith(begin) for step in steps) == times
        for begin in (f"before replace .{name}.safetensors.", f"after replace .{name}.safetensors."):
            assert sum(step.startswith(begin) and "link" not in step for step in steps) == times
    for begin in (
        "before link last",
        "after link last",
        "before replace .last.safetensors.link",
        "after replace .last.safetensors.link",
    ):
        assert sum(step.startswith(begin) for step in steps) == 2, "all but the first have one before them"
    assert len(steps) == 5 * 5 + 2 * 4
