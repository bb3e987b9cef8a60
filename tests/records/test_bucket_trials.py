"""A trial whose record is an object: one moment of change, one writer at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.buckets import BUCKET, BucketService
from fixtures.records import trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.errors import BucketDownError, FencedError, RecordError
from ferray.files import buckets, outage
from ferray.files.location import Address
from ferray.files.storage import with_checksum
from ferray.records.bucket import writer as writers
from ferray.records.bucket.trial import TrialObject, parse_trial
from ferray.records.bucket.writer import BucketWriter
from ferray.records.trial import record_to_json

RUN = Address(BUCKET, "runs/first")
ID = trial(0.5).trial_id
KEY = f"runs/first/records/{ID}.json"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "TRIES", 2)  # each further one waits for seconds
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(outage, "PAUSE_S", 0.0)


def write_checkpoints(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("best", "last"):
        (folder / f"{name}.safetensors").write_text(f"{name} {text}")


def read_checkpoints(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.glob("*.safetensors")}


def expected(text: str) -> dict[str, str]:
    return {f"{name}.safetensors": f"{name} {text}" for name in ("best", "last")}


def taken(lease: tuple[int, int] = (1, 1)) -> TrialObject:
    found = TrialObject(RUN, ID)
    found.take(lease)
    return found


def seen(folder: Path) -> tuple[Any, dict[str, str]]:
    """Record and checkpoints as another machine finds them."""
    found = TrialObject(RUN, ID)
    found.read()
    found.fetch_checkpoints(folder)
    return found.record, read_checkpoints(folder)


def test_what_a_writer_commits_is_what_another_machine_finds(bucket: BucketService, tmp_path: Path) -> None:
    first, own = taken(), tmp_path / "own"
    for number in (1, 2):
        write_checkpoints(own, f"after {number}")
        first.commit(trial(*[0.5] * number), own)
    assert seen(tmp_path / "other") == (trial(0.5, 0.5), expected("after 2"))
    assert len([key for key in bucket.list_keys() if "checkpoints" in key]) == 2, "what no record names is removed"


def test_a_checkpoint_that_has_not_changed_is_not_sent_again(bucket: BucketService, tmp_path: Path) -> None:
    first = taken()
    write_checkpoints(tmp_path, "once")
    first.commit(trial(0.5), tmp_path)
    bucket.asked.clear()
    first.commit(trial(0.5, 0.6), tmp_path)
    assert bucket.asked == [f"PUT {KEY}"]
    assert seen(tmp_path / "other") == (trial(0.5, 0.6), expected("once"))


def test_nothing_of_a_writer_that_was_taken_over_counts(bucket: BucketService, tmp_path: Path) -> None:
    stale, own = taken(), tmp_path / "own"
    write_checkpoints(own, "old")
    stale.commit(trial(0.5), own)
    new = taken((1, 2))
    write_checkpoints(own, "too late")
    with pytest.raises(FencedError, match=r"taken over by writer \[1, 2\]"):
        stale.commit(trial(0.5, 0.9), own)
    with pytest.raises(FencedError):
        stale.write(trial(0.5, 0.9))
    assert seen(tmp_path / "other") == (trial(0.5), expected("old"))
    new.write(trial(0.5, 0.6))
    assert seen(tmp_path / "third")[0] == trial(0.5, 0.6)


@pytest.mark.parametrize("lease", [(1, 1), (1, 0), (0, 9)])
def test_a_lease_that_is_not_higher_than_the_last_one_takes_nothing(
    lease: tuple[int, int], bucket: BucketService
) -> None:
    taken((1, 1))
    with pytest.raises(FencedError):
        taken(lease)


def test_of_two_that_take_a_trial_at_once_the_higher_lease_has_it_in_the_end(bucket: BucketService) -> None:
    """The other one has read the object before, and is refused when it writes."""
    late = TrialObject(RUN, ID)
    late.read()
    bucket.faults.append((f"PUT {KEY}", lambda one: _after(taken, (1, 2), one.pass_on)))
    with pytest.raises(FencedError):
        late.take((1, 1))


def _after(act: Callable[..., Any], argument: Any, answer: Callable[[], Any]) -> Any:
    act(argument)
    return answer()


def test_a_commit_whose_answer_is_lost_counts_as_made(bucket: BucketService, tmp_path: Path) -> None:
    first = taken()
    bucket.faults.append((f"PUT {KEY}", lambda one: one.cut(0, reset=True)))
    first.commit(trial(0.5), tmp_path)
    first.commit(trial(0.5, 0.6), tmp_path)
    assert seen(tmp_path / "other")[0] == trial(0.5, 0.6)


@pytest.mark.parametrize("num_requests", range(6))
def test_a_writer_that_dies_after_any_request_leaves_the_old_state_or_the_new_one(
    num_requests: int, bucket: BucketService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, own = taken(), tmp_path / "own"
    write_checkpoints(own, "old")
    first.commit(trial(0.5), own)
    write_checkpoints(own, "new")
    bucket.asked.clear()

    class Killed(BaseException):
        pass

    client, left = buckets._client(), [num_requests]

    def kill(**_: Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    client.meta.events.register("before-send.s3", kill)
    try:
        first.commit(trial(0.5, 0.6), own)
        survived = True
    except Killed:
        survived = False
    finally:
        client.meta.events.unregister("before-send.s3", kill)
    assert survived == (num_requests == 5), "two checkpoints, the record, and two that are removed"
    state = seen(tmp_path / "other")
    assert state in [(trial(0.5), expected("old")), (trial(0.5, 0.6), expected("new"))]
    assert (state[0] == trial(0.5, 0.6)) == (num_requests >= 3)
    successor = taken((2, 0))
    successor.fetch_checkpoints(own)
    assert read_checkpoints(own) == state[1], "what the dead one had left on its disk is not taken for what counts"


def test_writing_waits_while_the_service_is_down_and_says_that_it_lives(bucket: BucketService, tmp_path: Path) -> None:
    first, notes = taken(), []
    bucket.faults += [(f"PUT {KEY}", lambda one: one.refuse(503, "SlowDown"))] * (2 * buckets.TRIES + 1)
    first.commit(trial(0.5), tmp_path, note=lambda: notes.append(1))
    assert notes == [1, 1]
    assert seen(tmp_path / "other")[0] == trial(0.5)


def test_a_service_that_stays_down_is_an_error_in_the_end(
    bucket: BucketService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = taken()
    monkeypatch.setattr(outage, "LIMIT_S", -1.0)
    bucket.faults += [(f"PUT {KEY}", lambda one: one.refuse(503, "SlowDown"))] * buckets.TRIES
    with pytest.raises(BucketDownError):
        first.commit(trial(0.5), tmp_path)


def test_a_refusal_is_not_waited_for(bucket: BucketService, tmp_path: Path) -> None:
    first = taken()
    bucket.faults.append((f"PUT {KEY}", lambda one: one.refuse(403, "AccessDenied")))
    with pytest.raises(Exception, match="s3:PutObject"):
        first.commit(trial(0.5), tmp_path)


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_a_record(data: bytes) -> None:
    with pytest.raises(RecordError, match="somewhere"):
        parse_trial(data, trial_id=ID, where="somewhere")


@given(st.data())
def test_a_record_with_any_wrong_byte_is_refused(data: st.DataObject) -> None:
    content = bytearray(_content())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    with pytest.raises(RecordError):
        parse_trial(bytes(content), trial_id=ID, where="somewhere")


def _content() -> bytes:
    value = {"format": 1, "lease": [1, 2], "checkpoints": {}, "record": record_to_json(trial(0.5))}
    return json.dumps(with_checksum(value)).encode()


def test_a_worker_sends_each_record_but_checkpoints_only_now_and_then_and_all_at_the_end(
    bucket: BucketService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = BucketWriter(RUN)
    assert worker.take(ID, (1, 1)) is None
    folder = worker.run.trial_dir(ID)
    write_checkpoints(folder, "1")
    worker.write(trial(0.5), note=lambda: None)
    assert seen(tmp_path / "a") == (trial(0.5), {}), "an epoch on record without a checkpoint is trained again"
    monkeypatch.setattr(writers, "SEND_S", 0.0)
    worker.write(trial(0.5, 0.6), note=lambda: None)
    assert seen(tmp_path / "b") == (trial(0.5, 0.6), expected("1"))
    write_checkpoints(folder, "3")
    worker.release(trial(0.5, 0.6, 0.7, state="done"), note=lambda: None)
    assert seen(tmp_path / "c") == (trial(0.5, 0.6, 0.7, state="done"), expected("3"))
    assert read_checkpoints(folder) == {}, "a finished trial leaves nothing on the node's disk"


def test_a_worker_of_another_machine_goes_on_from_the_checkpoints_of_the_first(
    bucket: BucketService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = BucketWriter(RUN)
    worker.take(ID, (1, 1))
    write_checkpoints(worker.run.trial_dir(ID), "1")
    worker.release(trial(0.5, state="interrupted"), note=lambda: None)
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "another machine"))
    other = BucketWriter(RUN)
    assert other.take(ID, (1, 2)) == trial(0.5, state="interrupted")
    assert read_checkpoints(other.run.trial_dir(ID)) == expected("1")
    assert other.find_done(ID) is None
    other.release(trial(0.5, 0.6, state="done"), note=lambda: None)
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "a third one"))
    done = BucketWriter(RUN).find_done(ID)
    assert done is not None
    assert read_checkpoints(done) == expected("1")
