"""Promises of the words: retired ones do not come back, and one name means one thing in the whole package."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted((REPOSITORY / "ferray").rglob("*.py"))
TEXTS = [
    *MODULES,
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "benchmarks").glob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*.py")),
    *sorted((REPOSITORY / "search_spaces").glob("*.yaml")),
]

RETIRED = {
    r"wound(s|ed)?": "a lost record",
    r"hellos?": "what a worker group reports when it starts",
    r"greet(s|ing|ings)?|goodbyes?": "start, end",
    r"desks?": "what the code does: a session, a reporter",
    r"doubt(s|ed)?": "a finding, uncertain",
    r"seal(s|ed|ing)?": "a checksum; a split that is read once",
    r"mend(s|ed|ing)?": "repair, restore, correct",
    r"of no interest": "ignored",
    r"a word (on|to|with|of)|without a word": "a note; without a message, without a report",
    r"at hand": "current",
    r"hears?|heard": "receives, is informed",
    r"told(?! (apart|from))": "informed, reported",
    r"news": "what is new, changes",
}
"""Words of prose, comments, docstrings and messages, each with what to write instead."""

BRITISH = (
    r"(un)?label(led|ling)|colour\w*|behaviour\w*|favour\w*|neighbour\w*|centred?|grey\w*|licence|modelling"
    r"|cancelled|judgement|artefact\w*|whilst|(optim|normal|recogn|organ|summar|serial|random|initial|minim|maxim|general)"
    r"is(e|ed|es|er|ers|ing|ation|ations)|analys(e|ed|es|ing)"
)

RETIRED_IN_NAMES = re.compile(
    r"wound(s|ed)?|hellos?|greet(s|ing|ings)?|goodbyes?|desks?|doubt(s|ed)?|seal(s|ed|ing)?|mend(s|ed|ing)?"
    r"|hears?|heard|said|told|there|lose|news|(un)?labelled|colour"
)
"""Words of identifiers that ferray defines, as parts of `snake_case` or `CamelCase`."""

SHARED_FUNCTIONS = frozenset({"main", "prepare"})
"""Public functions of one name that do the same for different modules: each command has its own `main`, and
`ferray.prepare` is `prepare` of a source with the arguments of the command."""


def shown(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


def find(pattern: str) -> list[str]:
    """Every place of a pattern, as whole words."""
    words = re.compile(rf"\b({pattern})\b", re.IGNORECASE)
    return [
        f"{shown(file)}:{number}: {found[0]}"
        for file in TEXTS
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        for found in words.finditer(line)
    ]


@cache
def parse(file: Path) -> ast.Module:
    """A module, read once for all tests."""
    return ast.parse(file.read_text())


@cache
def defined_names(file: Path) -> list[tuple[int, str]]:
    """Identifiers that a module defines: functions, classes, parameters, variables, attributes."""
    found = []
    for node in ast.walk(parse(file)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.append((node.lineno, node.name))
            case ast.arg():
                found.append((node.lineno, node.arg))
            case ast.Name(ctx=ast.Store()):
                found.append((node.lineno, node.id))
            case ast.Attribute(ctx=ast.Store()):
                found.append((node.lineno, node.attr))
    return found


def public(*kinds: type[ast.AST]) -> dict[str, list[tuple[str, str]]]:
    """Module and body of each public definition at the top of a module, by name."""
    found = defaultdict(list)
    for file in MODULES:
        for node in parse(file).body:
            if isinstance(node, kinds) and not node.name.startswith("_"):  # type: ignore[attr-defined]
                found[node.name].append((shown(file), ast.dump(node)))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("pattern", RETIRED)
def test_no_text_has_a_retired_word(pattern: str) -> None:
    assert find(pattern) == [], f"write: {RETIRED[pattern]}"


def test_spelling_is_american() -> None:
    assert find(BRITISH) == []


def test_no_identifier_has_a_retired_word() -> None:
    found = [
        f"{shown(file)}:{line}: {name}"
        for file in MODULES
        for line, name in defined_names(file)
        if any(RETIRED_IN_NAMES.fullmatch(part.lower()) for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))
    ]

    assert found == []


def test_bounds_are_called_min_and_max() -> None:
    constants = [
        f"{shown(file)}:{line}: {name}"
        for file in MODULES
        for line, name in defined_names(file)
        if re.match(r"_?(LEAST|MOST)(_|$)", name)
    ]
    parameters = [
        f"{shown(file)}:{node.lineno}: {node.arg}"
        for file in MODULES
        for node in ast.walk(parse(file))
        if isinstance(node, ast.arg) and re.match(r"(least|most)(_|$)", node.arg)
    ]

    assert constants + parameters == []


def test_no_two_public_classes_share_a_name() -> None:
    shared = {name: [place for place, _ in places] for name, places in public(ast.ClassDef).items() if len(places) > 1}

    assert shared == {}


def test_no_two_public_functions_of_one_name_do_different_things() -> None:
    functions = public(ast.FunctionDef, ast.AsyncFunctionDef)
    shared = {
        name: [place for place, _ in places]
        for name, places in functions.items()
        if len({body for _, body in places}) > 1 and name not in SHARED_FUNCTIONS
    }

    assert shared == {}
