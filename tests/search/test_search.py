"""Whole searches, as a user runs them: real Ray, real torch, real wandb offline; 32-pixel faces, random weights."""

import dataclasses
import itertools
import json
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
import pytest
from fixtures.disturbed import NUM_EPOCHS, NUM_TRIALS, OWN_LIMIT, Disturbed
from fixtures.search import Searches, kill, numbers, table, threads_of, wait_for_line
from fixtures.shared import set_environment
from fixtures.undisturbed import Undisturbed

from ferray import recipe as recipes
from ferray.api import folder as fit_folder_module
from ferray.api import searching
from ferray.commands.report import main as evaluate
from ferray.data.store.reader import Store
from ferray.model.weights import load_weights
from ferray.records.run import Run
from ferray.search.fleet.groups import KEEP_MEMORY
from ferray.search.options import SearchOptions
from ferray.search.session import open_plan
from ferray.signals import StopRequest
from ferray.tracking.offline import read_offline_runs
from ferray.train.fit import fit

ASHA = """\
method: random
metric: {name: val_loss, goal: minimize}
run_cap: 10
early_terminate: {type: hyperband, min_iter: 1, eta: 3}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 0.00001, max: 0.1}
  dropout: {min: 0.0, max: 0.8}
  epochs: {value: 9}
  batch_size: {value: 16}
"""

EXPORTED = ("model.safetensors", "recipe.json", "classes.json", "preprocessing.json")
"""The files of a best model that make it usable; the others tell of it."""

BAYES = """\
method: bayes
metric: {name: val_accuracy, goal: maximize}
run_cap: 4
parameters:
  learning_rate: {distribution: log_uniform_values, min: 0.00001, max: 0.1}
  optimizer: {values: [adam, sgd]}
  epochs: {value: 1}
"""


pytestmark = pytest.mark.timeout(900)  # a limit for hangs: on a busy machine a search takes minutes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searches")


@pytest.fixture
def searches(folder: Path, tiny_store: Store) -> Searches:
    return Searches(folder, tiny_store)


@pytest.fixture(scope="module")
def grid(undisturbed: Undisturbed, folder: Path) -> Run:
    """A copy of the grid that nothing disturbed; tests resume it."""
    shutil.copytree(undisturbed.run.folder, folder / "runs" / "grid")
    return Run(folder / "runs" / "grid")


def test_a_search_leaves_a_record_of_every_point_and_a_table_that_says_the_same(grid: Run) -> None:
    records = grid.read_trials()
    assert [record.state for record in records] == ["done"] * 6
    assert [record.number for record in records] == list(range(6))
    assert all(len(record.epochs) == 3 for record in records)
    for frame in (
        pandas.read_parquet(grid.folder / "trials.parquet"),
        pandas.read_csv(grid.folder / "trials.csv", dtype={"trial_id": str}),
    ):
        assert frame["trial_id"].tolist() == [record.trial_id for record in records]
        assert frame["best_val_accuracy"].tolist() == pytest.approx([record.score() for record in records])
        assert frame.columns.tolist()[4:6] == ["dropout", "learning_rate"]
        assert frame["began"].notna().all()
    metrics = json.loads((grid.best_dir / "metrics.json").read_text())
    tested = frame[frame["test_accuracy"].notna()]
    assert tested["trial_id"].tolist() == [grid.read_search().best.trial_id]
    assert tested["test_accuracy"].tolist() == pytest.approx([metrics["accuracy"]])
    assert len(pandas.read_parquet(grid.folder / "epochs.parquet")) == sum(len(record.epochs) for record in records)


@dataclass(frozen=True)
class Completed:
    """The grid that was resumed with `--json` after its reading of the test split had been cut off."""

    out: str
    err: str
    score_before: float


@pytest.fixture(scope="module")
def completed(grid: Run, folder: Path, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Completed:
    score = json.loads((grid.best_dir / "metrics.json").read_text())["accuracy"]
    (grid.best_dir / "metrics.json").unlink()
    grid.write_search(grid.read_search().changed(best=None))
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, tmp_path_factory)
        out, err = Searches(folder, tiny_store).resume_here("grid", "--json")
    return Completed(out, err, score)


def test_with_json_stdout_is_one_object_and_a_plan_knows_the_rate_that_was_measured(
    grid: Run, completed: Completed, searches: Searches
) -> None:
    said, err = json.loads(completed.out), completed.err
    assert "nothing to train" in err
    assert said["state"] == "done"
    assert said["trials"] == {"done": 6}
    assert said["best"]["trial_id"] == grid.read_search().best.trial_id
    assert said["test"] == json.loads((grid.best_dir / "metrics.json").read_text())
    assert said["points"][0]["score"] == said["best"]["score"]
    card = (grid.best_dir / "README.md").read_text()
    for edge in said["edges"]:
        assert edge["command"] in card
        assert edge["setting"] in ("dropout", "learning_rate")

    planned = json.loads(searches.resume_here("grid", "--json", "--dry-run", "--set", "learning_rate=[0.1,0.01]")[0])
    assert (planned["state"], planned["new_points"], planned["new_trials"]) == ("planned", 2, 2)
    assert planned["seconds"] > 0
    assert "by search grid, " in planned["time"]


def test_the_best_trial_is_the_best_by_validation_and_its_test_score_was_read_once(
    grid: Run, tiny_store: Store
) -> None:
    search = grid.read_search()
    best = max(grid.read_trials(), key=lambda record: (record.score(), -record.best().epoch, -record.number))  # type: ignore[union-attr]
    assert search.best.trial_id == best.trial_id
    assert len(search.test_readings) == 1
    metrics = json.loads((grid.best_dir / "metrics.json").read_text())
    assert metrics["n"] == 21
    low, high = metrics["interval"]
    assert low <= metrics["accuracy"] <= high
    for name in (
        "model.safetensors",
        "recipe.json",
        "classes.json",
        "preprocessing.json",
        "README.md",
        "confusion.png",
    ):
        assert (grid.best_dir / name).stat().st_size > 0
    for name in ("report.html", "heatmap.png", "curves.png", "space.yaml", "journal.jsonl"):
        assert (grid.folder / name).stat().st_size > 0


def test_evaluate_repeats_the_test_score_from_the_folder_alone(
    grid: Run, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the search around the folder, which has the score on record."""
    best_dir = shutil.copytree(grid.best_dir, tmp_path / "best")
    metrics = json.loads((best_dir / "metrics.json").read_text())
    for file in set(best_dir.iterdir()) - {best_dir / name for name in EXPORTED}:
        file.unlink()
    with threads_of(grid.read_trials()[0]):
        asked = ["evaluate", str(best_dir), "--data", str(tiny_store.folder), "--split", "test", "--json"]
        assert evaluate([*asked, "--device", "cpu"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {name: again[name] for name in ("accuracy", "macro_f1", "confusion", "interval")} == {
        name: metrics[name] for name in ("accuracy", "macro_f1", "confusion", "interval")
    }


def test_every_trial_is_a_wandb_run_that_says_what_the_record_says(grid: Run) -> None:
    runs = {run.id: run for run in read_offline_runs(grid.folder / "wandb")}
    search_id = grid.read_search().id
    for record in grid.read_trials():
        run = runs[f"{search_id}-{record.trial_id}"]
        assert run.exit_code == 0
        assert run.config["learning_rate"] == record.recipe.learning_rate
        assert run.config["search_id"] == search_id
        assert run.config["data_fingerprint"] == grid.read_search().data.fingerprint
        assert run.group == f"grid-{search_id}"
        assert [row["val_accuracy"] for row in run.history] == [row.val_accuracy for row in record.epochs]
        assert [row["epoch"] for row in run.history] == [1, 2, 3]


def test_a_finished_search_that_is_resumed_changes_nothing_reads_no_test_split_and_says_its_end_in_80_columns(
    grid: Run, searches: Searches
) -> None:
    before = (table(grid), (grid.folder / "journal.jsonl").read_bytes(), grid.read_search().test_readings)
    openings = grid.read_search().openings
    out, err = searches.resume_here("grid")
    assert grid.read_search().openings == (openings or 0) + 1, "no two sessions have one number"
    assert "nothing to train" in err
    assert (table(grid), (grid.folder / "journal.jsonl").read_bytes(), grid.read_search().test_readings) == before
    too_wide = [line for line in out.splitlines() if len(line) > 80 and not line.startswith("    ")]  # commands
    assert not too_wide
    assert f"{grid.read_search().best.score:.4f}" in out


def test_a_reading_of_the_test_split_that_was_cut_off_is_completed(grid: Run, completed: Completed) -> None:
    assert json.loads((grid.best_dir / "metrics.json").read_text())["accuracy"] == completed.score_before
    assert len(grid.read_search().test_readings) == 1


def test_a_grid_killed_in_its_middle_and_resumed_ends_with_the_same_table(
    disturbed: Disturbed, tiny_store: Store
) -> None:
    """A worker and Ctrl-C came before, a failed trial in between: each trial has the numbers that it has alone."""
    records = disturbed.run.read_trials()
    assert disturbed.codes == [130, -signal.SIGKILL, 0]
    assert [(record.number, record.state) for record in records] == [(number, "done") for number in range(NUM_TRIALS)]
    killed = {trial_id for trial_id, state in disturbed.states[1].items() if state == "running"}
    assert killed
    for before, after in itertools.pairwise([*disturbed.epochs, {one.trial_id: len(one.epochs) for one in records}]):
        assert all(after[trial_id] >= num for trial_id, num in before.items())
    points = [(one.recipe.dropout, one.recipe.learning_rate) for one in records]
    assert points == list(itertools.product((0.0, 0.25, 0.5), (0.01, 0.003, 0.001, 0.0001)))
    weights = load_weights("none", "vgg16")
    for record in records:
        fingerprints = {"data_fingerprint": tiny_store.fingerprint, "weights_fingerprint": weights.fingerprint}
        assert record.trial_id == recipes.trial_id(record.recipe, **fingerprints)
        if record.trial_id in killed:
            with threads_of(record):
                alone = tuple(fit(record.recipe, tiny_store, weights))
            assert numbers(record) == numbers(dataclasses.replace(record, epochs=alone))


@pytest.mark.slow
def test_successive_halving_killed_and_resumed_keeps_every_epoch_and_decision(searches: Searches) -> None:
    process = searches.on_one_core().start(ASHA, "asha", "--wandb", "disabled")
    wait_for_line(process, r"^4/10")
    kill(process)
    run = Run(searches.folder / "runs" / "asha")
    journal = (run.folder / "journal.jsonl").read_bytes()
    whole = journal[: journal.rfind(b"\n") + 1]
    before = {record.trial_id: numbers(record) for record in run.read_trials()}
    searches.on_one_core().resume("asha")
    assert (run.folder / "journal.jsonl").read_bytes().startswith(whole)
    after = table(run)
    for trial_id, rows in before.items():
        assert after[trial_id][2][: len(rows)] == rows
    assert {record.state for record in run.read_trials()} == {"done", "stopped"}
    assert {event["state"] for event in run.journal().read() if event["event"] == "end"} == {"done", "stopped"}
    assert len(after) == 10
    journal = (run.folder / "journal.jsonl").read_bytes()
    searches.resume("asha")
    assert (run.folder / "journal.jsonl").read_bytes() == journal
    assert table(run) == after


@pytest.mark.slow
def test_finalists_that_were_stopped_early_are_trained_to_their_end_with_the_numbers_of_an_undisturbed_run(
    searches: Searches, tiny_store: Store
) -> None:
    run = searches.run(ASHA, "finals", "--wandb", "offline")
    stopped = {record.trial_id: record for record in run.read_trials() if record.state == "stopped"}
    assert stopped
    journal = run.journal().file.read_bytes()

    _, err = searches.resume("finals", "--replicates", "2", "--finalists", "9")
    assert run.journal().file.read_bytes() == journal, "what the search proper decided stays"
    finalists = [record for record in run.read_trials() if record.recipe.seed == 0 and record.complete]
    assert len(finalists) == 9
    completed = [record for record in finalists if record.trial_id in stopped]
    assert completed
    for record in completed:
        before = stopped[record.trial_id]
        assert record.state == "done"
        assert numbers(record)[: len(before.epochs)] == numbers(before)
    assert "W&B" not in err
    with threads_of(completed[0]):
        alone = fit(completed[0].recipe, tiny_store, load_weights("none", "vgg16"))
        assert [row.val_loss for row in alone] == [row.val_loss for row in completed[0].epochs]
    table_before = table(run)
    searches.resume("finals")
    assert table(run) == table_before


@dataclass(frozen=True)
class Bayes:
    """Optuna's search over folds, whose best fold was kept at first, and then a refit after finals."""

    run: Run
    proper: dict[str, Any]
    """Its table before the finals."""
    first_kept: str


@pytest.fixture(scope="module")
def bayes(folder: Path, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Bayes:
    """Two workers train each trial of the finals and the refit, one each of the others."""
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, tmp_path_factory)
        searches = Searches(folder, tiny_store)
        options = ("--wandb", "disabled", "--folds", "2", "--keep", "best-fold")
        run = searches.on_one_core().run(BAYES, "bayes", *options)
        proper, kept = table(run), run.read_search().best.trial_id
        more = ("--replicates", "2", "--finalists", "1", "--keep", "refit", "--workers-per-trial", "2")
        searches.resume("bayes", *more)
    return Bayes(run, proper, kept)


@pytest.mark.slow
def test_optuna_suggests_by_means_over_folds_and_a_resumed_search_goes_on_to_finals_and_refit(
    bayes: Bayes, searches: Searches
) -> None:
    run, proper = bayes.run, bayes.proper
    events = [event for event in run.journal().read() if event["event"] == "suggest"]
    assert [event["point"]["fold"] for event in events] == [0, 1] * 4
    assert len({event["point"]["learning_rate"] for event in events}) == 4
    assert bayes.first_kept in proper

    after = table(run)
    added = [record for record in run.read_trials() if record.trial_id not in proper]
    assert [(record.recipe.seed, record.recipe.fold) for record in added] == [(1, 0), (1, 1), (0, None)]
    assert {trial_id: after[trial_id] for trial_id in proper} == proper
    search = run.read_search()
    assert search.best.trial_id == added[-1].trial_id
    assert len(search.test_readings) == 1  # for the model that was kept at first
    assert not (run.best_dir / "metrics.json").exists()
    assert search.verdict["luck"]["corrected"] <= search.verdict["luck"]["best"]

    out, err = searches.resume("bayes")
    assert "nothing to train" in err
    assert "--resume bayes --again" in out
    searches.resume("bayes", "--again")
    readings = run.read_search().test_readings
    assert [reading.trial_id for reading in readings] == [search.test_readings[0].trial_id, added[-1].trial_id]
    assert (run.best_dir / "metrics.json").exists()
    assert table(run) == after


@pytest.mark.slow
def test_two_workers_train_one_trial_with_the_numbers_of_one(bayes: Bayes, tiny_store: Store) -> None:
    groups = [session.groups for session in bayes.run.read_search().sessions]
    assert [one["workers"] for one in groups] == [1, 2]
    of_two = [record for record in bayes.run.read_trials() if record.trial_id not in bayes.proper]
    assert len(of_two) == 3
    for record in of_two:
        alone = list(fit(record.recipe, tiny_store, load_weights("none", "vgg16")))
        for row, other in zip(record.epochs, alone, strict=True):
            assert row.train_loss == pytest.approx(other.train_loss, rel=1e-3)
            assert row.val_loss == pytest.approx(other.val_loss, rel=1e-3)


def test_workers_keep_their_memory_where_the_user_says_nothing_else(disturbed: Disturbed) -> None:
    assert disturbed.environments
    for variables in disturbed.environments:
        assert {name: variables.get(name) for name in KEEP_MEMORY} == KEEP_MEMORY | OWN_LIMIT


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(disturbed: Disturbed) -> None:
    assert disturbed.codes[0] == 130
    assert "--resume grid" in disturbed.said[0]
    assert "done" in disturbed.states[0].values()
    assert set(disturbed.states[0].values()) <= {"done", "interrupted", "queued"}
    assert disturbed.had_tables


def test_a_search_that_python_goes_on_with_ends_as_with_the_command(disturbed: Disturbed) -> None:
    """The last session was `ferray.search(resume=...)`, which trained what two commands had left."""
    records = {record.trial_id: record for record in disturbed.run.read_trials()}
    assert set(disturbed.states[0]) <= set(records)
    assert {record.state for record in records.values()} == {"done"}
    assert disturbed.python["is_finished"]
    assert disturbed.python["best"] == disturbed.run.read_search().best.trial_id
    assert disturbed.python["scores"] == [record.score() for record in records.values()]
    metrics = json.loads((disturbed.run.best_dir / "metrics.json").read_text())
    assert disturbed.python["accuracy"] == metrics["accuracy"]
    assert disturbed.python["epochs"]
    for trial_id in records:
        epochs = [epoch for one, epoch in disturbed.python["epochs"] if one == trial_id]
        assert epochs == list(range(NUM_EPOCHS - len(epochs) + 1, NUM_EPOCHS + 1)), "in order, to the last"
        assert not epochs or disturbed.states[1].get(trial_id) != "done", "what is finished is not trained again"


def test_the_examples_of_the_documentation_run(
    grid: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures are prepared and plans made; in place of a search that trains, the one of this module is there."""

    def go_on(options: SearchOptions, stop: StopRequest, *, observers: Any, **_: object) -> tuple[Any, bool]:
        with open_plan(options) as (plan, _):
            pass
        if not plan.run.exists():
            shutil.copytree(grid.folder, plan.run.folder)
        for observer in observers:
            (record, *_) = grid.read_trials()
            observer.trial_started(dataclasses.replace(record, epochs=()))
            observer.epoch_ended(record.trial_id, record.epochs[0])
        return plan, not stop.is_set()

    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            cv2.imwrite(f"{tmp_path}/pets/{name}/{number}.png", random.integers(0, 255, (40, 32, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "run_session", go_on)
    monkeypatch.setattr(fit_folder_module, "run_session", go_on)
    text = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    out, err = capsys.readouterr()
    assert out.startswith("search first: finished, 6 trials")
    assert "pets/dog/1.png" in out
    assert names["search"].name == "pets"
    assert "check: " in err
