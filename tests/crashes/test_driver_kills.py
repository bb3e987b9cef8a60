"""The driver is killed many times, during writes and at random times; the search ends like an undisturbed one."""

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixtures.search import Searches, finish, table

from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.tracking.offline import read_offline_runs

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  learning_rate: {values: [0.01, 0.001, 0.0001, 0.00001]}
  dropout: {values: [0.0, 0.2, 0.4]}
  epochs: {value: 4}
  batch_size: {value: 16}
"""
TRIALS, EPOCHS = 24, 4
WITH_SCHEDULER = "early_terminate: {type: hyperband, min_iter: 4}\n"
"""A scheduler that stops no trial, but has each epoch reported with a checkpoint of its own; else epochs share one."""
EARLY = [
    "search.json", "space.yaml", "journal.jsonl", "lease.json", "shard", "view.json", "record.json",
    "last.safetensors", "best.safetensors",
]  # fmt: skip
LATE = [
    "trials.parquet", "trials.csv", "heatmap.png", "curves.png", "report.html", "model.safetensors", "metrics.json",
    "README.md",
]  # fmt: skip


def plans(number: int, seed: int) -> list[dict[str, Any]]:
    """Where to kill: at each step of a write of each kind of file, and the rest at random times.

    Files that are written at the end of a search come last, views first, since they are written once.
    """
    draw = random.Random(seed)
    steps = [(file, step) for file in EARLY for step in ("half", "unnamed", "named")]
    steps = [pair for pair in steps if pair not in (("journal.jsonl", "unnamed"), ("journal.jsonl", "named"))]
    at_writes = [
        {"file": file, "step": step, "nth": 1 if file in ("space.yaml", "view.json", "shard") else draw.randint(1, 3)}
        for file, step in steps
    ]
    at_the_end = [{"file": file, "step": draw.choice(("half", "unnamed", "named")), "nth": 1} for file in LATE]
    at_times = [{"after_s": draw.uniform(3, 25)} for _ in range(max(0, number - len(at_writes) - len(at_the_end)))]
    chosen = draw.sample([*at_writes, *at_the_end], min(number, len(at_writes) + len(at_the_end))) + at_times
    draw.shuffle(chosen)
    chosen.sort(key=lambda plan: (plan.get("file") in LATE, plan.get("file") not in ("shard", "view.json")))
    return [{**plan, "all": draw.random() < 0.5} for plan in chosen]


def run_until_killed(searches: Searches, name: str, plan: dict[str, Any], folder: Path, turn: int) -> str:
    """Start or resume a search that kills itself; returns what it was killed at, empty if it ended before."""
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "turn").write_text(str(turn))
    (folder / "killed").unlink(missing_ok=True)
    is_begun = (searches.folder / "runs" / name / "search.json").exists()
    new = ["--space", str(searches.folder / "alone.yaml"), "--name", name, "--weights", "none"]
    options = ["--resume", name] if is_begun else [*new, "--data", str(searches.store.folder)]
    with (folder / "log").open("a") as log:  # not a pipe: Ray's processes hold it open for some time after the driver
        environment = os.environ | {"KILL_TURN": str(turn)}
        process = subprocess.Popen(
            searches.command(*options), stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            process.wait(timeout=250)
        finally:
            process.kill()
    killed = (folder / "killed").read_text() if (folder / "killed").exists() else ""
    assert killed or process.returncode == 0, (folder / "log").read_text()[-3000:]
    return killed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "number, scheduler", [(20, ""), (50, ""), (20, WITH_SCHEDULER)], ids=["20", "50", "20-with-a-scheduler"]
)
def test_a_search_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(
    number: int, scheduler: str, tmp_path: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = Searches(tmp_path, tiny_store)
    alone = searches.run(GRID + scheduler, "alone")
    folder = tmp_path / "kill"
    folder.mkdir()
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KILL_PLAN", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "kill_hook"))
    turns = enumerate(plans(number, seed=0))
    injected = [how for turn, plan in turns if (how := run_until_killed(searches, "killed", plan, folder, turn))]
    (folder / "plan.json").unlink()
    finish(searches.begin(searches.command("--resume", "killed")))

    run = Run(searches.folder / "runs" / "killed")
    print(f"{len(injected)} of {number} kills:", *sorted(injected), sep="\n")
    assert table(run) == table(alone)
    assert len(table(run)) == TRIALS
    ends = [event["trial_id"] for event in run.journal().read() if event["event"] == "end"]
    assert sorted(ends) == sorted(table(run))  # each ended once
    trained = [tuple(line.split()[:2]) for line in (folder / "epochs").read_text().splitlines()]
    assert len(trained) == len(set(trained)) == TRIALS * EPOCHS  # no finished epoch was trained twice
    assert not list(run.folder.rglob("*.partial"))
    assert {path.name for path in run.folder.glob(".*")} == {".lock"}
    runs = {one.id: one for one in read_offline_runs(run.folder / "wandb")}
    search_id = run.read_search().id
    for record in run.read_trials():
        rows = runs[f"{search_id}-{record.trial_id}"].history
        assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert json.loads((run.best_dir / "metrics.json").read_text())["n"] == 21
    assert {reading.trial_id for reading in run.read_search().test_readings} == {run.read_search().best.trial_id}
