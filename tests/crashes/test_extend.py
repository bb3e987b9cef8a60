"""Searches that are extended, that repeat failed trials and that repair lost records: real Ray, 32-pixel faces."""

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.search import Searches, finish, kill, numbers, table, wait_for_line

from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.tracking.offline import read_offline_runs

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  dropout: {values: [0.0, 0.4%s]}
  learning_rate: {values: [0.01, 0.001%s]}
  epochs: {value: 2}
  batch_size: {value: 16}
"""
BAYES = """\
method: bayes
run_cap: 7
metric: {name: val_accuracy, goal: maximize}
parameters:
  dropout: {values: [0.0, 0.4]}
  learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 0.1}
  epochs: {value: 3}
  batch_size: {value: 16}
"""
HALVING = "early_terminate: {type: hyperband, min_iter: 1, eta: 3}\n"
ASHA = f"""\
method: random
metric: {{name: val_loss, goal: minimize}}
run_cap: 6
{HALVING}parameters:
  learning_rate: {{distribution: log_uniform_values, min: 0.00001, max: 0.1}}
  epochs: {{value: 9}}
  batch_size: {{value: 16}}
"""
SMALL, BIG = GRID % ("", ""), GRID % (", 0.2", ", 0.0001")


@pytest.fixture
def searches(tmp_path: Path, tiny_store: Store) -> Searches:
    return Searches(tmp_path, tiny_store)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a search takes 20 s, and 100 on a machine that is busy


def epochs_by_id(run: Run) -> dict[str, object]:
    return {record.trial_id: (record.state, numbers(record)) for record in run.read_trials()}


def write(searches: Searches, name: str, space: str) -> str:
    file = searches.folder / name
    file.write_text(space)
    return str(file)


def test_a_grid_that_grows_trains_only_what_is_new_and_ends_as_the_big_grid_at_once(searches: Searches) -> None:
    run = searches.run(SMALL, "grown", "--wandb", "disabled")
    before, journal = table(run), run.journal().read()
    _, err = searches.resume("grown", "--space", write(searches, "bigger.yaml", BIG))
    assert "5 new points of" in err
    assert "4 of its points are on record" in err
    assert {trial_id: table(run)[trial_id] for trial_id in before} == before
    assert len(table(run)) == 9
    added = run.journal().read()[len(journal) :]
    assert [event["event"] for event in added if event["event"] != "end"] == ["extend"] + ["suggest"] * 5
    assert added[0]["earlier"]["text"] == SMALL
    assert (run.folder / "space.yaml").read_text() == BIG

    at_once = searches.run(BIG, "at-once", "--wandb", "disabled")
    assert epochs_by_id(at_once) == epochs_by_id(run)


def test_a_search_killed_while_it_grows_goes_on_with_the_bigger_space(searches: Searches) -> None:
    run = searches.run(SMALL, "killed", "--wandb", "disabled")
    bigger = write(searches, "bigger.yaml", BIG)
    process = searches.begin(searches.command("--resume", "killed", "--space", bigger))
    wait_for_line(process, r"^6/9")
    kill(process)
    searches.resume("killed")
    _, err = searches.resume("killed", "--space", bigger)
    assert "nothing to train" in err
    assert "--set KEY=[VALUES] with more values" in err
    assert epochs_by_id(run) == epochs_by_id(searches.run(BIG, "at-once", "--wandb", "disabled"))


def test_longer_trials_begin_where_the_shorter_ones_ended_and_a_grid_goes_on_as_bayes(searches: Searches) -> None:
    settings = ["--set", "schedule=[constant, cosine]", "--set", "dropout=0.0"]
    run = searches.run(SMALL, "longer", "--wandb", "disabled", *settings)
    before, rows = table(run), {record.recipe: record.epochs for record in run.read_trials()}
    _, err = searches.resume("longer", "--set", "epochs=3")
    assert "with schedule=[constant, cosine], dropout=0.0" in err
    assert "4 earlier points, no longer asked for" in err
    assert err.count("are trained again for a longer trial") == 1  # of the two on a cosine
    after = table(run)
    assert len(after) == 4 + 4
    assert {trial_id: after[trial_id] for trial_id in before} == before
    for record in run.read_trials():
        if record.recipe.epochs == 3 and record.recipe.schedule == "constant":
            assert record.epochs[:2] == rows[dataclasses.replace(record.recipe, epochs=2)]  # their seconds, too

    _, err = searches.resume("longer", "--space", write(searches, "bayes.yaml", BAYES))
    assert "3 new points" in err
    after = table(run)
    assert len(after) == 4 + 4 + 3
    searches.resume("longer")
    assert table(run) == after


def test_a_search_of_more_points_than_exist_asks_for_each_once_and_ends(searches: Searches) -> None:
    space = BAYES.replace("{distribution: log_uniform_values, min: 0.0001, max: 0.1}", "{value: 0.001}")
    run = searches.run(space, "twice", "--wandb", "disabled")
    asked = [event["trial_id"] for event in run.journal().read() if event["event"] == "suggest"]
    assert len(table(run)) == len(asked) == len(set(asked)) == 2
    _, err = searches.resume("twice", "--max-trials", "7")
    assert "nothing to train" in err


def test_a_trial_that_failed_is_run_again_once_and_ends_as_if_it_had_never_failed(searches: Searches) -> None:
    long = SMALL.replace("epochs: {value: 2}", "epochs: {value: 100}")
    process = searches.start(long, "retried", "--max-failures", "0", "--concurrent-trials", "1", "--set", "dropout=0.0")
    run = Run(searches.folder / "runs" / "retried")
    kill_worker(process.pid, when=lambda: any(record.epochs for record in run.read_trials()))
    finish(process)
    failed = [record for record in run.read_trials() if record.state == "failed"]
    assert len(failed) == 1
    _, err = searches.resume("retried")
    assert f"failed: trials {failed[0].number} ({failed[0].trial_id}); --retry runs them again" in err

    _, err = searches.resume("retried", "--retry")
    assert f"trial {failed[0].number} ({failed[0].trial_id}) is run again; it failed after" in err
    assert "its worker group died once" in err
    assert [(record.state, len(record.epochs)) for record in run.read_trials()] == [("done", 100)] * 2
    journal = run.journal().read()
    assert [event["trial_id"] for event in journal if event["event"] == "retry"] == [failed[0].trial_id]
    search_id = run.read_search().id
    sent = [one for one in read_offline_runs(run.folder / "wandb") if one.id == f"{search_id}-{failed[0].trial_id}"]
    assert [row["epoch"] for one in sent for row in one.history] == list(range(1, 101))
    _, err = searches.resume("retried", "--retry")
    assert "no trial has failed" in err
    assert run.journal().read() == journal


def test_records_that_are_lost_broken_or_too_short_are_made_good_and_nothing_is_decided_anew(
    searches: Searches,
) -> None:
    run = searches.run(ASHA, "mended", "--wandb", "disabled")
    before, journal = table(run), (run.folder / "journal.jsonl").read_bytes()
    stopped = [record for record in run.read_trials() if record.state == "stopped"]
    done = [record for record in run.read_trials() if record.state == "done"]
    assert len(stopped) >= 2
    broken, lost, short = stopped[0], stopped[1], done[0]
    (run.trial_dir(broken.trial_id) / "record.json").write_text("{}")
    shutil.rmtree(run.trial_dir(lost.trial_id))
    run.write_trial(dataclasses.replace(short, epochs=short.epochs[:-1]))
    _, err = searches.resume("mended")
    for record in (broken, lost, short):
        assert f"trial {record.number} ({record.trial_id}) has no record; it is trained again up to epoch" in err
    assert (run.trial_dir(broken.trial_id) / "record.json.broken").read_text() == "{}"
    assert f"it has {len(short.epochs) - 1} epochs, the journal {len(short.epochs)}" in err
    assert table(run) == before
    assert (run.folder / "journal.jsonl").read_bytes() == journal

    shutil.rmtree(run.trial_dir(lost.trial_id))  # in a search that has no early stopping any more
    plain = ASHA.replace(HALVING, "").replace("run_cap: 6", "run_cap: 7")
    searches.resume("mended", "--space", write(searches, "plain.yaml", plain))
    after = table(run)
    assert {trial_id: after[trial_id] for trial_id in before} == before
    assert len(after) == 7


def test_finals_whose_records_are_lost_are_trained_again(searches: Searches) -> None:
    run = searches.run(SMALL, "finals", "--wandb", "disabled", "--replicates", "2", "--finalists", "1", "--folds", "2")
    before = table(run)
    assert len(before) == 4 * 2 + 2 + 1
    extra, refit = run.read_trials()[-2:]
    (run.trial_dir(extra.trial_id) / "record.json").write_text("{}")
    shutil.rmtree(run.trial_dir(refit.trial_id))
    searches.resume("finals")
    assert table(run) == before

    searches.resume("finals", "--set", "dropout=[0.0, 0.4, 0.2]")
    after = table(run)
    assert {trial_id: after[trial_id] for trial_id in before} == before
    assert len({number for number, _, _ in after.values()}) == len(after) >= len(before) + 4


def kill_worker(pid: int, *, when: Callable[[], bool]) -> None:
    """Kill the process that trains, of a search's, as soon as it is time."""
    deadline = time.monotonic() + 300
    while not when():
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            raise AssertionError("no trial came to an epoch")
        time.sleep(0.02)
    workers = [
        one for one in descendants(pid) if b"RayTrainWorker" in (Path("/proc") / str(one) / "cmdline").read_bytes()
    ]
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}
