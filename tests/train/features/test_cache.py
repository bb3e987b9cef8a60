"""Views on the disk: filled together, whole or not there, bounded; broken ones are never read."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferray.errors import StorageError
from ferray.train.features import cache as viewcache
from ferray.train.features.cache import SHARD_FACES, Features, NoRoomError, fill, open_view, shards

NUM_FACES = 4 * SHARD_FACES + 7
SHAPE = (NUM_FACES, 3, 2, 2)
FACTS = {"split": "train"}
WHOLE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)


class Counting:
    """Computes shards and remembers which."""

    def __init__(self) -> None:
        self.computed: list[slice] = []

    def __call__(self, part: slice, done: int) -> Features:
        self.computed.append(part)
        return WHOLE[part]


def names(views: Path) -> list[str]:
    return sorted(path.name for path in views.iterdir() if path.name != ".locks")


def test_a_view_is_filled_shard_by_shard_and_read_as_it_was_computed(tmp_path: Path) -> None:
    compute = Counting()
    filled = fill(tmp_path / "v", SHAPE, facts=FACTS, compute=compute)

    assert compute.computed == shards(NUM_FACES)
    np.testing.assert_array_equal(filled, WHOLE)
    assert not filled.flags.writeable
    assert names(tmp_path) == ["v"]
    assert names(tmp_path / "v") == ["features.npy", "view.json"]


def test_shards_cover_every_face_once_whatever_the_number() -> None:
    for num_faces in (1, SHARD_FACES, SHARD_FACES + 1, NUM_FACES):
        rows = [row for part in shards(num_faces) for row in range(part.start, part.stop)]
        assert rows == list(range(num_faces))


def test_a_view_does_not_exist_before_its_last_shard(tmp_path: Path) -> None:
    def compute(part: slice, done: int) -> Features:
        assert open_view(tmp_path / "v", SHAPE) is None
        return WHOLE[part]

    fill(tmp_path / "v", SHAPE, facts=FACTS, compute=compute)
    assert open_view(tmp_path / "v", SHAPE) is not None


def test_of_two_processes_that_need_a_view_each_computes_shards_that_the_other_does_not(tmp_path: Path) -> None:
    first_is_at_it, second_is_done = threading.Event(), threading.Event()
    slow, quick = Counting(), Counting()

    def compute_slowly(part: slice, done: int) -> Features:
        first_is_at_it.set()
        assert second_is_done.wait(timeout=30) or part.start
        return slow(part, done)

    def compute_quickly(part: slice, done: int) -> Features:
        if part.start == SHARD_FACES * 4:
            second_is_done.set()
        return quick(part, done)

    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(fill, tmp_path / "v", SHAPE, facts=FACTS, compute=compute_slowly)
        assert first_is_at_it.wait(timeout=30)
        second = pool.submit(fill, tmp_path / "v", SHAPE, facts=FACTS, compute=compute_quickly)
        np.testing.assert_array_equal(first.result(timeout=60), WHOLE)
        np.testing.assert_array_equal(second.result(timeout=60), WHOLE)

    assert slow.computed == shards(NUM_FACES)[:1]
    assert quick.computed == shards(NUM_FACES)[1:]


KILLED_IN_THE_THIRD = """
import os, signal, sys
from pathlib import Path
from test_cache import FACTS, SHAPE, WHOLE
from ferray.train.features import cache as viewcache

calls = 0

def compute(part, done):
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return WHOLE[part]

viewcache.fill(Path(sys.argv[1]), SHAPE, facts=FACTS, compute=compute)
"""


def test_the_shards_of_a_killed_process_are_not_computed_again(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_THIRD, str(tmp_path / "v")],
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    compute = Counting()
    filled = fill(tmp_path / "v", SHAPE, facts=FACTS, compute=compute)

    assert killed.returncode == -9
    assert compute.computed == shards(NUM_FACES)[2:]
    np.testing.assert_array_equal(filled, WHOLE)
    assert names(tmp_path) == ["v"]


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "features.npy").read_bytes())
    data[-100] ^= 1
    (folder / "features.npy").write_bytes(data)


def shorten(folder: Path) -> None:
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:-2])


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        shorten,
        lambda folder: (folder / "features.npy").unlink(),
        lambda folder: (folder / "features.npy").write_bytes(b""),
        lambda folder: np.save(folder / "features.npy", WHOLE.astype(np.float32)),
        lambda folder: (folder / "view.json").write_bytes(b"[]"),
        lambda folder: (folder / "view.json").write_bytes(b'{"checksums": [1, 2]}'),
    ],
)
def test_a_damaged_view_is_logged_and_computed_again(
    damage: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "v"
    fill(folder, SHAPE, facts=FACTS, compute=Counting())
    damage(folder)
    compute = Counting()

    assert open_view(folder, SHAPE) is None
    assert "is damaged: the view is computed again" in caplog.text
    np.testing.assert_array_equal(fill(folder, SHAPE, facts=FACTS, compute=compute), WHOLE)
    assert compute.computed == shards(NUM_FACES)


def use(folder: Path, age_s: float) -> None:
    """Fill a view and make it look as if it was used some time ago."""
    fill(folder, SHAPE, facts=FACTS, compute=Counting())
    os.utime(folder / "view.json", (time.time() - age_s,) * 2)


def test_the_least_recently_used_view_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, age_s in (("old", 300.0), ("oldest", 400.0), ("new", 100.0)):
        use(tmp_path / name, age_s)
    mapped = open_view(tmp_path / "oldest", SHAPE)  # which makes it the newest
    monkeypatch.setenv("FERRAY_CACHE_GB", str(3.5 * WHOLE.nbytes / 1e9))
    fill(tmp_path / "another", SHAPE, facts=FACTS, compute=Counting())

    assert names(tmp_path) == ["another", "new", "oldest"]
    assert mapped is not None


def test_a_view_that_is_removed_stays_readable_to_those_who_use_it(tmp_path: Path, monkeypatch: Any) -> None:
    held = fill(tmp_path / "a", SHAPE, facts=FACTS, compute=Counting())
    monkeypatch.setenv("FERRAY_CACHE_GB", str(1.5 * WHOLE.nbytes / 1e9))
    fill(tmp_path / "b", SHAPE, facts=FACTS, compute=Counting())

    assert names(tmp_path) == ["b"]
    np.testing.assert_array_equal(held, WHOLE)


def test_where_a_view_does_not_fit_nothing_is_removed_and_the_error_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path / "a", 0)
    monkeypatch.setenv("FERRAY_CACHE_GB", str(0.5 * WHOLE.nbytes / 1e9))
    with pytest.raises(NoRoomError, match=r"(?s)no room for a view of 0 MB.*FERRAY_CACHE_GB") as caught:
        fill(tmp_path / "b", SHAPE, facts=FACTS, compute=Counting())

    assert "are free on the disk" in str(caught.value)
    assert open_view(tmp_path / "a", SHAPE) is not None


def test_some_room_on_the_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewcache, "RESERVE_BYTES", 1 << 60)

    with pytest.raises(NoRoomError):
        fill(tmp_path / "v", SHAPE, facts=FACTS, compute=Counting())


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", ""])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRAY_CACHE_GB", text)

    with pytest.raises(StorageError, match="FERRAY_CACHE_GB"):
        viewcache.limit_bytes()


def test_unfinished_views_make_room_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(part: slice, done: int) -> Features:
        if part.start:
            raise KeyboardInterrupt
        return WHOLE[part]

    for name, age_s in (("young", 0.0), ("stale", 2 * viewcache.STALE_S)):
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / name, SHAPE, facts=FACTS, compute=fail)
        os.utime(tmp_path / f"{name}.parts" / "features.npy", (time.time() - age_s,) * 2)
    monkeypatch.setenv("FERRAY_CACHE_GB", str(2.5 * WHOLE.nbytes / 1e9))
    fill(tmp_path / "v", SHAPE, facts=FACTS, compute=Counting())

    assert names(tmp_path) == ["v", "young.parts"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "views").write_text("a file in the way")

    with pytest.raises(StorageError, match="cannot be written") as caught:
        fill(tmp_path / "views" / "v", SHAPE, facts=FACTS, compute=Counting())
    assert "FERRAY_CACHE" in str(caught.value)


def test_another_user_reads_a_finished_view_without_a_lock_and_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "v", SHAPE, facts=FACTS, compute=Counting())
    monkeypatch.setattr(os, "utime", refuse)  # as where the file is another user's, or the disk can only be read
    monkeypatch.setattr(viewcache.storage, "lock", lambda *_, **__: pytest.fail("a reader took a lock"))

    assert open_view(tmp_path / "v", SHAPE) is not None
    assert caplog.messages == []


def refuse(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@contextmanager
def as_user(number: int, group: int) -> Iterator[None]:
    """What is done in the block is done as another user, with another umask."""
    umask = os.umask(0o022)
    os.setegid(group)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.umask(umask)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's cannot."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_two_users_of_a_group_fill_one_cache_and_each_removes_what_the_other_has_left(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = open_dir / "cache" / "views"
    views.parent.mkdir()
    os.chown(views.parent, 0, 4321)
    views.parent.chmod(0o2775)

    def leave(part: slice, done: int) -> Features:
        if part.start:
            raise KeyboardInterrupt
        return WHOLE[part]

    with as_user(1001, 4321), pytest.raises(KeyboardInterrupt):
        fill(views / "v", SHAPE, facts=FACTS, compute=leave)
    compute = Counting()
    with as_user(1002, 4321):
        np.testing.assert_array_equal(fill(views / "v", SHAPE, facts=FACTS, compute=compute), WHOLE)
    assert compute.computed == shards(NUM_FACES)[1:], "the first user's shard is used"
    with as_user(1001, 4321):
        monkeypatch.setenv("FERRAY_CACHE_GB", str(1.5 * WHOLE.nbytes / 1e9))
        fill(views / "w", SHAPE, facts=FACTS, compute=Counting())
    assert names(views) == ["w"]


def test_a_user_who_may_not_write_a_cache_reads_its_views_and_is_shown_how_to_get_others(open_dir: Path) -> None:
    views = open_dir / "cache" / "views"
    with as_user(0, 0):
        fill(views / "v", SHAPE, facts=FACTS, compute=Counting())
    with as_user(1002, 1002):
        assert open_view(views / "v", SHAPE) is not None
        with pytest.raises(StorageError, match=r"(?s)Permission denied.*FERRAY_CACHE"):
            fill(views / "w", SHAPE, facts=FACTS, compute=Counting())
