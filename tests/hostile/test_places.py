"""Names, links, pipes and devices that would lead a reader elsewhere or hold it for ever; and files of absurd sizes."""

import importlib
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pytest
from fixtures.data import write_tiny_store
from fixtures.expw import ExpW, format_line
from hostile.cases import Parser, only_inside
from hostile.parsers import CASES, make_parser
from pyarrow import parquet

from ferray.data.decoding.formats import MAX_PIXELS, MAX_SCANS, BadPhotographError, check_whole
from ferray.data.prepare.photographs import read_photograph
from ferray.data.sources.expw import read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.store.reader import open_store
from ferray.data.store.table import MAX_ROW_BYTES
from ferray.errors import DataError, FerrayError, RecordError, SpaceError, StorageError
from ferray.files import untrusted
from ferray.metrics.predictions import MAX_FACES, read_confusion
from ferray.model.backbones import BACKBONES
from ferray.records.run import Run
from ferray.space import read_space

FILES = [name for name in CASES if name not in ("folder_names", "set_names", "settings", "recipe")]
"""Parsers that read a file."""

MENDED = {"view.json", "features.npy", "search.json", "journal.jsonl", "wandb.jsonl", "wandb", "last", "label_list"}
"""What is computed anew, has an earlier copy, or is read up to the damage."""


@pytest.fixture
def parser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Parser]:
    trunks = dict(BACKBONES)
    yield make_parser(request.param, tmp_path / "case")
    BACKBONES.update(trunks)


@pytest.fixture
def in_time() -> Iterator[None]:
    """Nothing waits for a pipe, and nothing takes 4 GB more than there was."""

    def ring(number: int, frame: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(30)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read(parser: Parser) -> bool:
    """Whether it is accepted; by a `FerrayError`, if not."""
    try:
        parser.read()
    except FerrayError:
        return False
    return True


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "ring"])
@pytest.mark.parametrize("parser", FILES, indirect=True)
def test_a_pipe_a_device_a_folder_or_a_ring_of_links_in_place_of_a_file_holds_nobody(
    parser: Parser, what: str, in_time: None
) -> None:
    assert parser.one_case(parser.seeds[0])
    parser.file.unlink()
    if what == "pipe":
        os.mkfifo(parser.file)
    elif what == "device":
        parser.file.symlink_to("/dev/zero")
    elif what == "folder":
        parser.file.mkdir()
    else:
        parser.file.symlink_to(parser.file.name)

    assert not read(parser) or parser.name in MENDED or what == "ring"  # which is a file that is not there


@pytest.mark.parametrize("name", ["manifest.json", "faces.npy", "labels.npy", "table.parquet"])
def test_a_link_out_of_a_store_is_not_followed(name: str, tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "store", size_px=8, per_class=(1, 1, 1)).folder
    (store / name).rename(tmp_path / name)
    (store / name).symlink_to(tmp_path / name)

    with pytest.raises(DataError, match="leads out of"):
        _ = open_store(store).table


def test_a_link_to_a_whole_store_is_followed(tmp_path: Path) -> None:
    write_tiny_store(tmp_path / "store", size_px=8, per_class=(1, 1, 1))
    (tmp_path / "link").symlink_to(tmp_path / "store")

    assert len(open_store(tmp_path / "link").table) == 21


NAMES = [
    b"../../../etc/passwd", b"/etc/passwd", b"a/../../b.jpg", b"./a.jpg", b"a//b.jpg", b"C:\\a.jpg", b"..\\..\\a.jpg",
    b"a\x00b.jpg",    b"\x1b[31m.jpg", b"n" * 300 + b".jpg", b"out.jpg", b"outside/secret.jpg", b"\xe2\x80\xaegpj.a",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_in_a_list_opens_nothing_outside_the_photographs(name: bytes, tmp_path: Path) -> None:
    expw = ExpW(tmp_path / "expw", per_class=1)
    (tmp_path / "secret.jpg").write_bytes((expw.images / "happy_man_0.jpg").read_bytes())
    (expw.images / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (expw.images / "outside").symlink_to(tmp_path)
    expw.add_lines(format_line("@").replace(b"@", name))

    with only_inside(tmp_path / "expw"):
        source = read_expw(expw.images, expw.labels)
        for face in source.faces:
            try:
                read_photograph(source.root, face.source, upright=False)
            except BadPhotographError as error:
                assert "outside" in error.reason or "unreadable" in error.reason


def test_a_tree_of_folders_that_links_to_itself_and_elsewhere_ends_and_opens_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("happy", "sad"):
        (tree / name).mkdir(parents=True)
        (tree / name / "1.jpg").write_bytes(b"x")
        (tree / name / "loop").symlink_to(tree)
        (tree / name / "etc").symlink_to("/etc")
        (tree / name / "\x1b[2J.jpg").write_bytes(b"x")

    with only_inside(tree):
        source = read_folders(tree)
        for face in source.faces:
            with pytest.raises(BadPhotographError):
                read_photograph(source.root, face.source, upright=True)
    assert len(source.faces) == 6
    assert [fault.reason for fault in source.faults] == ["name that is none"] * 2


@pytest.mark.parametrize("trial_id", ["../../../etc", "/etc", "..", "", "a/b", "\x00", "0123456789ab/../.."])
def test_a_trial_id_that_is_none_leads_to_no_folder(trial_id: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        Run(tmp_path / "run").trial_dir(trial_id)


# Sizes


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(10_000_000))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "content", [png(50_000, 50_000), jpeg(50_000, 50_000), png(2**31 - 1, 1), jpeg(65_535, 65_535)]
)
def test_a_photograph_of_absurd_size_is_refused_before_it_is_decoded(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    monkeypatch.setattr(cv2, "imdecode", None)

    with pytest.raises(BadPhotographError, match=f"at most {MAX_PIXELS:,} pixels"):
        read_photograph(tmp_path, "a.jpg", upright=True)


def test_a_jpeg_of_ten_thousand_passes_is_refused() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    check_whole(data)
    scan = data[data.rindex(b"\xff\xda") : -2]

    with pytest.raises(BadPhotographError, match=f"more than {MAX_SCANS} passes"):
        check_whole(data[:-2] + scan * 10_000 + data[-2:])


def test_a_table_that_claims_a_billion_rows_is_refused_by_its_header(tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "store", size_px=8, per_class=(1, 1, 1))
    rows = pyarrow.table({"label": pyarrow.array(np.zeros(20_000_000, np.int64))})
    parquet.write_table(rows, store.folder / "table.parquet", compression="zstd")
    assert (store.folder / "table.parquet").stat().st_size < 100_000

    begin = time.process_time()
    with pytest.raises(DataError, match="20000000 rows, but there are 21"):
        _ = open_store(store.folder).table
    assert time.process_time() - begin < 1


def test_a_table_whose_texts_swell_is_refused(tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "store", size_px=8, per_class=(1, 1, 1))
    table = store.table.assign(word="x" * 1_000_000)
    table.to_parquet(store.folder / "table.parquet", compression="zstd")
    assert (store.folder / "table.parquet").stat().st_size < 100_000

    with pytest.raises(DataError, match=f"decodes to more than .* bytes, {MAX_ROW_BYTES:,} a row"):
        _ = open_store(store.folder).table


@pytest.mark.parametrize("name, dtype", [("faces.npy", "|u1"), ("labels.npy", "<i8")])
def test_an_array_that_claims_more_than_its_file_holds_is_refused(name: str, dtype: str, tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "store", size_px=8, per_class=(1, 1, 1))
    with (store.folder / name).open("wb") as file:
        shape = (10**12,) if name == "labels.npy" else (10**12, 8, 8, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})

    with pytest.raises(DataError, match="1000000000000"):
        open_store(store.folder)


def test_a_matrix_that_counts_more_faces_than_there_are_is_refused(tmp_path: Path) -> None:
    (tmp_path / "matrix.csv").write_text("label,a,b\na,1e18,0\nb,0,1\n")

    with pytest.raises(DataError, match=f"at most {MAX_FACES:,} faces"):
        read_confusion(tmp_path / "matrix.csv")


def test_a_space_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "space.yaml").open("wb") as file:
        file.truncate(100_000_000)

    with pytest.raises(SpaceError, match="100,000,000 bytes"):
        read_space(tmp_path / "space.yaml")


@pytest.mark.parametrize(
    "text, what",
    [
        ("a: &a [1,1]\nb: &b [*a,*a]\n" + "".join(f"c{n}: &c{n} [*b,*b]\n" for n in range(3)), "is not a key"),
        ("x: " + "1:" * 600 + "1", "a text of"),
        ("x: 0x" + "F" * 5000, "a text of"),
        ("k" * 2000 + ": 1", "a text of"),
        ("x: !!python/object/apply:os.system [id]", "the tag"),
        ("x: !mine 5", "the tag"),
    ],
)
def test_a_space_that_swells_or_calls_is_refused(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)

    with pytest.raises(SpaceError, match=what):
        read_space(tmp_path / "space.yaml")


@pytest.mark.parametrize("parser", FILES, indirect=True)
def test_a_file_nested_100000_levels_deep_is_refused(parser: Parser, in_time: None) -> None:
    for text in (b"[" * 100_000, b'{"a":' * 100_000, b"{'a':(" * 100_000, b"- " * 100_000):
        parser.file.write_bytes(text)
        assert not read(parser) or parser.name in MENDED


def test_a_dry_run_of_a_trillion_points_answers_at_once(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text(
        "method: grid\nparameters:\n  seed: {min: 0, max: 999999}\n  batch_size: {min: 1, max: 1000}\n"
        "  hidden_units: {min: 1, max: 1000}\n"
    )
    asked = [sys.executable, "-m", "ferray.search", "--space", str(tmp_path / "large.yaml"), "--dry-run"]
    begin = time.perf_counter()
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)

    assert "trials    1000000000000" in done.stdout
    assert time.perf_counter() - begin < 20


def test_no_more_of_a_file_is_read_than_was_agreed_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")

    assert untrusted.read_bytes(tmp_path / "a", max_bytes=5) == b"12345"
    with pytest.raises(StorageError, match="5 bytes; at most 4"):
        untrusted.read_bytes(tmp_path / "a", max_bytes=4)
    with pytest.raises(StorageError, match="leads out of"):
        untrusted.read_bytes(tmp_path / "a", max_bytes=5, inside=tmp_path / "b")
    with pytest.raises(StorageError, match="cannot be read"):
        untrusted.read_bytes(tmp_path / "a\0", max_bytes=5)


def test_what_a_message_quotes_is_short_and_moves_no_cursor() -> None:
    text = str(DataError("a\x1b[2J", "b" * 100_000, "c\u202e\ud800"))

    assert text.isascii()
    assert "\x1b" not in text
    assert len(text) < 5000


LONG = "a" * 300
"""A file system takes names of 255 bytes."""


@pytest.mark.parametrize(
    "command",
    [
        f"search --dry-run --weights {LONG}",
        f"search --dry-run --out {LONG}",
        f"search --dry-run --data {LONG}",
        f"search --dry-run --space {LONG}",
        f"search --resume {LONG}",
        f"train --data none --recipe {LONG}",
        f"report evaluate none --data {LONG}",
        f"report audit {LONG}",
        f"data check {LONG}",
        f"data show {LONG}",
        f"data prepare folders --images {LONG} --out none",
        f"data prepare expw --images {LONG} --labels {LONG} --out none",
    ],
)
def test_a_name_that_the_system_does_not_take_is_refused_with_a_way_out(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module, *asked = command.split()
    assert importlib.import_module(f"ferray.{module}.__main__").main(asked) == 2
    assert re.fullmatch(rf"error: .*{LONG}.*\n  .+\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
