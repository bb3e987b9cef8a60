"""Two searches at once: with one name, and with two names on one cluster."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.process import wait_until
from fixtures.search import Searches, finish, table

from ferray.commands.search import parse
from ferray.data.store.reader import Store
from ferray.errors import RecordError, StorageError
from ferray.files import storage
from ferray.model.weights import load_weights
from ferray.records.run import Run
from ferray.search.fleet.cluster import Cluster
from ferray.search.open import open_search
from ferray.search.plan import Plan, make_plan

pytestmark = pytest.mark.timeout(900)  # a search takes 25 s, and 200 on a machine that is busy

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  learning_rate: {values: [0.01, 0.001]}
  epochs: {value: 3}
  batch_size: {value: 16}
"""


@pytest.fixture
def searches(tmp_path: Path, tiny_store: Store) -> Searches:
    return Searches(tmp_path, tiny_store)


def plan_of(searches: Searches, name: str, *options: str) -> Plan:
    """As the command makes it."""
    file = searches.folder / "grid.yaml"
    file.write_text(GRID)
    places = ["--data", str(searches.store.folder), "--weights", "none", "--out", str(searches.folder / "runs")]
    asked = ["--space", str(file), "--name", name, "--wandb", "disabled", *places, *options]
    return make_plan(parse(asked))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a search except its lock."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_of_two_that_planned_the_same_name_the_second_is_refused_and_changes_nothing(searches: Searches) -> None:
    first, second = plan_of(searches, "same"), plan_of(searches, "same", "--seed", "7")  # both before either began
    weights = {"vgg16": load_weights("none", "vgg16")}
    begun = open_search(first, None, searches.store, weights, say=print)
    before = content(first.run.folder)
    with pytest.raises(RecordError, match="a search of this name is there"):
        open_search(second, None, searches.store, weights, say=print)
    assert content(first.run.folder) == before
    assert first.run.read_search().id == begun.history.search.id


def test_a_search_whose_folder_is_in_use_is_refused_and_changes_nothing(searches: Searches) -> None:
    from ferray.search.run import run
    from ferray.signals import StopRequest

    plan = plan_of(searches, "same")
    open_search(plan, None, searches.store, {"vgg16": load_weights("none", "vgg16")}, say=print)
    before = content(plan.run.folder)
    alone = Cluster(cpus=1, gpus=0, nodes=1, joined=False)  # never used
    with (
        storage.lock(plan.run.folder / ".lock"),
        pytest.raises(StorageError, match="another process is using this folder"),
    ):
        run(plan, None, alone, StopRequest())
    assert content(plan.run.folder) == before


@pytest.mark.slow
def test_of_two_searches_started_together_with_one_name_one_ends_as_if_alone(searches: Searches) -> None:
    alone = searches.run(GRID, "alone", "--wandb", "disabled")
    both = [searches.start(GRID, "same", "--wandb", "disabled") for _ in range(2)]
    said = [process.communicate(timeout=250)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    refusal = said[codes.index(2)]
    assert "another process is using this folder" in refusal or "a search of this name is there" in refusal
    assert "Traceback" not in refusal
    run = Run(searches.folder / "runs" / "same")
    assert table(run) == table(alone)
    assert len(run.read_search().test_readings) == len(run.read_search().sessions) == 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a node with two CPUs that was there before any search; apart, since Ray's settings are a process's."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    port = free_port()
    ray = Path(sys.executable).parent / "ray"
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        asked = [ray, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
        asked += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={temporary}"]
        asked += [f"--dashboard-agent-listen-port={free_port()}"]
        with (Path(temporary) / "log").open("w") as log:
            process = subprocess.Popen(asked, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: process.poll() is not None or answers(port))
            assert process.poll() is None, Path(log.name).read_text()
            yield f"127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def held(address: str) -> list[str]:
    """Living actors of a cluster, placement groups that hold resources, and resources that are taken.

    One actor is Ray's own: it serves all that train there, lives as long as the cluster and holds no resources.
    """
    code = (
        "import json, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "from ray._private.state import actors\n"
        "from ray.util import placement_group_table\n"
        "alive = {a['ActorClassName'] for a in actors().values() if a['State'] != 'DEAD'}\n"
        "alive = list(alive - {'_AutoscalingCoordinatorActor'})\n"
        "groups = [g['name'] for g in placement_group_table().values() if g['state'] != 'REMOVED']\n"
        "total, free = ray.cluster_resources(), ray.available_resources()\n"
        "taken = [k for k in ('CPU', 'GPU') if total.get(k, 0) != free.get(k, 0)]\n"
        "print('\\n' + json.dumps(alive + groups + taken))"
    )
    asked = [sys.executable, "-c", code, address]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=100, env=os.environ.copy(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.cluster
def test_two_searches_on_one_cluster_have_the_numbers_of_one_alone_and_leave_nothing_there(
    cluster: str, searches: Searches
) -> None:
    options = ("--wandb", "disabled", "--address", cluster)
    both = [searches.start(GRID, name, *options) for name in ("one", "other")]
    for process in both:
        finish(process)
    tables = [table(Run(searches.folder / "runs" / name)) for name in ("one", "other")]
    assert [state for _, state, _ in tables[0].values()] == ["done"] * 4
    assert tables[0] == tables[1]
    alone = searches.run(GRID, "alone", *options)
    assert table(alone) == tables[0]
    wait_until(lambda: held(cluster) == [], within_s=30)
    assert [path.name for path in (searches.folder / "runs").rglob(".ray-*")] == []
