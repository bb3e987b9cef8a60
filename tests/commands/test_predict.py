"""`python -m ferray.predict`, as a user runs it."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferray.commands.predict import main
from ferray.data.store.reader import Store


@pytest.fixture
def folder(tiny_store: Store, tmp_path: Path) -> Path:
    """Three pictures and a file that is none."""
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.asarray(tiny_store.faces[number])[..., ::-1])
    (tmp_path / "bad.png").write_text("text")
    return tmp_path


def test_each_picture_is_a_line_and_what_cannot_be_read_is_named(
    best_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(best_dir), str(folder)]) == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["path"] for line in lines] == [str(folder / f"{number}.png") for number in range(3)]
    for line in lines:
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["confidence"] == line["probabilities"][line["label"]] == max(line["probabilities"].values())
    assert f"skipped: {folder / 'bad.png'}: " in shown.err
    assert "3 predictions" in shown.err
    assert "1 picture skipped" in shown.err
    assert "the model has no temperature" in shown.err


def test_a_table_says_what_the_lines_say(best_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(best_dir), str(folder)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    out = folder / "out.csv"
    assert main([str(best_dir), str(folder), "--format", "csv", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    for line, row in zip(lines, csv.DictReader(io.StringIO(out.read_text())), strict=True):
        assert (row["path"], row["label"], float(row["confidence"])) == (
            line["path"],
            line["label"],
            line["confidence"],
        )
        assert {name: float(row[f"p_{name}"]) for name in line["probabilities"]} == line["probabilities"]


def test_nothing_half_written_has_the_name_that_was_asked_for(
    best_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ferray.predict.model.Model._answer", fail)
    assert main([str(best_dir), str(folder), "--out", str(folder / "out.jsonl")]) == 130
    assert not list(folder.glob("*out.jsonl*"))
    assert main([str(best_dir), str(folder), "--out", str(folder / "none" / "out.jsonl")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_file_names_need_not_be_text(
    best_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"\xff.png")
    shutil.copy(folder / "0.png", folder / name)
    given = io.TextIOWrapper(io.BytesIO(os.fsencode(folder / name) + b"\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", given)
    assert main([str(best_dir), "-", "--format", "csv", "--out", str(folder / "out.csv")]) == 0
    assert os.fsencode(folder / name) in (folder / "out.csv").read_bytes()


@pytest.mark.parametrize("out", [".", "/"])
def test_a_folder_is_no_file_to_write_to(
    best_dir: Path, folder: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(best_dir), str(folder), "--out", out]) == 2
    assert "cannot be written: Is a directory" in capsys.readouterr().err


def test_a_device_is_written_to_and_not_replaced(best_dir: Path, folder: Path) -> None:
    assert main([str(best_dir), str(folder), "--out", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()


def test_where_nothing_can_be_read_the_exit_code_says_so(
    best_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(best_dir), str(folder / "bad.png"), str(folder / "none.png")]) == 1
    assert capsys.readouterr().out == ""


def test_many_bad_pictures_are_counted_not_listed(
    best_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(50):
        shutil.copy(folder / "bad.png", folder / f"bad{number}.png")
    assert main([str(best_dir), str(folder)]) == 0
    shown = capsys.readouterr().err
    assert shown.count("skipped: ") == 21
    assert "51 pictures skipped" in shown


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "best"), "face.png"]) == 2
    assert "Give runs/NAME/best of a finished search" in capsys.readouterr().err
