"""Workers that are killed while they train: real Ray, real signals."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from fixtures.disturbed import NUM_EPOCHS, Disturbed, progress
from fixtures.process import MARK, kill, new_mark, processes, wait_until, workers
from fixtures.search import LONG_EPOCHS, LONG_GRID, Searches, finish, numbers, table, threads_of

from ferray.data.store.reader import Store
from ferray.model.weights import load_weights
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.train.fit import fit


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """The mark of the search that the test starts."""
    value = new_mark()
    monkeypatch.setenv(MARK, value)
    return value


@pytest.fixture
def searches(tmp_path: Path, tiny_store: Store) -> Searches:
    return Searches(tmp_path, tiny_store)


def is_in_the_middle(run: Run) -> bool:
    """Whether a trial has some epochs, with many to come."""
    return any(10 <= epochs < LONG_EPOCHS - 30 for epochs in progress(run).values())


def check_alone(store: Store, record: TrialRecord) -> None:
    """A trial that lost its worker has the numbers of the same recipe trained alone, in one process."""
    with threads_of(record):
        rows = tuple(fit(record.recipe, store, load_weights("none", "vgg16")))
    alone = TrialRecord(trial_id=record.trial_id, number=0, recipe=record.recipe, epochs=rows)
    assert numbers(record) == numbers(alone)


@pytest.mark.timeout(900)
def test_a_trial_that_loses_its_worker_goes_on_from_its_last_checkpoint(
    disturbed: Disturbed, tiny_store: Store
) -> None:
    """With the numbers that it has when it is trained alone, and without an epoch less than it had."""
    records = {record.trial_id: record for record in disturbed.run.read_trials()}
    assert disturbed.in_training
    for trial_id in disturbed.in_training:
        assert disturbed.states[0][trial_id] == "done"
        assert [row.epoch for row in records[trial_id].epochs] == list(range(1, NUM_EPOCHS + 1))
        check_alone(tiny_store, records[trial_id])


@pytest.mark.timeout(900)
def test_a_trial_fails_with_the_reason_where_no_death_is_allowed_and_a_retry_makes_it_good(
    disturbed: Disturbed, tiny_store: Store
) -> None:
    assert disturbed.failures
    for trial_id, reason in disturbed.failures.items():
        assert "its worker group died once while training it" in reason
        assert "ActorDiedError: The actor is dead because" in reason
        record = disturbed.run.read_trial(trial_id)
        assert record is not None
        assert record.state == "done"
        check_alone(tiny_store, record)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, options",
    [(signal.SIGSEGV, ()), (signal.SIGKILL, ("--workers-per-trial", "2"))],
    ids=["segfault", "one of two ranks"],
)
def test_a_search_whose_worker_dies_otherwise_comes_to_its_end(
    number: int, options: tuple[str, ...], mark: str, searches: Searches, tiny_store: Store
) -> None:
    process = searches.start(LONG_GRID, "grid", "--wandb", "disabled", *options)
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: is_in_the_middle(run))
    before = progress(run)
    kill(workers(mark)[-1], number)
    finish(process)
    records = run.read_trials()
    assert [record.state for record in records] == ["done"] * 6
    assert [[row.epoch for row in record.epochs] for record in records] == [list(range(1, LONG_EPOCHS + 1))] * 6
    assert all(len(record.epochs) >= before.get(record.trial_id, 0) for record in records)
    if not options:
        for record in records[:2]:
            check_alone(tiny_store, record)


@pytest.mark.slow
def test_a_trial_that_has_lost_too_many_workers_fails_with_the_reason_and_the_search_goes_on(
    mark: str, searches: Searches
) -> None:
    process = searches.start(
        LONG_GRID, "grid", "--wandb", "disabled", "--max-failures", "0", "--concurrent-trials", "1"
    )
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: is_in_the_middle(run))
    kill(workers(mark)[0])
    finish(process)
    failed = [record for record in run.read_trials() if record.state == "failed"]
    assert len(failed) == 1
    assert "its worker group died once while training it" in failed[0].reason
    assert "ActorDiedError: The actor is dead because" in failed[0].reason
    assert [record.state for record in run.read_trials()].count("done") == 5
    assert failed[0].trial_id != run.read_search().best.trial_id
    searches.resume("grid", "--retry", "--wandb", "disabled")
    assert [record.state for record in run.read_trials()] == ["done"] * 6


@pytest.mark.slow
def test_a_worker_that_was_suspended_and_continues_writes_nothing_over_its_successor(
    mark: str, searches: Searches
) -> None:
    process = searches.start(LONG_GRID, "grid", "--wandb", "disabled", "--concurrent-trials", "1")
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: is_in_the_middle(run))
    held = next(trial_id for trial_id, epochs in progress(run).items() if epochs < LONG_EPOCHS)
    lease = run.trial_dir(held) / "lease.json"
    (worker,) = workers(mark)
    os.kill(worker, signal.SIGSTOP)  # it is alive, but Ray Train cannot reach it
    os.killpg(process.pid, signal.SIGKILL)  # the driver and the other processes; the suspended one stays
    process.communicate()
    first = json.loads(lease.read_text())
    again = searches.begin(searches.command("--resume", "grid", "--wandb", "disabled"))
    wait_until(lambda: json.loads(lease.read_text()) > first)
    after = numbers_before_it_continues(run, held)
    kill(worker, signal.SIGCONT)
    finish(again)
    records = {record.trial_id: record for record in run.read_trials()}
    assert [row.epoch for row in records[held].epochs] == list(range(1, LONG_EPOCHS + 1))
    assert numbers(records[held])[: len(after)] == after
    assert {record.state for record in records.values()} == {"done"}
    assert table(run) == {key: (value.number, value.state, numbers(value)) for key, value in records.items()}


def numbers_before_it_continues(run: Run, trial_id: str) -> list[tuple[Any, ...]]:
    record = run.read_trial(trial_id)
    assert record is not None
    return numbers(record)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 1])
def test_when_the_process_dies_that_watches_the_groups_they_are_started_again_and_go_on(
    groups: int, mark: str, searches: Searches, tiny_store: Store
) -> None:
    process = searches.start(LONG_GRID, "grid", "--wandb", "disabled", "--concurrent-trials", str(groups))
    run = Run(searches.folder / "runs" / "grid")
    wait_until(lambda: is_in_the_middle(run) and len(workers(mark)) == groups)
    before = progress(run)
    (host,) = processes(mark, "ray::GroupHost")
    kill(host)
    finish(process)
    records = run.read_trials()
    assert [record.state for record in records] == ["done"] * 6
    assert [[row.epoch for row in record.epochs] for record in records] == [list(range(1, LONG_EPOCHS + 1))] * 6
    assert all(len(record.epochs) >= before.get(record.trial_id, 0) for record in records)
    check_alone(tiny_store, records[0])
