"""Secrets stay in the environment, and Ray listens on loopback, to nobody without its token: one real search."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from fixtures.process import MARK, kill, new_mark, processes, workers
from fixtures.search import Searches, finish

from ferray.data.store.reader import Store
from ferray.errors import StorageError
from ferray.files import untrusted
from ferray.records.run import Run

SECRETS = {
    "WANDB_API_KEY": "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2",
    "AWS_SECRET_ACCESS_KEY": "aws-5ecret-Nn3pTq",
    "AWS_SESSION_TOKEN": "aws-5ession-Vv8kLm",
    "HF_TOKEN": "hf_5ecretWw4rBz",
    "RAY_AUTH_TOKEN": "ray-5ecret-Jj6xCd",
}
SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.01, 0.001]}
  epochs: {value: 150}
  batch_size: {value: 16}
"""
CLIENT = """\
import sys
from ray._raylet import GcsClient
try:
    print("let in", len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30)))
except Exception as error:
    print("refused", type(error).__name__)
"""


class Watch(threading.Thread):
    """Looks at the sockets of a running search, knocks with and without its token, and kills a worker."""

    def __init__(self, mark: str, run: Run, scratch: Path) -> None:
        super().__init__(daemon=True)
        self.scratch, self.held, self.logs = scratch, set[tuple[str, str]](), set[Path]()
        self.mark, self.search, self.done = mark, run, threading.Event()
        self.listening: set[tuple[str, int]] = set()
        self.killed = False
        self.knocks: list[threading.Thread] = []
        self.answers: dict[str, str] = {}

    def run(self) -> None:
        while not self.done.wait(0.2):
            found = processes(self.mark)
            self.listening |= listening(list(found))
            files = [Path(parent) / name for parent, _, names in os.walk(self.scratch) for name in names]
            self.logs |= {file for file in files if file.suffix in (".log", ".out", ".err")}
            self.held |= holding(files)
            told = [(pid, port) for pid, line in found.items() if (port := gcs_port(line))]
            if not self.knocks and told and any("ray::" in line for line in found.values()):
                self.knocks = [threading.Thread(target=self.knock, args=one, daemon=True) for one in clients(*told[0])]
                for knock in self.knocks:
                    knock.start()
            if not self.killed and any(record.epochs for record in self.search.read_trials()):
                for pid in workers(self.mark)[:1]:
                    kill(pid)
                    self.killed = True

    def knock(self, name: str, port: int, variables: dict[str, str]) -> None:
        """Ask Ray for its nodes as a client in another terminal would."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != MARK}
        asked = [sys.executable, "-c", CLIENT, f"127.0.0.1:{port}"]
        done = subprocess.run(asked, env=clean | variables, capture_output=True, text=True, timeout=200, check=False)
        self.answers[name] = done.stdout.strip()


def clients(pid: int, port: int) -> list[tuple[str, int, dict[str, str]]]:
    """A client without a token, one with another, and one with that of a process of the search."""
    variables = (Path("/proc") / str(pid) / "environ").read_text(errors="replace").split("\0")
    token = next(one.partition("=")[2] for one in variables if one.startswith("RAY_AUTH_TOKEN="))
    return [
        ("without", port, {"RAY_AUTH_MODE": "disabled"}),
        ("another", port, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRETS["RAY_AUTH_TOKEN"]}),
        ("with", port, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}),
    ]


def gcs_port(line: str) -> int | None:
    """The port of Ray's head, as its other processes are told it."""
    found = re.search(r"--gcs-address=127\.0\.0\.1:(\d+)", line)
    return int(found[1]) if found else None


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of some processes."""
    inodes = set()
    for pid in pids:
        try:
            links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue  # it has ended
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def holding(files: list[Path]) -> set[tuple[str, str]]:
    """Files that hold secrets, and the secrets' names."""
    found = set()
    for file in files:
        try:
            content = untrusted.read_bytes(file, max_bytes=2**30)
        except StorageError:
            continue  # a socket, or removed meanwhile
        found |= {(str(file), name) for name, secret in SECRETS.items() if secret.encode() in content}
    return found


def test_no_secret_is_written_and_nobody_is_let_in_without_a_token(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = new_mark()
    for name, value in {**SECRETS, MARK: mark, "FERRAY_LOG": "debug", "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    searches = Searches(tmp_path, tiny_store)
    scratch = Path(tempfile.mkdtemp(prefix="s-", dir="/tmp"))  # short: Ray puts sockets below it
    monkeypatch.setenv("TMPDIR", str(scratch))
    run = Run(tmp_path / "runs" / "secret")
    watch = Watch(mark, run, scratch)
    process = searches.start(SPACE, "secret", "--concurrent-trials", "1", "--max-failures", "0")
    watch.start()
    out, err = finish(process)
    watch.done.set()
    watch.join(100)
    for knock in watch.knocks:
        knock.join(200)

    assert "failed" in {record.state for record in run.read_trials()}
    assert not [name for name, secret in SECRETS.items() if secret in out + err]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    assert holding(files) == set()
    assert watch.logs
    assert watch.held == set()
    shutil.rmtree(scratch)

    assert watch.listening
    assert {address for address, _ in watch.listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    refused = "refused AuthenticationError"
    assert watch.answers == {"without": refused, "another": refused, "with": "let in 1"}
