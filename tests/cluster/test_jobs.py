"""A search as a job of a cluster of clusters/local.yaml, and who is refused there, on simulated machines.

pytest -m slow tests/cluster/test_jobs.py -s        # prints how long each step takes
"""

import importlib.util
import re
import subprocess
from collections.abc import Iterator

import pytest
from fixtures.machines import REPOSITORY, SHARED, Clock, OwnMachines, simulated
from fixtures.process import wait_until

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(2500)]

DASHBOARD = "http://127.0.0.1:8265"
SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {value: 0.001}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 400}
  batch_size: {value: 16}
"""


class Jobs(OwnMachines):
    """The cluster, asked on its head, where `ray dashboard` leads through ssh."""

    def ask(self, *words: str, mode: str = "token", token: str = "") -> "subprocess.CompletedProcess[str]":
        """A command of Ray's on the head, with the head's token, or with none, or with another one."""
        variables = {"token": ["RAY_AUTH_MODE=token"], "off": ["RAY_AUTH_MODE=disabled"]}[mode]
        if token:
            variables += [f"RAY_AUTH_TOKEN={token}"]
        process = self.machines.begin("h1", "env", *variables, *words)
        out, _ = process.communicate(timeout=200)
        return subprocess.CompletedProcess(words, process.returncode, out, "")

    def job(self, act: str, *words: str) -> str:
        done = self.ask("ray", "job", act, "--address", DASHBOARD, *words)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    if importlib.util.find_spec("aiohttp_cors") is None:
        pytest.skip("jobs need ray[default]: pip install -e '.[cluster]'")
    with simulated(tmp_path_factory.mktemp("m"), 2) as machines:
        made = Jobs(machines)
        machines.run("laptop", "ray", "get-auth-token", "--generate")
        (machines.shared / "grid.yaml").write_text(SPACE)
        made.write_file("10.77.0.12")
        print(made.hosts("start"))
        yield made


REQUEST = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": sys.argv[2]} if len(sys.argv) > 2 else {})
try:
    print("status", urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print("status", error.code)
except urllib.error.URLError as error:
    print("status", "none:", error.reason)
"""
INIT = "import ray; ray.init(address='10.77.0.11:6379', logging_level='ERROR'); print('nodes', len(ray.nodes()))"
WRONG = "0" * 64


def test_whoever_has_no_token_is_refused_by_http_by_jobs_and_by_ray_itself(cluster: Jobs) -> None:
    clock = Clock()
    token = (cluster.machines.home("h1") / ".ray" / "auth_token").read_text().strip()

    def status(*header: str, host: str = "h1", address: str = DASHBOARD) -> str:
        out = cluster.machines.run(host, "python", "-c", REQUEST, f"{address}/api/jobs/", *header)
        return out.strip().removeprefix("status ")

    assert status() == "401"
    assert status(f"Bearer {WRONG}") == "403"
    assert status(f"Bearer {token}") == "200"
    assert "refused" in status(f"Bearer {token}", host="h2", address="http://10.77.0.11:8265"), "loopback alone"
    clock.note("four requests by HTTP")

    submit = ("ray", "job", "submit", "--address", DASHBOARD, "--", "touch", f"{SHARED}/was-here")
    for done in (cluster.ask(*submit, mode="off"), cluster.ask(*submit, token=WRONG)):
        assert done.returncode != 0
        assert "AuthenticationError" in done.stdout
    clock.note("two jobs")

    for done in (cluster.ask("python", "-c", INIT, mode="off"), cluster.ask("python", "-c", INIT, token=WRONG)):
        assert done.returncode != 0
        assert "nodes" not in done.stdout.splitlines()[-1]
    clock.note("two drivers")
    allowed = cluster.ask("python", "-c", INIT)
    assert "nodes 2" in allowed.stdout, allowed.stdout[-2000:]
    assert not (cluster.machines.shared / "was-here").exists()


def test_a_search_runs_as_a_job_is_stopped_and_goes_on(cluster: Jobs) -> None:
    clock = Clock()
    run = Run(cluster.machines.shared / "runs" / "first")
    search = f"cd {REPOSITORY} && PYTHONPATH={REPOSITORY} python -m ferray.search --address auto --wandb disabled"
    first = f"{search} --space {SHARED}/grid.yaml --out {SHARED}/runs --name first"
    job = submit(cluster, first)
    wait_until(lambda: run.exists() and any(len(one.epochs) > 5 for one in run.read_trials()), within_s=600)
    clock.note("the search trains, as a job")
    assert "search first: 2 points" in cluster.job("logs", job)
    cluster.job("stop", job)
    clock.note("ray job stop, which waits for the end")
    assert "was stopped" in (status := cluster.job("status", job)), status
    assert sum(record.state == "done" for record in run.read_trials()) < 2
    print(cluster.job("logs", job)[-1500:])

    again = submit(cluster, f"{search} --out {SHARED}/runs --resume first")
    wait_until(lambda: "succeeded" in cluster.job("status", again), every_s=2.0, within_s=900)
    clock.note("another job, with --resume")
    assert [record.state for record in run.read_trials()] == ["done"] * 2
    assert "test accuracy of trial" in cluster.job("logs", again)


def submit(cluster: Jobs, command: str) -> str:
    out = cluster.job("submit", "--no-wait", "--", "bash", "-c", command)
    found = re.search(r"raysubmit_\w+", out)
    assert found is not None, out
    return found[0]
