"""Trains a small run, killed at every write step of its checkpoints in turn; started by test_checkpoint_kills.py.

    checkpoint_kills.py FOLDER     leaves FOLDER/whole, the undisturbed run, FOLDER/N, killed at step N and run again,
                                   and FOLDER/killed.json: what each N was killed at

Every run is a process of its own, forked from this one, which has torch loaded and has trained nothing: a fork of a
process that has would hang.
"""

import dataclasses
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fixtures.train import SmallStore, small_backbone, small_recipe, small_weights

from ferray.model.backbones import BACKBONES
from ferray.train import interruption
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit
from ferray.train.interruption import Interrupted

RECIPE = small_recipe(epochs=2, freeze="blocks1-4", monitor="val_loss", learning_rate=0.01, mixup_alpha=0.4)
INTERRUPTED_AFTER = 4
"""Steps: in the middle of the second of two epochs."""


class KillAtStep:
    """Kills this process at one of its write steps.

    Args:
        step_number: Which one, counted from 0.
        folder: Only writes in it count.
        note: File for the name of the step.
    """

    def __init__(self, step_number: int, folder: Path, note: Path) -> None:
        self._step_number, self._folder, self._note = step_number, str(folder), note
        self._num_passed = 0

    def is_planned(self, step: str) -> bool:
        self._num_passed += 1
        if self._num_passed != self._step_number + 1:
            return False
        self._note.write_text(step)
        return True

    def kill_if_planned(self, step: str) -> None:
        if self.is_planned(step):
            kill_self()

    def watch_every_step(self) -> None:
        """Wrap every call by which `ferray.files.storage` writes."""
        for name in ("replace", "link", "unlink"):
            setattr(os, name, self._around(name, getattr(os, name)))
        make, sync = tempfile.NamedTemporaryFile, os.fsync

        def named(*given: Any, **more: Any) -> Any:
            if str(more.get("dir", "")).startswith(self._folder):
                self.kill_if_planned(f"before {more['prefix']} is there")
            return make(*given, **more)

        def fsync(descriptor: int) -> None:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if name.startswith(self._folder):
                if self.is_planned(f"{Path(name).name[:10]} half written"):
                    os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
                    kill_self()
                self.kill_if_planned(f"{Path(name).name[:10]} written")
            sync(descriptor)

        tempfile.NamedTemporaryFile, os.fsync = named, fsync  # type: ignore[assignment, misc]

    def _around(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(path: Any, *given: Any, **more: Any) -> Any:
            if not os.fspath(path).startswith(self._folder) or not os.path.lexists(path):
                return act(path, *given, **more)
            call = " ".join([name, *(Path(one).name[:25] for one in (path, *given))])
            self.kill_if_planned(f"before {call}")
            done = act(path, *given, **more)
            self.kill_if_planned(f"after {call}")
            return done

        return acted


def kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def in_a_process(function: Callable[[], None]) -> int:
    """Call a function in a process of its own; returns the status of `os.waitpid`: 0, or 9 if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it must end here
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def train(folder: Path, *, interrupted: bool = False) -> None:
    """Train to the end; write the epochs to a file."""
    num_calls = itertools.count()

    def is_interrupted() -> bool:
        return interrupted and next(num_calls) >= INTERRUPTED_AFTER

    rows = fit(
        RECIPE,
        SmallStore(),
        small_weights(),
        checkpointing=Checkpointing(folder, recorded_epochs=0),
        is_interrupted=is_interrupted,
    )
    try:
        found = [dataclasses.asdict(dataclasses.replace(row, images_per_s=0.0, seconds=0.0)) for row in rows]
    except Interrupted:
        rows = fit(RECIPE, SmallStore(), small_weights(), checkpointing=Checkpointing(folder, recorded_epochs=0))  # type: ignore[arg-type]
        found = [dataclasses.asdict(dataclasses.replace(row, images_per_s=0.0, seconds=0.0)) for row in rows]
    folder.with_suffix(".json").write_text(json.dumps(found))


def main(folder: Path) -> int:
    """Kill one run after the other, each one step later, until a run ends before its step."""
    import torch._dynamo

    torch.set_num_threads(1)
    interruption.POLL_INTERVAL_S = 0.0
    BACKBONES["vgg16"] = small_backbone()
    assert in_a_process(lambda: train(folder / "whole")) == 0
    killed = []
    for at in itertools.count():
        place, note = folder / str(at), folder / "note"

        def run_and_be_killed(at: int = at, place: Path = place, note: Path = note) -> None:
            KillAtStep(at, place, note).watch_every_step()
            train(place, interrupted=True)

        status = in_a_process(run_and_be_killed)
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        killed.append(note.read_text())
        assert in_a_process(lambda place=place: train(place)) == 0  # type: ignore[misc]
    (folder / "killed.json").write_text(json.dumps(killed))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
