"""Kills a search, at a write of a given file or after a given time, from inside its own processes.

Python imports this in every process that has this folder in its path, Ray's workers included. `KILL_PLAN` is a folder:

    plan.json     {"file": "record.json", "step": "half", "nth": 3, "all": true} or {"after_s": 4.2, "all": false}
    driver        the process id of the driver, which is killed with its process group
    epochs        a line for each epoch that was trained, by the first checkpoint that held it: trial, epoch, process
    killed        what the search was killed at; written right before
    turn          the number of the present driver among all that are killed; its processes have it in `KILL_TURN`

Steps: `half`, the new content is written but not synchronized (the last line of a journal lacks its end); `unnamed`, it
is synchronized under a temporary name; `named`, right after it was renamed.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["KILL_PLAN"]) if "KILL_PLAN" in os.environ else None


def install(folder: Path) -> None:
    """Wrap the calls by which files are written."""
    plan = json.loads((folder / "plan.json").read_text())
    if "ferray.search" in sys.orig_argv:
        (folder / "driver").write_text(str(os.getpid()))
        if "after_s" in plan:
            timer = threading.Timer(plan["after_s"], lambda: kill_search(folder, plan, "time"))
            timer.daemon = True
            timer.start()
    num_seen = [0]

    def is_planned(path: str, step: str) -> bool:
        if plan.get("step") != step or plan["file"] != name_of(path):
            return False
        num_seen[0] += 1
        return num_seen[0] == plan["nth"]

    fsync, replace, rename = os.fsync, os.replace, os.rename

    def watched_fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if is_planned(path, "half"):
            if path.endswith(".jsonl"):
                os.truncate(path, os.stat(path).st_size - 7)
            kill_search(folder, plan, f"half {path}")
        fsync(file)

    def watched(move: Any) -> Any:
        def moved(source: Any, target: Any, **options: Any) -> None:
            if is_planned(str(target), "unnamed"):
                kill_search(folder, plan, f"unnamed {target}")
            new = new_epochs(Path(source), Path(target)) if str(target).endswith("/last.safetensors") else []
            move(source, target, **options)
            with (folder / "epochs").open("a") as file:
                file.writelines(f"{trial} {epoch} {os.getpid()}\n" for trial, epoch in new)
            if is_planned(str(target), "named"):
                kill_search(folder, plan, f"named {target}")

        return moved

    os.fsync, os.replace, os.rename = watched_fsync, watched(replace), watched(rename)


def name_of(path: str) -> str:
    """The name that a file has, or will be renamed to; the shards of a view are all called `shard`."""
    name = Path(path).name
    if name.startswith(".") and name.endswith(".partial"):
        name = name[1:].rsplit(".", 2)[0]
    return "shard" if name.removesuffix(".json").isdigit() else name


def new_epochs(file: Path, before: Path) -> list[tuple[str, int]]:
    """Trial and epoch of what a checkpoint holds and the one that it replaces does not; the times of epochs count."""
    trial, rows = epochs_of(file)
    known = epochs_of(before)[1] if before.exists() else []
    return [(trial, row["epoch"]) for row in rows if row not in known]


def epochs_of(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """The trial of a checkpoint, and the epochs that it holds."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ferray"].partition(" ")[2])
    return facts["trial_id"], facts["epochs"]


def kill_search(folder: Path, plan: dict[str, Any], how: str) -> None:
    """Kill the driver and its process group; with `all`, every process of this turn, as a power failure would.

    A process that is left of an earlier turn must not kill the driver of a later one.
    """
    turn = os.environ.get("KILL_TURN", "")
    if (folder / "turn").read_text() != turn:
        return
    (folder / "killed").write_text(how)
    driver = int((folder / "driver").read_text())
    os.killpg(driver, signal.SIGKILL)
    if plan["all"]:
        mark = f"KILL_TURN={turn}\0".encode()
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
