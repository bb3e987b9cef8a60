"""Whole searches, as a user runs them: real Ray, real torch, real wandb offline; 32-pixel faces, random weights."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest
from fixtures.process import MARK, environment, new_mark, workers
from fixtures.search import Searches, finish, kill, numbers, table, threads_of, wait_for_line

from ferray.data.store.reader import Store
from ferray.model.weights import load_weights
from ferray.records.run import Run
from ferray.search.fleet.groups import KEEP_MEMORY
from ferray.tracking.offline import read_offline_runs
from ferray.train.fit import fit

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  learning_rate: {values: [0.01, 0.001, 0.0001]}
  epochs: {value: 3}
  batch_size: {value: 16}
"""

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

BAYES = """\
method: bayes
metric: {name: val_accuracy, goal: maximize}
run_cap: 4
parameters:
  learning_rate: {distribution: log_uniform_values, min: 0.00001, max: 0.1}
  optimizer: {values: [adam, sgd]}
  epochs: {value: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searches")


@pytest.fixture
def searches(folder: Path, tiny_store: Store) -> Searches:
    return Searches(folder, tiny_store)


@pytest.fixture(scope="module")
def grid(folder: Path, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A grid that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERRAY_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("WANDB_MODE", "offline")
        return Searches(folder, tiny_store).run(GRID, "grid")


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
        assert frame.columns.tolist()[4:6] == ["augmentation", "learning_rate"]
        assert frame["began"].notna().all()
    metrics = json.loads((grid.best_dir / "metrics.json").read_text())
    tested = frame[frame["test_accuracy"].notna()]
    assert tested["trial_id"].tolist() == [grid.read_search().best.trial_id]
    assert tested["test_accuracy"].tolist() == pytest.approx([metrics["accuracy"]])
    assert len(pandas.read_parquet(grid.folder / "epochs.parquet")) == sum(len(record.epochs) for record in records)


def test_with_json_stdout_is_one_object_and_a_plan_knows_the_rate_that_was_measured(
    grid: Run, searches: Searches
) -> None:
    out, err = searches.resume("grid", "--json")
    said = json.loads(out)
    assert "nothing to train" in err
    assert said["state"] == "done"
    assert said["trials"] == {"done": 6}
    assert said["best"]["trial_id"] == grid.read_search().best.trial_id
    assert said["test"] == json.loads((grid.best_dir / "metrics.json").read_text())
    assert said["points"][0]["score"] == said["best"]["score"]
    card = (grid.best_dir / "README.md").read_text()
    for edge in said["edges"]:
        assert edge["command"] in card
        assert edge["setting"] in ("augmentation", "learning_rate")

    planned = json.loads(searches.resume("grid", "--json", "--dry-run", "--set", "learning_rate=[0.1,0.01]")[0])
    assert (planned["state"], planned["new_points"], planned["new_trials"]) == ("planned", 2, 2)
    assert planned["seconds"] > 0
    assert "as fast as search grid here" in planned["time"]


def test_the_text_at_the_end_of_a_search_fits_80_columns(grid: Run, searches: Searches) -> None:
    out, _ = searches.resume("grid")
    too_wide = [line for line in out.splitlines() if len(line) > 80 and not line.startswith("    ")]  # commands
    assert not too_wide
    assert f"{grid.read_search().best.score:.4f}" in out


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


def test_evaluate_repeats_the_test_score_from_the_folder_alone(grid: Run, tiny_store: Store, tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "ferray.report", "evaluate", str(grid.best_dir), "--data", str(tiny_store.folder)]
    done = subprocess.run(
        [*asked, "--split", "test", "--json"], capture_output=True, text=True, check=True, timeout=100
    )
    metrics = json.loads((grid.best_dir / "metrics.json").read_text())
    again = json.loads(done.stdout)
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


def test_a_finished_search_that_is_resumed_changes_nothing_and_reads_no_test_split(
    grid: Run, searches: Searches
) -> None:
    before = (table(grid), (grid.folder / "journal.jsonl").read_bytes(), grid.read_search().test_readings)
    openings = grid.read_search().openings
    _, err = searches.resume("grid")
    assert grid.read_search().openings == (openings or 0) + 1, "no two sessions have one number"
    assert "nothing to train" in err
    assert (table(grid), (grid.folder / "journal.jsonl").read_bytes(), grid.read_search().test_readings) == before


def test_a_reading_of_the_test_split_that_was_cut_off_is_completed(grid: Run, searches: Searches) -> None:
    score = json.loads((grid.best_dir / "metrics.json").read_text())["accuracy"]
    (grid.best_dir / "metrics.json").unlink()
    grid.write_search(grid.read_search().changed(best=None))
    searches.resume("grid")
    assert json.loads((grid.best_dir / "metrics.json").read_text())["accuracy"] == score
    assert len(grid.read_search().test_readings) == 1


def test_a_grid_killed_in_its_middle_and_resumed_ends_with_the_same_table(grid: Run, searches: Searches) -> None:
    process = searches.start(GRID, "killed", "--wandb", "disabled")
    wait_for_line(process, r"^2/6")
    kill(process)
    searches.resume("killed")
    assert table(Run(searches.folder / "runs" / "killed")) == table(grid)


def test_two_workers_train_one_trial_with_the_numbers_of_one(grid: Run, searches: Searches) -> None:
    two = searches.run(GRID, "two", "--workers-per-trial", "2", "--wandb", "disabled")
    for record, alone in zip(two.read_trials(), grid.read_trials(), strict=True):
        assert record.trial_id == alone.trial_id
        for row, other in zip(record.epochs, alone.epochs, strict=True):
            assert row.train_loss == pytest.approx(other.train_loss, rel=1e-3)
            assert row.val_loss == pytest.approx(other.val_loss, rel=1e-3)


def test_successive_halving_killed_and_resumed_keeps_every_epoch_and_decision(searches: Searches) -> None:
    process = searches.start(ASHA, "asha", "--wandb", "disabled", "--concurrent-trials", "1")
    wait_for_line(process, r"^4/10")
    kill(process)
    run = Run(searches.folder / "runs" / "asha")
    journal = (run.folder / "journal.jsonl").read_bytes()
    whole = journal[: journal.rfind(b"\n") + 1]
    before = {record.trial_id: numbers(record) for record in run.read_trials()}
    searches.resume("asha")
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


def test_optuna_suggests_by_means_over_folds_and_a_resumed_search_goes_on_to_finals_and_refit(
    searches: Searches,
) -> None:
    options = ("--wandb", "disabled", "--concurrent-trials", "1", "--folds", "2", "--keep", "best-fold")
    run = searches.run(BAYES, "bayes", *options)
    events = [event for event in run.journal().read() if event["event"] == "suggest"]
    assert [event["point"]["fold"] for event in events] == [0, 1] * 4
    assert len({event["point"]["learning_rate"] for event in events}) == 4
    proper = table(run)
    assert run.read_search().best.trial_id in proper

    searches.resume("bayes", "--replicates", "2", "--finalists", "1", "--keep", "refit")
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


@dataclass(frozen=True)
class Interrupted:
    """A grid that Ctrl-C interrupted."""

    environments: list[dict[str, str]]
    """Of the workers that trained it."""
    said: str
    """By the search, on stderr."""


OWN_LIMIT = {"MALLOC_TRIM_THRESHOLD_": "123456789"}
"""A variable that the user has set already."""


@pytest.fixture(scope="module")
def interrupted(folder: Path, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    with pytest.MonkeyPatch.context() as patch:
        mark = new_mark()
        # The cache holds the measured precision, which is part of every trial id: it must be that of `grid`.
        cache = str(tmp_path_factory.getbasetemp() / "cache")
        for name, value in {MARK: mark, "FERRAY_CACHE": cache, "WANDB_MODE": "offline", **OWN_LIMIT}.items():
            patch.setenv(name, value)
        process = Searches(folder, tiny_store).start(GRID, "interrupted")
    wait_for_line(process, r"^1/6")
    environments = list(map(environment, workers(mark)))
    process.send_signal(signal.SIGINT)
    return Interrupted(environments, finish(process, code=130)[1])


def test_workers_keep_their_memory_where_the_user_says_nothing_else(interrupted: Interrupted) -> None:
    assert interrupted.environments
    for variables in interrupted.environments:
        assert {name: variables.get(name) for name in KEEP_MEMORY} == KEEP_MEMORY | OWN_LIMIT


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    grid: Run, interrupted: Interrupted, searches: Searches
) -> None:
    assert "--resume interrupted" in interrupted.said
    run = Run(searches.folder / "runs" / "interrupted")
    states = [record.state for record in run.read_trials()]
    assert "done" in states
    assert set(states) <= {"done", "interrupted", "queued"}
    assert (run.folder / "trials.csv").exists()
    searches.resume("interrupted")
    assert table(run) == table(grid)
