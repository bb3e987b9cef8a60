"""A cluster of simulated machines without a shared folder: results are in a bucket, and its head loses its power.

pytest -m slow tests/cluster/test_machines_and_a_bucket.py -s        # prints how long each step takes
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.machines import REPOSITORY, SHARED, Clock, Machines, OwnMachines, end, simulated
from fixtures.process import wait_until
from fixtures.search import table

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(3000)]

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.001, 0.0001, 0.00001]}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 60}
  batch_size: {value: 16}
"""
ENDPOINT = "http://10.77.0.2:5555"
RUNS = "s3://results/runs"
MAKE_BUCKET = "import boto3; boto3.client('s3').create_bucket(Bucket='results')"
COUNT_EPOCHS = """
import boto3, json
s3 = boto3.client("s3")
keys = [one["Key"] for one in s3.list_objects_v2(Bucket="results", Prefix="runs/first/records/").get("Contents", [])]
records = [json.loads(s3.get_object(Bucket="results", Key=key)["Body"].read())["record"] for key in keys]
print(sum(len(record["epochs"]) for record in records if record))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnMachines]:
    """A laptop, which also serves the bucket, a head that trains nothing, and two hosts with one CPU each."""
    with simulated(tmp_path_factory.mktemp("m"), 3) as machines:
        for host in ("laptop", "h1", "h2", "h3"):
            folder = machines.home(host) / ".aws"
            folder.mkdir(parents=True)
            (folder / "config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = {ENDPOINT}\n")
            (folder / "credentials").write_text("[default]\naws_access_key_id = nobody\naws_secret_access_key = none\n")
        machines.run("laptop", "ray", "get-auth-token", "--generate")
        (machines.shared / "grid.yaml").write_text(SPACE)
        server = str(Path(sys.executable).parent / "moto_server")
        service = machines.begin("laptop", server, "-H", "0.0.0.0", "-p", "5555")
        try:
            wait_until(lambda: answers(machines), every_s=0.5)
            made = OwnMachines(machines)
            made.write_file("10.77.0.12", "10.77.0.13")
            clock = Clock()
            print(made.hosts("start"))
            clock.note("hosts.py start: a head and two workers")
            yield made
            made.hosts("stop")
        finally:
            service.kill()
            service.communicate()


def answers(machines: Machines) -> bool:
    process = machines.begin("laptop", "python", "-c", MAKE_BUCKET)
    process.communicate(timeout=100)
    return process.returncode == 0


def search(cluster: OwnMachines, *options: str) -> Any:
    """A search, from the laptop."""
    words = f"python -m ferray.search --address auto --wandb disabled {' '.join(options)}"
    command = f"cd {REPOSITORY} && PYTHONPATH={REPOSITORY} RAY_AUTH_MODE=token {words} --out {RUNS} 2>&1 | cat"
    return cluster.machines.begin("laptop", "ray", "exec", f"{SHARED}/local.yaml", command)


def num_epochs(machines: Machines) -> int:
    return int(machines.run("laptop", "python", "-c", COUNT_EPOCHS).split()[-1])


def fetched(machines: Machines, name: str) -> Run:
    """A search as the laptop has it then."""
    fetch = f"-m ferray.report fetch {RUNS}/{name} --out {SHARED}/home".split()
    print(machines.run("laptop", "env", f"PYTHONPATH={REPOSITORY}", "python", *fetch))
    return Run(machines.shared / "home" / name)


def test_a_search_in_a_bucket_goes_on_after_its_head_was_lost_and_its_table_is_that_of_one_machine(
    cluster: OwnMachines,
) -> None:
    clock, machines = Clock(), cluster.machines
    alone = f"--space {SHARED}/grid.yaml --out {SHARED}/runs --name alone --wandb disabled".split()
    machines.run("h2", "env", f"PYTHONPATH={REPOSITORY}", "python", "-m", "ferray.search", *alone, limit_s=900)
    clock.note("a search on one machine, in a folder")
    process = search(cluster, "--space", f"{SHARED}/grid.yaml", "--name", "first", "--concurrent-trials", "2")
    wait_until(lambda: num_epochs(machines) > 90, within_s=900, every_s=0.5)
    clock.note("the search trains on two hosts")
    machines.call("crash", "h1")
    process.kill()
    process.communicate()
    before = num_epochs(machines)
    machines.call("boot", "h1")
    print(cluster.hosts("start"))
    clock.note(f"the head had lost its power, {before} of 360 epochs are in the bucket; the cluster is there again")
    print(end(search(cluster, "--resume", "first"), limit_s=900))
    clock.note("the search has ended")
    found, one = fetched(machines, "first"), Run(machines.shared / "runs" / "alone")
    clock.note("the laptop has fetched it")
    assert (found.folder / "report.html").exists()
    assert (found.best_dir / "model.safetensors").exists()
    assert table(found) == table(one)


def test_a_group_has_its_workers_on_two_machines(cluster: OwnMachines) -> None:
    clock, machines = Clock(), cluster.machines
    (machines.shared / "pair.yaml").write_text(SPACE.replace("value: 60", "value: 5").replace(", 0.0001, 0.00001", ""))
    print(end(search(cluster, "--space", f"{SHARED}/pair.yaml", "--name", "pair", "--workers-per-trial", "2")))
    clock.note("a search of two trials, each trained by a worker on each of two hosts")
    found = fetched(machines, "pair")
    assert [(record.state, len(record.epochs)) for record in found.read_trials()] == [("done", 5)] * 2
    assert found.read_search().sessions[-1].groups["workers"] == 2
