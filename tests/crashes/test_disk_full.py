"""A full disk and a read-only folder, on a small file system of the test's own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures.search import Searches, finish, table, wait_for_line

from ferray.data.store.reader import Store
from ferray.errors import RecordError, StorageError
from ferray.files import storage
from ferray.files.journal import Journal
from ferray.records.run import Run

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.01, 0.001, 0.0001, 0.00001]}
  dropout: {values: [0.0, 0.5]}
  epochs: {value: 3}
  batch_size: {value: 16}
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MB: a search of small trials has room, its best model with a whole trunk included."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, *, leave_bytes: int) -> Path:
    """Take all room but a little."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (free := (status := os.statvfs(disk)).f_bavail * status.f_frsize - leave_bytes) > 0:
            with suppress(OSError):  # a search took some of it just now
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
    return ballast


def append_without_end(journal: Journal) -> None:
    """Until what is left of the last page is used up."""
    while True:
        journal.append({"event": "new", "text": "x" * 4096})


def test_a_full_disk_leaves_the_old_file_and_the_old_lines_whole(small_disk: Path) -> None:
    file, journal = small_disk / "folder" / "file", Journal(small_disk / "journal.jsonl")
    storage.write_bytes(file, b"old" * 1000, keep_previous=True)
    journal.append({"event": "old"})
    ballast = fill(small_disk, leave_bytes=0)

    with pytest.raises(StorageError, match="No space left"):
        storage.write_bytes(file, b"new" * 100_000, keep_previous=True)
    with pytest.raises(RecordError, match="No space left"):
        append_without_end(journal)
    assert file.read_bytes() == b"old" * 1000
    assert journal.read()[0] == {"event": "old"}
    assert [path.name for path in file.parent.iterdir()] == ["file"]

    ballast.unlink()
    journal.repair()
    journal.append({"event": "after"})
    assert journal.read()[-1] == {"event": "after"}


@pytest.mark.slow
def test_a_search_on_a_disk_that_fills_up_names_it_and_goes_on_when_there_is_room(
    small_disk: Path, tiny_store: Store
) -> None:
    searches = Searches(small_disk, tiny_store)
    process = searches.start(GRID, "grid", "--wandb", "disabled", "--concurrent-trials", "1")
    wait_for_line(process, r"^1/8")
    ballast = fill(small_disk, leave_bytes=0)
    _, err = finish(process, code=2)
    assert "No space left on device" in err
    assert "--resume grid" in err
    assert "Traceback" not in err
    run = Run(small_disk / "runs" / "grid")
    before = table(run)  # every record is whole
    assert len(run.journal().read()) > 0

    ballast.unlink()
    searches.resume("grid", "--wandb", "disabled")
    after = table(run)
    assert [state for _, state, _ in after.values()] == ["done"] * 8
    for trial_id, (number, _, rows) in before.items():
        assert after[trial_id][0] == number
        assert after[trial_id][2][: len(rows)] == rows


@pytest.mark.slow
def test_a_search_in_a_folder_that_cannot_be_written_is_refused_at_once(small_disk: Path, tiny_store: Store) -> None:
    searches = Searches(small_disk, tiny_store)
    (small_disk / "grid.yaml").write_text(GRID)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    asked = searches.command("--space", str(small_disk / "grid.yaml"), "--name", "grid", "--wandb", "disabled")
    _, err = finish(searches.begin([*asked, "--data", str(tiny_store.folder), "--weights", "none"]), code=2)
    assert "cannot be written" in err
    assert "Traceback" not in err
