"""A journal keeps every complete line, whatever a crash, a full disk or a wrong bit does to the last ones."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from fixtures.records import flip
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.errors import RecordError
from ferray.files.journal import Journal

events = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.none(), max_size=3), max_size=6
)


@settings(max_examples=30)  # every line is flushed to the disk
@given(events, st.data())
def test_a_journal_truncated_anywhere_keeps_every_complete_line(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]], data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("runs") / "first" / "journal.jsonl")
    ends = [0]
    for event in written:
        journal.append(event)
        ends.append(journal.file.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    if journal.file.exists():
        os.truncate(journal.file, cut)
    whole = sum(end <= cut for end in ends) - 1

    assert journal.read() == written[:whole]
    journal.repair()
    journal.append({"after": "the crash"})
    assert journal.read() == [*written[:whole], {"after": "the crash"}]


def test_a_line_that_a_full_disk_took_half_of_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": 1})

    class FullDisk(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data)[:5])

    def open_full(file: Path, mode: str = "r", **options: Any) -> FullDisk:
        return FullDisk(str(file), mode)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(RecordError, match=os.strerror(errno.ENOSPC)):
            journal.append({"event": 2})
    journal.append({"event": 3})

    assert journal.read() == [{"event": 1}, {"event": 3}]


@pytest.mark.parametrize("line", [b"\x00\x00\n", b"[1]\n", b"{\n", b"\n", b"[" * 100_000 + b"\n"])
def test_a_journal_broken_in_the_middle_is_refused_by_line(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"a":1}\n' + line + b'{"b":2}\n')

    with pytest.raises(RecordError, match=r"journal\.jsonl:2: not a JSON object"):
        Journal(file).read()


@settings(max_examples=30)
@given(st.data())
def test_a_journal_with_a_flipped_bit_keeps_the_lines_before_it_and_a_copy_of_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("runs") / "journal.jsonl")
    written = [{"event": "suggest", "number": number, "score": number / 3} for number in range(4)]
    for event in written:
        journal.append(event, durable=False)
    size = journal.file.stat().st_size
    bit = data.draw(st.integers(0, size * 8 - 1))
    flip(journal.file, bit)
    damaged = journal.file.read_bytes()
    line = damaged[: bit // 8].count(b"\n")

    journal.repair()

    journal.append({"event": "after"}, durable=False)
    kept = [{key: event[key] for key in written[0]} for event in journal.read()[:-1]]  # a checksum may lose its name
    assert kept == written[: len(kept)]
    assert len(kept) >= line
    if len(kept) <= line < 3:
        assert journal.file.with_name("journal.jsonl.broken").read_bytes() == damaged


def test_a_line_of_the_first_version_has_no_checksum(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"a":1}\n')
    Journal(file).append({"b": 2})

    assert Journal(file).read() == [{"a": 1}, {"b": 2}]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    journal.repair()

    assert journal.read() == []
    assert not journal.file.exists()
