"""Points that W&B's own scheduler asks for: through its agent, they are trained as a search would train them."""

import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fixtures.data import write_tiny_store
from fixtures.search import OnOneCore, numbers
from fixtures.tracking import make_record, make_row
from fixtures.wandb_server import WandbServer
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from ferray.commands.train import read_recipe_file
from ferray.space import points, read_space, to_recipe
from ferray.tracking.agent import AgentRun
from ferray.tracking.names import AgentTask

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "search_spaces").glob("*.yaml"))
SPACE = """\
program: ferray.train
command: ["${env}", "${interpreter}", -m, "${program}", --recipe, "${args_json_file}", --data, "${envvar:FERRAY_DATA}"]
project: faces
method: grid
metric: {name: val_loss, goal: minimize}
parameters:
  optimizing: {parameters: {momentum: {value: 0.8}, schedule: {parameters: {step_epochs: {value: 3}}}}}
  learning_rate: {values: [0.001, 0.0001]}
  hidden_units: {value: null}
  shuffle_labels: {value: false}
  weights: {value: none}
  batch_size: {value: 16}
  epochs: {value: 2}
  monitor: {value: val_loss}
"""


def args_of(values: dict[str, Any]) -> dict[str, Any]:
    """What an agent has for the macros of a command."""
    return create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_recipe_of_an_agent_is_that_of_the_search(file: Path, tmp_path: Path) -> None:
    space = read_space(file)
    fixed = {one.name: one.value_at(0) for one in space.parameters if one.num_values == 1}
    drawn = read_space(file, text=file.read_text().replace("method: bayes", "method: random"))
    recipe_file = tmp_path / "args.json"
    for point in islice(points(drawn, seed=0), 5):
        recipe_file.write_text(args_of({**fixed, **point})["args_json"][0])

        assert read_recipe_file(recipe_file) == to_recipe(space, point, seed=0)


def test_groups_null_and_false_arrive_as_they_are(tmp_path: Path) -> None:
    values = {"optimizing": {"momentum": 0.8, "schedule": {"step_epochs": 3}}, "hidden_units": None}
    recipe_file = tmp_path / "args.json"
    recipe_file.write_text(args_of({**values, "shuffle_labels": False})["args_json"][0])
    recipe = read_recipe_file(recipe_file)

    assert (recipe.momentum, recipe.step_epochs, recipe.hidden_units) == (0.8, 3, None)
    assert recipe.shuffle_labels is False


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_command_of_a_shipped_space_becomes_that_of_the_training(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERRAY_DATA", "data/expw")
    command = [word.plain() for word in _top(file)["command"].sequence()]

    assert create_sweep_command(command) == [
        *("${env}", "${interpreter}", "-m", "${program}", "--recipe", "${args_json_file}", "--data", "data/expw")
    ]
    assert _top(file)["program"].value == "ferray.train"


def _top(file: Path) -> dict[str, Any]:
    from ferray.space.nodes import read_yaml

    return read_yaml(file.read_text(), file=str(file)).mapping()


@pytest.fixture
def task(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentTask:
    """A sweep with a point that has been given out, as the environment has it."""
    server.add_sweep("mine", "faces")
    for name, value in {"RUN_ID": "run7", "SWEEP_ID": "mine", "PROJECT": "faces", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = AgentTask.from_environment()
    assert found is not None
    return found


def test_a_training_run_is_the_run_that_the_agent_asked_for(task: AgentTask, server: WandbServer) -> None:
    with AgentRun(task, make_record("a"), {"data_fingerprint": "ab12"}) as run:
        run.add(make_row(1))
        run.add(make_row(2))
        run.finish()

    (sent,) = server.runs.values()
    assert (sent.id, sent.sweep, sent.project, sent.state) == ("run7", "mine", "faces", "finished")
    assert [row["epoch"] for row in sent.rows()] == [1, 2]
    assert (sent.config["trial_id"], sent.config["data_fingerprint"]) == ("a", "ab12")
    assert sent.summary["best_val_accuracy"] == make_row(2).val_accuracy
    assert os.environ["WANDB_RUN_ID"] == "run7"


def test_a_training_run_that_fails_or_is_interrupted_has_that_state(task: AgentTask, server: WandbServer) -> None:
    def train(error: BaseException | None) -> None:
        with AgentRun(task, make_record("a"), {}) as run:
            run.add(make_row(1))
            if error is not None:
                raise error

    for error, state, own in (
        (ValueError("too much"), "failed", "failed"),
        (KeyboardInterrupt(), "crashed", "interrupted"),
        (None, "crashed", "interrupted"),
    ):
        if error is None:
            train(None)
        else:
            with pytest.raises(type(error)):
                train(error)
        assert (server.runs["run7"].state, server.runs["run7"].summary["state"]) == (state, own)
        server.runs.clear()


def test_without_an_agent_nothing_is_sent(server: WandbServer) -> None:
    with AgentRun(AgentTask.from_environment(), make_record("a"), {}) as run:
        run.add(make_row(1))
        run.finish()

    assert not server.requests


@pytest.mark.slow
def test_two_calls_of_wandbs_agent_have_the_numbers_of_a_search(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_tiny_store(tmp_path / "store")
    search = OnOneCore(tmp_path, store).run(SPACE, "mine", "--wandb", "online")
    searched = {record.trial_id: record for record in search.read_trials()}
    ((own, sweep),) = server.sweeps.items()
    trials = [run for run in server.runs.values() if run.job_type == "trial"]
    assert (sweep.project, sweep.state, sweep.config["method"]) == ("faces", "FINISHED", "custom")
    assert {(run.sweep, run.state, run.config["space"]) for run in trials} == {(own, "finished", "mine")}
    assert {run.config["trial_id"] for run in trials} == set(searched)
    server.runs.clear()

    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the agent starts `python`
    environment = {**os.environ, "FERRAY_DATA": str(store.folder), "OMP_NUM_THREADS": "1", "PATH": scripts}
    fast = "from wandb.wandb_agent import Agent; Agent.POLL_INTERVAL = 0.2; from wandb.cli.cli import cli; cli()"

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", fast, *words],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=250,
            check=True,
        )  # fmt: skip
        return done.stdout

    found = re.search(r"wandb agent (\S+)", call("sweep", str(tmp_path / "mine.yaml")))
    assert found is not None
    printed = call("agent", "--count", "2", re.sub(r"\x1b.*", "", found[1]))

    assert len(server.runs) == 2, printed
    for run in server.runs.values():
        record = searched[run.config["trial_id"]]
        epochs = [tuple(row[name] for name in NAMES) for row in run.rows()]
        assert epochs == numbers(record)
        assert (run.project, run.state, run.summary["state"]) == ("faces", "finished", "done")
        assert (run.config["momentum"], run.config["step_epochs"], run.config["hidden_units"]) == (0.8, 3, None)
    assert {run.config["trial_id"] for run in server.runs.values()} == set(searched)
    assert {run.sweep for run in server.runs.values()} == set(server.sweeps) - {own}


NAMES = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_macro_f1")
