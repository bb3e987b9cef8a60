"""The reader on files made here, record by record, with wandb's own messages."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2 as pb

from ferray.tracking.offline import OfflineRun, read_offline_runs, read_segment

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32768


def frame(records: list[Any]) -> bytes:
    """Records as wandb writes them: a log of LevelDB's format."""
    data = HEADER
    for record in records:
        rest, kind = record.SerializeToString(), 0
        while kind in (0, 2, 3):
            room = BLOCK - len(data) % BLOCK
            if room < 7:
                data += bytes(room)
                room = BLOCK
            part, rest = rest[: room - 7], rest[room - 7 :]
            first = kind == 0
            kind = (2 if rest else 1) if first else (3 if rest else 4)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
    return data


def a_run(**values: Any) -> Any:
    record = pb.Record()
    record.run.MergeFrom(
        pb.RunRecord(run_id="s-t", display_name="n-0", project="p", run_group="g", job_type="trial", tags=["x", "ü"])
    )
    for key, value in values.items():
        record.run.config.update.add(key=key, value_json=json.dumps(value))
    return record


def a_row(**values: Any) -> Any:
    record = pb.Record()
    for key, value in values.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    return record


def an_end(code: int) -> Any:
    record = pb.Record()
    record.exit.exit_code = code
    return record


def write(folder: Path, when: str, data: bytes, *, suffix: str = "") -> Path:
    file = folder / f"offline-run-{when}-s-t{suffix}" / "run-s-t.wandb"
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    return file


def test_the_whole_content_of_a_file_is_read(tmp_path: Path) -> None:
    later = pb.Record()
    later.config.update.add(nested_key=["inner", "lr"], value_json="0.5")
    summary = pb.Record()
    summary.summary.update.add(key="state", value_json='"done"')
    summary.summary.update.add(key="_runtime", value_json="3")
    write(
        tmp_path,
        "1",
        frame([a_run(seed=3, _wandb={}), later, a_row(epoch=1, loss=0.25, _step=0), summary, an_end(254)]),
    )

    assert read_offline_runs(tmp_path) == [
        OfflineRun(
            id="s-t",
            name="n-0",
            project="p",
            group="g",
            job_type="trial",
            tags=("x", "ü"),
            config={"seed": 3, "inner": {"lr": 0.5}},
            history=({"epoch": 1, "loss": 0.25},),
            summary={"state": "done"},
            exit_code=254,
        )
    ]


def test_segments_of_one_run_are_one_history_in_the_order_of_time(tmp_path: Path) -> None:
    write(tmp_path, "20260102_000000", frame([a_run(number=1), a_row(epoch=4), an_end(0)]))
    write(tmp_path, "20260101_000000", frame([a_run(number=0), a_row(epoch=1), an_end(254)]))
    write(tmp_path, "20260101_000000", frame([a_run(number=0), a_row(epoch=2)]), suffix="-2")
    write(tmp_path, "20260101_000000", frame([a_run(number=0), a_row(epoch=3)]), suffix="-10")
    (tmp_path / "latest-run").symlink_to(tmp_path / "offline-run-20260102_000000-s-t")
    (found,) = read_offline_runs(tmp_path)

    assert [row["epoch"] for row in found.history] == [1, 2, 3, 4]
    assert (found.config, found.exit_code) == ({"number": 1}, 0)


def test_an_exit_code_of_zero_is_not_a_missing_one(tmp_path: Path) -> None:
    ended = read_segment(write(tmp_path, "1", frame([a_run(), an_end(0)])))
    left = read_segment(write(tmp_path, "2", frame([a_run()])))

    assert ended is not None
    assert left is not None
    assert (ended.exit_code, left.exit_code) == (0, None)


@pytest.mark.parametrize("data", [b"", HEADER[:5], HEADER, HEADER + bytes(100)])
def test_a_file_whose_writer_died_at_once_holds_no_run(data: bytes, tmp_path: Path) -> None:
    assert read_segment(write(tmp_path, "1", data)) is None
    assert read_offline_runs(tmp_path) == []


def test_a_missing_folder_has_no_runs(tmp_path: Path) -> None:
    assert read_offline_runs(tmp_path / "wandb") == []


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.integers(0, 40), st.integers(BLOCK - 120, BLOCK + 20), st.just(70_000)), max_size=5),
    cut=st.floats(0, 1),
    tail=st.sampled_from([b"", bytes(50), b"\xff" * 50]),
)
def test_a_truncated_file_is_read_up_to_its_end(
    sizes: list[int], cut: float, tail: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"epoch": place, "text": "x" * size} for place, size in enumerate(sizes)]
    data = frame([a_run(), *(a_row(**row) for row in rows)])
    folder = tmp_path_factory.mktemp("torn")
    whole = read_segment(write(folder, "1", data))
    torn = read_segment(write(folder, "2", data[: int(cut * len(data))] + tail))

    assert whole is not None
    assert list(whole.history) == rows
    assert torn is None or list(torn.history) == rows[: len(torn.history)]
