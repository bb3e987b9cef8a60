"""Promise of every command: help and usage errors come at once, without the heavy libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

FERRAY = Path(__file__).resolve().parents[2] / "ferray"
COMMANDS = sorted(file.parent.name for file in FERRAY.glob("*/__main__.py"))
HEAVY = {"torch", "torchvision", "ray", "wandb", "albumentations", "optuna", "pandas", "pyarrow", "matplotlib", "scipy"}


def loaded_by(*words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command and see which top-level packages it imports."""
    asked = [sys.executable, "-X", "importtime", "-m", *words]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, cwd=FERRAY.parent)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done, {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("command", ["ferray", *(f"ferray.{command}" for command in COMMANDS)])
def test_help_is_there_and_loads_no_heavy_library(command: str) -> None:
    done, loaded = loaded_by(command, "--help")

    assert done.returncode == 0
    assert "usage: " in done.stdout
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_to_copy(command: str) -> None:
    done, _ = loaded_by(f"ferray.{command}", "--help")

    assert f"python -m ferray.{command}" in done.stdout


def test_a_dry_run_loads_no_heavy_library() -> None:
    done, loaded = loaded_by("ferray.search", "--space", "grid", "--dry-run")

    assert done.returncode == 0, done.stderr[-2000:]
    assert "24" in done.stdout
    assert not loaded & HEAVY


@pytest.mark.parametrize("options", [("--space", "gird"), ("--set", "learning_rte=1"), ("--no-such-option",)])
def test_a_usage_error_exits_with_2_and_loads_no_heavy_library(options: tuple[str, ...]) -> None:
    done, loaded = loaded_by("ferray.search", *options)

    assert done.returncode == 2, done.stderr[-2000:]
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "words", [("check",), ("check", "no-such-folder"), ("check", "--images", "x"), ("check", "--x")]
)
def test_a_check_of_nothing_exits_with_2_and_loads_no_heavy_library(words: tuple[str, ...]) -> None:
    done, loaded = loaded_by("ferray.data", *words)

    assert done.returncode == 2, done.stderr[-2000:]
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not loaded & HEAVY
