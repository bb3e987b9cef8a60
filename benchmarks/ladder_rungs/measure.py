"""What commands and all their descendants take: wall time, CPU seconds, peak memory. Linux; elsewhere no memory.

Ray's daemons outlive whoever started them for a moment, and its raylet lets the kernel drop its children's times. So
the tree is sampled in /proc, orphans are adopted and waited for, and the larger of the two sums of CPU seconds counts.

Begin at `run_measured`.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SAMPLE_EVERY_S = 0.25
MEMORY_EVERY_S = 1.0
MEMORY_SHARE = 0.01
"""Of the time, spent on adding up pages: for all of Ray's processes that takes a tenth of a second of a core."""
LEAVE_S = 15.0
"""How long descendants may stay after their command has ended; then they are killed."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What some commands, one after the other, took."""

    begun: float
    """By `time.time`."""
    seconds: float
    """From the first command's start to the last one's end."""
    cpu_s: float
    """User and system time of all descendants."""
    peak_bytes: int | None
    """Largest sum of PSS, or of RSS where PSS cannot be read; None where there is no /proc."""
    returncode: int
    """Of the first command that failed; no later one is run."""


def run_measured(
    commands: Sequence[Sequence[str]], *, environment: Mapping[str, str], folder: Path, log: Path, limit_s: float
) -> Usage:
    """Run commands one after the other.

    Args:
        commands: Programs with their arguments.
        environment: All variables.
        folder: Where they run.
        log: File for what they print.
        limit_s: Seconds for all of them; what runs on is killed, and its return code is -9.
    """
    if PROC.is_dir() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become children of this process
    before, begun, returncode = _children_cpu_s(), time.time(), 0
    started = time.perf_counter()
    with Sampler() as sampler, log.open("ab") as output:
        for command in commands:
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
            try:
                returncode = process.wait(max(1.0, limit_s - (time.perf_counter() - started)))
            except subprocess.TimeoutExpired:
                sampler.kill()
                returncode = process.wait()
            except BaseException:  # Ctrl-C, or the SIGTERM that the ladder turns into an exit
                sampler.kill()
                process.wait()
                raise
            if returncode:
                break
        seconds = time.perf_counter() - started
        _wait_for_the_rest(sampler)
    cpu_s = max(_children_cpu_s() - before, sampler.cpu_s)
    return Usage(begun=begun, seconds=seconds, cpu_s=cpu_s, peak_bytes=sampler.peak_bytes, returncode=returncode)


class Sampler:
    """A thread that follows the descendants of this process while the block runs."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._cpu_s: dict[tuple[int, int], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        """CPU seconds that were seen; what a process did after its last sample is missing."""
        return sum(self._cpu_s.values())

    def kill(self) -> None:
        """End all descendants."""
        for pid, _ in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _follow(self) -> None:
        next_memory = 0.0
        while not self._stop.wait(SAMPLE_EVERY_S):
            tree = descendants(os.getpid())
            self._cpu_s |= tree
            begun = time.monotonic()
            if begun >= next_memory and tree:
                memory = sum(_memory_bytes(pid) for pid, _ in tree)
                self.peak_bytes = max(self.peak_bytes or 0, memory)
                ended = time.monotonic()
                next_memory = ended + max(MEMORY_EVERY_S, (ended - begun) / MEMORY_SHARE)


def descendants(root: int) -> dict[tuple[int, int], float]:
    """CPU seconds of every process below one, by its id and its time of birth; none where there is no /proc."""
    rows = {}
    for entry in PROC.glob("[0-9]*"):
        row = _stat(int(entry.name))
        if row is not None:
            rows[int(entry.name)] = row
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in rows.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = {}, list(children.get(root, []))
    while waiting:
        pid = waiting.pop()
        _, born, cpu_s = rows[pid]
        found[pid, born] = cpu_s
        waiting += children.get(pid, [])
    return found


def _stat(pid: int) -> tuple[int, int, float] | None:
    """Parent, time of birth in ticks and CPU seconds of a process; None if it is gone or has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0] == "Z":
        return None
    return int(fields[1]), int(fields[19]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_bytes(pid: int) -> int:
    """PSS, which divides shared pages among those who share them; RSS where it cannot be read."""
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_the_rest(sampler: Sampler) -> None:
    """Adopt and wait for what the commands left behind, so that the next rung has the machine for itself."""
    until = time.monotonic() + LEAVE_S
    killed = False
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > until and not killed:
                sampler.kill()
                killed = True
            time.sleep(0.05)


def usable_cpus() -> int:
    """Cores that this process may use, by its affinity and its control group."""
    try:
        cpus = len(os.sched_getaffinity(0))
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    except (AttributeError, OSError, ValueError):
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
