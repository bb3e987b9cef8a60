"""Promise of every command: help and usage errors come at once, without the heavy libraries."""

import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from ferray import __main__ as top

FERRAY = Path(__file__).resolve().parents[2] / "ferray"
COMMANDS = sorted(file.parent.name for file in FERRAY.glob("*/__main__.py"))
HEAVY = {"torch", "torchvision", "ray", "wandb", "albumentations", "optuna", "pandas", "pyarrow", "matplotlib", "scipy"}


@cache
def loaded_by(*words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command, once for all tests, and see which top-level packages it imports."""
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


SCRIPT = "import sys; sys.argv[0] = '/usr/bin/ferray'; from ferray.__main__ import main; sys.exit(main())"
"""What the console script `ferray` does."""


@cache
def as_script(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_command_as_it_was_typed(command: str) -> None:
    text = as_script(command, "--help")
    assert text.startswith(f"usage: ferray {command} ")
    assert f"\n  ferray {command} " in text, "its examples"
    assert "python -m" not in text
    done, _ = loaded_by(f"ferray.{command}", "--help")
    assert done.stdout.startswith(f"usage: python -m ferray.{command} ")


def test_the_help_at_the_top_names_every_command_and_its_own() -> None:
    lines = as_script("--help").splitlines()
    assert lines[0] == "usage: ferray COMMAND ..."
    assert f"complete -o default -W '{' '.join(top.COMMANDS)}' ferray" in lines[-1]
    assert sorted(top.COMMANDS) == COMMANDS
    for command in COMMANDS:
        (at,) = (number for number, line in enumerate(lines) if line.split()[:1] == [command])
        _, _, own = lines[at + 1].partition("its commands: ")
        help_text = as_script(command, "--help")
        assert all(re.search(rf"^    {name} ", help_text, re.MULTILINE) for name in own.split(", ") if own)
        assert bool(own) == ("COMMAND" in help_text.partition("\n\n")[0])


def test_the_version_is_that_of_the_package() -> None:
    assert as_script("--version") == f"ferray {version('ferray')}\n"


def test_the_package_has_its_version_and_imports_nothing_heavy_for_it() -> None:
    code = "import sys, ferray; print(ferray.__version__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    found, *modules = done.stdout.split()

    assert found == version("ferray")
    assert not set(modules) & HEAVY
    assert {name for name in modules if name.split(".")[0] == "ferray"} == {"ferray", "ferray.fit", "ferray.search"}
