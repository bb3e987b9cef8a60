"""Promises of the project's files: what the prose says is there, and what is there can be installed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PROSE = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
README = (REPOSITORY / "README.md").read_text()
SUFFIXES = (".py", ".md", ".yaml", ".toml", ".txt")


def in_backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def commands(text: str) -> Iterator[str]:
    """Every ferray command in a text, without its comment and without what a shell does after it."""
    for found in re.findall(r"(?:python -m ferray\.|(?<=[`\s'])ferray )(?:search|data|train|report)\b[^`\n']*", text):
        yield re.split(r"\s#|\s{2,}|[;|]", found)[0].strip().removeprefix("python -m ferray.").removeprefix("ferray ")


@cache
def help_of(*words: str) -> str:
    asked = [sys.executable, "-m", f"ferray.{words[0]}", *words[1:], "--help"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=True).stdout


@pytest.mark.parametrize("file", PROSE, ids=lambda file: file.name)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (file.parent / target).exists(), target


@pytest.mark.parametrize("file", PROSE, ids=lambda file: file.name)
def test_every_path_in_the_prose_exists(file: Path) -> None:
    for name in in_backticks(file.read_text()):
        if re.fullmatch(r"[\w.-]+/[\w./-]*", name) and (name.endswith("/") or name.endswith(SUFFIXES)):
            places = (REPOSITORY, REPOSITORY / "ferray")
            assert name.startswith(("runs/", "data/")) or any((place / name).exists() for place in places), name


def test_the_tree_of_the_readme_is_true() -> None:
    block = README.split("The tree:\n\n", 1)[1].split("\n\n", 1)[0]
    named: set[Path] = set()
    for line in block.splitlines():
        inside = line.startswith("      ")
        for name in re.split(r"\s{2,}", line.strip()):
            if not re.fullmatch(r"[\w./-]+(/|\.\w+)", name):
                break
            named.add((REPOSITORY / "ferray" / name) if inside else (REPOSITORY / name))
    package = {path for path in (REPOSITORY / "ferray").iterdir() if not path.name.startswith("__")}

    assert {path for path in named if not path.exists()} == set()
    assert package - named == set()


def test_every_command_in_the_prose_is_one_and_has_its_options() -> None:
    texts = [*PROSE, *(REPOSITORY / "search_spaces").glob("*.yaml"), REPOSITORY / "cluster.yaml"]
    found = {command for file in texts for command in commands(file.read_text())}

    assert len(found) > 5
    for command in sorted(found):
        words = command.split()
        first = next((place for place, word in enumerate(words) if not re.fullmatch("[a-z]+", word)), len(words))
        # A word in small letters after a subcommand may be its argument, such as a folder
        text = help_of(*words[: min(first, 3 if words[:2] == ["data", "prepare"] else 2)])
        for option in re.findall(r"(?<!\S)--[a-z-]+", command):
            assert re.search(rf"{option}\b", text), f"{command}: {option}"


def test_every_make_target_in_the_prose_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    lines = "\n".join(file.read_text() for file in PROSE)
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", lines, re.MULTILINE))

    assert named
    assert named <= targets


def test_make_lists_its_targets() -> None:
    done = subprocess.run(["make", "help"], capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=True)

    for target in ("setup", "search", "test", "check", "format", "bench", "clean"):
        assert re.search(rf"^  make {target} ", done.stdout, re.MULTILINE)


def test_every_dependency_has_an_exact_version_within_its_bounds() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    exact = {canonicalize_name(name): version for name, version in pins.items()}
    project = PYPROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]

    assert len(exact) == len(pins)
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        assert requirement.specifier.contains(exact[canonicalize_name(requirement.name)]), requirement


def test_the_console_script_is_the_module() -> None:
    assert PYPROJECT["project"]["scripts"] == {"ferray": "ferray.__main__:main"}


def test_no_module_is_longer_than_one_sitting() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in (REPOSITORY / "ferray").rglob("*.py")
        if (lines := path.read_text().count("\n")) > 400
    }

    assert long == {}


def test_ci_runs_what_a_laptop_runs() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()

    assert "\nmake check\n" in script
    assert "\nmake test" in script
    assert (REPOSITORY / ".ci" / "run").stat().st_mode & 0o111
