"""cluster.yaml from nothing to a found model and to nothing again, on simulated machines with a stand-in of EC2.

pytest -m slow tests/cluster/test_aws_stand_in.py -s        # prints how long each step takes
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.machines import REPOSITORY, SHARED, Clock, Machines, end, simulated
from fixtures.process import wait_until

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1500)]

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
"""moto knows this one, and not that of the deep learning images."""

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {value: 0.001}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 20}
  batch_size: {value: 16}
"""


class Account:
    """An AWS account, as far as moto is one, seen from the laptop."""

    def __init__(self, machines: Machines, log: Path) -> None:
        self.machines, self._log = machines, log
        self.file = machines.shared / "cluster.yaml"

    def ask(self, service: str, act: str, **arguments: Any) -> Any:
        """A question of boto3's, asked with the laptop's keys."""
        asked = f"getattr(boto3.client({service!r}), {act!r})(**json.loads({json.dumps(arguments)!r}))"
        text = self.machines.run(
            "laptop", "python", "-c", f"import boto3, json; print(json.dumps({asked}, default=str))"
        )
        return json.loads(text)

    def started(self) -> list[dict[str, Any]]:
        """What EC2 told of each machine when it started; of one that has ended it tells less."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line.removeprefix("started: ")) for line in lines if line.startswith("started: ")]

    def states(self) -> list[str]:
        """Of all machines, in order."""
        groups = self.ask("ec2", "describe_instances")["Reservations"]
        return [machine["State"]["Name"] for group in groups for machine in group["Instances"]]

    def adapt(self) -> None:
        """What simulated machines need: root, addresses of one network, one worker, no GPU, nothing to install."""
        config = yaml.safe_load(self.file.read_text())
        config["auth"]["ssh_user"] = "root"
        config["provider"]["use_internal_ips"] = True
        config["available_node_types"]["gpu_worker"] |= {"resources": {"CPU": 1, "GPU": 0}, "max_workers": 1}
        config["idle_timeout_minutes"] = 0.5
        config["setup_commands"] = [
            command for command in config["setup_commands"] if "apt-get" not in command and "pip install" not in command
        ]
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            config[key] = [
                f"{command} --object-store-memory=100000000" if "ray start" in command else command
                for command in config[key]
            ]
        self.file.write_text(yaml.safe_dump(config))


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """A laptop with the keys of an account, and three hosts, which the account's machines will be."""
    with simulated(tmp_path, 3) as machines:
        for host in ("h1", "h2", "h3"):  # as if a virtual environment had been made there
            (machines.home(host) / "venv").symlink_to(sys.prefix)
            with (machines.home(host) / ".bashrc").open("a") as rc:
                rc.write('export PYTHONPATH="$HOME/ferray"\n')
        machines.run("laptop", "ray", "get-auth-token", "--generate")
        with machines.going_on("laptop", "python", "tests/fixtures/ec2_on_hosts.py", "h1", "h2", "h3") as log:
            wait_until((machines.home("laptop") / "ready").exists)
            yield Account(machines, log)


def test_a_search_gets_a_spot_machine_that_goes_when_it_is_idle_and_nothing_is_left(account: Account) -> None:
    machines, file = account.machines, f"{SHARED}/cluster.yaml"
    clock = Clock()
    account.file.write_text((REPOSITORY / "cluster.yaml").read_text())
    (machines.shared / "grid.yaml").write_text(SPACE)
    print(machines.run("laptop", "python", "clusters/aws.py", "roles", "--bucket", "faces"))
    print(machines.run("laptop", "python", "clusters/aws.py", "image", file, "--parameter", IMAGE))
    account.adapt()
    clock.note("roles and image")

    print(machines.run("laptop", "ray", "up", "-y", "--no-config-cache", file)[-300:])
    clock.note("ray up")
    assert account.states() == ["running"], "the head, and no worker"

    command = f"cd ferray && RAY_AUTH_MODE=token python -m ferray.search --address auto --space {SHARED}/grid.yaml"
    options = f"--out {SHARED}/runs --name aws --wandb disabled"
    print(log := end(machines.begin("laptop", "ray", "exec", file, f"{command} {options} 2>&1 | cat"), limit_s=600))
    clock.note("a search of two trials, on a spot machine that it asked for")
    run = Run(machines.shared / "runs" / "aws")
    assert [record.state for record in run.read_trials()] == ["done"] * 2
    assert "test accuracy of trial" in log
    head, *workers = account.started()
    assert head["IamInstanceProfile"]["Arn"].endswith("/ferray-head")
    assert "InstanceLifecycle" not in head
    assert workers
    for worker in workers:
        tags = {tag["Key"]: tag["Value"] for tag in worker["Tags"]}
        assert worker["InstanceLifecycle"] == "spot"
        assert worker["IamInstanceProfile"]["Arn"].endswith("/ferray-worker")
        assert (tags["project"], tags["ray-cluster-name"]) == ("ferray", "ferray")
        print(worker["host"], worker["InstanceType"], worker["InstanceLifecycle"])

    wait_until(lambda: account.states().count("running") == 1, within_s=200, every_s=2.0)
    clock.note("its machines were idle and are terminated")
    print(machines.run("laptop", "ray", "down", "-y", file)[-300:])
    clock.note("ray down")
    assert set(account.states()) == {"terminated"}
