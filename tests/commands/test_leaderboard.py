"""`report leaderboard`: the best points first, each with the size of its model, and its speed only if asked for."""

import json
from pathlib import Path

import pytest
from fixtures.history import SEARCH, make_search_file
from fixtures.report import make_trial

from ferray.commands import leaderboard
from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.files.storage import write_bytes
from ferray.records.run import Run

SPACE = b"""\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  backbone: {values: [vgg16, mobilenet_v3_small, resnet18]}
  seed: {values: [0, 1]}
"""


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    """Three backbones, one of them with two seeds."""
    run = Run(tmp_path / "compared")
    write_bytes(run.space_file, SPACE)
    data = {"folder": str(tiny_store.folder), "fingerprint": "f", "size_px": 32}
    run.write_search(make_search_file(data=data))
    run.write_trial(make_trial(1, backbone="vgg16", head_pooling="average"))
    run.write_trial(make_trial(2, backbone="mobilenet_v3_small", head_pooling="average"))
    run.write_trial(make_trial(3, backbone="resnet18", head_pooling="average"))
    run.write_trial(make_trial(4, backbone="resnet18", head_pooling="average", seed=1))
    return run


def test_points_are_ranked_by_their_means_with_the_parameters_of_their_models(
    run: Run, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(run.folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["points"]
    num_classes = len(tiny_store.class_names)

    assert [row["recipe"]["backbone"] for row in rows] == ["mobilenet_v3_small", "vgg16", "resnet18"]
    assert [row["trials"] for row in rows] == [1, 1, 2]
    assert [row["trunk_parameters"] for row in rows] == [927_008, 14_714_688, 11_176_512]
    heads = [(channels + 1) * 256 + 257 * num_classes for channels in (576, 512, 512)]
    assert [row["head_parameters"] for row in rows] == heads
    assert [row["p50_ms"] for row in rows] == [None, None, None]


def test_the_table_fits_a_terminal_and_names_what_differs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", str(run.folder), "--top", "2"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()

    assert head.split() == ["point", "score", "params", "MB", "backbone"]
    assert [line.split()[-1] for line in lines[:2]] == ["mobilenet_v3_small", "vgg16"]
    assert all(len(line) <= 80 for line in lines)


def test_settings_with_long_names_and_a_note_on_speed_fit_a_terminal(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"augmentation_strength": 0.5, "effective_number_beta": 0.99, "logit_adjustment_tau": 2.0}
    run.write_trial(make_trial(5, backbone="vgg16", head_pooling="average", **settings, label_smoothing=0.1))
    monkeypatch.setattr(leaderboard, "_measure", lambda *_, **__: 1234.5)
    assert main(["leaderboard", str(run.folder), "--latency"]) == 0
    text = capsys.readouterr().out

    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "strength" in text
    assert "2" in text.splitlines()[-3].split() or "no room for" in text


def test_a_refit_is_no_point_and_no_lucky_seed_beats_the_finals(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "folded")
    write_bytes(run.space_file, SPACE.replace(b"  seed", b"  folds: {value: 2}\n  seed"))
    data = {"folder": str(tiny_store.folder), "fingerprint": "f", "size_px": 32}
    run.write_search(make_search_file(data=data, options={**SEARCH["options"], "replicates": 2}))
    run.write_trial(make_trial(3, backbone="resnet18", folds=2, fold=0))
    run.write_trial(make_trial(4, backbone="resnet18", folds=2, fold=1))
    run.write_trial(make_trial(5, backbone="resnet18", folds=2, fold=0, seed=1))
    run.write_trial(make_trial(6, backbone="resnet18", folds=2, fold=1, seed=1))
    run.write_trial(make_trial(8, backbone="vgg16", folds=2, fold=0))  # 0.43, above the mean of the four, 0.30
    run.write_trial(make_trial(2, backbone="resnet18"))
    assert main(["leaderboard", str(run.folder), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]

    assert [(one["recipe"]["backbone"], one["trials"]) for one in points] == [("resnet18", 4), ("vgg16", 1)]
    assert points[0]["score"] < points[1]["score"]


def test_latency_is_measured_on_request(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", str(run.folder), "--top", "1", "--latency", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["points"]

    assert row["p50_ms"] > 0


def test_a_folder_without_a_search_or_without_an_epoch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", str(tmp_path / "none")]) == 2
    assert "no search here" in capsys.readouterr().err
    empty = Run(tmp_path / "empty")
    write_bytes(empty.space_file, SPACE)
    empty.write_search(make_search_file())
    assert main(["leaderboard", str(empty.folder)]) == 2
    assert "no trial has finished an epoch" in capsys.readouterr().err
