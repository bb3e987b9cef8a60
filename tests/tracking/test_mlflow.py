"""MLflow's own client finds in its store what the records say; the store is a folder, behind the client's interface."""

import dataclasses
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fixtures.tracking import make_record
from mlflow import MlflowClient
from mlflow.entities import Run as Entity
from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

from ferray.errors import SearchError
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, State, TrialRecord
from ferray.tracking import mlflow
from ferray.tracking.mlflow import STATUSES, MlflowLog, check_tracking_uri

SEARCH = "5ea7c4aa"
BEGAN = "2026-11-30T12:00:00+00:00"
STATES: tuple[State, ...] = ("done", "stopped", "failed", "interrupted")


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def record_of(trial_id: str = "aa", *, number: int = 0, epochs: int = 3, state: State = "done") -> TrialRecord:
    record = make_record(trial_id, number=number, epochs=epochs, state=state, reason=f"is {state}")
    return dataclasses.replace(record, began=BEGAN)


def log_to(uri: str, run: Run) -> MlflowLog:
    return MlflowLog(uri, run, search_id=SEARCH, tags={"space": "grid", "data_fingerprint": "ab12"})


def train(tracker: MlflowLog, record: TrialRecord, *, before: int = 0, ends: bool = True) -> None:
    """What a search says of a trial that has some epochs when the session begins."""
    tracker.trial_started(dataclasses.replace(record, state="running", epochs=record.epochs[:before]))
    for row in record.epochs[before:]:
        tracker.epoch_ended(record.trial_id, row)
    if ends:
        tracker.trial_ended(record)


def runs_at(uri: str) -> dict[str, Entity]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"ferray/first-{SEARCH}")
    return {found.data.tags["ferray.trial_id"]: found for found in client.search_runs([experiment.experiment_id])}


def assert_has(uri: str, records: Sequence[TrialRecord]) -> None:
    found = runs_at(uri)
    assert found.keys() == {record.trial_id for record in records}
    for record in records:
        run, client = found[record.trial_id], MlflowClient(uri)
        assert run.info.status == STATUSES[record.state]
        assert run.data.tags["ferray.state"] == record.state
        assert run.data.tags["data_fingerprint"] == "ab12"
        assert run.data.params["learning_rate"] == str(record.recipe.learning_rate)
        assert run.data.metrics["best_val_accuracy"] == record.score()
        for name in METRIC_FIELDS:
            history = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
            assert history == [(row.epoch, getattr(row, name)) for row in record.epochs]
        began = record.began_s()
        assert began is not None
        assert run.info.start_time == began * 1000
        assert run.info.end_time == pytest.approx((began + record.seconds()) * 1000, abs=5)


@pytest.mark.parametrize("state", STATES)
def test_a_run_has_the_settings_epochs_and_end_of_its_trial(uri: str, run: Run, state: State) -> None:
    record = record_of(state=state)
    with log_to(uri, run) as tracker:
        train(tracker, record, ends=state != "interrupted")
        tracker.search_ended([record])

    assert_has(uri, [record])


def test_a_trial_that_continues_has_one_run_and_every_epoch_once(uri: str, run: Run) -> None:
    record = record_of(epochs=4)
    with log_to(uri, run) as tracker:
        train(tracker, dataclasses.replace(record, epochs=record.epochs[:3]), ends=False)
    assert runs_at(uri)["aa"].info.status == "KILLED"
    with log_to(uri, run) as tracker:
        train(tracker, record, before=2)

    assert_has(uri, [record])


def test_a_search_that_was_not_sent_is_sent_when_it_is_resumed_and_only_once(
    uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record_of(name, number=number) for number, name in enumerate(("aa", "bb"))]
    with log_to(uri, run) as tracker:
        tracker.search_ended([*records, record_of("cc", number=2, epochs=0, state="queued")])
    assert_has(uri, records)
    sent: list[str] = []
    batch = MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *given, **more: (sent.append("batch"), batch(*given, **more)))
    with log_to(uri, run) as tracker:
        tracker.search_ended(records)

    assert_has(uri, records)
    assert not sent


def test_the_client_is_told_to_print_nothing_and_to_report_its_use_to_nobody(
    uri: str, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with log_to(uri, run) as tracker:
        train(tracker, record_of())

    assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get() is True
    assert MLFLOW_DISABLE_TELEMETRY.get() is True
    assert capfd.readouterr().out == ""


def fail_once(act: Callable[..., None]) -> Callable[..., None]:
    calls: list[int] = []

    def failing(*given: object, **more: object) -> None:
        calls.append(len(calls))
        if calls[-1] == 2:
            raise ConnectionResetError("reset by peer")
        act(*given, **more)

    return failing


def test_an_epoch_that_could_not_be_sent_is_sent_at_the_end(
    uri: str, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = record_of()
    monkeypatch.setattr(MlflowClient, "log_batch", fail_once(MlflowClient.log_batch))
    with log_to(uri, run) as tracker:
        train(tracker, record)

    assert_has(uri, [record])
    assert "reset by peer; the search continues" in caplog.text


def test_a_server_that_is_not_there_is_named_and_ends_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with log_to(f"http://127.0.0.1:{port}", run) as tracker:
            for number in range(5):
                train(tracker, record_of(str(number), number=number))

    warned = [one for one in caplog.records if one.name == mlflow.__name__ and one.levelno == logging.WARNING]
    assert len(warned) == mlflow.MAX_FAULTS + 1
    assert str(port) in warned[0].getMessage()


def test_what_could_not_be_sent_in_time_is_said(
    uri: str, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow, "EXIT_S", 0.0)
    hold = threading.Event()
    monkeypatch.setattr(MlflowLog, "_begin", lambda *given: hold.wait(30))
    with log_to(uri, run) as tracker:
        tracker.trial_started(record_of())
        tracker.search_ended([record_of()])
    hold.set()

    assert "not all was sent" in caplog.text


def test_what_was_left_out_at_the_end_of_the_time_is_said_where_the_thread_has_ended(
    uri: str, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = log_to(uri, run)
    tracker.search_ended([record_of()])
    tracker._deadline = -1.0
    with tracker:
        tracker._acts.put(None)
        tracker._thread.join(30)

    assert "not all was sent" in caplog.text


@pytest.mark.parametrize(
    "uri, fault",
    [
        ("http://me:hush@127.0.0.1:5000", "has a user or password"),
        ("sqlite:///mlflow.db", "does not begin with http"),
        ("mlruns", "does not begin with http"),
        ("", "does not begin with http"),
    ],
)
def test_a_uri_that_cannot_be_used_or_must_not_be_recorded_is_refused(uri: str, fault: str) -> None:
    with pytest.raises(SearchError, match=fault) as caught:
        check_tracking_uri(uri)
    assert "hush" not in str(caught.value)


def test_a_tracking_server_is_accepted() -> None:
    check_tracking_uri("http://127.0.0.1:5000")
