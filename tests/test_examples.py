"""Promises of the Python API: the examples run, and so do those in the package's docstring."""

import doctest
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.history import make_search_file
from fixtures.report import make_trial

import ferray
from ferray.api import arguments, searching
from ferray.api.epochs import EpochCallback
from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.search.options import SearchOptions
from ferray.search.session import open_plan

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here() -> None:
    tested = {name.removeprefix("test_").removesuffix("_example") for name in globals() if name.endswith("_example")}

    assert {file.stem for file in EXAMPLES.glob("*.py")} == tested


def test_read_a_store_example(tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("read_a_store").main(str(tiny_store.folder)) == 0
    assert "angry           6" in capsys.readouterr().out

    assert load("read_a_store").main(str(tmp_path / "nothing")) == 2
    assert capsys.readouterr().err.startswith(str(tmp_path / "nothing"))


def test_train_one_recipe_example(tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("train_one_recipe").main(str(tiny_store.folder), str(tmp_path / "alone")) == 0
    assert capsys.readouterr().out.startswith("epoch 1: validation accuracy 0.")
    assert (tmp_path / "alone" / "best.safetensors").is_file()


def test_read_a_search_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "first")
    run.write_search(make_search_file())
    run.space_file.write_text("method: grid\nparameters: {learning_rate: {values: [0.1, 0.01, 0.001]}}\n")
    trials = [make_trial(number, learning_rate=10.0**-number) for number in (1, 2, 3)]
    for trial in (*trials, make_trial(4, epochs=0, state="failed")):
        run.write_trial(trial)

    assert load("read_a_search").main(str(run.folder)) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["trial_id", *(f"{number:012x}" for number in (2, 1, 3))]


def test_search_pictures_example(
    best_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pictures are prepared and its search is planned; instead of training, a model is there."""
    asked: list[SearchOptions] = []

    def run(options: SearchOptions, *_: object, observers: Sequence[EpochCallback], **__: object) -> tuple[Any, bool]:
        asked.append(options)
        if options.resume is not None:
            return SimpleNamespace(run=Run(Path(options.out) / options.resume)), True
        with open_plan(options) as (plan, _):
            trial = make_trial(0, epochs=1)
            plan.run.write_trial(trial)
            best = {"trial_id": trial.trial_id, "number": 0, "epoch": 1, "score": trial.score()}
            plan.run.write_search(make_search_file(best=best))
            plan.run.space_file.write_text(plan.space.text)
            shutil.copytree(best_dir, plan.run.best_dir)
        observers[0].trial_started(make_trial(0, epochs=0))
        observers[0].epoch_ended(trial.trial_id, trial.epochs[0])
        return plan, True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "run_session", run)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            random = np.random.default_rng([number, len(name), name == "cat"])
            cv2.imwrite(f"pets/{name}/{number}.png", random.integers(0, 255, (32, 32, 3), dtype=np.uint8))

    for _ in range(2):
        assert load("search_pictures").main("pets", size_px=32, weights="none") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trial 0, epoch 1: balanced accuracy 0.")
    assert lines[1].startswith("search pets: finished, 1 trial,")
    assert any(line.startswith("pets/cat/0.png: ") for line in lines)
    assert [options.resume for options in asked] == [None, "pets"]

    assert load("search_pictures").main("nowhere") == 2
    assert capsys.readouterr().err.startswith("nowhere: no such folder")


def test_the_examples_in_the_docstring_of_the_package_are_true() -> None:
    results = doctest.testmod(ferray)

    assert results.attempted > 3
    assert results.failed == 0
    assert doctest.testmod(arguments).failed == 0


def test_every_public_name_is_in_an_example_or_in_the_docstring() -> None:
    texts = [ferray.__doc__ or "", *(file.read_text() for file in EXAMPLES.glob("*.py"))]

    assert [name for name in ferray.__all__ if not any(name in text for text in texts)] == []
