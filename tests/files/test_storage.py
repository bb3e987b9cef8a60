"""Promises of storage: a file is whole or not there, and a folder has one owner at a time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferray.errors import FencedError, LockedError, StorageError
from ferray.files import storage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class FullDisk:
    """Stands in for `os.fsync`: the disk is full, or the person at the keyboard has had enough."""

    def __init__(self, fault: BaseException) -> None:
        self.fault = fault

    def __call__(self, file: int) -> None:
        raise self.fault


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@given(st.binary(max_size=2000))
def test_bytes_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("storage") / "new" / "folder" / "file"

    storage.write_bytes(file, data)

    assert file.read_bytes() == data
    assert names(file.parent) == {"file"}


@given(json_values)
def test_json_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    file = tmp_path_factory.mktemp("storage") / "file.json"

    storage.write_json(file, value)

    assert storage.read_json(file) == value
    assert file.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    file = tmp_path / "record.json"
    storage.write_bytes(file, b"old")
    monkeypatch.setattr(os, "fsync", FullDisk(fault))

    with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
        storage.write_bytes(file, b"new")

    assert file.read_bytes() == b"old"
    assert names(tmp_path) == {"record.json"}
    if isinstance(fault, OSError):
        assert caught.value.args[1] == "cannot be written: No space left on device"


def test_a_reader_sees_the_old_file_or_the_new_one_never_a_part(tmp_path: Path) -> None:
    file = tmp_path / "file"
    storage.write_bytes(file, b"a" * 100_000)

    with file.open("rb") as reader:
        first = reader.read(10)
        storage.write_bytes(file, b"b" * 100_000)
        rest = reader.read()

    assert first + rest == b"a" * 100_000
    assert file.read_bytes() == b"b" * 100_000


def test_a_number_that_json_does_not_have_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "file.json", {"loss": float("nan")})

    assert names(tmp_path) == set()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")

    with pytest.raises(StorageError, match=r"runs/first/search\.json: cannot be written"):
        storage.write_bytes(tmp_path / "runs" / "first" / "search.json", b"")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}x'])
def test_what_is_not_json_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.json").write_bytes(data)

    with pytest.raises(StorageError, match=r"file\.json: not JSON"):
        storage.read_json(tmp_path / "file.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        storage.read_json(tmp_path / "file.json")


def hold(path: Path, held: Event) -> None:
    """What another process does: take the lock and keep it until it is killed."""
    with storage.lock(path):
        held.set()
        multiprocessing.Event().wait()


def test_a_lock_of_another_process_is_respected_until_it_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "lock", held), daemon=True)
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(StorageError, match="another process is using"), storage.lock(tmp_path / "lock", wait_s=0):
            pass
    finally:
        other.kill()
        other.join()

    with storage.lock(tmp_path / "lock", wait_s=0):
        pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with storage.lock(tmp_path / "new" / "lock", wait_s=0):
            pass


def test_a_lock_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot be locked"), storage.lock(tmp_path / "file" / "lock"):
        pass


def test_the_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "mine"))
    assert storage.cache_dir() == tmp_path / "mine"

    monkeypatch.delenv("FERRAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage.cache_dir() == tmp_path / "ferray"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.cache_dir() == tmp_path / ".cache" / "ferray"


def test_the_json_of_a_record_can_be_read_by_a_person(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "file.json", {"b": 1, "a": [1]})

    text = (tmp_path / "file.json").read_text()
    assert text == json.dumps({"b": 1, "a": [1]}, indent=2) + "\n"


# Leases


def test_a_writer_that_lost_the_lease_writes_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "a"
    before = storage.Lease.take(folder, (1, 7))
    storage.write_bytes(folder / "file", b"before", lease=before)
    after = storage.Lease.take(folder, (2, 1))

    with pytest.raises(FencedError, match=r"taken over by writer \[2, 1\]"):
        storage.write_bytes(folder / "file", b"late", lease=before)
    assert (folder / "file").read_bytes() == b"before"
    storage.write_bytes(folder / "file", b"after", lease=after)
    assert names(folder) == {"file", "lease.json", ".lease.lock"}
    with pytest.raises(FencedError):
        storage.Lease.take(folder, (1, 8))


def test_a_lease_that_is_taken_while_a_file_is_written_keeps_it_from_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "trials" / "a"
    lease = storage.Lease.take(folder, (1, 1))
    sync = os.fsync

    def take_and_sync(file: int) -> None:
        monkeypatch.undo()
        storage.Lease.take(folder, (1, 2))
        sync(file)

    monkeypatch.setattr(os, "fsync", take_and_sync)
    with pytest.raises(FencedError):
        storage.write_bytes(folder / "file", b"late", lease=lease)
    assert names(folder) == {"lease.json", ".lease.lock"}


def test_a_lock_of_a_killed_process_does_not_hold_a_lease_up(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "a"
    script = (
        "import os, signal, sys; from pathlib import Path; from ferray.files.storage import Lease\n"
        "lease = Lease.take(Path(sys.argv[1]), (1, 1))\n"
        "with lease.held(): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    storage.write_bytes(folder / "file", b"after", lease=storage.Lease.take(folder, (1, 2)))


def test_a_writer_that_is_stopped_in_the_middle_holds_up_its_own_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LEASE_WAIT_S", 0.0)
    stopped = storage.Lease.take(tmp_path / "trials" / "a", (1, 1))
    with stopped.held():
        storage.write_bytes(
            tmp_path / "trials" / "b" / "file", b"b", lease=storage.Lease.take(tmp_path / "trials" / "b", (1, 2))
        )
        with pytest.raises(LockedError, match="a writer that is stopped or does not answer"):
            storage.Lease.take(tmp_path / "trials" / "a", (1, 3))


def test_the_file_before_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"1", b"2", b"3"):
        storage.write_bytes(file, content, keep_previous=True)
    assert file.read_bytes() == b"3"
    assert storage.previous(file).read_bytes() == b"2"
    assert names(tmp_path) == {"file", "file.previous"}


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from ferray.files import storage\n"
        "os.fsync = lambda file: os._exit(9)\n"
        "storage.write_bytes(Path(sys.argv[1]) / 'trials' / 'file', b'half')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (tmp_path / "trials" / ".hidden").touch()
    assert len(names(tmp_path / "trials")) == 2
    storage.remove_partial(tmp_path)
    assert names(tmp_path / "trials") == {".hidden"}


def test_who_has_no_home_is_asked_to_name_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FERRAY_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # as in a container that runs as any user
    with pytest.raises(StorageError, match=r"(?s)no home folder.*user 4000000.*FERRAY_CACHE"):
        storage.cache_dir()
    storage.give_home()
    assert "HOME" not in os.environ


@pytest.mark.parametrize("home", [None, "/"])
def test_the_cache_is_the_home_of_libraries_where_there_is_none(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home or "")
    if home is None:
        monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    monkeypatch.setenv("FERRAY_CACHE", "/somewhere")
    assert storage.cache_dir() == Path("/somewhere")
    storage.give_home()
    assert os.environ["HOME"] == "/somewhere"


def test_a_lock_is_shared_by_those_who_share_its_folder(tmp_path: Path) -> None:
    for mode, shared in ((0o775, 0o664), (0o755, 0o644), (0o700, 0o600), (0o777, 0o666)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        with storage.lock(folder / "lock"):
            assert (folder / "lock").stat().st_mode & 0o777 == shared
