"""clusters/local.yaml on simulated machines: own network, processes, /tmp and sshd each, one folder that all see.

pytest -m slow tests/cluster/test_own_machines.py -s        # prints how long each step takes
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fixtures.process import wait_until
from fixtures.search import table

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = "/shared-disk"
SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.001, 0.0001, 0.00001]}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 120}
  batch_size: {value: 16}
"""


def find_tool() -> Path | None:
    """The script that makes the machines, beside the repository, or where HOSTS_TOOL names it."""
    named = os.environ.get("HOSTS_TOOL")
    places = [Path(named)] if named else [REPOSITORY.parent / "shared" / "tools" / "hosts" / "hosts.sh"]
    return next((place for place in places if place.exists()), None)


class Machines:
    """`hosts.sh`, with a state folder of its own."""

    def __init__(self, tool: Path, folder: Path) -> None:
        self.tool, self.state = tool, folder / "hosts"
        variables = {"HOSTS_STATE": str(self.state), "HOSTS_PATH": str(Path(sys.executable).parent)}
        variables |= {"HOSTS_BIND": str(REPOSITORY)} if REPOSITORY.is_relative_to("/tmp") else {}
        self.environment = os.environ | variables

    @property
    def shared(self) -> Path:
        """The shared folder, seen from outside."""
        return self.state / "shared"

    def call(self, *words: str) -> None:
        """A command of the script."""
        done = subprocess.run(
            [str(self.tool), *words], env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr

    def begin(self, host: str, *words: str) -> "subprocess.Popen[str]":
        """A command in a host, which runs on."""
        output = subprocess.PIPE, subprocess.STDOUT
        return subprocess.Popen(
            [str(self.tool), "run", host, *words],
            env=self.environment, cwd=REPOSITORY, stdout=output[0], stderr=output[1], text=True,
        )  # fmt: skip

    def run(self, host: str, *words: str, limit_s: float = 400) -> str:
        """A command in a host; what it printed."""
        return end(self.begin(host, *words), limit_s=limit_s)

    def cluster_file(self, *workers: str) -> None:
        """clusters/local.yaml for these machines, on which ferray is installed already."""
        config = yaml.safe_load((REPOSITORY / "clusters" / "local.yaml").read_text())
        config["provider"] |= {"head_ip": "10.77.0.11", "worker_ips": list(workers)}
        config["auth"]["ssh_user"] = "root"
        config["file_mounts"] = {"~/.ray/auth_token": "~/.ray/auth_token"}
        config["setup_commands"] = [command for command in config["setup_commands"] if "venv" not in command]
        for key, num_cpus in (("head_start_ray_commands", 0), ("worker_start_ray_commands", 1)):
            config[key] = [
                f"export PYTHONPATH={REPOSITORY}; {command} --num-cpus={num_cpus} --object-store-memory=100000000"
                if "ray start" in command
                else command
                for command in config[key]
            ]
        (self.shared / "local.yaml").write_text(yaml.safe_dump(config))

    def hosts(self, act: str) -> str:
        """`clusters/hosts.py` on the laptop."""
        return self.run("laptop", "python", str(REPOSITORY / "clusters" / "hosts.py"), act, f"{SHARED}/local.yaml")

    def search(self, name: str) -> "subprocess.Popen[str]":
        """A search on the cluster, from the laptop."""
        command = (
            f"cd {REPOSITORY} && PYTHONPATH={REPOSITORY} RAY_AUTH_MODE=token python {words_of(name)} --address auto"
        )
        return self.begin("laptop", "ray", "exec", f"{SHARED}/local.yaml", f"{command} --concurrent-trials 2")

    def found(self, name: str) -> Run:
        return Run(self.shared / "runs" / name)


def words_of(name: str) -> str:
    options = f"--space {SHARED}/grid.yaml --out {SHARED}/runs --name {name} --wandb disabled"
    return f"-m ferray.search {options}"


def end(process: "subprocess.Popen[str]", *, limit_s: float = 400) -> str:
    try:
        out, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        raise AssertionError(f"not done after {limit_s:.0f} s:\n{out[-5000:]}") from None
    assert process.returncode == 0, out[-5000:]
    return out


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A laptop and four hosts with one CPU each: h1, which trains nothing, h2 and h3 are a cluster; h4 is alone."""
    tool = find_tool()
    if tool is None:
        pytest.skip("hosts.sh, which simulates machines, is not beside the repository")
    if os.geteuid() != 0:
        pytest.skip("simulated machines need root")
    if missing := [
        name
        for name in ("ip", "rsync", "sshd", "unshare")
        if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None
    ]:
        pytest.skip(f"simulated machines need {', '.join(missing)}")
    made = Machines(tool, tmp_path_factory.mktemp("m"))
    try:
        made.call("up", "4", "--cpus", "1")
        made.run("laptop", "ray", "get-auth-token", "--generate")
        (made.shared / "grid.yaml").write_text(SPACE)
        clock = Clock()
        made.run("h4", "taskset", "-c", "0", "env", f"PYTHONPATH={REPOSITORY}", "python", *words_of("alone").split())
        clock.note("a search on one machine")
        made.cluster_file("10.77.0.12", "10.77.0.13")
        print(made.hosts("start"))
        clock.note("hosts.py start: a head and two workers are in the cluster")
        yield made
    finally:
        made.call("down")


def test_a_search_on_two_machines_has_the_table_of_one(machines: Machines) -> None:
    clock = Clock()
    print(log := end(machines.search("two")))
    clock.note("a search with a group on each of two hosts")
    assert "test accuracy of trial" in log
    assert machines.found("two").read_search().sessions[-1].groups["num_groups"] == 2
    assert table(machines.found("two")) == table(machines.found("alone"))


def test_a_search_goes_on_where_a_machine_is_lost_and_another_is_added_and_all_are_stopped(machines: Machines) -> None:
    clock = Clock()
    process, run = machines.search("disturbed"), machines.found("disturbed")
    wait_until(lambda: run.exists() and sum(0 < len(one.epochs) < 120 for one in run.read_trials()) >= 2)
    clock.note("a search trains on two hosts")
    machines.call("crash", "h3")
    machines.cluster_file("10.77.0.12", "10.77.0.14")
    print(machines.hosts("start"))
    clock.note("h3 has crashed, and h4 was added by hosts.py start")
    wait_until(lambda: "RayTrainWorker" in machines.run("h4", "ps", "axo", "cmd"), every_s=1.0)
    clock.note("a worker group is on h4")
    print(end(process))
    clock.note("the search has ended")
    assert table(run) == table(machines.found("alone"))
    print(machines.hosts("stop"))
    clock.note("hosts.py stop")
    for host in ("h1", "h2", "h4"):
        assert "raylet" not in machines.run(host, "ps", "axo", "comm").split()


class Clock:
    """Prints what was done, and how long it took."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self, what: str) -> None:
        now = time.monotonic()
        print(f"[{time.strftime('%H:%M:%S')}, {now - self._last:5.1f} s] {what}", flush=True)
        self._last = now
