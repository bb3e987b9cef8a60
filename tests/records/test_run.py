"""The folder of a search: what is written is what is read, and anything else is refused."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from fixtures.history import SEARCH, make_search_file, write_any_search_file
from fixtures.records import RECIPE, epoch, flip, rewrite, trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.errors import FerrayError, RecordError
from ferray.recipe import METRICS, Recipe
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord

ID = "0123456789ab"

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
