"""Real wandb, offline; what it wrote is read back with our reader and with its own."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import wandb
from fixtures.tracking import KEY, drain, make_record, make_row

from ferray import recipe as recipes
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, State, TrialRecord
from ferray.tracking import mirror
from ferray.tracking.offline import OfflineRun, read_offline_runs
from ferray.tracking.wandb import HIDDEN, Destination, Tracker

SEARCH = "5ea7c4"
ORIGIN = {"search_id": SEARCH, "space": "grid", "data_fingerprint": "ab12"}
STATES: tuple[State, ...] = ("done", "stopped", "failed", "interrupted")


def track(run: Run) -> Tracker:
    return Tracker(run, mode="offline", search_id=SEARCH, config={"space": "grid", "seed": 3}, trial_config=ORIGIN)


def read(run: Run) -> dict[str, OfflineRun]:
    return {found.id.removeprefix(f"{SEARCH}-"): found for found in read_offline_runs(run.folder / "wandb")}


def epochs(found: OfflineRun) -> list[int]:
    return [row["epoch"] for row in found.history]


def segments(run: Run, trial_id: str) -> list[Path]:
    return sorted((run.folder / "wandb").glob(f"offline-run-*-{SEARCH}-{trial_id}*"))


def warnings_of_ours(caplog: pytest.LogCaptureFixture) -> int:
    records = caplog.get_records("call")
    return sum(record.levelno >= logging.WARNING and record.name.startswith("ferray.") for record in records)


def tell_elsewhere(story: str, *arguments: object) -> int:
    """Run a story in a process of its own, with the imports of the tests; its exit status."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", textwrap.dedent(story), *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def search_of_four(run: Run) -> list[TrialRecord]:
    """A search in which one trial ends in each state, and what is on record of it."""
    records = [
        make_record(
            state, number=number, epochs=2 + number % 2, state=state, reason="" if state == "done" else f"is {state}"
        )
        for number, state in enumerate(STATES)
    ]
    run.best_dir.mkdir(parents=True)
    (run.best_dir / "model.safetensors").write_bytes(b"weights")
    matplotlib.image.imsave(run.folder / "curves.png", np.zeros((8, 8, 3)))
    with track(run) as tracker:
        for record in records:
            tracker.trial_started(dataclasses.replace(record, state="running", epochs=()))
        for record in records:
            for row in record.epochs:
                tracker.epoch_ended(record.trial_id, row)
            if record.state != "interrupted":
                tracker.trial_ended(record)
            run.write_trial(record)
        tracker.search_ended(
            records=run.read_trials(),
            best=records[0],
            files=[run.folder / "curves.png", run.folder / "trials.csv", run.best_dir],
            summary={
                "accuracy": 0.5,
                "interval": [0.4, 0.6],
                "baselines": {"chance": 0.25},
                "confusion": [[1, 2], [3, 4]],
            },
        )
    return records


def expected_summary(record: TrialRecord) -> dict[str, Any]:
    best = record.best()
    assert best is not None
    names = ["epoch", *(name for name in METRIC_FIELDS if name != "seconds")]
    return {
        **dataclasses.asdict(record.epochs[-1]),
        **{f"best_{name}": getattr(best, name) for name in names},
        "state": record.state,
        "stop_reason": record.reason,
    }


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, ("faces", "team")),
        ({"WANDB_PROJECT": "mine"}, ("mine", "team")),
        ({"WANDB_PROJECT": "mine", "WANDB_ENTITY": "me"}, ("mine", "me")),
    ],
)
def test_the_project_and_entity_of_the_space_reach_wandb_unless_a_variable_says_otherwise(
    run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    given = []
    begin = wandb.init

    def record_and_begin(**options: Any) -> Any:
        given.append((options["project"], options["entity"]))
        return begin(**options)

    monkeypatch.setattr(wandb, "init", record_and_begin)
    destination = Destination(project="faces", entity="team")
    with Tracker(run, mode="offline", search_id=SEARCH, config={}, destination=destination) as tracker:
        tracker.trial_started(make_record("a"))
    assert given == [expected]
    assert read(run)["a"].project == expected[0]


def test_every_trial_is_a_run_with_its_settings_epochs_and_true_end(
    run: Run, inspect: Callable[[Path], dict[str, Any]]
) -> None:
    records = search_of_four(run)
    found = read(run)

    for record, exit_code in zip(records, (0, 0, 1, 254), strict=True):
        mirrored = found[record.trial_id]
        assert mirrored.name == f"first-{record.number}"
        assert (mirrored.group, mirrored.job_type, mirrored.project) == (f"first-{SEARCH}", "trial", "ferray")
        assert mirrored.tags == ("ferray", "vgg16", *(() if record.state == "done" else (record.state,)))
        assert mirrored.config == {
            **recipes.to_values(record.recipe),
            **ORIGIN,
            "number": record.number,
            "trial_id": record.trial_id,
        }
        assert list(mirrored.history) == [dataclasses.asdict(row) for row in record.epochs]
        assert mirrored.summary == expected_summary(record)
        assert mirrored.exit_code == exit_code

        seen = inspect(segments(run, record.trial_id)[0])
        own = {key: value for key, value in seen["summary"].items() if not key.startswith("_")}
        assert (seen["run_id"], seen["name"]) == (mirrored.id, mirrored.name)
        assert (own, seen["config"], tuple(seen["tags"])) == (mirrored.summary, mirrored.config, mirrored.tags)
        assert (seen["exit_code"], seen["step"]) == (exit_code, len(record.epochs) - 1)
        assert seen["state"] == {0: "finished", 1: "failed", 254: "crashed"}[exit_code]


def test_two_searches_of_one_name_in_two_folders_are_two_groups(tmp_path: Path) -> None:
    groups = set()
    for search_id in ("aaaa", "bbbb"):
        run = Run(tmp_path / search_id / "first")
        with Tracker(run, mode="offline", search_id=search_id, config={}) as tracker:
            tracker.trial_started(make_record("t"))
        groups |= {found.group for found in read_offline_runs(run.folder / "wandb")}
    assert groups == {"first-aaaa", "first-bbbb"}


def test_the_search_has_a_run_of_its_own_with_table_picture_and_model(run: Run) -> None:
    records = search_of_four(run)
    found = read(run)["search"]

    assert (found.name, found.group, found.job_type, found.exit_code) == ("first", f"first-{SEARCH}", "search", 0)
    assert found.config == {"space": "grid", "seed": 3}
    assert found.summary["best_trial_id"] == "done"
    assert found.summary["best_score"] == records[0].score()
    assert (found.summary["accuracy"], found.summary["interval"]) == (0.5, [0.4, 0.6])
    assert found.summary["baselines.chance"] == 0.25
    assert found.summary["trials"]["nrows"] == len(records)
    assert found.summary["curves"]["_type"] == "image-file"
    assert b"first-best" in next(segments(run, "search")[0].glob("*.wandb")).read_bytes()


def test_the_key_is_in_no_file(run: Run, wandb_home: Path) -> None:
    search_of_four(run)
    files = [file for file in [*run.folder.rglob("*"), *wandb_home.rglob("*")] if file.is_file()]

    assert len(files) > 20
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file
    assert not [file for file in files if "artifacts" in file.parts and file.is_relative_to(wandb_home)]


def test_neither_command_line_nor_output_is_in_any_file_and_no_service_in_the_environment(run: Run) -> None:
    story = """
        import os, sys
        from pathlib import Path
        from fixtures.tracking import drain, make_record, make_row
        from ferray.records.run import Run
        from ferray.tracking.wandb import Destination, Tracker
        with Tracker(Run(Path(sys.argv[1])), mode="offline", search_id="a", config={}) as tracker:
            tracker.trial_started(make_record("a"))
            drain(tracker)
            assert "WANDB_SERVICE" not in os.environ  # else processes that start now would log through our wandb-core
            print("what" + "-was-printed")
            tracker.epoch_ended("a", make_row(1))
            print("what" + "-was-printed", file=sys.stderr)
    """
    assert tell_elsewhere(story, run.folder, "--a-secret=argument") == 0
    files = [file for file in run.folder.rglob("*") if file.is_file()]

    assert [file for file in files if file.suffix == ".wandb"]
    for file in files:
        data = file.read_bytes()
        assert b"a-secret" not in data, file
        assert b"what-was-printed" not in data, file


def test_a_search_gone_through_once_more_changes_nothing(run: Run) -> None:
    records = search_of_four(run)
    before = {file: file.read_bytes() for file in run.folder.rglob("*.wandb")}
    with track(run) as tracker:
        for record in records[:2]:
            tracker.trial_started(dataclasses.replace(record, state="running", epochs=()))
            for row in record.epochs:
                tracker.epoch_ended(record.trial_id, row)
            tracker.trial_ended(record)
        summary = {
            "accuracy": 0.5,
            "interval": [0.4, 0.6],
            "baselines": {"chance": 0.25},
            "confusion": [[1, 2], [3, 4]],
        }
        tracker.search_ended(records=run.read_trials(), best=records[0], files=[], summary=summary)

    assert {file: file.read_bytes() for file in run.folder.rglob("*.wandb")} == before


@pytest.mark.parametrize("lost", ["nothing", "wandb.jsonl", "wandb"])
def test_a_run_opened_again_gets_each_epoch_once(run: Run, lost: str) -> None:
    with track(run) as tracker:
        tracker.trial_started(make_record("a"))
        tracker.epoch_ended("a", make_row(1))
        tracker.epoch_ended("a", make_row(2))
    first = list(read(run)["a"].history)
    if lost == "wandb.jsonl":
        (run.folder / lost).unlink()
    elif lost == "wandb":  # synced, then cleaned
        (run.folder / lost).rename(run.folder / "elsewhere")
        first = []
    with track(run) as tracker:
        tracker.trial_started(make_record("a", epochs=3))  # the third was recorded, but never reported to its driver
        tracker.epoch_ended("a", make_row(4))
        tracker.trial_ended(make_record("a", epochs=4, state="done"))
    found = read(run)["a"]

    assert list(found.history) == [*first, dataclasses.asdict(make_row(3)), dataclasses.asdict(make_row(4))]
    assert (found.exit_code, found.summary["state"], found.tags) == (0, "done", ("ferray", "vgg16"))


def test_a_run_opened_again_and_again_within_a_second_keeps_all_epochs(run: Run) -> None:
    for epoch in range(1, 6):
        with track(run) as tracker:
            tracker.trial_started(make_record("a", epochs=epoch - 1))
            tracker.epoch_ended("a", make_row(epoch))

    assert epochs(read(run)["a"]) == [1, 2, 3, 4, 5]


def test_two_points_that_are_one_trial_share_a_run_that_ends_with_the_second(run: Run) -> None:
    with track(run) as tracker:
        tracker.trial_started(make_record("a", number=0))
        tracker.trial_started(make_record("a", number=1))
        tracker.epoch_ended("a", make_row(1))
        tracker.epoch_ended("a", make_row(1))
        tracker.trial_ended(make_record("a", epochs=1, state="stopped", reason="early"))
        tracker.epoch_ended("a", make_row(2))
        tracker.trial_ended(make_record("a", number=1, epochs=2, state="done"))

    assert len(segments(run, "a")) == 1
    found = read(run)["a"]
    assert epochs(found) == [1, 2]
    assert (found.exit_code, found.summary["state"], found.config["number"]) == (0, "done", 0)


def test_a_search_that_was_not_mirrored_is_caught_up_at_its_end(run: Run) -> None:
    record = make_record("a", epochs=3, state="stopped", reason="early")
    run.write_trial(record)
    with track(run) as tracker:
        tracker.search_ended(records=run.read_trials(), best=record, files=[], summary={})

    assert epochs(read(run)["a"]) == [1, 2, 3]
    assert read(run)["a"].summary["stop_reason"] == "early"
    assert read(run)["search"].exit_code == 0


def test_a_killed_wandb_core_costs_no_epoch_and_no_exception(run: Run) -> None:
    story = """
        import logging, os, signal, sys
        from pathlib import Path
        from fixtures.tracking import drain, live_core, make_record, make_row
        from ferray.records.run import Run
        from ferray.tracking.wandb import Destination, Tracker
        logging.basicConfig(filename=sys.argv[2], level=logging.WARNING, format="%(name)s")
        with Tracker(Run(Path(sys.argv[1])), mode="offline", search_id="5ea7c4", config={}) as tracker:
            tracker.trial_started(make_record("a"))
            tracker.trial_started(make_record("b", number=1))
            for epoch in (1, 2):
                tracker.epoch_ended("a", make_row(epoch))
                tracker.epoch_ended("b", make_row(epoch, number=1))
            drain(tracker)
            os.kill(live_core(), signal.SIGKILL)
            tracker.epoch_ended("a", make_row(3))
            tracker.trial_ended(make_record("a", epochs=3, state="done"))
            tracker.trial_ended(make_record("b", number=1, epochs=2, state="failed", reason="broke"))
    """
    warnings = run.folder.parent / "warnings.txt"
    warnings.parent.mkdir(parents=True)
    assert tell_elsewhere(story, run.folder, warnings) == 0
    found = read(run)

    assert (epochs(found["a"]), found["a"].exit_code) == ([1, 2, 3], 0)
    assert (epochs(found["b"]), found["b"].exit_code) == ([1, 2], 1)
    assert [line for line in warnings.read_text().splitlines() if line.startswith("ferray.")] == [
        "ferray.tracking.mirror"
    ]


@pytest.mark.slow
def test_a_wandb_core_killed_while_it_ends_a_run_costs_no_epoch(run: Run) -> None:
    story = """
        import os, signal, sys, traceback
        from pathlib import Path
        from fixtures.tracking import drain, live_core, make_record, make_row
        from ferray.records.run import Run
        from ferray.tracking.wandb import Destination, Tracker
        with Tracker(Run(Path(sys.argv[1])), mode="offline", search_id="5ea7c4", config={}) as tracker:
            tracker.trial_started(make_record("a"))
            tracker.epoch_ended("a", make_row(1))
            drain(tracker)
            core = live_core()
            os.kill(core, signal.SIGSTOP)  # it accepts data and answers nothing
            tracker.trial_ended(make_record("a", epochs=1, state="done"))
            names = []
            while "wait_all_with_progress" not in names:  # until the thread waits for the answer
                stack = traceback.extract_stack(sys._current_frames()[tracker._thread.ident])
                names = [frame.name for frame in stack]
            os.kill(core, signal.SIGKILL)
    """
    assert tell_elsewhere(story, run.folder) == 0
    found = read(run)

    assert (epochs(found["a"]), found["a"].exit_code) == ([1], 0)


def test_a_killed_driver_costs_no_epoch_and_doubles_none(run: Run) -> None:
    story = """
        import os, signal, sys
        from pathlib import Path
        from fixtures.tracking import drain, make_record, make_row
        from ferray.records.run import Run
        from ferray.tracking.wandb import Destination, Tracker
        with Tracker(Run(Path(sys.argv[1])), mode="offline", search_id="5ea7c4", config={}) as tracker:
            tracker.trial_started(make_record("a"))
            for epoch in (1, 2):
                tracker.epoch_ended("a", make_row(epoch))
            drain(tracker)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert tell_elsewhere(story, run.folder) == -signal.SIGKILL
    with track(run) as tracker:
        tracker.trial_started(make_record("a", epochs=2))
        tracker.epoch_ended("a", make_row(3))
        tracker.trial_ended(make_record("a", epochs=3, state="done"))

    assert len(segments(run, "a")) == 2
    assert epochs(read(run)["a"]) == [1, 2, 3]


def test_a_wandb_that_always_fails_is_given_up_and_the_search_continues(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def fail(**_: object) -> None:
        tries.append(1)
        raise RuntimeError("no luck")

    monkeypatch.setattr(wandb, "init", fail)
    with track(run) as tracker:
        for number in range(5):
            tracker.trial_started(make_record(f"t{number}", number=number))
            tracker.trial_ended(make_record(f"t{number}", number=number, epochs=1, state="done"))
        tracker.search_ended(records=run.read_trials(), best=None, files=[], summary={})

    assert len(tries) == mirror.MAX_FAULTS
    assert tracker.has_given_up
    assert warnings_of_ours(caplog) == 2


def test_an_online_search_whose_server_refuses_continues_in_files(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = wandb.init

    def refuse_online(**options: Any) -> Any:
        if options["mode"] == "online":
            raise wandb.errors.CommError("refused")
        return real(**options)

    monkeypatch.setattr(wandb, "init", refuse_online)
    with Tracker(run, mode="online", search_id=SEARCH, config={}) as tracker:
        tracker.trial_started(make_record("a"))
        tracker.epoch_ended("a", make_row(1))
        tracker.trial_ended(make_record("a", epochs=1, state="done"))

    assert (epochs(read(run)["a"]), read(run)["a"].exit_code) == ([1], 0)
    assert "wandb sync" in caplog.text


def test_online_without_a_key_opens_nothing_online(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def note(**options: Any) -> None:
        modes.append(options["mode"])
        raise RuntimeError("enough")

    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr(wandb, "init", note)
    with Tracker(run, mode="online", search_id=SEARCH, config={}) as tracker:
        tracker.trial_started(make_record("a"))

    assert set(modes) == {"offline"}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What an agent of wandb's, a process of it, and a user who means one run leave in the environment."""
    for name in HIDDEN:
        monkeypatch.setenv(name, "foreign")
    assert {"WANDB_RUN_ID", "WANDB_MODE", "WANDB_RESUME", "WANDB_RESUME_FROM"} < set(HIDDEN)
    return dict.fromkeys(HIDDEN, "foreign")


def test_an_agent_above_us_neither_names_our_runs_nor_loses_its_variables(run: Run, agent: dict[str, str]) -> None:
    with track(run) as tracker:
        tracker.trial_started(make_record("a"))
        drain(tracker)
        inside = {name for name in os.environ if name in agent}
        tracker.trial_ended(make_record("a", epochs=1, state="done"))

    assert read(run)["a"].id == f"{SEARCH}-a"
    assert not inside
    assert {name: os.environ[name] for name in agent} == agent
    assert "WANDB_DATA_DIR" not in os.environ


def test_the_end_of_a_search_does_not_wait_for_a_stuck_wandb(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    monkeypatch.setattr("ferray.tracking.wandb.EXIT_S", 0.05)
    monkeypatch.setattr(mirror.Mirror, "start", lambda self, record: released.wait(60))
    with track(run) as tracker:
        tracker.trial_started(make_record("a"))
    thread = tracker._thread
    released.set()

    assert "not all was sent" in caplog.text
    assert thread is not None
    thread.join(60)


def test_after_the_deadline_nothing_is_sent_but_no_run_gets_a_wrong_state(run: Run) -> None:
    done = make_record("a", epochs=1, state="done")
    run.write_trial(done)
    with track(run) as tracker:
        tracker.trial_started(make_record("a"))
        drain(tracker)
        tracker._call(lambda: setattr(tracker._mirror, "deadline", -1.0))
        tracker.trial_started(make_record("b", number=1))
        tracker.trial_ended(done)
        tracker.search_ended(records=run.read_trials(), best=done, files=[], summary={})
        drain(tracker)
        tracker._call(tracker._mirror.close)
        drain(tracker)

    assert set(read(run)) == {"a"}
    assert (epochs(read(run)["a"]), read(run)["a"].exit_code) == ([1], 0)


def test_disabled_or_before_the_first_trial_wandb_is_not_even_imported(run: Run) -> None:
    story = """
        import sys
        from pathlib import Path
        from fixtures.tracking import make_record, make_row
        from ferray.records.run import Run
        from ferray.tracking.wandb import Destination, Tracker, choose_mode
        run = Run(Path(sys.argv[1]))
        choose_mode("offline")
        with Tracker(run, mode="offline", search_id="a", config={}):
            pass
        with Tracker(run, mode="disabled", search_id="a", config={}) as tracker:
            tracker.trial_started(make_record("a"))
            tracker.epoch_ended("a", make_row(1))
            tracker.trial_ended(make_record("a", epochs=1, state="done"))
            tracker.search_ended(records=run.read_trials(), best=None, files=[], summary={})
        assert "wandb" not in sys.modules
        assert not run.folder.exists()
    """
    assert tell_elsewhere(story, run.folder) == 0
