"""What memory does each trial in training take on the head of a cluster, and what on one machine?

    python benchmarks/head_memory.py                    # 1, 2 and 16 groups on a simulated cluster, minutes each
    python benchmarks/head_memory.py --groups 1 2
    python benchmarks/head_memory.py --one-machine      # no cluster is joined: everything is on one machine

A simulation: the cluster is a head without CPUs and nodes of four made-up CPUs each, all on this machine. The oldest
workers, one for each trial that was taken, get a core only when groups that are starting need none. When every group
has a trial, the PSS of the processes of the head is read: the driver, Ray's servers, and what the head's raylet has
started. PSS counts a page that N processes share as 1/N in each. What a further trial takes is the growth over one
group.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "HEAD_MEMORY_MARK"
TOKEN = secrets.token_hex(32)  # of all clusters here: a process reads it only once
LIMIT_S = 900.0
CPUS_PER_NODE = 4

SPACE = """\
method: random
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-2}
  epochs: {value: 10000}
"""


def main() -> int:
    """Measure a search for each number of groups, and print its processes and what a trial adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2, 16])
    parser.add_argument("--one-machine", action="store_true", help="a search that joins no cluster")
    options = parser.parse_args()
    totals: dict[int, float] = {}
    for num_groups in options.groups:
        with tempfile.TemporaryDirectory(prefix="head-") as name:
            found = measure(Path(name), num_groups, joined=not options.one_machine)
        totals[num_groups] = sum(map(sum, found.values()))
        where = "this machine" if options.one_machine else "the head"
        print(
            f"{num_groups} groups: {totals[num_groups]:.0f} MB in {sum(map(len, found.values()))} processes of {where}"
        )
        for title, sizes in sorted(found.items(), key=lambda one: -sum(one[1])):
            print(f"    {sum(sizes):7.1f} MB  {len(sizes):3} x {title}")
        if num_groups > options.groups[0]:
            first = options.groups[0]
            growth = (totals[num_groups] - totals[first]) / (num_groups - first)
            print(f"    {growth:.1f} MB for each trial beyond the first {first}", flush=True)
    return 0


def measure(folder: Path, num_groups: int, *, joined: bool) -> dict[str, list[float]]:
    """PSS in MB of each process of the head, by title, while so many groups have a trial."""
    mark = secrets.token_hex(8)
    os.environ |= {MARK: mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    (folder / "space.yaml").write_text(SPACE)
    asked = ["--space", str(folder / "space.yaml"), "--out", str(folder), "--name", "some", "--wandb", "disabled"]
    asked += ["--weights", "none", "--max-trials", str(2 * num_groups), "--concurrent-trials", str(num_groups)]
    with simulated_cluster(-(-num_groups // CPUS_PER_NODE)) if joined else own_cores(num_groups) as (address, raylet):
        driver = subprocess.Popen(
            [sys.executable, "-m", "ferray.search", *asked, *(["--address", address] if address else [])],
            stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
        )  # fmt: skip
        idle: set[int] = set()
        try:
            deadline = time.monotonic() + LIMIT_S
            while (num_taken := len(list((folder / "some" / "trials").glob("*/lease.json")))) < num_groups:
                if driver.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()[-2000:])
                workers = sorted(pid for pid, title in titles(mark).items() if "RayTrainWorker" in title)
                for pid in set(workers[:num_taken]) - idle:
                    idle.add(pid)
                    run_only_when_idle(pid)
                time.sleep(0.5)
            time.sleep(5.0)  # what started beside the last group has settled
            return by_title(head_processes(mark, driver.pid, raylet))
        finally:
            driver.kill()
            driver.wait()


def run_only_when_idle(pid: int) -> None:
    """Let all others have the cores first."""
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def simulated_cluster(num_nodes: int, *, cpus_per_node: int = CPUS_PER_NODE) -> Iterator[tuple[str, int]]:
    """Address of a cluster with a head without CPUs, and the id of the head's raylet."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from ray.cluster_utils import Cluster

    room = {"object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **room})
    try:
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=cpus_per_node, **room)
        yield cluster.address, cluster.head_node.all_processes["raylet"][0].process.pid
    finally:
        cluster.shutdown()


@contextmanager
def own_cores(num_groups: int) -> Iterator[tuple[str, int]]:
    """No cluster; the one that a search starts believes in as many cores as groups."""
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": num_groups})
    yield "", 0


def head_processes(mark: str, driver: int, raylet: int) -> dict[int, str]:
    """The search's processes but those of other nodes: ids and titles."""
    found = titles(mark)
    if not raylet:
        return found
    return {
        pid: title
        for pid, title in found.items()
        if pid in (driver, raylet) or raylet in ancestors(pid) or "gcs_server" in title
    }


def titles(mark: str) -> dict[int, str]:
    """All processes with the mark in their environment: what each calls itself, or the file that it runs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                name = re.search(r"ray::[\w.]+|gcs_server|raylet/raylet|ferray\.search|\w+/\w+\.py", words)
                found[int(folder.name)] = name[0] if name else words[:40]
        except OSError:
            continue  # it has ended meanwhile
    return found


def ancestors(pid: int) -> set[int]:
    """The processes that have started this one, directly or not."""
    found: set[int] = set()
    with suppress(OSError):
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found.add(pid)
    return found


def by_title(processes: dict[int, str]) -> dict[str, list[float]]:
    """PSS in MB, by title."""
    found: dict[str, list[float]] = defaultdict(list)
    for pid, title in processes.items():
        with suppress(OSError):
            line = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            if line:
                found[title].append(int(line[1]) / 1000)
    return dict(found)


if __name__ == "__main__":
    sys.exit(main())
