"""Promises of `ferray.prepare`: the stores of the command, and errors that name the parameter."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.expw import ExpW
from fixtures.prepare import content

import ferray
from ferray.commands.data import main
from ferray.errors import FerrayError


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures, a table of them, and the same as faces in ExpW's form."""
    root, random = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    rows = [("path", "label")]
    for name in ("cat", "dog"):
        (root / "pets" / name).mkdir(parents=True)
        for number in range(12):
            file = root / "pets" / name / f"{number}.png"
            cv2.imwrite(str(file), random.integers(0, 255, (24, 20, 3), dtype=np.uint8))
            rows.append((f"{name}/{number}.png", name))
    with (root / "pets.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def differing(one: Path, other: Path) -> list[str]:
    """Files of two stores that differ."""
    left, right = (content(ferray.open_store(folder)) for folder in (one, other))
    assert left.keys() == right.keys()
    return [name for name in left if left[name] != right[name]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"images": "pets"}, ["folders", "--images", "pets"]),
        (
            {"images": "pets", "split": [0.5, 0.25, 0.25], "seed": 3, "copies": "skip"},
            ["folders", "--images", "pets", "--split", "50/25/25", "--seed", "3", "--copies", "skip"],
        ),
        (
            {"images": "pets", "split": "50/25/25", "num_faces": 16, "on_bad": "fail", "drop_conflicts": True},
            ["folders", "--images", "pets", "--split", "50/25/25", "--num-faces", "16", "--on-bad", "fail",
             "--drop-conflicts"],
        ),
        ({"table": "pets.csv", "images": "pets"}, ["csv", "--table", "pets.csv", "--images", "pets"]),
        (
            {"table": "pets.csv", "images": "pets", "margin": 0.5, "drop_leaks": True},
            ["csv", "--table", "pets.csv", "--images", "pets", "--margin", "0.5", "--drop-leaks"],
        ),
    ],
    ids=["folders", "split", "sample", "table", "margin"],
)  # fmt: skip
def test_the_store_is_that_of_the_command_byte_by_byte(
    arguments: dict[str, Any], words: list[str], pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    assert main(["prepare", *words, "--size", "16", "--out", str(tmp_path / "command")]) == 0

    store = ferray.prepare(**arguments, size_px=16, out=tmp_path / "function")

    assert store.folder == tmp_path / "function"
    assert differing(tmp_path / "command", store.folder) == []
    again = ferray.prepare(**arguments, size_px=np.int64(16), out=str(store.folder))  # type: ignore[misc, arg-type]
    assert again.fingerprint == store.fingerprint, "opened, since it is the same"


def test_expw_has_its_own_margin(tmp_path: Path) -> None:
    expw = ExpW(tmp_path / "expw")
    words = ["--images", str(expw.images), "--labels", str(expw.labels), "--size", "16"]
    assert main(["prepare", "expw", *words, "--out", str(tmp_path / "command")]) == 0

    store = ferray.prepare(expw.images, labels=expw.labels, size_px=16, out=tmp_path / "function")

    assert differing(tmp_path / "command", store.folder) == []
    assert store.manifest.margin == 0.1


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"images": 3}, "images=3"),
        ({"images": None}, "images=None"),
        ({"out": 3}, "out=3"),
        ({"out": ""}, "out=''"),
        ({"table": 3}, "table=3"),
        ({"labels": b"x"}, "labels=b'x'"),
        ({"labels": "a", "table": "b"}, "labels='a'"),
        ({"labels": "a", "classes": "b"}, "classes='b'"),
        ({"classes": 3}, "classes=3"),
        ({"size_px": "96"}, "size_px='96'"),
        ({"size_px": 32.5}, "size_px=32.5"),
        ({"size_px": True}, "size_px=True"),
        ({"margin": "wide"}, "margin='wide'"),
        ({"num_faces": 2.5}, "num_faces=2.5"),
        ({"split": 3}, "split=3"),
        ({"split": "a"}, "--split a"),
        ({"split": (1, 2)}, "split=(1, 2)"),
        ({"split": (0.5, 0.5, 0.5)}, "split (0.5"),
        ({"seed": None}, "seed=None"),
        ({"on_bad": "ignore"}, "on_bad='ignore'"),
        ({"copies": True}, "copies=True"),
        ({"drop_leaks": "no"}, "drop_leaks='no'"),
        ({"size_px": 4}, "--size 4"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_an_error_that_names_its_parameter(
    arguments: dict[str, Any], named: str, pets: Path, tmp_path: Path
) -> None:
    with pytest.raises(FerrayError) as error:
        ferray.prepare(**{"images": pets / "pets", "out": tmp_path / "store", **arguments})
    assert str(error.value.args[0]).startswith(named)
    assert not (tmp_path / "store").exists()
