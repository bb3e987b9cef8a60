"""The command before anything heavy is loaded: options, plans, errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from ferray.data.store import Store
from ferray.records import Run
from ferray.search.__main__ import main

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  learning_rate: {values: [0.001, 0.0001]}
  epochs: {value: 3}
"""


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SPACE)
    return str(file)


def fails(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([*options, "--dry-run"]) == 2
    return capsys.readouterr().err


def test_a_dry_run_lists_every_point_and_the_passes_of_the_trunk(
    space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", space, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "augmentation=light  learning_rate=0.0001" in out
    assert "4, at most 3 epochs each" in out
    assert "4 passes of the frozen trunk" in out  # one without augmentation, one an epoch with it


def test_a_dry_run_loads_nothing_heavy_and_leaves_nothing_behind(space: str, tmp_path: Path) -> None:
    code = (
        "import sys; from ferray.search.__main__ import main; "
        f"assert main(['--space', {space!r}, '--dry-run', '--out', {str(tmp_path / 'runs')!r}]) == 0; "
        "assert not {'torch', 'ray', 'wandb', 'albumentations', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not (tmp_path / "runs").exists()


def test_a_setting_on_the_command_line_replaces_the_spaces(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, "--set", "learning_rate=[0.1,0.01,0.001]", "--set", "epochs=2", "--dry-run"]) == 0
    assert "6, at most 2 epochs each" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options,words",
    [
        (["--set", "learning_rat=1"], ["learning_rat", "Did you mean 'learning_rate'?"]),
        (["--set", "learning_rate=[10]"], ["learning_rate", "10"]),
        (["--data", "nowhere"], ["--data nowhere", "not a store", "ferray.data prepare"]),
        (["--weights", "nowhere.safetensors"], ["--weights nowhere.safetensors", "no such file"]),
        (["--name", "a/b"], ["--name a/b", "not a plain folder name"]),
        (["--resume", "nowhere"], ["no search here", "Known names: none"]),
        (["--set", "freeze=blocks1-4"], ["freeze is 'blocks1-4'", "pretrained"]),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_the_way_out(
    options: list[str], words: list[str], space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options if "--resume" in options else ["--space", space, *options]
    err = fails(capsys, *given, "--out", str(tmp_path))
    for word in words:
        assert word in err


def test_a_dry_run_counts_folds_and_finals(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, "--folds", "5", "--replicates", "3", "--finalists", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "5 trials a point, ranked by their mean; then the winner is trained once more" in out
    assert "the best 2 points with 3 seeds each" in out
    assert f"at most {(4 * 5 + 2 * 2 * 5 + 1) * 3} epochs" in out  # folds, two more seeds of two points, the refit


def test_an_unknown_space_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'grid'?" in fails(capsys, "--space", "gird")


def test_a_name_that_is_taken_is_refused_and_a_search_cannot_change_its_data(
    space: str, tmp_path: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "first")
    run.folder.mkdir()
    (run.folder / "space.yaml").write_text(SPACE)
    recorded = {"data": None, "weights": "none", "set": [], "seed": 0, "max_trials": None, "workers_per_trial": 1}
    recorded |= {"gpus_per_worker": None, "concurrent_trials": None, "wandb": None}
    run.write_search({"options": recorded})
    assert "--resume first" in fails(capsys, "--space", space, "--name", "first", "--out", str(tmp_path))
    err = fails(capsys, "--resume", "first", "--data", str(tiny_store.folder), "--out", str(tmp_path))
    assert "the search first has its own" in err
    assert main(["--resume", "first", "--out", str(tmp_path), "--dry-run"]) == 0


def test_help_names_every_option_in_one_screenful_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    named = {word.strip("[],") for word in out.split() if word.startswith(("--", "[--"))}
    assert named >= {
        "--space", "--data", "--out", "--name", "--resume", "--set", "--weights", "--workers-per-trial",
        "--gpus-per-worker", "--concurrent-trials", "--max-trials", "--seed", "--wandb", "--address", "--dry-run",
        "--folds", "--keep", "--replicates", "--finalists", "--shuffle-labels",
    }  # fmt: skip
