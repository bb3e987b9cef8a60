"""Records as tables."""

import dataclasses
import io

import pandas
import pyarrow.parquet
from fixtures.records import trial

from ferray.recipe import FIELD_NAMES
from ferray.records.tables import epochs_frame, plain_frame, trials_frame

BEGAN = "2030-01-02T03:04:05+00:00"


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


def test_searched_settings_come_first_and_are_named_and_each_is_there_once() -> None:
    frame = trials_frame([trial(0.1)], searched=("learning_rate", "dropout"))

    columns = list(frame.columns)
    assert columns[:6] == ["number", "trial_id", "state", "searched", "learning_rate", "dropout"]
    assert columns.index("best_val_accuracy") < columns.index("batch_size")
    assert len(columns) == len(set(columns))
    assert set(frame["searched"]) == {"learning_rate, dropout"}


def test_a_trial_has_its_start_and_the_tested_one_its_score() -> None:
    rows = [dataclasses.replace(trial(0.1), began=BEGAN), trial(0.2, number=1)]
    frame = trials_frame(rows, tested={rows[1].trial_id: {"accuracy": 0.25}})

    assert frame["began"].iloc[0] == pandas.Timestamp(BEGAN)
    assert pandas.isna(frame["began"].iloc[1])  # the record of a first version
    assert pandas.isna(frame["test_accuracy"].iloc[0])
    assert frame["test_accuracy"].iloc[1] == 0.25


def test_every_column_has_a_type_also_where_nothing_is_in_it() -> None:
    for rows in ([], [trial(state="failed")], [trial(0.1)]):
        for frame in (trials_frame(rows), epochs_frame(rows)):
            schema = pyarrow.parquet.read_schema(io.BytesIO(frame.to_parquet(index=False)))
            assert not [name for name in schema.names if str(schema.field(name).type) == "null"]
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["epoch"] == "int64"
    schema = pyarrow.parquet.read_schema(io.BytesIO(trials_frame([trial()]).to_parquet(index=False)))
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert (kinds["patience"], kinds["fold"], kinds["gradient_clip"]) == ("int64", "int64", "double")
    assert (kinds["shuffle_labels"], kinds["optimizer"], kinds["best_val_loss"]) == ("bool", "large_string", "double")
    assert kinds["began"].startswith("timestamp")


def test_a_whole_number_stays_whole_beside_a_missing_one() -> None:
    rows = [dataclasses.replace(trial(0.1), number=0), trial(number=1)]
    text = trials_frame(rows).to_csv(index=False)

    assert next(row["best_epoch"] for row in pandas.read_csv(io.StringIO(text), dtype=str).to_dict("records")) == "1"
    plain = plain_frame(trials_frame(rows))
    assert plain["best_epoch"].tolist() == [1, None]
    assert plain["patience"].tolist() == [None, None]
