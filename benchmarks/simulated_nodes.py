"""What does the head of a cluster do for each trial and epoch, and how long does a group wait between them?

    python benchmarks/simulated_nodes.py [--nodes 1 4 16] [--epochs 10] [--sleep 2.0] [--seconds 60] [--halving]

A simulation: head and nodes are raylets of one machine, each node with one made-up CPU and one worker group, whose
epochs sleep instead of training. Workers take no core while they sleep, so what is left is what ferray and Ray add; but
all share this machine's cores, so times are upper bounds. Printed is for each number of nodes:

    start    from the command until all groups have had an epoch
    epoch    median and 99th percentile from one epoch's end to the begin of the next one of its trial: record, report
             and the answer
    trial    the same from the last epoch of a trial to the first of the next one: end, next point, lease, opening
    idle     share of the groups' time that these are, from the last group's first epoch on
    head     CPU milliseconds of the head's processes for each epoch in that time

Docs: docs/scale.md.
"""

import argparse
import itertools
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from head_memory import LIMIT_S, MARK, TOKEN, head_processes, simulated_cluster

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
EARLY_TERMINATE
parameters:
  learning_rate: {values: RATES}
  epochs: {value: EPOCHS}
"""


TRIALS_PER_GROUP = 200
"""More than any group can train meanwhile."""


@dataclass(frozen=True)
class Epoch:
    """A line of the workers' log; times of the machine's clock."""

    worker: int
    trial: int
    began: float
    ended: float


def main() -> None:
    """Search with each number of nodes, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="how long it is measured (default: 60)"
    )
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of each trial (default: 10)")
    parser.add_argument("--sleep", type=float, default=2.0, metavar="S", help="seconds of an epoch (default: 2)")
    parser.add_argument("--halving", action="store_true", help="with a scheduler, which answers to every epoch")
    options = parser.parse_args()
    print("nodes    start   epoch: median, 99 %      trial: median, most     idle   head, an epoch", flush=True)
    for num_nodes in options.nodes:
        with tempfile.TemporaryDirectory(prefix="nodes-") as name:
            print(measure(Path(name), num_nodes, options), flush=True)


def measure(folder: Path, num_nodes: int, options: argparse.Namespace) -> str:
    """The line of a search on so many nodes."""
    mark, log = secrets.token_hex(8), folder / "epochs.log"
    own = Path(__file__).parent
    os.environ |= {
        MARK: mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
        "FERRAY_SLEEP_S": str(options.sleep), "FERRAY_SLEEP_LOG": str(log),
        "PYTHONPATH": os.pathsep.join([str(own / "sleeping"), str(own.parent)]),
    }  # fmt: skip
    num_trials = num_nodes * TRIALS_PER_GROUP
    early = "early_terminate: {type: hyperband, min_iter: 2, eta: 3}" if options.halving else ""
    rates = [round(1e-4 * 1.0005**number, 12) for number in range(num_trials)]
    space = SPACE.replace("RATES", str(rates)).replace("EPOCHS", str(options.epochs)).replace("EARLY_TERMINATE", early)
    (folder / "space.yaml").write_text(space)
    asked = ["--space", str(folder / "space.yaml"), "--out", str(folder), "--name", "some", "--wandb", "disabled"]
    log.touch()
    began = time.monotonic()
    with simulated_cluster(num_nodes, cpus_per_node=1) as (address, raylet):
        driver = subprocess.Popen(
            [sys.executable, "-m", "ferray.search", *asked, "--weights", "none", "--address", address],
            stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
        )  # fmt: skip
        try:
            wait(lambda: len({one.worker for one in read(log)}) == num_nodes, driver, folder)
            first, head = time.monotonic(), head_processes(mark, driver.pid, raylet)
            used_s = cpu_seconds(head)
            wait(lambda: time.monotonic() > first + options.seconds, driver, folder)
            used_s = cpu_seconds(head) - used_s
        finally:
            driver.kill()
            driver.wait()
    return line_of(num_nodes, [one for one in read(log) if one.began >= first], first - began, used_s)


def line_of(num_nodes: int, epochs: Sequence[Epoch], start_s: float, used_s: float) -> str:
    """What is printed of a search."""
    of_worker: dict[int, list[Epoch]] = defaultdict(list)
    for one in epochs:
        of_worker[one.worker].append(one)
    within, between, total = [], [], 0.0
    for ones in of_worker.values():
        total += ones[-1].ended - ones[0].began
        for before, after in itertools.pairwise(ones):
            (within if before.trial == after.trial else between).append(after.began - before.ended)
    idle = (sum(within) + sum(between)) / total
    rare = statistics.quantiles(within, n=100)[-1]
    return (
        f"{num_nodes:5} {start_s:6.1f} s {1e3 * statistics.median(within):10.1f}, {1e3 * rare:5.1f} ms"
        f" {1e3 * statistics.median(between):10.0f}, {1e3 * max(between):5.0f} ms {idle:8.2%}"
        f" {1e3 * used_s / len(epochs):10.1f} ms"
    )


def read(log: Path) -> list[Epoch]:
    """All epochs so far; a line that is not whole is left out."""
    lines = (line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return [Epoch(int(worker), int(trial), float(began), float(ended)) for worker, trial, began, ended in lines]


def wait(done: Callable[[], bool], driver: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait for something that the search does."""
    deadline = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > deadline or driver.poll() not in (None, 0):
            raise SystemExit((folder / "log").read_text()[-2000:])
        time.sleep(0.1)


def cpu_seconds(processes: Iterable[int]) -> float:
    """What processes have used so far, those that have ended left out."""
    ticks = 0
    for pid in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
