"""Ctrl-C outside of the training of trials: it is answered at once, at any moment."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never

import pytest

from ferray.commands.search import parse
from ferray.data.store.reader import Store
from ferray.errors import RecordError, StorageError
from ferray.records.run import Run
from ferray.search import run as story
from ferray.search.plan import Plan, make_plan
from ferray.signals import catch_signals


@pytest.fixture
def plan(tmp_path: Path, tiny_store: Store) -> Plan:
    asked = ["--space", "grid", "--data", str(tiny_store.folder), "--weights", "none", "--name", "first"]
    return make_plan(parse([*asked, "--out", str(tmp_path), "--wandb", "disabled"]))


def press_ctrl_c(*_: Any, **__: Any) -> Never:
    signal.raise_signal(signal.SIGINT)
    pytest.fail("it went on after Ctrl-C")


@pytest.mark.parametrize("moment", ["_assess", "export_winner", "verify_store"])
def test_ctrl_c_leaves_a_search_at_once_and_the_test_split_is_not_read_after_it(
    moment: str, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "rank_search", lambda *_: None)
    monkeypatch.setattr(story, "_assess", lambda *_: None)
    monkeypatch.setattr(story, "export_winner", lambda *_: pytest.fail("the test split was read"))
    if moment != "verify_store":
        monkeypatch.setattr(story, "_train_what_is_missing", lambda *_: True)
    monkeypatch.setattr(story, moment, press_ctrl_c)
    with catch_signals() as stop:
        assert story.run(plan, None, None, stop) == 130
    assert "interrupted; every finished epoch is kept. Go on: " in capsys.readouterr().err
    assert Run(plan.run.folder).read_search().test_readings == ()


def test_ctrl_c_before_a_search_has_begun_leaves_no_folder(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "load_weights", press_ctrl_c)
    with catch_signals() as stop, pytest.raises(KeyboardInterrupt):
        story.run(plan, None, None, stop)
    assert not plan.run.folder.exists()


def test_where_the_tables_cannot_be_written_either_the_error_is_that_of_the_judging(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Never:
        raise StorageError("trials.csv", "cannot be written: No space left on device", "Free space")

    def fail(*_: Any) -> Never:
        raise RecordError("trial a", "its checkpoint is broken", "Resume the search")

    monkeypatch.setattr(story, "_train_what_is_missing", lambda *_: True)
    monkeypatch.setattr(story, "_conclude", fail)
    monkeypatch.setattr(story, "write_tables", refuse)
    with catch_signals() as stop, pytest.raises(RecordError, match="its checkpoint is broken"):
        story.run(plan, None, None, stop)


def test_a_search_that_is_cut_off_after_its_outcome_is_known_prints_one_json_object(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by Ctrl-C while W&B is sent the last."""

    def stop_here(_: Any) -> Never:
        raise KeyboardInterrupt

    outcome = SimpleNamespace(significance=None, best=SimpleNamespace(record=None, metrics=None))
    monkeypatch.setattr(story, "_train_what_is_missing", lambda *_: True)
    monkeypatch.setattr(story, "_conclude", lambda *_: outcome)
    monkeypatch.setattr(story, "write_tables", lambda *_, **__: [])
    monkeypatch.setattr(story, "write_report", lambda *_: [])
    monkeypatch.setattr(story, "outcome_to_json", lambda *_, **__: {"state": "done"})
    monkeypatch.setattr(story.Status, "overhead", stop_here)
    with catch_signals() as stop:
        assert story.run(plan, None, None, stop, show="json") == 130
    assert json.loads(capsys.readouterr().out)["state"] == "interrupted"
