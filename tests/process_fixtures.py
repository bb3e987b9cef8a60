"""Processes of a search, found by a mark in their environment, for tests that kill them."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "FAULT_TEST_MARK"
"""A variable that Ray hands on to all its processes."""


def new_mark() -> str:
    """For the environment of one search."""
    return secrets.token_hex(8)


def processes(mark: str, name: str = "") -> dict[int, str]:
    """Living processes of a search whose command line holds a name: id and command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if name in command and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = command
            except OSError:
                continue  # it has ended meanwhile
    return {pid: command for pid, command in found.items() if command}  # a zombie has none


def workers(mark: str) -> list[int]:
    """Ray Train's workers, the oldest first; one that was killed and is not yet gone is none."""
    return sorted(pid for pid in processes(mark, "ray::RayTrainWorker") if _state(pid) != "Z")


def environment(pid: int) -> dict[str, str]:
    """Of a process, as it began."""
    entries = (Path("/proc") / str(pid) / "environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; the process may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_until(ready: Callable[[], bool], *, within_s: float = 250.0) -> None:
    """Look again and again until something is so; a deadline, not a time that is waited."""
    for _ in _turns(within_s):
        if ready():
            return
    raise AssertionError(f"not so within {within_s:g} s")


def _turns(within_s: float) -> Iterator[None]:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
