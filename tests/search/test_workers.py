"""What a worker group does with a trial, without Ray."""

import dataclasses
from pathlib import Path

import pytest
from train_fixtures import SmallStore, small_recipe, small_weights

from ferray.data.store import Store
from ferray.errors import SearchError
from ferray.recipe import trial_id
from ferray.records import Run, State, TrialRecord
from ferray.search.dispatch import Job, Task
from ferray.search.workers import _go_on_from, _open_data
from ferray.storage import Lease
from ferray.train.checkpoint import BEST, LAST
from ferray.train.fit import fit

SEARCH = {
    "id": "0123abcd",
    "command": "",
    "options": {"space": "grid", "data": None, "weights": "none", "set": [], "seed": 0},
    "data": {"folder": "faces", "fingerprint": ""},
    "weights": {},
    "sessions": [],
    "test_readings": [],
}
SHORT, LONG = small_recipe(epochs=1), small_recipe(epochs=2)


def write_short_trial(run: Run, state: State) -> str:
    """A trial of one epoch with its checkpoints, on record; returns its id."""
    store, weights = SmallStore(), small_weights()
    name = trial_id(SHORT, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    rows = tuple(fit(SHORT, store, weights, checkpoints=run.trial_dir(name), cache=None))
    run.write_trial(TrialRecord(trial_id=name, number=0, recipe=SHORT, state=state, epochs=rows))
    return name


def take(run: Run) -> Lease:
    return Lease.take(run.trial_dir("long"), (1, 1))


@pytest.mark.parametrize("state,goes_on", [("done", True), ("running", False), ("failed", False)])
def test_a_trial_goes_on_from_a_shorter_one_that_is_done(
    state: State, goes_on: bool, small_rows: None, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    job = Job(trial_id="long", number=1, recipe=LONG, shorter=(write_short_trial(run, state),))
    _go_on_from(job, run, take(run))

    assert [(run.trial_dir("long") / name).exists() for name in (BEST, LAST)] == [goes_on] * 2


def test_a_broken_checkpoint_of_a_shorter_trial_is_told_and_left_alone(
    small_rows: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path)
    short = write_short_trial(run, "done")
    (run.trial_dir(short) / LAST).write_bytes(b"torn")
    job = Job(trial_id="long", number=1, recipe=LONG, shorter=(short,))
    _go_on_from(job, run, take(run))

    assert "does not go on from trial" in caplog.text
    assert not (run.trial_dir("long") / LAST).exists()


def test_a_trial_with_epochs_of_its_own_keeps_them(small_rows: None, tmp_path: Path) -> None:
    run = Run(tmp_path)
    own = run.trial_dir("long") / LAST
    own.parent.mkdir(parents=True)
    own.write_bytes(b"its own")
    _go_on_from(dataclasses.replace(Job(trial_id="long", number=1, recipe=LONG), shorter=("short",)), run, take(run))

    assert own.read_bytes() == b"its own"


@pytest.mark.parametrize("there", [False, True])
def test_a_node_with_a_disk_of_its_own_is_refused_and_the_way_out_is_a_shared_folder(
    there: bool, tiny_store: Store, tmp_path: Path
) -> None:
    run = Run(tmp_path / "first")
    if there:  # of another search with the same name
        run.write_search(SEARCH)
    task = Task(
        run_dir=run.folder,
        search_id="ffffffff",
        data_dir=tiny_store.folder,
        weights="none",
        cache=tmp_path,
        cpus_per_worker=1,
        decides=False,
    )
    with pytest.raises(SearchError, match=r"(?s)checkpoints there would die with it.*--out"):
        _open_data(task)
    run.write_search({**SEARCH, "id": "ffffffff"})
    assert _open_data(task).fingerprint == tiny_store.fingerprint
