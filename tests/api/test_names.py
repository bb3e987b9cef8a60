"""Promises of the package's names: light, whatever is imported before, and shown by an editor as they are."""

import ast
import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ferray
from ferray.api.folder import FolderOptions, fit_folder
from ferray.api.preparing import prepare
from ferray.api.searching import plan, search
from ferray.data.prepare.options import PrepareOptions
from ferray.search.options import SearchOptions

ROOT = Path(ferray.__file__)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "before",
    [
        "import ferray",
        "import ferray.search",
        "import ferray.search.options, ferray.fit, ferray.data.store",
        "from ferray.search.options import SearchOptions; import ferray",
        "from ferray.search import options, plan; import ferray",
        "import importlib; importlib.import_module('ferray.search.plan'); import ferray",
    ],
)
def test_search_and_fit_are_functions_whatever_was_imported_before(before: str) -> None:
    code = (
        f"{before}\nfrom ferray.search.options import SearchOptions\nimport ferray.search.history\n"
        "print(ferray.search.__module__, ferray.search.__name__, 'fit' in vars(ferray), 'search' in vars(ferray))"
    )
    assert run_python(code) == "ferray.api.searching search False False\n"


def test_all_names_can_be_imported_at_once() -> None:
    code = "import ferray.fit\nfrom ferray import *\nprint(search.__module__, fit.__module__, open.__module__)"
    assert run_python(code) == "ferray.api.searching ferray.train.fit ferray.api.results\n"


def test_the_packages_of_these_names_are_where_they_were() -> None:
    for name in ("fit", "search"):
        assert isinstance(sys.modules[f"ferray.{name}"], ModuleType)
        assert list(sys.modules[f"ferray.{name}"].__path__) == [str(ROOT.parent / name)]


def test_what_an_editor_sees_is_what_a_name_gives() -> None:
    (block,) = [node for node in ast.parse(ROOT.read_text()).body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}

    assert seen == ferray._NAMES
    assert sorted(ferray.__all__, key=str.swapcase) == sorted(seen, key=str.swapcase)
    assert set(seen) <= set(dir(ferray))


def without(options: type, *names: str) -> dict[str, Any]:
    """Default of each field but some."""
    fields = {field.name: field for field in dataclasses.fields(options) if field.name not in names}
    return {
        name: "made anew" if field.default is dataclasses.MISSING else field.default for name, field in fields.items()
    }


def defaults(function: Callable[..., object], *names: str) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    assert set(names) <= set(parameters)
    return {name: one.default for name, one in parameters.items() if name not in names}


def test_the_parameters_of_search_are_the_options_of_the_command_with_their_defaults() -> None:
    options = without(SearchOptions, "space", "space_text", "settings", "json", "dry_run", "command")

    assert defaults(search, "space", "overrides", "on_epoch") == options
    hints, fields = typing.get_type_hints(search), typing.get_type_hints(SearchOptions)
    for name in options:
        paths = name in ("data", "weights", "out", "resume")
        assert (hints[name] if not paths else fields[name]) == fields[name], name


def test_plan_takes_what_search_takes_and_shows_it() -> None:
    assert inspect.signature(plan).parameters == inspect.signature(search).parameters


def test_the_parameters_of_prepare_are_its_options_with_their_defaults() -> None:
    own = ("images", "out", "table", "labels", "classes")

    assert defaults(prepare, *own, "margin") == without(PrepareOptions, "threads", "margin")


def test_the_parameters_of_fit_folder_are_its_options_with_their_defaults() -> None:
    assert defaults(fit_folder, "images", "on_epoch") == without(FolderOptions, "images")


@pytest.mark.parametrize("function", [search, prepare, fit_folder])
def test_every_parameter_is_explained(function: Callable[..., object]) -> None:
    text = inspect.getdoc(function) or ""

    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in text, name
