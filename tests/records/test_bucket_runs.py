"""A search in a bucket: its journal, its lock, its copy."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.buckets import BUCKET, BucketService
from fixtures.history import make_search_file
from fixtures.records import trial

from ferray.errors import FencedError, LockedError, RecordError
from ferray.files import outage
from ferray.files.location import Address
from ferray.records.bucket import copy as copies
from ferray.records.bucket import journal as journals
from ferray.records.bucket import lock as locks
from ferray.records.bucket.index import Entry, read_index, write_index
from ferray.records.bucket.journal import BucketJournal
from ferray.records.bucket.lock import BucketLock
from ferray.records.bucket.run import BucketRun, find_run, open_folder
from ferray.records.bucket.trial import TrialObject
from ferray.records.run import Run
from ferray.report.test_split.readings import note_reading_in_search

RUN = Address(BUCKET, "runs/first")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Which machine this process is: each has a cache of its own."""

    def move_to(name: str) -> None:
        monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / name))

    monkeypatch.setattr(outage, "PAUSE_S", 0.0)
    move_to("head")
    return move_to


def lines(journal: BucketJournal) -> list[int]:
    return [line["line"] for line in journal.read()]


def make_journal(file: Path, session: int) -> BucketJournal:
    journal = BucketJournal(file, RUN / "journal", lambda: session)
    journal.fetch()
    return journal


def test_durable_lines_are_what_another_machine_reads(bucket: BucketService, tmp_path: Path) -> None:
    own = make_journal(tmp_path / "a", 1)
    own.append({"line": 0}, durable=False)
    assert lines(make_journal(tmp_path / "b", 1)) == []
    own.append({"line": 1})
    own.append({"line": 2}, durable=False)
    assert lines(make_journal(tmp_path / "c", 1)) == [0, 1]
    assert (tmp_path / "c").read_bytes() == b"".join((tmp_path / "a").read_bytes().splitlines(keepends=True)[:2])


def test_a_long_journal_is_sent_in_segments_of_which_only_the_last_is_replaced(
    bucket: BucketService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 100)
    own = make_journal(tmp_path / "a", 1)
    for number in range(20):
        own.append({"line": number})
    puts = [one for one in bucket.asked if one.startswith("PUT")]
    assert len(puts) == 20
    assert puts == sorted(puts), "a segment that is full is never written again"
    assert len(set(puts)) > 5
    assert lines(make_journal(tmp_path / "b", 1)) == list(range(20))
    other = make_journal(tmp_path / "b", 2)
    other.append({"line": 20})
    assert lines(make_journal(tmp_path / "c", 2)) == list(range(21))


def test_whoever_goes_on_with_a_journal_ends_the_one_before(bucket: BucketService, tmp_path: Path) -> None:
    stale = make_journal(tmp_path / "a", 1)
    stale.append({"line": 0})
    new = make_journal(tmp_path / "b", 2)
    new.send()  # what a session does when it begins
    with pytest.raises(FencedError, match="session 1 must stop"):
        stale.append({"line": 1})
    new.append({"line": 2})
    assert lines(make_journal(tmp_path / "c", 3)) == [0, 2]


def test_a_line_that_was_never_sent_is_not_gone_on_from(bucket: BucketService, tmp_path: Path) -> None:
    own = make_journal(tmp_path / "a", 1)
    own.append({"line": 0})
    own.append({"line": 1}, durable=False)
    assert lines(make_journal(tmp_path / "a", 2)) == [0]


def test_a_damaged_line_ends_a_journal_which_goes_on_after_it_was_cut(bucket: BucketService, tmp_path: Path) -> None:
    own = make_journal(tmp_path / "a", 1)
    for number in range(3):
        own.append({"line": number})
    data = bucket.get("runs/first/journal/000000.jsonl")
    bucket.put("runs/first/journal/000000.jsonl", data.replace(b'"line":1', b'"line":7'))
    repaired = make_journal(tmp_path / "b", 2)
    repaired.repair(repaired.scan())
    repaired.append({"line": 3})
    assert lines(make_journal(tmp_path / "c", 2)) == [0, 3]


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"session": "x"}\n', b"[1]\n", b"\xff\n"])
def test_an_object_that_is_no_segment_is_refused_with_its_address(
    data: bytes, bucket: BucketService, tmp_path: Path
) -> None:
    bucket.put("runs/first/journal/000000.jsonl", data)
    with pytest.raises(RecordError, match="not a segment"):
        make_journal(tmp_path / "a", 1)


def make_lock(place: str) -> BucketLock:
    return BucketLock(RUN / "lock.json", place=place)


def test_a_search_that_another_machine_holds_is_refused_with_its_name(
    bucket: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.01)
    with make_lock("there") as held:
        held._renew_at = float("inf")  # by hand
        threading.Timer(0.2, held._renew).start()
        with pytest.raises(LockedError, match=r"in use by process \d+ on "), make_lock("here"):
            pass
    with make_lock("here"):
        pass


def test_the_lock_of_a_process_that_is_gone_is_free_after_a_while(
    bucket: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.01)
    monkeypatch.setattr(locks, "EXPIRY_S", 1.5)
    began = time.monotonic()
    bucket.put("runs/first/lock.json", json.dumps({"held": True, "host": "gone", "pid": 1}).encode())
    with make_lock("here"):
        assert time.monotonic() - began > 0.4, "the clock of the service counts seconds"


def test_the_lock_of_a_process_of_the_same_folder_is_free_at_once(bucket: BucketService) -> None:
    """The caller holds the lock of that folder, so the process that wrote this one is gone."""
    lost = make_lock("here")
    lost._version = None
    bucket.put("runs/first/lock.json", lost._content())
    with make_lock("here"):
        pass


def test_of_two_that_find_a_lock_free_one_gets_it(bucket: BucketService) -> None:
    def take_first(one: Any) -> list[bytes]:
        bucket.client.put_object(Bucket=BUCKET, Key="runs/first/lock.json", Body=make_lock("there")._content())
        return list(one.pass_on())

    bucket.faults.append(("PUT runs/first/lock.json", take_first))
    with pytest.raises(LockedError), make_lock("here"):
        pass


def begin(name: str = "first") -> BucketRun:
    """A search with two trials, as its driver and its workers write it."""
    run = find_run("s3://faces/runs", name)
    assert isinstance(run, BucketRun)
    run.write_search(make_search_file(openings=1, name=name))
    for number in (0, 1):
        record = trial(0.5, number=number)
        worker = TrialObject(run.address, record.trial_id)
        worker.take((1, number))
        worker.write(record)
    return run


def test_another_machine_finds_the_search_as_it_is(bucket: BucketService, machine: Any) -> None:
    run = begin()
    run.journal().append({"line": 0})
    (run.folder / "trials.csv").write_text("a,b\n")
    (run.folder / "best").mkdir()
    (run.folder / "best" / "model.safetensors").write_bytes(b"model")
    (run.folder / ".ray-1").mkdir()
    (run.folder / ".ray-1" / "left").write_text("nobody's")
    run.send_files()
    machine("laptop")
    other = BucketRun(run.address, "fetched")
    other.fetch()
    plain = Run(other.folder)
    assert plain.read_search() == run.read_search()
    assert plain.read_trials() == [trial(0.5, number=0), trial(0.5, number=1)]
    assert plain.journal().read() == [{"line": 0}]
    assert (plain.folder / "trials.csv").read_text() == "a,b\n"
    assert (plain.folder / "best" / "model.safetensors").read_bytes() == b"model"
    assert not [key for key in bucket.list_keys() if ".ray" in key]
    opened = open_folder(other.folder)
    assert isinstance(opened, BucketRun)
    assert opened.address == run.address
    assert opened.resume_command == "python -m ferray.search --resume first --out s3://faces/runs"


def test_what_has_not_changed_is_not_fetched_again(bucket: BucketService) -> None:
    run = begin()
    (run.folder / "trials.csv").write_text("a,b\n")
    run.send_files()
    other = BucketRun(run.address, "fetched")
    other.fetch()
    changed = TrialObject(run.address, trial(number=1).trial_id)
    changed.take((2, 0))
    changed.write(trial(0.5, 0.6, number=1))
    bucket.asked.clear()
    BucketRun(run.address, "fetched").fetch()
    got = [one for one in bucket.asked if one.startswith("GET runs/first/records") or "trials.csv" in one]
    assert got == [f"GET runs/first/records/{trial(number=1).trial_id}.json"]
    assert Run(other.folder).read_trials()[1] == trial(0.5, 0.6, number=1)


def test_a_trial_that_was_removed_from_the_bucket_is_not_in_the_copy_any_more(bucket: BucketService) -> None:
    run = begin()
    other = BucketRun(run.address, "fetched")
    other.fetch()
    bucket.client.delete_object(Bucket=BUCKET, Key=f"runs/first/records/{trial(number=1).trial_id}.json")
    other.fetch()
    assert Run(other.folder).read_trials() == [trial(0.5, number=0)]


def test_the_driver_reads_what_workers_have_written_since(bucket: BucketService) -> None:
    run = begin()
    run.fetch()
    ids = [record.trial_id for record in run.read_trials()]
    for number, trial_id in enumerate(ids):
        run.note_running(trial_id)
        worker = TrialObject(run.address, trial_id)
        worker.take((1, 5 + number))
        worker.write(trial(0.5, 0.7, number=number))
        run.note_ended(trial_id)
    assert run.read_trial(ids[0]) == trial(0.5, 0.7, number=0)
    bucket.asked.clear()
    assert run.read_trial(ids[1]) == trial(0.5, 0.7, number=1)
    assert bucket.asked == [], "all that were stale came together"


def test_a_driver_that_writes_a_record_ends_the_worker_that_had_the_trial(bucket: BucketService) -> None:
    run = begin()
    worker = TrialObject(run.address, trial(number=0).trial_id)
    worker.take((1, 7))
    run.write_trial(trial(0.5, number=0, state="failed", reason="died"))
    with pytest.raises(FencedError):
        worker.write(trial(0.5, 0.6, number=0))
    assert run.read_trial(trial(number=0).trial_id) == trial(0.5, number=0, state="failed", reason="died")


def test_of_two_searches_of_one_name_one_is_refused(bucket: BucketService, machine: Any) -> None:
    begin()
    machine("another head")
    with pytest.raises(FencedError, match="another process has begun a search of this name"):
        find_run("s3://faces/runs", "first").write_search(make_search_file(openings=1))


def test_a_driver_that_was_taken_over_can_change_nothing_any_more(bucket: BucketService, machine: Any) -> None:
    stale = begin()
    stale.journal().append({"line": 0})
    machine("another head")
    new = find_run("s3://faces/runs", "first")
    new.fetch()
    new.write_search(new.read_search().changed(openings=2))
    machine("head")
    with pytest.raises(FencedError):
        stale.write_search(stale.read_search().changed(precision="float32"))
    with pytest.raises(FencedError):
        stale.journal().append({"line": 1})
    machine("a third one")
    third = find_run("s3://faces/runs", "first")
    third.fetch()
    assert third.read_search().openings == 2
    assert third.journal().read() == [{"line": 0}]


def test_a_copy_of_a_search_that_was_deleted_is_not_mixed_with_a_new_one(bucket: BucketService) -> None:
    old = begin()
    old.journal().append({"line": 0})
    (old.folder / "trials.csv").write_text("old")
    for key in bucket.list_keys():
        bucket.client.delete_object(Bucket=BUCKET, Key=key)
    new = find_run("s3://faces/runs", "first")
    assert not new.exists()
    new.check_unused()
    with new.lock():
        new.clear()
        new.write_search(make_search_file(openings=1, id="ffffffff"))
    new.fetch()
    assert new.read_trials() == []
    assert new.journal().read() == []
    assert not (new.folder / "trials.csv").exists()
    with pytest.raises(RecordError, match="Known names: first"):
        find_run("s3://faces/runs", "second").check_exists()


def test_a_reading_of_the_test_split_from_a_copy_is_on_record_in_the_bucket(
    bucket: BucketService, machine: Any, tmp_path: Path
) -> None:
    run = begin()
    machine("laptop")
    copy = BucketRun(run.address, "fetched")
    copy.fetch()
    store: Any = SimpleNamespace(fingerprint="f")
    note_reading_in_search(copy.folder / "best", store)
    machine("head")
    run.fetch()
    assert [one.by for one in run.read_search().test_readings] == ["evaluate --again"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["../../stolen", "trials/x/record.json", ".hidden", "a/../../b", "search.json"])
def test_no_object_is_written_outside_what_files_are_for(key: str, bucket: BucketService, tmp_path: Path) -> None:
    run = begin()
    bucket.put(f"runs/first/files/{key}", b"hostile")
    other = BucketRun(run.address, "fetched")
    other.fetch()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"hostile"]


def entries(bucket: BucketService) -> dict[str, Entry]:
    found = bucket.client.list_objects_v2(Bucket=BUCKET, Prefix="runs/first/records/")["Contents"]
    return {
        one["Key"].rpartition("/")[2].removesuffix(".json"): Entry(etag=one["ETag"], data=bucket.get(one["Key"]))
        for one in found
    }


def test_records_that_the_index_has_as_they_are_need_no_request_of_their_own(
    bucket: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "ONE_BY_ONE", 0)
    run = begin()
    write_index(run.address / "index", entries(bucket))
    changed = TrialObject(run.address, trial(number=1).trial_id)
    changed.take((2, 0))
    changed.write(trial(0.5, 0.6, number=1))
    bucket.asked.clear()
    other = BucketRun(run.address, "fetched")
    other.fetch()
    assert bucket.of("records/0") == [f"GET runs/first/records/{trial(number=1).trial_id}.json"]
    assert Run(other.folder).read_trials() == [trial(0.5, number=0), trial(0.5, 0.6, number=1)]


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"{}", mtime=0), gzip.compress(b"\xff", mtime=0), b""])
def test_a_damaged_index_costs_requests_and_no_record(
    data: bytes, bucket: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "ONE_BY_ONE", 0)
    run = begin()
    bucket.put("runs/first/index/1-x.jsonl.gz", data)
    assert read_index(run.address / "index", {"a": "b"}) == {}
    other = BucketRun(run.address, "fetched")
    other.fetch()
    assert len(Run(other.folder).read_trials()) == 2


def test_trials_that_have_ended_are_in_the_index_when_a_search_ends(bucket: BucketService) -> None:
    run = begin()
    ids = {trial(number=0).trial_id, trial(number=1).trial_id}
    for trial_id in ids:
        run.note_ended(trial_id)
    run.send_files()
    assert (
        read_index(run.address / "index", {name: entry.etag for name, entry in entries(bucket).items()}).keys() == ids
    )
    bucket.asked.clear()
    run.send_files()
    assert bucket.asked == [], "what is there is not sent again"


def test_a_record_that_is_none_is_named_when_it_is_read_and_the_others_are_there(bucket: BucketService) -> None:
    run = begin()
    bucket.put(f"runs/first/records/{trial(number=1).trial_id}.json", b"{")
    other = BucketRun(run.address, "fetched")
    other.fetch()
    assert Run(other.folder).read_trial(trial(number=0).trial_id) == trial(0.5, number=0)
    with pytest.raises(RecordError, match="not JSON"):
        Run(other.folder).read_trials()


def test_checkpoints_are_fetched_when_they_are_asked_for(bucket: BucketService, machine: Any, tmp_path: Path) -> None:
    run = begin()
    worker = TrialObject(run.address, trial(number=0).trial_id)
    worker.take((1, 9))
    (tmp_path / "best.safetensors").write_bytes(b"best")
    worker.commit(trial(0.5, number=0), tmp_path)
    machine("laptop")
    other = BucketRun(run.address, "fetched")
    other.fetch()
    assert not list(other.folder.rglob("*.safetensors"))
    folder = other.checkpoints(trial(number=0).trial_id)
    assert (folder / "best.safetensors").read_bytes() == b"best"
    bucket.asked.clear()
    other.checkpoints(trial(number=0).trial_id)
    assert not bucket.of("checkpoints/")
