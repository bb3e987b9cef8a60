"""What a worker group does with a trial, without Ray."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.data.store.reader import Store
from ferray.errors import SearchError
from ferray.files.storage import Lease
from ferray.recipe import trial_id
from ferray.records.run import Run
from ferray.records.trial import State, TrialRecord
from ferray.search.fleet import worker
from ferray.search.fleet.dispatcher import Answer, Job, Task
from ferray.search.fleet.worker import _go_on_from, _note_features, _open_data, _train
from ferray.train.checkpoints.checked_safetensors import read_checked
from ferray.train.checkpoints.checkpoint import BEST, LAST
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import Environment
from ferray.train.features import view as features
from ferray.train.fit import fit
from ferray.train.ranks import ALONE

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
    rows = tuple(fit(SHORT, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))
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


class Listener:
    """What rank 0 tells of a trial, kept; without a dispatcher.

    Args:
        run: The search's folder.
        answers: To whoever tells of epochs, the last one again and again.
    """

    def __init__(self, run: Run, *answers: Answer) -> None:
        self.run, self._answers = run, answers
        self.told: list[int] = []
        """Epochs of each record that was told."""
        self.noted: list[str] = []
        self.left: TrialRecord | None = None

    def open(self, job: Job) -> TrialRecord:
        self.lease = Lease.take(self.run.trial_dir(job.trial_id), (1, 1))
        return TrialRecord(trial_id=job.trial_id, number=job.number, recipe=job.recipe)

    def tell(self, record: TrialRecord) -> Answer:
        self.told.append(len(record.epochs))
        return self._answers[min(len(self.told), len(self._answers)) - 1]

    def leave(self, record: TrialRecord) -> None:
        self.left = record

    def note(self, text: str) -> None:
        self.noted.append(text)


def task_of(run: Run, cache: Path) -> Task:
    return Task(
        run_dir=run.folder,
        search_id="ffffffff",
        data_dir=Path("faces"),
        weights="none",
        cache=cache,
        cpus_per_worker=1,
        decides=False,
    )


@pytest.mark.parametrize("answer, epochs, state", [("go on", 6, "done"), ("interrupted", 3, "interrupted")])
def test_epochs_that_share_a_checkpoint_are_told_together_and_none_is_left_out_of_the_record(
    answer: Answer, epochs: int, state: State, small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # a second an epoch, or a write
    monkeypatch.setattr("ferray.train.checkpoints.writer.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 3.0)
    store, weights = SmallStore(), small_weights()
    recipe = small_recipe(epochs=6)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    desk = Listener(run, answer)
    job = Job(trial_id=name, number=0, recipe=recipe)
    _train(job, task_of(run, tmp_path), store, weights, ALONE, "cpu", desk, lambda: False)  # type: ignore[arg-type]

    assert desk.told == [3]
    assert desk.left is not None
    assert (len(desk.left.epochs), desk.left.state) == (epochs, state)
    assert len(read_checked(run.trial_dir(name) / LAST)[0]["epochs"]) == epochs


def test_a_scheduler_hears_of_every_epoch_by_itself_though_a_checkpoint_holds_several(
    small_rows: None, tmp_path: Path
) -> None:
    store, weights = SmallStore(), small_weights()
    recipe = small_recipe(epochs=6)
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    list(fit(recipe, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))  # of which the record was lost
    desk = Listener(run, "go on", "stopped")
    job = Job(trial_id=name, number=0, recipe=recipe)
    task = dataclasses.replace(task_of(run, tmp_path), decides=True)
    _train(job, task, store, weights, ALONE, "cpu", desk, lambda: False)  # type: ignore[arg-type]

    assert desk.told == [1, 2]
    assert desk.left is not None
    assert (len(desk.left.epochs), desk.left.state) == (2, "stopped")


def test_what_features_have_come_to_reaches_the_live_table(
    small_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PROGRESS_INTERVAL_S", 0.0)
    monkeypatch.setattr(features.log, "handlers", [])
    desk = Listener(Run(tmp_path), "go on")
    _note_features(desk)  # type: ignore[arg-type]
    list(fit(SHORT, SmallStore(), small_weights(), environment=Environment(cache=tmp_path)))

    assert [note.partition(",")[0] for note in desk.noted] == [
        "features: 12 of 12 faces",
        "features: 24 of 24 faces",
    ]


@pytest.mark.parametrize("there", [False, True])
def test_a_node_with_a_disk_of_its_own_is_refused_and_the_way_out_is_a_shared_folder(
    there: bool, tiny_store: Store, tmp_path: Path
) -> None:
    run = Run(tmp_path / "first")
    if there:  # of another search with the same name
        run.write_search(SEARCH)
    task = dataclasses.replace(task_of(run, tmp_path), data_dir=tiny_store.folder)
    with pytest.raises(SearchError, match=r"(?s)checkpoints there would die with it.*--out"):
        _open_data(task)
    run.write_search({**SEARCH, "id": "ffffffff"})
    assert _open_data(task).fingerprint == tiny_store.fingerprint
