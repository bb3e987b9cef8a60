"""How long does a search take to its first trial, and which processes have worked by then?

    python benchmarks/start_up.py                 # three searches on the demo faces, 4 trials each
    python benchmarks/start_up.py --searches 1

Of each search: seconds until a worker group takes the first trial, until epochs of it are on record, and to the end. Of
the last one also the CPU seconds of every process until the first trial was taken. The first search of a machine draws
the demo faces and fills the cache of features, too: leave it out.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "START_UP_MARK"
TICKS = os.sysconf("SC_CLK_TCK")
LOOK_EVERY_S = 0.1


@dataclass
class Process:
    """What was seen of one."""

    begun_s: float
    name: str = ""
    cpu_s: float = 0.0


def main() -> int:
    """Run the searches one after the other and print a line of each."""
    parser = argparse.ArgumentParser(description="Start-up: time to the first trial")
    parser.add_argument("--searches", type=int, default=3)
    options = parser.parse_args()
    for _ in range(options.searches):
        with tempfile.TemporaryDirectory(prefix="start-") as name:
            taken = search(Path(name))
    for process in sorted(taken.values(), key=lambda one: one.begun_s):
        print(f"{process.begun_s:5.1f} s  {process.cpu_s:5.2f} s of CPU  {process.name}")
    print(f"{sum(process.cpu_s for process in taken.values()):.1f} s of CPU in all")
    return 0


def search(folder: Path) -> dict[int, Process]:
    """One search; its processes as they were when the first trial was taken."""
    mark = secrets.token_hex(8)
    asked = ["--space", "grid", "--max-trials", "4", "--wandb", "disabled", "--name", "some", "--out", str(folder)]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "ferray.search", *asked],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen: dict[int, Process] = {}
    marks: dict[str, float] = {}
    while process.poll() is None:
        if "lease.json" not in marks:
            look(seen, mark, time.monotonic() - began)
        for file in ("lease.json", "record.json"):
            if file not in marks and any((folder / "some" / "trials").glob(f"*/{file}")):
                marks[file] = time.monotonic() - began
        time.sleep(LOOK_EVERY_S)
    print(
        f"first trial taken after {marks['lease.json']:.1f} s, on record after {marks['record.json']:.1f} s, "
        f"4 trials and the end after {time.monotonic() - began:.1f} s"
    )
    return seen


def look(seen: dict[int, Process], mark: str, now: float) -> None:
    """Note the search's processes and what they have used."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() not in (folder / "environ").read_bytes():
                continue
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended meanwhile
        one = seen.setdefault(int(folder.name), Process(now))
        one.cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
        found = re.search(r"ray::\w+|gcs_server|raylet/raylet|ferray\.search|\w+/\w+\.py", words)
        one.name = found[0] if found else words[:40]


if __name__ == "__main__":
    sys.exit(main())
