"""Kills a search, at a write of a certain file or after a certain time, from inside its own processes.

Python runs this in every process whose path has this folder, Ray's workers among them. `DEATH_PLAN` is a folder:

    plan.json     {"file": "record.json", "step": "half", "nth": 3, "all": true} or {"after_s": 4.2, "all": false}
    driver        the process id of the driver, whose group dies with it
    epochs        a line for each epoch that was trained, by the first checkpoint that held it: trial, epoch, process
    struck        what was done; written right before
    turn          of which death the driver is; its processes have the number in `DEATH_TURN`

Steps: `half`, the new content is written but not on the disk (of a journal, the line lacks its end); `unnamed`, it is
on the disk under its temporary name; `named`, right after it got its name.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["DEATH_PLAN"]) if "DEATH_PLAN" in os.environ else None


def install(folder: Path) -> None:
    """Stand in the way of the calls that files are written with."""
    plan = json.loads((folder / "plan.json").read_text())
    if "ferray.search" in sys.orig_argv:
        (folder / "driver").write_text(str(os.getpid()))
        if "after_s" in plan:
            timer = threading.Timer(plan["after_s"], lambda: strike(folder, plan, "time"))
            timer.daemon = True
            timer.start()
    seen = [0]

    def is_it(path: str, step: str) -> bool:
        if plan.get("step") != step or plan["file"] != name_of(path):
            return False
        seen[0] += 1
        return seen[0] == plan["nth"]

    fsync, replace, rename = os.fsync, os.replace, os.rename

    def watched_fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if is_it(path, "half"):
            if path.endswith(".jsonl"):
                os.truncate(path, os.stat(path).st_size - 7)
            strike(folder, plan, f"half {path}")
        fsync(file)

    def watched(move: Any) -> Any:
        def moved(source: Any, target: Any, **options: Any) -> None:
            if is_it(str(target), "unnamed"):
                strike(folder, plan, f"unnamed {target}")
            new = new_epochs(Path(source), Path(target)) if str(target).endswith("/last.safetensors") else []
            move(source, target, **options)
            with (folder / "epochs").open("a") as file:
                file.writelines(f"{trial} {epoch} {os.getpid()}\n" for trial, epoch in new)
            if is_it(str(target), "named"):
                strike(folder, plan, f"named {target}")

        return moved

    os.fsync, os.replace, os.rename = watched_fsync, watched(replace), watched(rename)


def name_of(path: str) -> str:
    """The name that a file has or is to have; shards of a view have numbers."""
    name = Path(path).name
    if name.startswith(".") and name.endswith(".partial"):
        name = name[1:].rsplit(".", 2)[0]
    return "shard" if name.removesuffix(".json").isdigit() else name


def new_epochs(file: Path, before: Path) -> list[tuple[str, int]]:
    """Trial and epoch of all that a checkpoint holds and the one that it replaces does not, to the time they took."""
    trial, rows = epochs_of(file)
    known = epochs_of(before)[1] if before.exists() else []
    return [(trial, row["epoch"]) for row in rows if row not in known]


def epochs_of(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """Of which trial a checkpoint is, and the epochs that it holds."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ferray"].partition(" ")[2])
    return facts["trial_id"], facts["epochs"]


def strike(folder: Path, plan: dict[str, Any], how: str) -> None:
    """Kill the driver and its group; and, as a power failure would, all of this turn.

    What is left of an earlier turn has its own plan, and must not strike the driver of a later one.
    """
    turn = os.environ.get("DEATH_TURN", "")
    if (folder / "turn").read_text() != turn:
        return
    (folder / "struck").write_text(how)
    driver = int((folder / "driver").read_text())
    os.killpg(driver, signal.SIGKILL)
    if plan["all"]:
        mark = f"DEATH_TURN={turn}\0".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    if mark in (process / "environ").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)
                except OSError:
                    continue
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


if FOLDER is not None and (FOLDER / "plan.json").exists():
    install(FOLDER)
