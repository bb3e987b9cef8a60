"""Output that cannot be written ends no work, and loses nothing silently."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ferray.commands.common import run_command
from ferray.commands.train import main as train
from ferray.data.store.reader import Store

DRY_RUN = [sys.executable, "-m", "ferray.search", "--space", "grid", "--dry-run"]
HELP = [sys.executable, "-m", "ferray.data", "prepare", "expw", "--help"]


def without_reader() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("command", [DRY_RUN, HELP, [sys.executable, "-m", "ferray"]], ids=["plan", "help", "usage"])
def test_a_reader_that_leaves_is_no_error(command: list[str]) -> None:
    writing = without_reader()
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2 if command[-1] == "ferray" else 0, "")


@pytest.mark.parametrize("command", [DRY_RUN, HELP], ids=["plan", "help"])
def test_a_full_disk_under_the_output_is_named_without_a_traceback(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: stdout: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_command_without_output_or_messages_does_its_work() -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(["bash", "-c", f'"$@" {closed}', "bash", *DRY_RUN], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_characters_that_a_terminal_lacks_are_written_as_escapes() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run([*DRY_RUN, "--name", "表情"], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"search    \u8868\u60c5: grid" in done.stdout


def fail_on_full_disk() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_of_the_system_without_a_file_name_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_on_full_disk) == 2
    assert capsys.readouterr().err.startswith("error: the system: No space left on device\n  ")


@pytest.mark.parametrize("place, code", [("a pipe", 0), ("/dev/full", 1)])
def test_training_goes_on_when_its_output_cannot_be_written(
    place: str, code: int, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"epochs": 4, "batch_size": 16, "weights": "none", "image_size": 32}))
    asked = ["--recipe", str(recipe), "--data", str(tiny_store.folder), "--out", str(tmp_path / "out")]
    output = open(without_reader() if place == "a pipe" else place, "w")  # noqa: SIM115 -- flushed when it is closed
    monkeypatch.setattr(sys, "stdout", output)
    assert train([*asked, "--device", "cpu"]) == code
    output.close()
    assert (tmp_path / "out" / "best" / "model.safetensors").exists()


@pytest.mark.parametrize("options, variable", [(("-W", "error"), None), ((), "error"), ((), "ignore,err::UserWarning")])
def test_a_warning_of_a_library_ends_no_command_and_none_of_its_processes(
    options: tuple[str, ...], variable: str | None
) -> None:
    code = (
        "import os, subprocess, sys, warnings; from ferray.commands.common import run_command; "
        "warn = 'import warnings; warnings.warn(str(1), UserWarning)'; "
        "sys.exit(run_command(lambda: exec(warn) or subprocess.run([sys.executable, '-c', warn]).returncode))"
    )
    environment = {**os.environ, **({} if variable is None else {"PYTHONWARNINGS": variable})}
    done = subprocess.run([sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_backend_that_matplotlib_does_not_know_keeps_no_command_from_drawing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ferray.commands.common import run_command\n"
        "from ferray.report.figure import open_figure\n"
        f"def draw():\n    with open_figure(Path({str(tmp_path / 'a.png')!r})):\n        return 0\n"
        "sys.exit(run_command(draw))"
    )
    environment = {**os.environ, "MPLBACKEND": "qt4agg"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size
