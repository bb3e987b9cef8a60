"""Nodes that are killed or drained: several raylets of a real cluster, on loopback."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.imds import MetadataService, metadata_service
from fixtures.process import MARK, kill, new_mark, processes, wait_until
from fixtures.search import LONG_EPOCHS, LONG_GRID, Searches, finish, numbers

from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.search.fleet.spot_notice import ENDPOINT_VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]

EPOCHS = 10 * LONG_EPOCHS
"""A trial of `LONG_EPOCHS` may end between two reports, half a second apart: two are never seen in training at once."""
LONGER_GRID = LONG_GRID.replace(f"epochs: {{value: {LONG_EPOCHS}}}", f"epochs: {{value: {EPOCHS}}}")

FREE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.001, 0.0001]}
  freeze: {value: none}
  epochs: {value: 2}
  batch_size: {value: 1}
"""

SHORT_GRID = LONG_GRID.replace(f"epochs: {{value: {LONG_EPOCHS}}}", "epochs: {value: 3}")

TOKEN = secrets.token_hex(32)
"""Token of all clusters in this module: a process reads it only once."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs and two nodes with one each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv(MARK, new_mark())
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    try:
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def searches(tmp_path: Path, tiny_store: Store) -> Searches:
    return Searches(tmp_path, tiny_store)


def is_in_the_middle(run: Run, epochs: int) -> bool:
    """Whether two trials are in training."""
    return sum(0 < len(record.epochs) < epochs for record in run.read_trials()) >= 2


def test_trials_of_a_dead_node_go_on_elsewhere_and_a_new_node_is_used(cluster: Any, searches: Searches) -> None:
    alone = searches.run(LONGER_GRID, "alone", "--wandb", "disabled", "--address", cluster.address)
    process = searches.start(LONGER_GRID, "grid", "--wandb", "disabled", "--address", cluster.address)
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: is_in_the_middle(run, EPOCHS))
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    finish(process)
    assert [record.state for record in run.read_trials()] == ["done"] * 6
    assert [numbers(record) for record in run.read_trials()] == [numbers(record) for record in alone.read_trials()]


def test_a_spot_machine_with_a_notice_releases_its_trial_within_an_epoch(cluster: Any, searches: Searches) -> None:
    options = ("--wandb", "disabled", "--address", cluster.address, "--concurrent-trials", "2", "--max-failures", "0")
    process = searches.start(FREE, "grid", *options)
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: len(list((run.folder / "trials").glob("*/lease.json"))) == 2)
    with metadata_service() as service:
        watcher = watch_for_notice(cluster, cluster.nodes[0].node_id, service)
        assert service.was_asked.wait(60)
        service.begin_notice()
        assert watcher.wait(60) == 0
    began = time.monotonic()
    wait_until(lambda: any((folder / "last.safetensors").exists() for folder in (run.folder / "trials").iterdir()))
    print(f"a checkpoint {time.monotonic() - began:.1f} s after the notice")
    wait_until(lambda: max(lease(folder) for folder in (run.folder / "trials").iterdir()) > 2)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    finish(process)
    assert [record.state for record in run.read_trials()] == ["done"] * 2
    assert [[row.epoch for row in record.epochs] for record in run.read_trials()] == [[1, 2]] * 2


def test_the_winner_is_judged_on_a_node_and_on_another_where_that_is_lost(cluster: Any, searches: Searches) -> None:
    """With the numbers, to the bit, of a search on one machine with as many threads."""
    here = searches.on_one_core().run(SHORT_GRID, "here", "--wandb", "disabled")
    process = searches.start(SHORT_GRID, "grid", "--wandb", "disabled", "--address", cluster.address)
    wait_until(lambda: processes(os.environ[MARK], "ray::Judge") or process.poll() is not None)
    (judge,) = processes(os.environ[MARK], "ray::Judge")
    os.kill(judge, signal.SIGSTOP)  # its node is lost before it can answer
    cluster.remove_node(node_of(cluster, judge), allow_graceful=False)
    _, log = finish(process)
    kill(judge)
    assert "does not answer" in log or "has died; another one is asked" in log
    run = Run(searches.folder / "runs" / "grid")
    assert len(run.read_search().test_readings) == 1
    assert run.read_search().verdict == here.read_search().verdict
    for name in ("predictions.csv", "model.safetensors", "calibration.json", "slices.csv"):
        assert (run.best_dir / name).read_bytes() == (here.best_dir / name).read_bytes(), name


def node_of(cluster: Any, pid: int) -> Any:
    """The node of a cluster whose raylet has started a process."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return next(node for node in cluster.nodes if node.all_processes["raylet"][0].process.pid == parent)


def lease(folder: Path) -> int:
    """The count in the lease of a trial: how often trials had been taken when it was taken last."""
    file = folder / "lease.json"
    return int(file.read_text().rpartition(",")[2].strip("] \n")) if file.exists() else 0


def watch_for_notice(cluster: Any, node_id: str, service: MetadataService) -> subprocess.Popen[bytes]:
    """What runs on a spot machine beside its node of Ray."""
    command = [sys.executable, "-m", "ferray.search.fleet.spot_notice", "--address", cluster.address]
    environment = {**os.environ, ENDPOINT_VARIABLE: service.address}
    return subprocess.Popen([*command, "--node-id", node_id], env=environment)
