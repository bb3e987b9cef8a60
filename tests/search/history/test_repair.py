"""What a resumed search puts right before it goes on."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixtures.history import SEARCH, make_search_file, open_log

from ferray import recipe as recipes
from ferray.data.store.reader import Store
from ferray.errors import RecordError, SearchError
from ferray.files import untrusted
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.records.events import EndEvent, RetryEvent, SuggestEvent
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord
from ferray.search.history.identities import check_identities
from ferray.search.history.points import Suggestion
from ferray.search.history.recorded import History, read_history
from ferray.search.history.repair import (
    RecordRecovery,
    discard_record,
    failed_trials,
    find_missing_records,
    retry_failed,
    set_aside_unusable,
)
from ferray.search.history.resume import RecordedSpaces
from ferray.search.jobs import Jobs
from ferray.search.open import Search, open_search
from ferray.search.plan import Plan
from ferray.space import Space, read_space
from ferray.train.checkpoints.checked_safetensors import DamagedError

RECIPE = Recipe(image_size=32, precision="float32", epochs=3)
SPACE = "method: bayes\nmetric: {name: val_accuracy, goal: maximize}\nparameters: {dropout: {values: [0.0, 0.4]}}\n"
IDS = ("aaaaaaaaaaa0", "aaaaaaaaaaa1", "aaaaaaaaaaa2", "aaaaaaaaaaa3")
ROWS = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)) for epoch in (1, 2, 3))


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "space.yaml").write_text(SPACE)
    return read_space(tmp_path / "space.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four trials: done, stopped after two epochs, failed after one, and one that has begun."""
    run = Run(tmp_path / "one")
    run.write_search(make_search_file())
    put(run, 0, "done", 3)
    put(run, 1, "stopped", 2)
    put(run, 2, "failed", 1, reason="the loss is nan")
    put(run, 3, "running", 1)
    return run


def put(run: Run, number: int, state: State, num_epochs: int, *, reason: str = "") -> None:
    trial_id = IDS[number]
    record = TrialRecord(
        trial_id=trial_id, number=number, recipe=RECIPE, state=state, reason=reason, epochs=ROWS[:num_epochs]
    )
    run.write_trial(record)
    log = open_log(run.journal().file)
    log.append(SuggestEvent(number=number, trial_id=trial_id, point={"dropout": 0.4}))
    if state in ("done", "stopped", "failed"):
        score = 0.5 if state != "failed" else None
        log.append(EndEvent(number=number, trial_id=trial_id, state=state, epoch=num_epochs, score=score))


def read(run: Run) -> History:
    """The records as a resumed search has them before it goes on."""
    history = read_history(run)
    set_aside_unusable(history)
    return history


def record_file(run: Run, number: int) -> Path:
    return run.trial_dir(IDS[number]) / "record.json"


def damage(file: Path) -> None:
    file.write_text(file.read_text().replace("0.5", "0.6", 1))


def test_a_search_whose_records_are_whole_is_left_as_it_is(run: Run, space: Space) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    history = read(run)
    history.repair_journals()
    assert find_missing_records(history, space) == []
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


def test_broken_and_short_records_are_kept_under_another_name_and_named(
    run: Run, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    damage(record_file(run, 0))
    short = run.read_trial(IDS[1])
    assert short is not None
    run.write_trial(dataclasses.replace(short, epochs=short.epochs[:1]))
    damage(record_file(run, 3))
    kept = [record_file(run, number).read_bytes() for number in (0, 1, 3)]
    history = read(run)
    assert [record_file(run, number).exists() for number in range(4)] == [False, False, True, False]
    assert [record_file(run, number).with_name("record.json.broken").read_bytes() for number in (0, 1, 3)] == kept
    for number in (0, 1, 3):
        assert f"{IDS[number]}/record.json: " in caplog.text
    assert "it has 1 epochs, the journal 2" in caplog.text

    found = find_missing_records(history, space)  # the one that has begun goes on by itself
    assert [(one.suggestion.number, one.end.state, one.end.epoch) for one in found] == [
        (0, "done", 3),
        (1, "stopped", 2),
    ]
    assert "trial 1 (aaaaaaaaaaa1) has no record; it is trained again up to epoch 2" in caplog.text


def test_records_are_only_looked_at_until_the_search_goes_on(run: Run) -> None:
    damage(record_file(run, 0))
    with run.journal().file.open("ab") as journal:
        journal.write(b'{"event":"torn')
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    history = read_history(run)
    assert [record.trial_id for record in history.records] == list(IDS[1:])
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


def test_a_trial_whose_best_checkpoint_shows_damage_at_the_end_is_trained_again(run: Run, space: Space) -> None:
    best, history = run.trial_dir(IDS[0]) / "best.safetensors", read(run)
    damaged = DamagedError(str(best), "damaged: its checksum is not that of its content", "Remove the file")
    error = discard_record(history, damaged)
    assert str(error).startswith(f"{best}: damaged")
    assert "--resume one" in str(error)
    for again in (history, read(run)):
        (missing,) = find_missing_records(again, space)
        assert (missing.suggestion.number, missing.end.epoch) == (0, 3)


@pytest.mark.parametrize("state, left", [("failed", "failed"), ("running", "interrupted")])
def test_a_trial_that_was_not_trained_again_is_not_done(state: State, left: State, run: Run) -> None:
    history = read(run)
    whole = history.record(IDS[0])
    assert whole is not None
    history.write_record(dataclasses.replace(whole, state=state, epochs=whole.epochs[:1]))
    assert next(one.state for one in history.write_final_states() if one.trial_id == IDS[0]) == left


def test_a_lost_trial_is_trained_again_with_all_the_settings_that_it_had(run: Run, space: Space) -> None:
    record_file(run, 0).unlink()
    run.write_search(make_search_file(options={**SEARCH["options"], "seed": 7}))
    (missing,) = find_missing_records(read(run), space)
    assert missing.suggestion.point == recipes.to_values(Recipe(dropout=0.4, seed=7))


def test_a_trial_that_is_trained_again_stops_where_it_did_and_no_event_is_written(
    run: Run, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    record_file(run, 0).unlink()
    record_file(run, 1).unlink()
    before = run.journal().file.read_bytes()
    recovery = RecordRecovery(find_missing_records(read(run), space))
    asked = [recovery.suggest() for _ in range(3)]
    assert asked[2] == "none left"
    assert [recovery.report_epoch(0, epoch, 0.5) for epoch in (1, 2, 3)] == [False] * 3
    assert [recovery.report_epoch(1, epoch, 0.5) for epoch in (1, 2)] == [False, True]
    caplog.clear()
    recovery.end(0, "done", 3, 0.5)
    assert caplog.text == ""
    recovery.end(1, "stopped", 2, 0.4)
    assert "trial 1 came to 0.4 after 2 epochs (stopped) this time, to 0.5 after 2 (stopped) on record" in caplog.text
    assert run.journal().file.read_bytes() == before


def test_a_failed_trial_is_named_with_its_reason_and_opened_once(run: Run) -> None:
    history = read(run)
    assert failed_trials(history) == ["2 (aaaaaaaaaaa2)"]
    (line,) = retry_failed(history)
    assert line == "trial 2 (aaaaaaaaaaa2) is run again; it failed after 1 epoch: the loss is nan"
    for again in (history, read(run)):
        record = again.record(IDS[2])
        assert record is not None
        assert (record.state, record.reason, len(record.epochs)) == ("queued", "", 1)
        assert again.decisions.of_kind(RetryEvent)[-1].reason == "the loss is nan"
        assert failed_trials(again) == []
    assert list(retry_failed(history)) == ["no trial has failed; there is nothing to run again"]


def test_a_failed_trial_of_the_finals_is_named_and_opened_again(run: Run) -> None:
    open_log(run.finals_journal().file).append(EndEvent(number=7, trial_id=IDS[3], state="failed"))
    history = read(run)
    assert failed_trials(history) == ["2 (aaaaaaaaaaa2)", "7 (aaaaaaaaaaa3)"]
    assert len(list(retry_failed(history))) == 2
    assert [event.number for event in history.finals.of_kind(RetryEvent)] == [7]
    assert failed_trials(read(run)) == []


def test_a_trial_keeps_its_number_and_a_new_one_gets_a_number_of_its_own(run: Run) -> None:
    search = SimpleNamespace(history=read(run), recipe=lambda point: RECIPE)
    jobs = Jobs(cast(Search, search), has_scheduler=False)
    asked = [Suggestion(9, IDS[1], {}), Suggestion(2, "b", {}), Suggestion(4, "c", {}), Suggestion(7, "d", {})]
    assert [jobs.make(suggestion).number for suggestion in asked] == [1, 4, 5, 7]


@pytest.mark.parametrize("known", [True, False])
def test_a_trial_whose_worker_died_has_the_reason_on_record(known: bool, run: Run) -> None:
    record = run.read_trial(IDS[3])
    assert record is not None
    if not known:
        record_file(run, 3).unlink()
    read(run).trial_ended(dataclasses.replace(record, state="failed", reason="its worker group died"))
    after = run.read_trial(IDS[3])
    assert after == dataclasses.replace(record, state="failed", reason="its worker group died")
    read(run).trial_ended(dataclasses.replace(record, state="failed", reason="another"))
    assert run.read_trial(IDS[3]) == after


@pytest.mark.parametrize("trial_id", ["../other", "a/b", "", "a\n"])
def test_a_journal_that_names_what_is_no_trial_is_refused_when_it_is_read(run: Run, trial_id: str) -> None:
    open_log(run.journal().file).append(SuggestEvent(number=4, trial_id=trial_id, point={}))
    with pytest.raises(RecordError, match="is no trial"):
        read_history(run)


def test_data_and_weights_of_another_search_are_refused_before_anything_is_changed(run: Run, space: Space) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*.json*")}
    plan = cast(Plan, SimpleNamespace(run=run, space=space))
    for fingerprint, weights, what in (("other", "w", "data"), ("f", "other", "weights")):
        store = cast(Store, SimpleNamespace(fingerprint=fingerprint))
        of = {"vgg16": cast(Weights, SimpleNamespace(fingerprint=weights))}
        with pytest.raises(SearchError, match=f"the {what} are not those of the search"):
            open_search(plan, read_history(run), store, of, say=print)
    assert {file: file.read_bytes() for file in run.folder.rglob("*.json*")} == before


def test_a_search_of_a_version_with_other_numbers_is_refused_before_anything_is_changed(run: Run) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*.json*")}
    history = read_history(run)
    with pytest.raises(RecordError, match=f"(?s){IDS[0]}.*a version whose numbers are others.*another name"):
        check_identities(history, cast(RecordedSpaces, None))  # no record is lost: the spaces are not asked
    assert {file: file.read_bytes() for file in run.folder.rglob("*.json*")} == before


def test_trials_with_folds_are_those_of_the_groups_on_record(run: Run) -> None:
    recipe = dataclasses.replace(RECIPE, folds=2, fold=0)
    own = recipes.trial_id(recipe, data_fingerprint="f", weights_fingerprint="w", groups_fingerprint="g")
    search = run.read_search()
    for number in IDS:
        shutil.rmtree(run.trial_dir(number))
    run.write_trial(TrialRecord(trial_id=own, number=0, recipe=recipe))

    def check(**data: str) -> None:
        run.write_search(search.changed(data=search.data.changed(**data)))
        check_identities(read_history(run), cast(RecordedSpaces, None))

    with pytest.raises(RecordError, match="do not say how photographs were grouped"):
        check()
    with pytest.raises(RecordError, match="a version whose numbers are others"):
        check(groups="h")
    check(groups="g")


def test_each_file_is_read_once_and_a_record_once_more_where_a_worker_wrote_it(
    run: Run, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read_bytes = untrusted.read_bytes

    def count(path: Path, **options: Any) -> bytes:
        reads[str(path.relative_to(run.folder))] += 1
        return read_bytes(path, **options)

    monkeypatch.setattr(untrusted, "read_bytes", count)
    history = read_history(run)
    assert reads == Counter({"journal.jsonl": 1, "search.json": 1}), "a plan needs no records"
    set_aside_unusable(history)
    history.repair_journals()
    find_missing_records(history, space)
    list(retry_failed(history))
    once = {f"trials/{trial_id}/record.json" for trial_id in IDS} | {"journal.jsonl", "search.json"}
    assert reads == Counter(once)

    begun = history.record(IDS[3])
    assert begun is not None
    history.trial_started(begun)
    run.write_trial(dataclasses.replace(begun, epochs=ROWS[:2]))  # as its worker does
    assert [len(record.epochs) for record in history.records] == [3, 2, 1, 2]
    history.trial_ended(begun)
    assert len(history.records) == len(history.records) == 4
    assert reads - Counter(once) == Counter({f"trials/{IDS[3]}/record.json": 2})
