"""Whole searches, as a user runs them, for tests that start, kill and resume them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ferray.data.store import Store
from ferray.records import Run, TrialRecord

LONG_EPOCHS = 150
LONG_GRID = f"""\
method: grid
metric: {{name: val_accuracy, goal: maximize}}
parameters:
  learning_rate: {{values: [0.001, 0.0001, 0.00001]}}
  dropout: {{values: [0.0, 0.5]}}
  epochs: {{value: {LONG_EPOCHS}}}
  batch_size: {{value: 16}}
"""
"""Six trials that are long enough to be met in their middle."""


class Searches:
    """Runs `python -m ferray.search` in a folder."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "ferray.search", "--out", str(self.folder / "runs"), *options]

    def start(self, space: str, name: str, *options: str) -> "subprocess.Popen[str]":
        file = self.folder / f"{name}.yaml"
        file.write_text(space)
        asked = self.command(
            "--space", str(file), "--name", name, "--data", str(self.store.folder), "--weights", "none"
        )
        return self.begin([*asked, *options])

    def begin(self, asked: list[str]) -> "subprocess.Popen[str]":
        pipe, environment = subprocess.PIPE, os.environ | {"PYTHONFAULTHANDLER": "1"}  # a crash says where
        return subprocess.Popen(
            asked, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def run(self, space: str, name: str, *options: str) -> Run:
        finish(self.start(space, name, *options))
        return Run(self.folder / "runs" / name)

    def resume(self, name: str, *options: str) -> tuple[str, str]:
        return finish(self.begin(self.command("--resume", name, *options)))


def finish(process: "subprocess.Popen[str]", *, code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=280)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code, err[-3000:]
    return out, err


def wait_for_line(process: "subprocess.Popen[str]", pattern: str) -> None:
    """Read the log until a line matches."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(pattern, line):
            return
    raise AssertionError(f"the search ended without {pattern!r}")


def kill(process: "subprocess.Popen[str]") -> None:
    """The driver dies at once; Ray and its workers, whose parent it is, with it."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # not read to its end: Ray's processes hold it open for some seconds more
    process.stderr.close()


def table(run: Run) -> dict[str, Any]:
    """What a trial came to, without times."""
    return {record.trial_id: (record.number, record.state, numbers(record)) for record in run.read_trials()}


def numbers(record: TrialRecord) -> list[tuple[Any, ...]]:
    return [(row.epoch, row.train_loss, row.val_loss, row.val_accuracy, row.val_macro_f1) for row in record.epochs]


@contextmanager
def threads_of(record: TrialRecord) -> Iterator[None]:
    """As many threads as a trial was trained with, as `OMP_NUM_THREADS` would: sums are rounded as they are split."""
    found = re.fullmatch(r"cpu, (\d+) threads", record.device)
    assert found is not None
    before = torch.get_num_threads()
    torch.set_num_threads(int(found[1]))
    try:
        yield
    finally:
        torch.set_num_threads(before)
