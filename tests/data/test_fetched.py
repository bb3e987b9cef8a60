"""Stores in buckets: fetched once on each node, whole and checked, or not at all."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures.buckets import BUCKET, BucketService, Exchange

from ferray.data.store import fetched
from ferray.data.store.fetched import fetch_store, find_fetched, find_store, keep_sent, peek_store, send_store
from ferray.data.store.manifest import read_manifest
from ferray.data.store.reader import Store, open_store
from ferray.errors import BucketError, DataError
from ferray.files import buckets
from ferray.files.location import Address

ADDRESS = Address(BUCKET, "stores/tiny")
MANIFEST, FACES = f"GET {ADDRESS.key}/manifest.json", f"GET {ADDRESS.key}/faces.npy"


@pytest.fixture
def sent(bucket: BucketService, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketService:
    """A bucket with a store, and a cache without one."""
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    send_store(tiny_store.folder, ADDRESS)
    bucket.asked.clear()
    return bucket


def test_a_fetched_store_is_the_same_and_the_next_one_who_wants_it_only_asks_for_the_manifest(
    sent: BucketService, tiny_store: Store
) -> None:
    folder = find_store("s3://faces/stores/tiny/", option="--data")
    assert folder.is_relative_to(os.environ["FERRAY_CACHE"])
    store = open_store(folder)
    assert store.fingerprint == tiny_store.fingerprint
    assert np.array_equal(store.faces, tiny_store.faces)
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_store.folder.iterdir()}
    sent.asked.clear()
    assert fetch_store(ADDRESS) == folder
    assert sent.asked == [MANIFEST]
    sent.asked.clear()
    assert fetch_store(ADDRESS, name=folder.name) == folder
    assert sent.asked == []


def test_a_store_without_its_manifest_is_none_and_a_store_is_never_sent_over_another(
    sent: BucketService, tiny_store: Store
) -> None:
    with pytest.raises(DataError, match="a store is there already"):
        send_store(tiny_store.folder, ADDRESS)
    sent.client.delete_object(Bucket=BUCKET, Key=f"{ADDRESS.key}/manifest.json")
    with pytest.raises(DataError, match=r"s3://faces/stores/tiny: not a store: it has no manifest.json"):
        fetch_store(ADDRESS)
    sent.faults.append((f"PUT {ADDRESS.key}/faces.npy", lambda one: one.refuse(403, "AccessDenied")))
    with pytest.raises(BucketError, match="permission denied"):
        send_store(tiny_store.folder, ADDRESS)
    assert f"{ADDRESS.key}/manifest.json" not in sent.list_keys()
    send_store(tiny_store.folder, ADDRESS)
    assert sent.asked[-1] == f"PUT {ADDRESS.key}/manifest.json"


def test_of_two_that_send_a_store_at_once_one_is_refused(
    sent: BucketService, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "check_no_store", lambda address: None)  # the other one's came after this
    with pytest.raises(DataError, match="a store is there already"):
        send_store(tiny_store.folder, ADDRESS)


def test_of_two_processes_that_want_a_store_at_once_one_fetches_it_and_the_other_says_that_it_waits(
    sent: BucketService,
) -> None:
    is_fetching, may_go_on = threading.Event(), threading.Event()

    def hold(one: Exchange) -> list[bytes]:
        is_fetching.set()
        assert may_go_on.wait(120)
        return one.pass_on()

    sent.faults.append((FACES, hold))
    code = """if True:
        from ferray import waiting
        from ferray.data.store.fetched import find_store
        waiting.QUIET_S = 0.01
        print(find_store("s3://faces/stores/tiny", option="--data"))"""
    pipe = subprocess.PIPE

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)

    with start() as first:
        assert is_fetching.wait(120)
        with start() as second:
            assert second.stderr is not None
            waits = any("which a process of this node fetches" in line for line in second.stderr)
            may_go_on.set()
            folders = {one.communicate(timeout=120)[0].strip() for one in (first, second)}
    assert waits
    assert (first.returncode, second.returncode, len(folders)) == (0, 0, 1)
    assert open_store(folders.pop()).manifest.num_faces == 84
    assert len(sent.of(FACES)) == len(sent.of(f"GET {ADDRESS.key}/labels.npy")) == 1


def test_a_fetch_that_broke_off_leaves_no_store_and_the_next_one_goes_on_with_it(
    sent: BucketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "BLOCK_BYTES", 4096)
    sent.faults += [(FACES, lambda one: one.cut(40960, reset=False))]
    sent.faults += [(FACES, lambda one: one.cut(0, reset=False))] * buckets.TRIES
    with pytest.raises(BucketError, match=r"(?s)tiny/faces.npy: the connection broke.*it goes on where it has ended"):
        fetch_store(ADDRESS)
    stores = Path(os.environ["FERRAY_CACHE"]) / "stores"
    assert [path.name[0] for path in stores.iterdir() if path.is_dir()] == ["."]
    sent.faults.clear()
    sent.asked.clear()
    assert open_store(fetch_store(ADDRESS)).manifest.num_faces == 84
    assert sent.of(FACES)[0].startswith(f"{FACES} bytes=40960-")
    assert [path.name[0] for path in stores.iterdir() if path.is_dir()] != ["."]


def _cut_short(sent: BucketService) -> None:
    sent.put(f"{ADDRESS.key}/faces.npy", sent.get(f"{ADDRESS.key}/faces.npy")[:-1000])


def _flip_a_bit(sent: BucketService) -> None:
    faces = bytearray(sent.get(f"{ADDRESS.key}/faces.npy"))
    faces[-1] ^= 1
    sent.put(f"{ADDRESS.key}/faces.npy", bytes(faces))


def _exchange_labels(sent: BucketService) -> None:
    labels = sent.get(f"{ADDRESS.key}/labels.npy")
    sent.put(f"{ADDRESS.key}/labels.npy", labels[:-8] + labels[-40:-32])


def _remove_the_table(sent: BucketService) -> None:
    sent.client.delete_object(Bucket=BUCKET, Key=f"{ADDRESS.key}/table.parquet")


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit, _exchange_labels, _remove_the_table])
def test_a_store_whose_objects_are_not_those_of_its_manifest_is_refused_and_not_kept(
    damage: Callable[[BucketService], None], sent: BucketService
) -> None:
    damage(sent)
    with pytest.raises(DataError, match=r"s3://faces/stores/tiny: (its files are not those of|a broken store: it has)"):
        fetch_store(ADDRESS)
    assert not list((Path(os.environ["FERRAY_CACHE"]) / "stores").glob("[!.]*/manifest.json"))


def test_a_store_in_the_cache_that_is_damaged_is_fetched_again(sent: BucketService, tiny_store: Store) -> None:
    folder = fetch_store(ADDRESS)
    (folder / "labels.npy").write_bytes(b"")
    assert np.array_equal(open_store(fetch_store(ADDRESS)).labels, tiny_store.labels)


def test_a_store_that_was_exchanged_is_another_one_which_a_search_that_wants_the_first_refuses(
    sent: BucketService,
) -> None:
    first = fetch_store(ADDRESS)
    values = json.loads(sent.get(f"{ADDRESS.key}/manifest.json")) | {"notes": ["prepared again"]}
    sent.put(f"{ADDRESS.key}/manifest.json", json.dumps(values).encode())
    second = fetch_store(ADDRESS)
    assert second != first
    assert read_manifest(second).notes == ("prepared again",)
    shutil.rmtree(first)
    with pytest.raises(DataError, match="holds another store than when the search was started"):
        fetch_store(ADDRESS, name=first.name)


def test_a_hostile_manifest_names_no_folder_outside_the_cache(sent: BucketService) -> None:
    values = json.loads(sent.get(f"{ADDRESS.key}/manifest.json")) | {"fingerprint": "../../../../tmp/x"}
    sent.put(f"{ADDRESS.key}/manifest.json", json.dumps(values).encode())
    with pytest.raises(DataError, match="fingerprint: not a SHA-256"):
        fetch_store(ADDRESS)


def test_a_look_at_a_store_fetches_its_manifest_alone(sent: BucketService, tiny_store: Store) -> None:
    folder, is_whole = peek_store(ADDRESS)
    assert not is_whole
    assert read_manifest(folder) == tiny_store.manifest
    assert sent.asked == [MANIFEST]
    assert not find_fetched(str(ADDRESS), tiny_store.fingerprint).exists()
    whole = fetch_store(ADDRESS)
    assert peek_store(ADDRESS) == (whole, True)
    sent.asked.clear()
    assert find_fetched(str(ADDRESS), tiny_store.fingerprint) == whole
    assert sent.asked == []


def test_a_store_that_was_sent_is_in_the_cache_of_who_sent_it(
    sent: BucketService, tiny_store: Store, tmp_path: Path
) -> None:
    made = tmp_path / "cache" / "sending" / "x"
    shutil.copytree(tiny_store.folder, made)
    kept = keep_sent(made, ADDRESS)
    assert not made.exists()
    sent.asked.clear()
    assert fetch_store(ADDRESS) == kept
    assert sent.asked == [MANIFEST]
