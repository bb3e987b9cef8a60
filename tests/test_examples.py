"""Promises of the Python API: the examples run, and so do those in the package's docstring."""

import doctest
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from fixtures.report import make_trial

import ferray
from ferray.data.store.reader import Store
from ferray.records.run import Run

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
    trials = [make_trial(number, learning_rate=10.0**-number) for number in (1, 2, 3)]
    for trial in (*trials, make_trial(4, epochs=0, state="failed")):
        run.write_trial(trial)

    assert load("read_a_search").main(str(run.folder)) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{number:012x}" for number in (2, 1, 3)]


def test_the_examples_in_the_docstring_of_the_package_are_true() -> None:
    results = doctest.testmod(ferray)

    assert results.attempted > 3
    assert results.failed == 0


def test_every_public_name_is_in_an_example_or_in_the_docstring() -> None:
    texts = [ferray.__doc__ or "", *(file.read_text() for file in EXAMPLES.glob("*.py"))]

    assert [name for name in ferray.__all__ if not any(name in text for text in texts)] == []
