"""What a folder proves of its search."""

import dataclasses
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.report.watch.drawing import draw
from ferray.report.watch.folder import SILENT_S, FolderWatcher, folder_state
from ferray.report.watch.status import STATUS_FILE, LiveStatus, ProcessIdentity, _start_of, read_status
from ferray.report.watch.view import SearchView

from .conftest import ELSEWHERE, GONE

Report = Callable[..., LiveStatus]


def test_what_the_driver_wrote_lately_is_shown_as_it_is(going_run: Run, report: Report) -> None:
    status = report(going_run, num_ended=4, waits="for a node since 12:03")
    assert FolderWatcher(going_run).read() == status.view


def test_a_process_that_is_gone_has_ended_without_a_report_however_new_the_last_one_is(
    going_run: Run, report: Report
) -> None:
    report(going_run, process=GONE)
    view = FolderWatcher(going_run).read()
    assert view.phase == "lost"
    assert f"process {GONE.pid} is gone" in view.doing
    assert view.way_out.startswith("python -m ferray.search --resume going")


@pytest.mark.parametrize("phase", ["finished", "interrupted", "failed"])
def test_an_end_that_was_reported_stays_that_end(phase: str, going_run: Run, report: Report) -> None:
    report(going_run, phase=phase, process=GONE, age_s=10_000)
    view = FolderWatcher(going_run).read()
    assert view.phase == phase
    assert bool(view.way_out) == (phase != "finished")


@pytest.mark.parametrize("process", [ELSEWHERE, ProcessIdentity.own()], ids=["elsewhere", "here"])
def test_where_nothing_new_is_written_nobody_claims_to_know_why(
    process: ProcessIdentity, going_run: Run, report: Report
) -> None:
    report(going_run, process=process, age_s=SILENT_S + 200)
    view = FolderWatcher(going_run).read()
    assert view.phase == "silent"
    assert "(3:40 min ago)" in view.doing
    assert str(draw(view, width=200, height=23).renderables[0]).startswith("going  nothing new since ")
    assert ("ran on node-7" in view.doing) == (process == ELSEWHERE)
    assert ("is there, but writes nothing" in view.doing) == (process != ELSEWHERE)


def test_on_machines_whose_clocks_differ_a_new_version_is_the_sign_of_life(going_run: Run, report: Report) -> None:
    watcher = FolderWatcher(going_run)
    report(going_run, process=ELSEWHERE, age_s=-3600)
    assert watcher.read().phase == "silent"
    report(going_run, process=ELSEWHERE, age_s=-3602)
    assert watcher.read().phase == "training"


def test_without_a_report_the_records_say_what_they_can(going_run: Run) -> None:
    view = FolderWatcher(going_run).read()
    assert view.phase == "silent"
    assert "there is no report of whether it runs" in view.doing
    assert [trial.number for trial in view.running] == [1, 4]
    assert (view.num_ended, view.num_stopped) == (4, 2)
    assert view.leader is not None


def test_a_report_of_an_earlier_session_is_not_taken_for_one_of_this(going_run: Run, report: Report) -> None:
    report(going_run, phase="interrupted")
    going_run.write_search(going_run.read_search().changed(openings=2))
    assert FolderWatcher(going_run).read().phase == "silent"


def test_a_search_of_an_earlier_version_that_came_to_its_end_has_finished(tmp_path: Path, tiny_store: Store) -> None:
    from fixtures.run_folder import write_run

    view = FolderWatcher(write_run(tmp_path / "old", tiny_store, 4)).read()
    assert view.phase == "finished"
    assert view.num_ended == 4


def test_records_of_a_search_that_was_interrupted_say_so(tmp_path: Path, tiny_store: Store) -> None:
    from fixtures.run_folder import write_run

    run = write_run(tmp_path / "old", tiny_store, 4, states=("done", "interrupted"), is_finished=False)
    assert FolderWatcher(run).read().phase == "interrupted"


def test_no_damage_of_a_folder_ends_the_watcher(going_run: Run, report: Report) -> None:
    """Each file is cut, emptied, exchanged or removed in turn, with a report and without."""
    generator = random.Random(0)
    trials = going_run.record_files()[1:]
    files = [file for file in sorted(going_run.folder.rglob("*")) if file.is_file() and file not in trials]
    report(going_run)
    files.append(going_run.folder / STATUS_FILE)
    for file in files:
        before = file.read_bytes()
        for after in (b"", before[: len(before) // 2], b"\xff\x00[", b"[" * 50_000, b"{}", b'{"view": 3}', None):
            if after is None:
                file.unlink()
            else:
                file.write_bytes(after)
            watcher = FolderWatcher(going_run)
            assert isinstance(watcher.read(), SearchView), (file, after)
            (going_run.folder / STATUS_FILE).unlink(missing_ok=True)
            assert isinstance(watcher.read(), SearchView)
            folder_state(going_run)
            file.write_bytes(before)
            report(going_run, num_ended=generator.randrange(5))


def test_a_folder_that_is_removed_while_it_is_watched_leaves_the_last_view(going_run: Run, report: Report) -> None:
    report(going_run, num_ended=3)
    watcher = FolderWatcher(going_run)
    watcher.read()
    going_run.folder.rename(going_run.folder.with_name("moved"))
    view = watcher.read()
    assert (view.phase, view.num_ended) == ("silent", 3)
    assert "cannot be read" in view.doing


def test_texts_of_a_folder_cannot_write_to_the_terminal(going_run: Run, report: Report) -> None:
    report(going_run)
    file = going_run.folder / STATUS_FILE
    value = json.loads(file.read_text())
    value["view"] |= {"name": "\x1b[2J\x07evil", "message": "a\r\nb\u202e", "doing": "\x9b31m"}
    file.write_text(json.dumps(value))
    view = FolderWatcher(going_run).read()
    assert view.name == " [2J evil"
    assert view.message == "a  b "
    assert view.doing == " 31m"


def test_nothing_is_written_and_no_lock_is_taken(going_run: Run, report: Report) -> None:
    report(going_run)
    before = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in going_run.folder.rglob("*")}
    with going_run.lock():
        FolderWatcher(going_run).read()
        folder_state(going_run)
        (going_run.folder / STATUS_FILE).rename(going_run.folder.parent / STATUS_FILE)
        FolderWatcher(going_run).read()
    (going_run.folder.parent / STATUS_FILE).rename(going_run.folder / STATUS_FILE)
    after = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in going_run.folder.rglob("*")}
    assert {file: one for file, one in after.items() if file.name != ".lock" and file.is_file()} == {
        file: one for file, one in before.items() if file.is_file()
    }


def test_the_page_is_made_anew_for_a_new_record_and_not_for_a_new_report(going_run: Run, report: Report) -> None:
    before = folder_state(going_run)
    report(going_run)
    assert folder_state(going_run) == before
    record = going_run.read_trials()[1]
    going_run.write_trial(dataclasses.replace(record, state="done"))
    assert folder_state(going_run) != before


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    own = ProcessIdentity.own()
    if not own.place:
        pytest.skip("the system does not say when a process was started")
    assert own.is_alive() is True
    assert dataclasses.replace(own, started="12").is_alive() is False
    assert dataclasses.replace(own, pid=2**22 + 1).is_alive() is False
    assert dataclasses.replace(own, place="elsewhere").is_alive() is None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        identity = dataclasses.replace(own, pid=child.pid, started=_start_of(child.pid) or "")
        assert identity.is_alive() is True
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity.is_alive() is False, "it has ended, and its parent has not asked how"


def test_a_pipe_in_place_of_the_report_does_not_block(going_run: Run) -> None:
    os.mkfifo(going_run.folder / STATUS_FILE)
    assert read_status(going_run.folder) is None
