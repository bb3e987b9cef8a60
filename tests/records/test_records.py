"""Promises of the records: what was written is what is read, and what is not a record is never taken for one."""

import dataclasses
import errno
import io
import json
import math
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from fixtures.history import SEARCH, make_search_file, write_any_search_file
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.errors import FerrayError, RecordError
from ferray.files import storage
from ferray.files.journal import Journal
from ferray.recipe import FIELD_NAMES, METRICS, Recipe
from ferray.records.points import rank_points, rank_trials
from ferray.records.run import Run
from ferray.records.tables import epochs_frame, trials_frame
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord

ID = "0123456789ab"
RECIPE = Recipe(precision="float32", image_size=64, epochs=5)

numbers = st.floats(allow_nan=False, allow_infinity=False)
epochs = st.lists(st.fixed_dictionaries(dict.fromkeys(METRIC_FIELDS, numbers)), max_size=4).map(
    lambda rows: tuple(EpochResult(epoch=number, **row) for number, row in enumerate(rows, start=1))
)
records = st.builds(
    TrialRecord,
    trial_id=st.just(ID),
    number=st.integers(0, 10**6),
    recipe=st.builds(Recipe, seed=st.integers(0, 9), monitor=st.sampled_from(METRICS)),
    state=st.sampled_from(get_args(State)),
    reason=st.text(max_size=20),
    epochs=epochs,
    device=st.text(max_size=10),
)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def epoch(number: int, **changes: float) -> EpochResult:
    return EpochResult(epoch=number, **{**dict.fromkeys(METRIC_FIELDS, 0.5), **changes})


def trial(*scores: float, number: int = 0, monitor: str = "val_accuracy", **changes: Any) -> TrialRecord:
    recipe = dataclasses.replace(changes.pop("recipe", RECIPE), monitor=monitor)
    rows = tuple(epoch(index, **{monitor: score}) for index, score in enumerate(scores, start=1))
    return TrialRecord(trial_id=f"{number:012x}", number=number, recipe=recipe, epochs=rows, **changes)


# Trials


@given(records)
def test_a_trial_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, record: TrialRecord) -> None:
    run = Run(tmp_path_factory.mktemp("runs") / "first")

    run.write_trial(record)

    assert run.read_trial(ID) == record
    assert run.read_trials() == [record]


def test_trials_come_by_number_and_a_missing_one_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    assert run.read_trials() == []

    for number in (2, 0, 1):
        run.write_trial(trial(number=number))

    assert [record.number for record in run.read_trials()] == [0, 1, 2]
    assert run.read_trial("ffffffffffff") is None


@given(st.dictionaries(st.sampled_from(["format", *(f.name for f in dataclasses.fields(TrialRecord))]), hostile))
def test_a_hostile_record_is_refused_with_its_file(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    run = Run(tmp_path_factory.mktemp("runs") / "first")
    run.write_trial(TrialRecord(trial_id=ID, number=0, recipe=RECIPE, epochs=(epoch(1),)))
    file = run.trial_dir(ID) / "record.json"
    rewrite(file, {**json.loads(file.read_text()), **changes})

    try:
        record = run.read_trial(ID)
    except FerrayError as error:
        assert str(file) in error.args[0]
    else:
        assert record is not None
        assert record.trial_id == ID
        run.write_trial(record)


@given(hostile)
def test_any_json_in_a_records_place_is_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    run = Run(tmp_path_factory.mktemp("runs") / "first")
    run.trial_dir(ID).mkdir(parents=True)
    (run.trial_dir(ID) / "record.json").write_text(json.dumps(value))

    with pytest.raises(RecordError, match="not a trial record"):
        run.read_trial(ID)


@pytest.mark.parametrize(
    "path, value, words",
    [
        (("state",), "finished", "unknown state 'finished'"),
        (("epochs", 0, "epoch"), 2, "the epochs are not 1, 2, 3"),
        (("epochs", 0, "val_loss"), math.nan, "val_loss is nan"),
        (("epochs", 0, "val_loss"), math.inf, "val_loss is inf"),
        (("epochs", 0, "val_loss"), None, "not a trial record"),
        (("number",), math.inf, "not a trial record"),
        (("recipe", "epochs"), 0, "epochs 0"),
        (("recipe", "epoch"), 1, "unknown setting 'epoch'"),
        (("format",), 3, "not a trial record of format 2"),
        (("trial_id",), "fedcba987654", "the record of trial 'fedcba987654'"),
    ],
)
def test_a_record_with_one_fault_names_it(tmp_path: Path, path: tuple[Any, ...], value: Any, words: str) -> None:
    run = Run(tmp_path / "first")
    run.write_trial(TrialRecord(trial_id=ID, number=0, recipe=RECIPE, epochs=(epoch(1),)))
    file = run.trial_dir(ID) / "record.json"
    values = json.loads(file.read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    rewrite(file, values)

    with pytest.raises(FerrayError, match=words):
        run.read_trial(ID)


def test_half_a_record_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    run.write_trial(TrialRecord(trial_id=ID, number=0, recipe=RECIPE))
    file = run.trial_dir(ID) / "record.json"
    file.write_bytes(file.read_bytes()[:50])

    with pytest.raises(RecordError, match="not JSON"):
        run.read_trials()


def test_a_missing_setting_takes_its_default(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    run.write_trial(TrialRecord(trial_id=ID, number=0, recipe=RECIPE))
    file = run.trial_dir(ID) / "record.json"
    values = json.loads(file.read_text())
    del values["recipe"]["dropout"]
    rewrite(file, values)

    assert run.read_trials()[0].recipe == RECIPE


@given(st.data())
def test_a_flipped_bit_in_a_record_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    run = Run(tmp_path_factory.mktemp("runs") / "first")
    record = TrialRecord(trial_id=ID, number=0, recipe=RECIPE, epochs=(epoch(1), epoch(2)))
    run.write_trial(record)
    file = run.trial_dir(ID) / "record.json"
    flip(file, data.draw(st.integers(0, file.stat().st_size * 8 - 1)))

    try:
        read = run.read_trial(ID)
    except RecordError as error:
        assert str(file) in error.args[0]
    else:  # the bit made one kind of white space of another
        assert read == record


def test_a_record_of_the_first_format_is_read_without_a_checksum(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    record = TrialRecord(trial_id=ID, number=0, recipe=RECIPE)
    run.write_trial(record)
    file = run.trial_dir(ID) / "record.json"
    values = {**json.loads(file.read_text()), "format": 1}
    del values["checksum"]
    file.write_text(json.dumps(values))

    assert run.read_trial(ID) == record


# Best epochs and ranks


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    best = trial(0.3, 0.7, 0.7, 0.5).best()
    assert best is not None
    assert best.epoch == 2

    best = trial(0.7, 0.3, 0.3, 0.5, monitor="val_loss").best()
    assert best is not None
    assert best.epoch == 2

    assert trial().best() is None
    assert trial().score() is None


@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=3), max_size=6), st.sampled_from(METRICS))
def test_the_first_in_rank_is_better_sooner_or_earlier(scores: list[list[float]], monitor: str) -> None:
    ranked = rank_trials(trial(*row, number=number, monitor=monitor) for number, row in enumerate(scores))

    keys = []
    for record in ranked:
        best = record.best()
        score = record.score()
        assert best is not None
        assert score is not None
        keys.append((score if monitor == "val_loss" else -score, best.epoch, record.number))
    assert keys == sorted(keys)
    assert len(ranked) == sum(bool(row) for row in scores)


def test_failed_trials_have_no_rank() -> None:
    assert rank_trials([trial(0.9, state="failed"), trial(0.1, number=1, state="stopped")]) == [
        trial(0.1, number=1, state="stopped")
    ]


def test_a_trial_is_complete_after_its_epochs_or_its_patience() -> None:
    patient = dataclasses.replace(RECIPE, patience=2)

    assert not trial().complete
    assert not trial(0.1, 0.2).complete
    assert trial(0.1, 0.2, 0.3, 0.4, 0.5).complete
    assert not trial(0.3, 0.2, recipe=patient).complete
    assert trial(0.3, 0.2, 0.3, recipe=patient).complete


# Searches


@pytest.mark.parametrize(
    "key, value, place",
    [
        ("options", 3, "options"),
        ("options", {**SEARCH["options"], "set": 1}, "options.set"),
        ("options", {**SEARCH["options"], "seed": "none"}, "options.seed"),
        ("id", "../../x", "id"),
        ("data", {"folder": "faces"}, "data.fingerprint"),
        ("test_readings", [{"time": 1}], "test_readings.0.time"),
        ("best", {"trial_id": None}, "best.trial_id"),
    ],
)
def test_a_search_of_another_shape_is_refused_with_the_key(tmp_path: Path, key: str, value: Any, place: str) -> None:
    run = Run(tmp_path / "first")
    write_any_search_file(run, {**SEARCH, key: value})
    with pytest.raises(RecordError, match=f"{place}: "):
        run.read_search()


@pytest.mark.parametrize("trial_id", ["../../x", "/etc", "", ".", "a b", "a\0b"])
def test_a_trial_that_is_named_by_somebody_else_stays_in_the_folder(tmp_path: Path, trial_id: str) -> None:
    with pytest.raises(RecordError, match="no trial"):
        Run(tmp_path / "first").trial_dir(trial_id)


def test_a_search_is_read_as_it_was_written_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    assert not run.exists()
    run.write_search(make_search_file())

    assert run.exists()
    assert run.read_search().to_json() == {**SEARCH, "format": 2}
    with pytest.raises(RecordError, match=r"(?s)second: no search here.*Known names: first"):
        Run(tmp_path / "second").read_search()


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 99}', '{"format": [1]}'])
def test_a_search_of_another_version_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "search.json").write_text(text)

    with pytest.raises(RecordError, match="not a search of format"):
        Run(tmp_path).read_search()


def test_a_damaged_search_file_is_named_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path / "first")
    for openings in (3, 4):
        run.write_search(make_search_file(openings=openings))
    assert run.read_search().openings == 4
    flip(tmp_path / "first" / "search.json", 8 * 12)

    assert run.read_search().openings == 3
    assert "search.json.previous is used" in caplog.text


def test_a_search_file_whose_wrong_bit_makes_it_look_like_another_version_is_damaged(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    for openings in (3, 4):
        run.write_search(make_search_file(openings=openings))
    file = tmp_path / "first" / "search.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 3'))

    assert run.read_search().openings == 3


# The journal


events = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.none(), max_size=3), max_size=6
)


@settings(max_examples=30)  # every line is flushed to the disk
@given(events, st.data())
def test_a_journal_truncated_anywhere_keeps_every_complete_line(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]], data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("runs") / "first" / "journal.jsonl")
    ends = [0]
    for event in written:
        journal.append(event)
        ends.append(journal.file.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    if journal.file.exists():
        os.truncate(journal.file, cut)
    whole = sum(end <= cut for end in ends) - 1

    assert journal.read() == written[:whole]
    journal.repair()
    journal.append({"after": "the crash"})
    assert journal.read() == [*written[:whole], {"after": "the crash"}]


def test_a_line_that_a_full_disk_took_half_of_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": 1})

    class FullDisk(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data)[:5])

    def open_full(file: Path, mode: str = "r", **options: Any) -> FullDisk:
        return FullDisk(str(file), mode)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(RecordError, match=os.strerror(errno.ENOSPC)):
            journal.append({"event": 2})
    journal.append({"event": 3})

    assert journal.read() == [{"event": 1}, {"event": 3}]


@pytest.mark.parametrize("line", [b"\x00\x00\n", b"[1]\n", b"{\n", b"\n", b"[" * 100_000 + b"\n"])
def test_a_journal_broken_in_the_middle_is_refused_by_line(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"a":1}\n' + line + b'{"b":2}\n')

    with pytest.raises(RecordError, match=r"journal\.jsonl:2: not a JSON object"):
        Journal(file).read()


@settings(max_examples=30)
@given(st.data())
def test_a_journal_with_a_flipped_bit_keeps_the_lines_before_it_and_a_copy_of_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("runs") / "journal.jsonl")
    written = [{"event": "suggest", "number": number, "score": number / 3} for number in range(4)]
    for event in written:
        journal.append(event, durable=False)
    size = journal.file.stat().st_size
    bit = data.draw(st.integers(0, size * 8 - 1))
    flip(journal.file, bit)
    damaged = journal.file.read_bytes()
    line = damaged[: bit // 8].count(b"\n")

    journal.repair()

    journal.append({"event": "after"}, durable=False)
    kept = [{key: event[key] for key in written[0]} for event in journal.read()[:-1]]  # a checksum may lose its name
    assert kept == written[: len(kept)]
    assert len(kept) >= line
    if len(kept) <= line < 3:
        assert journal.file.with_name("journal.jsonl.broken").read_bytes() == damaged


def test_a_line_of_the_first_version_has_no_checksum(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"a":1}\n')
    Journal(file).append({"b": 2})

    assert Journal(file).read() == [{"a": 1}, {"b": 2}]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    journal.repair()

    assert journal.read() == []
    assert not journal.file.exists()


# Frames


def test_frames_have_a_row_for_every_trial_and_every_epoch() -> None:
    rows = [trial(0.1, 0.4, state="done"), trial(number=1, state="failed", reason="loss is nan")]

    trials, every = trials_frame(rows), epochs_frame(rows)

    assert list(trials["state"]) == ["done", "failed"]
    assert set(FIELD_NAMES) <= set(trials.columns)
    assert trials.loc[0, "best_epoch"] == 2
    assert trials.loc[0, "best_val_accuracy"] == 0.4
    assert trials.loc[0, "seconds"] == 1.0
    assert trials["best_epoch"].isna()[1]
    assert list(every["epoch"]) == [1, 2]
    assert list(every["trial_id"]) == ["000000000000"] * 2


def test_frames_of_nothing_are_empty() -> None:
    assert trials_frame([]).empty
    assert epochs_frame([]).empty


def test_trials_that_differ_in_seed_and_fold_alone_are_one_point_ranked_by_their_mean() -> None:
    lucky = trial(0.9, number=0)
    others = [trial(score, number=number, recipe=seeded(number)) for number, score in ((1, 0.2), (2, 0.4))]
    steady = [trial(0.6, number=number, recipe=seeded(number, dropout=0.1)) for number in (3, 4)]
    ranked = rank_points([*steady, lucky, *others])
    assert [[record.number for record in point.records] for point in ranked] == [[3, 4], [0, 1, 2]]
    assert [point.mean for point in ranked] == [pytest.approx(0.6), pytest.approx(0.5)]
    assert ranked[1].spread == pytest.approx(math.sqrt(0.13))
    assert ranked[1].best_trial() == lucky


def test_a_point_with_too_few_trials_comes_after_those_that_have_them() -> None:
    lucky, steady = trial(0.9), [trial(0.5, number=n, recipe=seeded(n, dropout=0.1)) for n in (1, 2)]
    assert [point.number for point in rank_points([lucky, *steady], wanted=2)] == [1, 0]
    assert [point.number for point in rank_points([lucky, *steady])] == [0, 1]


def test_a_failed_trial_counts_for_no_point() -> None:
    assert rank_points([trial(0.9, state="failed"), trial()]) == []


def seeded(seed: int, **changes: Any) -> Recipe:
    return dataclasses.replace(RECIPE, seed=seed, **changes)


def rewrite(file: Path, values: dict[str, Any]) -> None:
    """Put other values into a checked file, with the checksum that belongs to them."""
    values.pop("checksum", None)
    file.write_text(json.dumps(storage.with_checksum(values)))


def flip(file: Path, bit: int) -> None:
    """Turn one bit of a file."""
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
