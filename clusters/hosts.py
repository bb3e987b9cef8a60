"""Start and stop Ray on machines of your own: what `ray up` and `ray down` do not do for them.

    python clusters/hosts.py start clusters/local.yaml          # the head, and every worker that is missing
    python clusters/hosts.py start clusters/local.yaml --keep   # and again whenever one is missing, until Ctrl-C
    python clusters/hosts.py stop clusters/local.yaml           # all of them
    python clusters/hosts.py list clusters/local.yaml           # which are in the cluster

`ray up` starts the head alone: workers are started here, by ssh, with the file's own commands. So a machine can be
added to the file at any time, a start that failed is tried again, and no autoscaler has another opinion.

Begin at `start`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

TRIES = 4
"""Starts of a worker before it is given up: on a busy machine Ray's own processes may miss their deadlines."""

SETTLE_S = 20.0
"""A worker counts as started when it is there after so long: a node of Ray that misses a deadline ends after 17 s."""

KEEP_S = 15.0
"""How often `--keep` looks for workers that are missing."""

ALIVE = """import json, ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
print("\\nalive:" + json.dumps([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]))
"""
"""What the head is asked; Ray may print lines of its own before and after the answer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and act; 1 if a worker could not be started."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").rpartition("\n\nBegin at")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("act", choices=("start", "stop", "list"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--keep", action="store_true", help="with start: go on until Ctrl-C")
    arguments = parser.parse_args(argv)
    hosts = Hosts(arguments.file)
    if arguments.act == "stop":
        return stop(hosts)
    if arguments.act == "list":
        alive = hosts.alive() or []
        for address in (hosts.head, *hosts.workers):
            print(f"{address}  {'in the cluster' if address in alive else 'missing'}")
        return 0
    return start(hosts, keep=arguments.keep)


class Hosts:
    """The machines of a cluster file, reached by ssh."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        provider, auth = self.config["provider"], self.config["auth"]
        self.head: str = provider["head_ip"]
        self.workers: list[str] = provider["worker_ips"]
        key = str(Path(auth["ssh_private_key"]).expanduser())
        options = ("ConnectTimeout=10", "StrictHostKeyChecking=accept-new", "BatchMode=yes", "LogLevel=ERROR")
        self._ssh = ["ssh", "-i", key, *(word for option in options for word in ("-o", option))]
        self._user: str = auth["ssh_user"]

    def run(self, host: str, command: str, *, limit_s: float = 900.0) -> "subprocess.CompletedProcess[str]":
        """Run a command in a login shell of a host; its output is kept."""
        quoted = "'" + command.replace("'", "'\\''") + "'"
        words = [
            *self._ssh,
            f"{self._user}@{host}",
            f"bash --login -c -i {quoted} 2>&1",
        ]  # -i: Ubuntu's ~/.bashrc sets no PATH without
        try:
            return subprocess.run(
                words, capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 124, "", f"no answer for {limit_s:.0f} s")

    def copy(self, host: str) -> None:
        """Copy the files of `file_mounts` to a host; their paths here are relative to where the command is called."""
        for target, source in self.config.get("file_mounts", {}).items():
            folder = Path(source).expanduser()
            origin = f"{folder}/" if folder.is_dir() else str(folder)
            exclude = [f"--exclude={pattern}" for pattern in self.config.get("rsync_exclude", ())]
            parent = target if folder.is_dir() else str(Path(target).parent)
            self.run(host, f"mkdir -p {parent}")
            there = f"{self._user}@{host}:{target}"
            command = ["rsync", "-az", *exclude, "-e", " ".join(self._ssh), origin, there]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)

    def alive(self) -> list[str] | None:
        """Addresses of the nodes in the cluster; None where no cluster answers on the head."""
        done = self.run(self.head, f"source ~/.bashrc; RAY_AUTH_MODE=token python -c '{ALIVE}'", limit_s=60)
        answers = [line.removeprefix("alive:") for line in done.stdout.splitlines() if line.startswith("alive:")]
        return list(json.loads(answers[-1])) if done.returncode == 0 and answers else None

    def join(self, host: str) -> str:
        """Prepare a worker and start Ray on it; returns what went wrong."""
        try:
            self.copy(host)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return f"its files could not be copied: {getattr(error, 'stderr', '') or error}".strip()
        names = ("initialization_commands", "setup_commands", "worker_setup_commands", "worker_start_ray_commands")
        for command in (command for name in names for command in self.config.get(name) or ()):
            done = self.run(host, f"source ~/.bashrc; export RAY_HEAD_IP={self.head}; {command}")
            if done.returncode and not command.strip().startswith("ray stop"):
                return f"`{command.strip()[-80:]}` ended with {done.returncode}: {done.stdout[-400:]}"
        return ""


def start(hosts: Hosts, *, keep: bool = False) -> int:
    """Start the head unless it is running, then every worker that is missing; 1 if some could not be started."""
    if hosts.alive() is None:
        subprocess.run(["ray", "up", "-y", "--no-config-cache", str(hosts.file)], check=True)
    missing = _start_workers(hosts)
    while keep:
        time.sleep(KEEP_S)
        hosts = Hosts(hosts.file)  # a machine may have been added to it
        missing = _start_workers(hosts)
    return 1 if missing else 0


def _start_workers(hosts: Hosts) -> list[str]:
    """Start the workers that are missing, all at once, up to `TRIES` times; returns those that are missing still."""
    missing = _missing(hosts)
    for attempt in range(1, TRIES + 1):
        if not missing:
            break
        _say(f"starting {', '.join(missing)}{f', try {attempt}' if attempt > 1 else ''}")
        with ThreadPoolExecutor(len(missing)) as pool:
            faults = list(pool.map(hosts.join, missing))
        for host, fault in zip(missing, faults, strict=True):
            if fault:
                _say(f"{host}: {fault}")
        time.sleep(SETTLE_S)
        missing = _missing(hosts)
    _say(f"not in the cluster: {', '.join(missing)}" if missing else f"all {len(hosts.workers)} workers are there")
    return missing


def _missing(hosts: Hosts) -> list[str]:
    alive = hosts.alive() or []
    return [host for host in hosts.workers if host not in alive]


def stop(hosts: Hosts) -> int:
    """Stop Ray on all machines: the workers first, then the head."""
    with ThreadPoolExecutor(len(hosts.workers) or 1) as pool:
        done = list(pool.map(partial(hosts.run, command="source ~/.bashrc; ray stop", limit_s=60), hosts.workers))
    for host, one in zip(hosts.workers, done, strict=True):
        if one.returncode:
            _say(f"{host}: not reached or not stopped: {(one.stdout or one.stderr)[-200:].strip()}")
    return subprocess.run(["ray", "down", "-y", str(hosts.file)], check=False).returncode


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
