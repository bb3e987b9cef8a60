"""`python -m ferray.train`: light until it trains, one line per epoch, and a way out in every error."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.data import write_store_of
from fixtures.tracking import KEY
from numpy.typing import NDArray

from ferray.commands.train import main, read_recipe_file
from ferray.data.store.reader import Store
from ferray.errors import FerrayError, RecipeError
from ferray.recipe import Recipe
from ferray.signals import catch_signals
from ferray.tracking.offline import read_offline_runs
from ferray.train import fit as fit_module
from ferray.train import interruption

RECIPE = """\
weights: none        # a comment
epochs: 2
batch_size: 16
learning_rate: 1e-3
precision: float32
hidden_units: null
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe in YAML that needs no weights."""
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def test_help_and_mistakes_are_reported_without_a_heavy_library(recipe_file: Path) -> None:
    for arguments, code in (
        (["--help"], 0),
        (["--recipe", str(recipe_file)], 2),
        (["--recipe", str(recipe_file), "--data", "nowhere", "--set", "learning_rat=1"], 2),
    ):
        asked = [sys.executable, "-X", "importtime", "-m", "ferray.train", *arguments]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}

        assert done.returncode == code, done.stderr
        assert not loaded & {"torch", "ray", "wandb", "albumentations", "pandas", "pyarrow"}


def test_a_run_prints_one_line_per_epoch_and_continues_when_run_again(
    recipe_file: Path, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_rows: None
) -> None:
    asked = [
        "--recipe",
        str(recipe_file),
        "--data",
        str(tiny_store.folder),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(asked) == 0
    printed = capsys.readouterr().out.splitlines()
    assert main(asked) == 0
    again = capsys.readouterr().out.splitlines()

    assert [line.split("  train")[0] for line in printed[:2]] == ["epoch   1 of 2", "epoch   2 of 2"]
    assert "train loss" in printed[0]
    assert "best epoch by val_accuracy" in printed[2]
    assert again == printed
    assert json.loads((tmp_path / "out" / "best" / "recipe.json").read_text())["batch_size"] == 16
    card = (tmp_path / "out" / "best" / "README.md").read_text()
    assert "best epoch of one trial" in card
    assert "Not tested: `ferray train` reads no test split" in card
    assert f"-m ferray.train --recipe {recipe_file}" in card


def test_the_first_signal_is_noted_and_its_echo_too_but_a_later_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    clock = iter((0.0, 0.5, 1.5))
    monkeypatch.setattr("ferray.signals.time.monotonic", lambda: next(clock))
    with catch_signals(on_first=lambda: print("stopping", file=sys.stderr), echo_s=1.0) as requested:
        assert not requested.is_set()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert requested.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert capsys.readouterr().err == "stopping\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_interrupted_run_without_a_folder_says_that_nothing_is_kept_and_is_interrupted_for_an_agent(
    recipe_file: Path,
    tiny_store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    small_rows: None,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(interruption, "POLL_INTERVAL_S", 0.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name, value in {"RUN_ID": "run7", "SWEEP_ID": "mine", "DIR": tmp_path, "API_KEY": KEY}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))  # as `wandb agent` leaves them
    asked = ["--recipe", str(recipe_file), "--data", str(tiny_store.folder), "--device", "cpu"]
    read = fit_module.confusions.macro_f1

    def interrupt(confusion: NDArray[np.int64]) -> float:
        signal.raise_signal(signal.SIGTERM)
        return read(confusion)

    monkeypatch.setattr(fit_module.confusions, "macro_f1", interrupt)

    assert main(asked) == 130
    assert "interrupted in epoch 2 after 0 steps; nothing is kept: give --out DIR" in capsys.readouterr().err
    (run,) = read_offline_runs(tmp_path / "wandb" / "sweep-mine" / "run7" / "wandb")
    assert (run.id, run.summary["state"], len(run.history), run.exit_code) == ("run7", "interrupted", 1, 254)


def test_a_recipe_that_cannot_be_trained_on_the_store_is_refused_before_torch_is_loaded(
    recipe_file: Path, tmp_path: Path
) -> None:
    store = write_store_of(tmp_path / "half", ((8,) * 7, (0,) * 7, (2,) * 7), dataset="expw", split=(0.8, 0.0, 0.2))
    arguments = ["--recipe", str(recipe_file), "--data", str(store.folder)]
    asked = [sys.executable, "-X", "importtime", "-m", "ferray.train", *arguments]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}

    assert done.returncode == 2
    assert "has no validation faces" in done.stderr
    assert "--set folds=5 --set fold=0; or take some out of train" in done.stderr
    assert not loaded & {"torch", "ray", "wandb", "albumentations", "pandas", "pyarrow"}


@pytest.mark.parametrize(
    "options, variables, words",
    [
        (["--out", "{file}"], {}, "{file} is a file"),
        (["--out", "{file}/below"], {}, "Name another folder for the checkpoints"),
        (["--out", "s3://bucket/alone"], {}, "--out s3://bucket/alone: s3:// is not supported"),
        ([], {"FERRAY_CACHE": "{file}"}, "Name another cache folder with FERRAY_CACHE"),
        (
            ["--weights", "nowhere.safetensors", "--set", "weights=pretrained"],
            {},
            "--weights nowhere.safetensors: no such",
        ),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_before_the_first_epoch(
    options: list[str],
    variables: dict[str, str],
    words: str,
    recipe_file: Path,
    tiny_store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it has begun to train")

    monkeypatch.setattr("ferray.train.settle.measure_precision", fail)
    monkeypatch.setattr("ferray.model.weights.load_weights", fail)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=recipe_file))
    asked = ["--recipe", str(recipe_file), "--data", str(tiny_store.folder)]
    assert main([*asked, *(option.format(file=recipe_file) for option in options)]) == 2
    assert words.format(file=recipe_file) in capsys.readouterr().err


def test_of_settings_that_do_not_go_together_the_one_that_was_typed_is_named(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"^--set warmup_epochs=2: warmup_epochs is 2, but the run has only 2 epochs"):
        read_recipe_file(recipe_file, settings=["warmup_epochs=2", "dropout=0.1"])
    recipe_file.write_text(f"{RECIPE}warmup_epochs: 2\n")
    with pytest.raises(RecipeError, match=rf"^{recipe_file}: warmup_epochs is 2"):
        read_recipe_file(recipe_file, settings=["dropout=0.1"])


def test_a_risk_is_named_before_the_first_epoch(
    recipe_file: Path, tiny_store: Store, small_rows: None, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["--recipe", str(recipe_file), "--data", str(tiny_store.folder), "--set", "batch_size=64"]
    assert main([*arguments, "--set", "epochs=1"]) == 0
    assert "tiny: batch_size 64: more than the 42 training faces, so an epoch is one step" in caplog.text


def test_settings_replace_those_of_the_file(recipe_file: Path) -> None:
    recipe = read_recipe_file(recipe_file, settings=["learning_rate=2e-4", "freeze=none", "hidden_units=64"])

    assert (recipe.learning_rate, recipe.freeze, recipe.hidden_units, recipe.epochs) == (2e-4, "none", 64, 2)


def test_every_kind_of_setting_can_be_given_on_the_command_line(recipe_file: Path) -> None:
    given = ["class_balance=effective_number_weights", "folds=5", "fold=0", "shuffle_labels=true", "mixup_alpha=0.2"]
    recipe = read_recipe_file(recipe_file, settings=given)

    assert (recipe.class_balance, recipe.folds, recipe.fold) == ("effective_number_weights", 5, 0)
    assert (recipe.shuffle_labels, recipe.mixup_alpha) == (True, 0.2)
    assert read_recipe_file(recipe_file, settings=["folds=null", "fold=null"]).folds is None


def test_a_fold_of_a_store_is_trained_and_exported(
    recipe_file: Path, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_rows: None
) -> None:
    asked = ["--recipe", str(recipe_file), "--data", str(tiny_store.folder), "--device", "cpu"]
    assert main([*asked, "--set", "folds=3", "--set", "fold=2", "--out", str(tmp_path / "out")]) == 0

    assert "best epoch by val_accuracy" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "best" / "recipe.json").read_text())["fold"] == 2


def test_a_recipe_may_be_json(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"epochs": 3, "dropout": 0.25}')

    assert read_recipe_file(tmp_path / "r.json") == Recipe(epochs=3, dropout=0.25)


def test_an_exported_recipe_can_be_trained_again(tmp_path: Path) -> None:
    from ferray.recipe import to_values

    (tmp_path / "recipe.json").write_text(json.dumps(to_values(Recipe(patience=3))))
    assert read_recipe_file(tmp_path / "recipe.json") == Recipe(patience=3)


@pytest.mark.parametrize(
    "text, said",
    [
        ("epochs: 3\ndropout: [", r"r\.yaml:2: not YAML"),
        ("- epochs", r"r\.yaml:1: is a list"),
        ("", r"r\.yaml: the file is empty"),
        ("seed: 1\nepoch: 3", r"r\.yaml:2: .*\n.*Did you mean 'epochs'"),
        ("seed: 1\nepochs: 0", r"r\.yaml:2: epochs 0"),
        ("epochs: true", r"r\.yaml:1: epochs True"),
        ("epochs: 1\nepochs: 2", r"r\.yaml:2"),
        ("epochs: 1\ninner:\n  epochs: 2", r"r\.yaml:3: inner.epochs is epochs for the second time, after .*r\.yaml:1"),
        ("inner: {}", r"r\.yaml:1: inner is empty"),
        ("epochs: 2\nwarmup_epochs: 3", "warmup_epochs is 3, but the run has only 2 epochs"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)

    with pytest.raises(FerrayError, match=said):
        read_recipe_file(tmp_path / "r.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"backbone: vgg16 # \xe9")
    for name in ("latin.yaml", "nothing.yaml"):
        with pytest.raises(RecipeError, match=rf"{name}: cannot be read"):
            read_recipe_file(tmp_path / name)


@pytest.mark.parametrize(
    "setting, said", [("epochs", "KEY=VALUE"), ("epochs=[", "not YAML"), ("epoch=2", "Did you mean")]
)
def test_a_mistake_in_a_setting_is_named(setting: str, said: str, recipe_file: Path) -> None:
    with pytest.raises(FerrayError, match=said) as caught:
        read_recipe_file(recipe_file, settings=[setting])
    assert f"--set {setting}" in str(caught.value)


def test_the_variable_of_a_sweeps_command_is_named_if_it_is_not_set(
    recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--recipe", str(recipe_file), "--data", "FERRAY_DATA"]) == 2
    assert "FERRAY_DATA=data/expw wandb agent" in capsys.readouterr().err


def test_a_device_that_does_not_exist_is_an_error(
    recipe_file: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cuda:99", "abacus"):
        assert main(["--recipe", str(recipe_file), "--data", str(tiny_store.folder), "--device", device]) == 2
        assert f"error: --device {device}" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_trains_one_model_on_two_ranks(recipe_file: Path, tiny_store: Store, tmp_path: Path) -> None:
    asked = ["ferray.train", "--recipe", str(recipe_file), "--data", str(tiny_store.folder), "--device", "cpu"]
    runs = []
    for launcher in ([], ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]):
        done = subprocess.run(
            [sys.executable, "-m", *launcher, *asked, "--out", str(tmp_path / f"out{len(launcher)}")],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        runs.append([line.rsplit("  ", 1)[0] for line in done.stdout.splitlines() if line.startswith("epoch")])

    assert runs[0] == runs[1]
    assert len(runs[0]) == 2
