"""clusters/slurm.sh on simulated hosts, with a stand-in of srun and scontrol: no Slurm has run it.

pytest -m slow tests/cluster/test_slurm.py -s        # prints how long each step takes
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.machines import REPOSITORY, SHARED, Clock, Machines, end, simulated
from fixtures.process import wait_until

from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1500)]

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {value: 0.001}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 60}
  batch_size: {value: 16}
"""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with simulated(tmp_path, 2) as made:
        stand_in = REPOSITORY / "tests" / "fixtures" / "slurm_stand_in.sh"
        for name in ("srun", "scontrol"):
            (made.shared / "bin").mkdir(exist_ok=True)
            (made.shared / "bin" / name).write_text(stand_in.read_text())
            (made.shared / "bin" / name).chmod(0o755)
        (made.shared / "grid.yaml").write_text(SPACE)
        yield made


def job(machines: Machines) -> list[str]:
    """The script as Slurm begins it on the first node, and its options."""
    variables = {
        "PATH": f"{SHARED}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "VENV": machines.environment["HOSTS_PATH"].removesuffix("/bin"),
        "PYTHONPATH": str(REPOSITORY),
        "OUT": f"{SHARED}/runs",
        "NAME": "first",
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "1",
        "SHARED_DISK": SHARED,
    }
    options = ["--space", f"{SHARED}/grid.yaml", "--wandb", "disabled"]
    return ["env", *(f"{name}={value}" for name, value in variables.items()), "bash", "clusters/slurm.sh", *options]


def processes(machines: Machines, host: str) -> list[str]:
    return machines.run(host, "ps", "axo", "comm").split()


def test_a_search_that_runs_out_of_time_is_put_back_goes_on_and_leaves_no_process(machines: Machines) -> None:
    clock = Clock()
    run = Run(machines.shared / "runs" / "first")
    first = machines.begin("h1", *job(machines))
    wait_until(lambda: run.exists() and any(len(one.epochs) > 5 for one in run.read_trials()), within_s=600)
    clock.note("the search trains")
    (pid,) = [line.split()[0] for line in machines.run("h1", "ps", "axo", "pid,args").splitlines()
              if "bash clusters/slurm.sh --space" in line and "env" not in line][:1]  # fmt: skip
    machines.run("h1", "kill", f"-{signal.SIGUSR1.value}", pid)
    out, _ = first.communicate(timeout=200)
    clock.note(f"told that its time is up, it has ended with {first.returncode}")
    assert first.returncode == 130, out[-3000:]
    assert (machines.shared / "scontrol.log").read_text() == "requeue 4711\n"
    num_ended = sum(record.state == "done" for record in run.read_trials())
    assert num_ended < 2
    for host in ("h1", "h2"):
        wait_until(lambda host=host: "raylet" not in processes(machines, host), within_s=60)

    print(out := end(machines.begin("h1", *job(machines)), limit_s=600))
    clock.note("the same job again")
    assert "test accuracy of trial" in out
    assert [record.state for record in run.read_trials()] == ["done"] * 2
    sessions = run.read_search().sessions
    assert len(sessions) == 2
    assert (machines.shared / "scontrol.log").read_text() == "requeue 4711\n", "it was not put back again"
    for host in ("h1", "h2"):
        wait_until(lambda host=host: "raylet" not in processes(machines, host), within_s=60)
    clock.note("no process of Ray is left")
