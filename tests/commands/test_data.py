"""`python -m ferray.data`: its output, its files, its exit codes."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from fixtures.expw import WORDS, ExpW
from fixtures.public_sets import write_affectnet_lists, write_ckplus, write_fer2013, write_ferplus, write_rafdb

from ferray.commands import search
from ferray.commands.data import main
from ferray.data.decoding.formats import Format
from ferray.data.prepare.options import DEFAULT_MARGIN, DEFAULT_SIZE_PX
from ferray.data.scaling import scale_to
from ferray.data.store.contact_sheet import SHEET_FACE_PX, draw_contact_sheet, write_contact_sheet
from ferray.data.store.reader import Store, open_store
from ferray.data.store.summary import format_counts
from ferray.errors import DataError


def prepare(expw: ExpW, *options: str) -> int:
    paths = ["--images", str(expw.images), "--labels", str(expw.labels), "--out", str(expw.folder.parent / "store")]
    return main(["prepare", "expw", *paths, "--size", "16", *options])


def test_prepare_expw_prints_the_counts_and_what_to_do_next(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(expw) == 0

    printed = capsys.readouterr()
    assert "94 faces of 16 px from expw" in printed.out
    assert "python -m ferray.search --space grid --data" in printed.out
    assert "nothing was done" not in printed.out
    assert "cropping" in printed.err
    assert open_store(expw.folder.parent / "store").manifest.margin == DEFAULT_MARGIN


def test_prepare_again_prints_that_nothing_was_done(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(expw)
    capsys.readouterr()

    assert prepare(expw) == 0
    assert "same store already" in capsys.readouterr().out
    assert prepare(expw, "--seed", "3") == 2
    assert "holds another store: seed 0, not 3" in capsys.readouterr().err


def test_what_was_left_out_is_counted_and_its_list_named(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    expw.add_lines(b"happy_man_0.jpg 9 1 1 9 9 1.0 9", b"gone.jpg 0 1 1 9 9 1.0 3")

    assert prepare(expw) == 0
    printed = capsys.readouterr().out
    assert "left out: 1 missing photograph" in printed
    assert "left out: 1 unknown label" in printed
    assert "store.skipped.csv" in printed
    assert (expw.folder.parent / "store.skipped.csv").is_file()


def test_on_bad_fail_exits_with_2_and_names_file_and_line(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    expw.add_lines(b"happy_man_0.jpg 9 1 1 9 9 1.0 9")

    assert prepare(expw, "--on-bad", "fail") == 2
    assert f"error: {expw.labels}:95: label is 9" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["0/0/100", "70/10/20"])
def test_the_split_is_written_as_percent(expw: ExpW, split: str) -> None:
    assert prepare(expw, "--split", split) == 0

    shares = open_store(expw.folder.parent / "store").manifest.split
    assert "/".join(f"{share * 100:.0f}" for share in shares or ()) == split


def test_the_options_about_copies_reach_the_store(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(expw, "--copies", "skip", "--drop-conflicts") == 2
    assert "needs the copies" in capsys.readouterr().err
    assert prepare(expw, "--copies", "skip") == 0
    assert open_store(expw.folder.parent / "store").manifest.copies == "skip"


def test_a_wrong_split_exits_with_2(expw: ExpW, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(expw, "--split", "70/30") == 2
    assert "70/10/20" in capsys.readouterr().err


def test_folders_without_validation_say_how_to_get_one(
    make_tree: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_tree({f"{split}/{word}": 2 for split in ("train", "test") for word in WORDS})

    assert main(["prepare", "folders", "--images", str(root), "--size", "16", "--out", str(root.parent / "store")]) == 0
    assert "--split 90/10/0" in capsys.readouterr().out


def test_each_public_set_is_prepared_with_its_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = [{answer: 10} for answer in ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")]
    files = write_fer2013(tmp_path / "f.csv"), write_ferplus(tmp_path / "v.csv", every * 10)
    labels = {"training": [*range(8)] * 5, "validation": [*range(9)]}
    lists = write_affectnet_lists(tmp_path / "lists", labels)
    expected = {
        f"fer2013 --csv {files[0]} --ferplus {files[1]} --votes plurality": None,
        f"fer2013 --csv {files[0]}": "70 faces of 16 px from fer2013",
        f"rafdb --images {write_rafdb(tmp_path / 'raf', per_class=12)} --order rafdb": "84 faces of 16 px from rafdb",
        f"affectnet --images {lists / 'Manually_Annotated_Images'} --training {lists / 'training.csv'} --validation "
        f"{lists / 'validation.csv'} --without-contempt --margin 0": "42 faces of 16 px from affectnet",
        f"ckplus --images {write_ckplus(tmp_path / 'ck', people=6)} --frames 1 --with-neutral --without-contempt": (
            "72 faces of 16 px from ckplus-1-frames"
        ),
    }
    for number, (words, line) in enumerate(expected.items()):
        out = str(tmp_path / f"store-{number}")
        code = main(["prepare", *words.split(), "--size", "16", "--copies", "skip", "--out", out])
        printed = capsys.readouterr()
        assert code == (2 if line is None else 0), printed.err
        assert (line or "class neutral has no face in the train split") in printed.out + printed.err
    shown = open_store(tmp_path / "store-3").manifest
    assert shown.margin == 0
    assert shown.split == (0.9, 0.1, 0.0)
    assert shown.skipped == {"of another class": 7}


@pytest.mark.parametrize("option", [["--votes", "majority"], ["--without-contempt"]])
def test_options_of_ferplus_without_its_file_are_refused(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_fer2013(tmp_path / "f.csv")

    assert main(["prepare", "fer2013", "--csv", str(file), *option, "--out", str(tmp_path / "store")]) == 2
    assert "--ferplus fer2013new.csv" in capsys.readouterr().err


def test_the_demo_is_drawn_in_expws_layout_and_can_be_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ferray.data.demo import photographs as demo

    drawn = ExpW(tmp_path / "drawn")
    monkeypatch.setattr(demo, "draw_demo", lambda folder: drawn.folder.rename(folder))

    assert main(["demo", "--out", str(tmp_path / "my demo")]) == 0
    told = capsys.readouterr().out
    assert "means nothing for real faces" in told
    assert (tmp_path / "my demo" / "label.lst").is_file()
    words = shlex.split(told.split("Prepare them: ")[1].replace("DIR", shlex.quote(str(tmp_path / "my store"))))
    assert main([*words[3:], "--size", "16"]) == 0
    command = shlex.split(capsys.readouterr().out.split("Search on it: ")[1])
    assert search.parse(command[3:]).data == str(tmp_path / "my store")


def test_show_prints_counts_and_draws_a_sheet(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(tiny_store.folder), "--out", str(tmp_path / "sheet.png")]) == 0

    assert "happy                  6           3           3          12" in capsys.readouterr().out
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert np.array_equal(sheet[..., ::-1], draw_contact_sheet(tiny_store))


def test_show_of_what_is_not_a_store_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path)]) == 2
    assert "prepare --help" in capsys.readouterr().err


def test_a_sheet_has_a_row_of_faces_for_each_class(tiny_store: Store) -> None:
    sheet = draw_contact_sheet(tiny_store)

    first = scale_to(np.asarray(tiny_store.faces[0]), SHEET_FACE_PX, SHEET_FACE_PX)
    assert sheet.shape[0] >= 7 * SHEET_FACE_PX
    assert np.array_equal(sheet[60 : 60 + SHEET_FACE_PX, 150 : 150 + SHEET_FACE_PX], first)


def test_a_sheet_is_only_written_as_png(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.png"):
        write_contact_sheet(tiny_store, tmp_path / "sheet.jpg")


def test_counts_add_up(tiny_store: Store) -> None:
    assert "all                   42          21          21          84" in format_counts(tiny_store)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["prepare", "--help"],
        ["prepare", "expw", "--help"],
        ["prepare", "fer2013", "--help"],
        ["merge", "--help"],
        ["show", "--help"],
        ["check", "--help"],
    ],
)
def test_help_loads_no_heavy_library(words: list[str]) -> None:
    asked = [sys.executable, "-X", "importtime", "-m", "ferray.data", *words]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}

    assert not loaded & {"torch", "ray", "wandb", "albumentations", "pandas", "pyarrow", "cv2", "numpy", "rich"}


@pytest.mark.parametrize("words", [["prepare", "expw"], ["prepare", "folders"], ["check"]])
def test_help_names_the_formats(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0

    printed = capsys.readouterr().out
    assert [kind for kind in get_args(Format) if kind not in printed] == []


def test_help_states_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "expw", "--help"]) == 0

    printed = " ".join(capsys.readouterr().out.split())
    assert f"(default {DEFAULT_SIZE_PX})" in printed
    assert f"(default {DEFAULT_MARGIN:g})" in printed
    assert "--num-faces 36000" in printed
