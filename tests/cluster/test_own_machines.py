"""clusters/local.yaml on simulated machines: own network, processes, /tmp and sshd each, one folder that all see.

pytest -m slow tests/cluster/test_own_machines.py -s        # prints how long each step takes
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.machines import REPOSITORY, SHARED, Clock, OwnMachines, end, simulated
from fixtures.process import wait_until
from fixtures.search import table

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(3000)]

EPOCHS = 300
"""So many that a search is still training after a minute in which a machine had no network."""

SPACE = f"""\
method: grid
metric: {{name: val_accuracy, goal: maximize}}
parameters:
  learning_rate: {{values: [0.001, 0.0001, 0.00001]}}
  dropout: {{values: [0.0, 0.5]}}
  epochs: {{value: {EPOCHS}}}
  batch_size: {{value: 16}}
"""


class Cluster(OwnMachines):
    """With searches on it."""

    def search(self, name: str, options: str = f"--space {SHARED}/grid.yaml --concurrent-trials 2") -> Any:
        """A search on the cluster, from the laptop."""
        words = f"python {words_of(name, options)} --address auto 2>&1 | cat"
        command = f"cd {REPOSITORY} && PYTHONPATH={REPOSITORY} RAY_AUTH_MODE=token {words}"
        return self.machines.begin("laptop", "ray", "exec", f"{SHARED}/local.yaml", command)

    def found(self, name: str) -> Run:
        return Run(self.machines.shared / "runs" / name)

    def trains(self, host: str) -> bool:
        """Whether a worker of a group runs on a host."""
        return "RayTrainWorker" in self.machines.run(host, "ps", "axo", "cmd")

    def num_ended(self, name: str) -> int:
        return sum(record.state == "done" for record in self.found(name).read_trials())


def words_of(name: str, options: str = f"--space {SHARED}/grid.yaml") -> str:
    return f"-m ferray.search {options} --out {SHARED}/runs --name {name} --wandb disabled"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A laptop and four hosts with one CPU each: h1, which trains nothing, h2 and h3 are a cluster; h4 is alone."""
    with simulated(tmp_path_factory.mktemp("m"), 4) as machines:
        made = Cluster(machines)
        machines.run("laptop", "ray", "get-auth-token", "--generate")
        (machines.shared / "grid.yaml").write_text(SPACE)
        clock = Clock()
        alone = ["env", f"PYTHONPATH={REPOSITORY}", "python", *words_of("alone").split()]
        machines.run("h4", *alone, limit_s=900)
        clock.note("a search on one machine")
        made.write_file("10.77.0.12", "10.77.0.13")
        print(made.hosts("start"))
        clock.note("hosts.py start: a head and two workers are in the cluster")
        yield made


def test_a_search_on_two_machines_has_the_table_of_one(cluster: Cluster) -> None:
    clock = Clock()
    print(log := end(cluster.search("two"), limit_s=900))
    clock.note("a search with a group on each of two hosts")
    assert "test accuracy of trial" in log
    assert cluster.found("two").read_search().sessions[-1].groups["num_groups"] == 2
    assert table(cluster.found("two")) == table(cluster.found("alone"))


def test_machines_are_lost_added_cut_off_and_come_back_in_the_middle_of_a_search_which_uses_all_of_them(
    cluster: Cluster,
) -> None:
    clock = Clock()
    machines, name = cluster.machines, "disturbed"
    process, run = cluster.search(name), cluster.found(name)
    wait_until(
        lambda: run.exists() and sum(0 < len(one.epochs) < EPOCHS for one in run.read_trials()) >= 2, within_s=900
    )
    clock.note("the search trains on h2 and h3")
    machines.call("crash", "h3")
    cluster.write_file("10.77.0.12", "10.77.0.14")
    print(cluster.hosts("start"))
    clock.note("h3 has lost its power, and h4 was added by hosts.py start")
    wait_until(lambda: cluster.trains("h4"), within_s=600, every_s=0.5)
    clock.note(f"a worker group is on h4; {cluster.num_ended(name)} of 6 trials have ended")
    machines.call("cut", "h2")
    wait_until(lambda: "missing" in _line(cluster.hosts("list"), "10.77.0.12"), every_s=0.5)
    clock.note("h2 has no network; it is no longer in the cluster")
    ended = time.monotonic() + 60
    wait_until(lambda: time.monotonic() > ended, every_s=1.0)  # a fault of that length, not a wait for something
    machines.call("heal", "h2")
    print(cluster.hosts("start"))
    clock.note("h2 had no network for 60 s more, and was started again by hosts.py start")
    wait_until(lambda: cluster.trains("h2"), within_s=600, every_s=0.5)
    clock.note(f"a worker group is on h2; {cluster.num_ended(name)} of 6 trials have ended")
    assert cluster.num_ended(name) < 6
    print(end(process, limit_s=900))
    clock.note("the search has ended")
    assert table(run) == table(cluster.found("alone"))


def test_real_faces_are_prepared_and_searched_with_groups_on_two_machines_and_with_one_group_across_both(
    cluster: Cluster,
) -> None:
    clock = Clock()
    faces = REPOSITORY.parent / "shared" / "expw"
    if not faces.is_dir():
        pytest.skip("ExpW's part is not beside the repository")
    source = f"--images {faces}/origin --labels {faces}/label.lst --size 48 --num-faces 600"
    prepare = f"-m ferray.data prepare expw {source} --out {SHARED}/expw"
    print(cluster.machines.run("laptop", "env", f"PYTHONPATH={REPOSITORY}", "python", *prepare.split()))
    clock.note("600 faces of ExpW in the shared folder")
    few = SPACE.replace(f"value: {EPOCHS}", "value: 8").replace(", 0.0001, 0.00001", "")
    (cluster.machines.shared / "few.yaml").write_text(few)
    options = f"--space {SHARED}/few.yaml --data {SHARED}/expw --weights none"
    print(end(cluster.search("faces", options), limit_s=900))
    clock.note("a search with a group on each of two hosts")
    print(end(cluster.search("pair", f"{options} --workers-per-trial 2"), limit_s=900))
    clock.note("a search with one group of two workers, one on each host")
    for name, groups, workers in (("faces", 2, 1), ("pair", 1, 2)):
        run = cluster.found(name)
        assert [(one.state, len(one.epochs)) for one in run.read_trials()] == [("done", 8)] * 2
        seen = run.read_search().sessions[-1].groups
        assert (seen["num_groups"], seen["workers"]) == (groups, workers)
        assert run.read_search().data.dataset == "expw"
        assert (run.folder / "report.html").exists()


def test_all_machines_are_stopped(cluster: Cluster) -> None:
    clock = Clock()
    print(cluster.hosts("stop"))
    clock.note("hosts.py stop")
    for host in ("h1", "h2", "h4"):
        assert "raylet" not in cluster.machines.run(host, "ps", "axo", "comm").split()


def _line(text: str, begin: str) -> str:
    return next((line for line in text.splitlines() if line.startswith(begin)), "")
