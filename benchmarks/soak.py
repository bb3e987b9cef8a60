"""Many short trials while workers are killed at random: is every trial accounted for, do memory and handles stay flat?

    python benchmarks/soak.py                              # 500 trials, a worker killed every 5 to 15 s
    python benchmarks/soak.py --trials 100 --every 4 8

Prints a line a sample of the driver and the dispatcher, and at the end what became of the trials.
"""

import argparse
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MARK = "SOAK_MARK"
SPACE = """\
method: grid
metric: {{name: val_accuracy, goal: maximize}}
parameters:
  learning_rate: {{values: {rates}}}
  dropout: {{values: [0.0, 0.1, 0.2, 0.3, 0.4]}}
  epochs: {{value: {epochs}}}
  batch_size: {{value: 64}}
"""


@dataclass
class Sample:
    """What one process held at one moment."""

    rss_mb: float
    handles: int
    threads: int


def main() -> int:
    """Run the search, kill its workers, and print what was seen."""
    parser = argparse.ArgumentParser(description="Soak: many trials, random kills")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=float, nargs=2, default=(5.0, 15.0), metavar="S", help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        return soak(Path(name), options)


def soak(folder: Path, options: argparse.Namespace) -> int:
    """One search in a folder; 0 if every trial came to its end with every epoch once."""
    draw = random.Random(options.seed)
    rates = [round(1e-5 * 1.05**step, 9) for step in range(options.trials // 5)]
    (folder / "soak.yaml").write_text(SPACE.format(rates=rates, epochs=options.epochs))
    mark = secrets.token_hex(8)
    asked = ["--space", str(folder / "soak.yaml"), "--name", "soak", "--out", str(folder), "--wandb", "disabled"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferray.search", *asked, "--max-failures", "20"],
            stdout=log,
            stderr=log,
            env={**os.environ, MARK: mark},
        )
    samples: list[tuple[Sample, Sample]] = []
    kills, began, next_kill = 0, time.monotonic(), time.monotonic() + 30
    while process.poll() is None:
        time.sleep(1)
        dispatchers = find(mark, "ray::Dispatcher")
        if dispatchers and len(list((folder / "soak" / "trials").glob("*"))) > 10:
            samples.append((sample(process.pid), sample(dispatchers[0])))
            if len(samples) % 30 == 1:
                print(f"{time.monotonic() - began:5.0f} s, {kills} kills: driver {samples[-1][0]}, {samples[-1][1]}")
        if time.monotonic() > next_kill and (workers := find(mark, "ray::RayTrainWorker")):
            os.kill(draw.choice(workers), signal.SIGKILL)
            kills += 1
            next_kill = time.monotonic() + draw.uniform(*options.every)
    print(f"exit {process.returncode} after {time.monotonic() - began:.0f} s with {kills} workers killed")
    if process.returncode:
        print((folder / "log").read_text()[-3000:])
    return report(folder / "soak", samples, options)


def report(run: Path, samples: list[tuple[Sample, Sample]], options: argparse.Namespace) -> int:
    """Print what became of the trials and of the memory."""
    records = [json.loads(file.read_text()) for file in run.glob("trials/*/record.json")]
    states = Counter(record["state"] for record in records)
    right = sum([row["epoch"] for row in record["epochs"]] == list(range(1, options.epochs + 1)) for record in records)
    ends = Counter(
        event["trial_id"] for event in map(json.loads, (run / "journal.jsonl").open()) if event["event"] == "end"
    )
    print(f"trials: {dict(states)}, {right} with every epoch once; ends in the journal: {Counter(ends.values())}")
    quarter = max(1, len(samples) // 4)
    for place, who in enumerate(("driver", "dispatcher")):
        for what in ("rss_mb", "handles", "threads"):
            values = [getattr(pair[place], what) for pair in samples]
            first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
            print(f"{who} {what}: {first:.0f} in the first quarter of the time, {last:.0f} in the last")
    return 0 if right == len(records) == options.trials // 5 * 5 else 1


def find(mark: str, name: str) -> list[int]:
    """Processes of the search whose command line begins so."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(name.encode()):
                found += [int(folder.name)] if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes() else []
        except OSError:
            continue  # it has ended meanwhile
    return found


def sample(pid: int) -> Sample:
    """Of one process; nothing of one that has just ended."""
    folder = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        handles = len(list((folder / "fd").iterdir()))
    except OSError:
        return Sample(0, 0, 0)
    return Sample(int(status.get("VmRSS", "0 kB").split()[0]) / 1024, handles, int(status.get("Threads", "0")))


if __name__ == "__main__":
    sys.exit(main())
