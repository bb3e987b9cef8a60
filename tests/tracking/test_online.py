"""Real wandb, online, against a server in this process."""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.tracking import drain, make_record, make_row
from fixtures.wandb_server import WandbServer

from ferray import recipe as recipes
from ferray.records.run import Run
from ferray.records.trial import State, TrialRecord
from ferray.space import read_space, to_sweep_config
from ferray.tracking import mirror
from ferray.tracking import sweep as sweeps
from ferray.tracking.offline import read_offline_runs
from ferray.tracking.wandb import Destination, Tracker

SEARCH = "5ea7c4"
ORIGIN = {"search_id": SEARCH, "space": "grid", "data_fingerprint": "ab12"}
SPACE = """\
method: grid
name: from the file
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.001, 0.002, 0.003, 0.004]}
  optimizing: {parameters: {momentum: {value: 0.8}}}
  hidden_units: {value: null}
"""
STATES: tuple[State, ...] = ("done", "stopped", "failed", "interrupted")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "mine.yaml"
    file.write_text(SPACE)
    return to_sweep_config(read_space(file), name="first")


def track(run: Run, sweep: dict[str, Any] | None = None, **destination: str) -> Tracker:
    return Tracker(
        run,
        mode="online",
        search_id=SEARCH,
        config={},
        trial_config=ORIGIN,
        sweep=sweep,
        destination=Destination(**destination),
    )


def make_trials() -> list[TrialRecord]:
    return [make_record(state, number=number, epochs=2, state=state) for number, state in enumerate(STATES)]


def send(tracker: Tracker, records: list[TrialRecord]) -> None:
    """Trials as they come in a search; one that is interrupted is left open."""
    for record in records:
        tracker.trial_started(dataclasses.replace(record, state="running", epochs=()))
        for row in record.epochs:
            tracker.epoch_ended(record.trial_id, row)
        if record.state != "interrupted":
            tracker.trial_ended(record)


def end(tracker: Tracker, records: list[TrialRecord]) -> None:
    tracker.search_ended(records=records, best=records[0], files=[], summary={})


def warnings_of_ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = caplog.get_records("call")
    return [one.getMessage() for one in records if one.levelno >= logging.WARNING and one.name.startswith("ferray.")]


def rows_of(record: TrialRecord) -> list[dict[str, Any]]:
    return [dataclasses.asdict(row) for row in record.epochs]


def test_a_search_is_one_sweep_whose_runs_have_their_settings_epochs_and_true_end(
    run: Run, server: WandbServer, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    records = make_trials()
    with track(run, config, project="faces", entity="team") as tracker:
        send(tracker, records)
        end(tracker, records)

    ((name, sweep),) = server.sweeps.items()
    assert (sweep.project, sweep.entity, sweep.state) == ("faces", "team", "FINISHED")
    assert sweep.config == {
        "method": "custom",
        "name": "from the file",
        "description": "ferray, method grid",
        "metric": {"name": "val_accuracy", "goal": "maximize"},
        "parameters": {
            "learning_rate": {"values": [0.001, 0.002, 0.003, 0.004]},
            "momentum": {"value": 0.8},
            "hidden_units": {"value": None},
        },
    }
    for record, state in zip(records, ("finished", "finished", "failed", "crashed"), strict=True):
        sent = server.runs[f"{SEARCH}-{record.trial_id}"]
        assert (sent.project, sent.entity, sent.group) == ("faces", "team", f"first-{SEARCH}")
        assert (sent.sweep, sent.state, sent.summary["state"]) == (name, state, record.state)
        own = {"number": record.number, "trial_id": record.trial_id}
        assert sent.config == {**recipes.to_values(record.recipe), **ORIGIN, **own}
        assert sent.rows() == rows_of(record)
    assert server.runs[f"{SEARCH}-search"].sweep is None
    assert not warnings_of_ours(caplog)


def test_a_search_that_was_interrupted_goes_on_with_its_sweep(
    run: Run, server: WandbServer, config: dict[str, Any]
) -> None:
    record = make_record("a", epochs=2, state="done")
    with track(run, config) as tracker:
        tracker.trial_started(make_record("a"))
        tracker.epoch_ended("a", make_row(1))
    ((name, sweep),) = server.sweeps.items()
    assert (sweep.state, server.runs[f"{SEARCH}-a"].state) == ("RUNNING", "crashed")

    extended = {**config, "parameters": {**config["parameters"], "dropout": {"values": [0.0, 0.5]}}}
    with track(run, extended) as tracker:
        tracker.trial_started(make_record("a", epochs=1))
        tracker.epoch_ended("a", make_row(2))
        tracker.trial_ended(record)
        end(tracker, [record])

    sent = server.runs[f"{SEARCH}-a"]
    assert list(server.sweeps) == [name] == [sent.sweep]
    assert (sweep.state, sweep.config, sent.state) == ("FINISHED", extended, "finished")
    assert sent.rows() == rows_of(record)


def test_a_search_that_has_ended_asks_for_nothing_when_it_is_gone_through_again(
    run: Run, server: WandbServer, config: dict[str, Any]
) -> None:
    record = make_record("a", epochs=1, state="done")
    for _ in range(2):
        before = len(server.requests)
        with track(run, config) as tracker:
            send(tracker, [record])
            end(tracker, [record])

    assert len(server.requests) == before


def test_offline_runs_stay_in_the_sweep_that_was_made_online_also_when_they_are_synced(
    run: Run, server: WandbServer, config: dict[str, Any], sync: Callable[..., None]
) -> None:
    record = make_record("b", number=1, epochs=2, state="stopped")
    with track(run, config) as tracker:
        tracker.trial_started(make_record("a"))
    with Tracker(run, mode="offline", search_id=SEARCH, config={}, sweep=config) as tracker:
        send(tracker, [record])
    assert f"{SEARCH}-b" not in server.runs

    sync(*run.folder.glob("wandb/offline-run-*"))
    sent = server.runs[f"{SEARCH}-b"]
    assert [sent.sweep] == list(server.sweeps)
    assert (sent.rows(), sent.state, sent.summary["state"]) == (rows_of(record), "finished", "stopped")


@pytest.mark.parametrize("kind", ["UpsertSweep", "Viewer"])
def test_a_sweep_that_cannot_be_made_is_said_once_and_the_runs_go_without(
    kind: str, run: Run, server: WandbServer, config: dict[str, Any], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sweeps, "ANSWER_S", 1)
    fault = server.fail(kind, status=500, times=None if kind == "UpsertSweep" else 2)
    records = make_trials()[:2]
    with track(run, config) as tracker:
        send(tracker, records)
        end(tracker, records)

    assert fault.num_seen
    assert not server.sweeps
    for record in records:
        sent = server.runs[f"{SEARCH}-{record.trial_id}"]
        assert (sent.sweep, sent.state, sent.rows()) == (None, "finished", rows_of(record))
    (warning,) = warnings_of_ours(caplog)
    assert "no sweep" in warning


def test_a_sweep_that_somebody_has_deleted_costs_no_run(
    run: Run, server: WandbServer, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    records = make_trials()[:2]
    with track(run, config) as tracker:
        send(tracker, records[:1])
        tracker._call(server.sweeps.clear)
        send(tracker, records[1:])

    first, second = (server.runs[f"{SEARCH}-{record.trial_id}"] for record in records)
    assert first.sweep is not None
    assert (second.sweep, second.state, second.rows()) == (None, "finished", rows_of(records[1]))
    assert sum("is gone" in warning for warning in warnings_of_ours(caplog)) == 1


def test_a_sweep_that_is_gone_when_the_search_is_resumed_costs_no_run(
    run: Run, server: WandbServer, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    records = make_trials()[:2]
    with track(run, config) as tracker:
        send(tracker, records[:1])
    server.sweeps.clear()
    with track(run, config) as tracker:
        send(tracker, records[1:])
        end(tracker, records)

    sent = server.runs[f"{SEARCH}-{records[1].trial_id}"]
    assert (sent.sweep, sent.state, sent.rows()) == (None, "finished", rows_of(records[1]))
    assert sum("is gone" in warning for warning in warnings_of_ours(caplog)) == 1


def test_a_resumed_search_whose_sweep_cannot_be_changed_still_joins_it(
    run: Run, server: WandbServer, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "ANSWER_S", 1)
    records = make_trials()[:2]
    with track(run, config) as tracker:
        send(tracker, records[:1])
    fault = server.fail("UpsertSweep", status=500)
    with track(run, config) as tracker:
        send(tracker, records[1:])

    assert fault.num_seen
    assert [server.runs[f"{SEARCH}-{records[1].trial_id}"].sweep] == list(server.sweeps)


@pytest.mark.parametrize("what", ["project", "entity"])
def test_a_sweep_of_another_place_is_not_gone_on_with(
    what: str, run: Run, server: WandbServer, config: dict[str, Any]
) -> None:
    for place in ("faces", "others"):
        with track(run, config, **{what: place}) as tracker:
            tracker.trial_started(make_record("a"))

    assert [getattr(sweep, what) for sweep in server.sweeps.values()] == ["faces", "others"]


@pytest.mark.parametrize("how", [{"status": 429}, {"status": 500}, {"is_reset": True}], ids=["429", "500", "reset"])
@pytest.mark.parametrize("kind", ["UpsertBucket", "file_stream"])
def test_a_fault_that_passes_costs_and_doubles_no_epoch(
    kind: str, how: dict[str, Any], run: Run, server: WandbServer
) -> None:
    fault = server.fail(kind, times=1, **how)
    record = make_record("a", epochs=3, state="done")
    with track(run) as tracker:
        send(tracker, [record])

    assert fault.num_seen == 1
    sent = server.runs[f"{SEARCH}-a"]
    assert (sent.rows(), sent.state) == (rows_of(record), "finished")


def test_a_server_that_answers_slowly_delays_no_training(run: Run, server: WandbServer, config: dict[str, Any]) -> None:
    fault = server.fail("UpsertBucket", held=threading.Event())
    record = make_record("a", epochs=3, state="done")
    with track(run, config) as tracker:
        send(tracker, [record])
        end(tracker, [record])
        server.wait_for(fault)
        assert not server.runs  # all of the search was reported before W&B has answered once
        server.lift()

    assert server.runs[f"{SEARCH}-a"].rows() == rows_of(record)


def test_with_a_wrong_key_the_runs_go_to_files(
    run: Run, server: WandbServer, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    record = make_record("a", epochs=2, state="done")
    with track(run, config) as tracker:
        send(tracker, [record])

    assert not server.runs
    assert len(list(run.folder.glob(f"wandb/offline-run-*-{SEARCH}-a/*.wandb"))) == 1
    assert "no sweep" in caplog.text
    assert "for `wandb sync`" in caplog.text


def test_a_server_that_fails_for_long_leaves_all_epochs_in_files(
    run: Run, server: WandbServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "INIT_S", 1)
    monkeypatch.setattr(mirror, "EXIT_S", 2)
    first, second = make_trials()[:2]
    with track(run) as tracker:
        tracker.trial_started(dataclasses.replace(first, state="running", epochs=first.epochs[:1]))
        drain(tracker)
        server.fail(status=500)
        send(tracker, [second])
        tracker.epoch_ended(first.trial_id, first.epochs[1])
        tracker.trial_ended(first)

    found = {one.id: one for one in read_offline_runs(run.folder / "wandb")}
    for record in (first, second):
        kept = found[f"{SEARCH}-{record.trial_id}"]
        assert (list(kept.history), kept.exit_code) == (rows_of(record), 0)
    assert "the runs go to files" in caplog.text


def test_the_best_score_so_far_is_a_curve_that_grows_with_the_search(run: Run, server: WandbServer) -> None:
    records = [make_record(str(number), number=number, epochs=1, state="done") for number in (0, 1, 2)]
    records[1] = dataclasses.replace(records[1], state="failed")
    for known in (records[:2], records):
        with track(run) as tracker:
            send(tracker, known)
            end(tracker, known)

    rows = server.runs[f"{SEARCH}-search"].rows()
    first, third = records[0].score(), records[2].score()
    assert [(row["trial"], row["best_so_far"]) for row in rows if "trial" in row] == [(0, first), (2, third)]


def test_an_agent_above_a_search_takes_none_of_its_runs(
    run: Run, server: WandbServer, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "foreign")
    with track(run, config) as tracker:
        send(tracker, [make_record("a", epochs=1, state="done")])

    assert list(server.runs) == [f"{SEARCH}-a"]
    assert server.runs[f"{SEARCH}-a"].sweep in server.sweeps
    assert os.environ["WANDB_RUN_ID"] == "foreign"
    assert "WANDB_SERVICE" not in os.environ
