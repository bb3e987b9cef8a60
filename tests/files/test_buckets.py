"""Objects that are fetched from a bucket, whole or not at all."""

import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures.buckets import BUCKET, BucketService

from ferray.errors import BucketError
from ferray.files import buckets
from ferray.files.buckets import fetch_object, find_object, read_object, send_file, send_first
from ferray.files.location import Address

ADDRESS = Address(BUCKET, "expw/faces.npy")
DATA = bytes(range(256)) * 40


@pytest.fixture
def found(bucket: BucketService, monkeypatch: pytest.MonkeyPatch) -> buckets.FoundObject:
    monkeypatch.setattr(buckets, "PART_BYTES", 4096)
    monkeypatch.setattr(buckets, "BLOCK_BYTES", 512)
    bucket.put(ADDRESS.key, DATA)
    found = find_object(ADDRESS)
    assert found is not None
    return found


def test_an_object_is_fetched_in_parts_into_a_file_with_its_content(
    bucket: BucketService, found: buckets.FoundObject, tmp_path: Path
) -> None:
    seen: list[int] = []
    fetch_object(found, tmp_path / "faces.npy", note=seen.append)
    assert (tmp_path / "faces.npy").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["faces.npy"]
    assert bucket.of("GET") == [
        f"GET expw/faces.npy bytes={a}-{b}" for a, b in ((0, 4095), (4096, 8191), (8192, 10239))
    ]
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_that_breaks_within_an_object_costs_only_what_was_on_its_way(
    reset: bool, bucket: BucketService, found: buckets.FoundObject, tmp_path: Path
) -> None:
    bucket.faults += [("GET", lambda one: one.cut(1024, reset=reset))] * 3
    fetch_object(found, tmp_path / "faces.npy")
    assert (tmp_path / "faces.npy").read_bytes() == DATA
    begins = [int(one.partition("bytes=")[2].partition("-")[0]) for one in bucket.of("GET")]
    assert begins == sorted(begins)
    if not reset:  # a reset may also take what has arrived
        assert begins[:4] == [0, 1024, 2048, 3072]


def test_an_object_that_never_comes_whole_is_an_error_and_the_next_fetch_goes_on_with_what_is_there(
    bucket: BucketService, found: buckets.FoundObject, tmp_path: Path
) -> None:
    file = tmp_path / "faces.npy"
    bucket.faults += [("GET", lambda one: one.cut(1024, reset=False))]
    bucket.faults += [("GET", lambda one: one.cut(0, reset=False))] * buckets.TRIES
    with pytest.raises(BucketError, match=r"(?s)s3://faces/expw/faces.npy: the connection broke 5 times in a row"):
        fetch_object(found, file)
    assert not file.exists()
    bucket.faults.clear()
    bucket.asked.clear()
    fetch_object(found, file)
    assert file.read_bytes() == DATA
    assert bucket.of("GET")[0] == "GET expw/faces.npy bytes=1024-5119"


def test_a_service_that_is_busy_is_asked_again_and_named_where_it_stays_busy(
    bucket: BucketService, found: buckets.FoundObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    bucket.faults += [("GET", lambda one: one.refuse(503, "SlowDown"))] * 2
    fetch_object(found, tmp_path / "faces.npy")
    assert (tmp_path / "faces.npy").read_bytes() == DATA
    bucket.faults += [("GET", lambda one: one.refuse(503, "SlowDown"))] * buckets.TRIES
    with pytest.raises(BucketError, match=r"the service answers 503 \(SlowDown\), also after 5 requests"):
        fetch_object(found, tmp_path / "again.npy")


def test_an_object_that_changes_while_it_is_fetched_is_never_mixed_with_what_was_fetched(
    bucket: BucketService, found: buckets.FoundObject, tmp_path: Path
) -> None:
    other = DATA[::-1]

    def change(exchange: Any) -> list[bytes]:
        bucket.client.put_object(Bucket=BUCKET, Key=ADDRESS.key, Body=other)
        passed: list[bytes] = exchange.pass_on()
        return passed

    bucket.faults.append(("GET expw/faces.npy bytes=4096", change))
    with pytest.raises(BucketError, match="has changed while it was fetched"):
        fetch_object(found, tmp_path / "faces.npy")
    assert not (tmp_path / "faces.npy").exists()
    now = find_object(ADDRESS)
    assert now is not None
    fetch_object(now, tmp_path / "faces.npy")
    assert (tmp_path / "faces.npy").read_bytes() == other


def test_what_is_not_there_is_none_and_a_bucket_that_is_not_there_is_named(bucket: BucketService) -> None:
    assert find_object(ADDRESS) is None
    assert read_object(ADDRESS, max_bytes=10) is None
    with pytest.raises(BucketError, match="there is no bucket others"):
        read_object(Address("others", "key"), max_bytes=10)


def test_an_object_above_the_limit_is_refused_unread(bucket: BucketService) -> None:
    bucket.put("large", bytes(11))
    with pytest.raises(BucketError, match="has 11 bytes; at most 10 are read"):
        read_object(Address(BUCKET, "large"), max_bytes=10)


def test_without_permission_the_error_names_what_is_needed_and_no_key(bucket: BucketService) -> None:
    bucket.faults.append(("HEAD", lambda one: one.refuse(403, "AccessDenied")))
    with pytest.raises(BucketError, match=r"(?s)permission denied.*s3:GetObject, and s3:ListBucket") as caught:
        find_object(ADDRESS)
    assert "nobody" not in str(caught.value)
    bucket.faults.append(("PUT", lambda one: one.refuse(403, "AccessDenied")))
    with pytest.raises(BucketError, match=r"(?s)permission denied \(AccessDenied\).*s3:PutObject"):
        send_first(b"", ADDRESS)


def test_a_log_of_everything_has_no_key_or_token(
    bucket: BucketService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-nobody")
    buckets._client.cache_clear()
    with caplog.at_level("DEBUG"):
        assert find_object(ADDRESS) is None
    assert "of-nobody" not in caplog.text


def test_without_keys_of_an_account_the_error_says_where_they_are_looked_for(
    bucket: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    buckets._client.cache_clear()
    with pytest.raises(BucketError, match=r"(?s)no keys of an account were found.*AWS_PROFILE.*a role"):
        find_object(ADDRESS)


def test_without_boto3_the_error_has_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    buckets._client.cache_clear()
    for name in ("boto3", "boto3.session"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BucketError, match=r"(?s)needs boto3.*pip install .*\[cluster\]"):
        find_object(ADDRESS)


def test_a_sent_file_is_there_and_what_is_there_is_not_replaced_where_it_must_be_the_first(
    bucket: BucketService, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    send_file(tmp_path / "file", ADDRESS)
    assert bucket.get(ADDRESS.key) == DATA
    assert send_first(b"one", Address(BUCKET, "manifest"))
    assert not send_first(b"two", Address(BUCKET, "manifest"))
    assert bucket.get("manifest") == b"one"
