"""Promises of the project's files: what the prose says is there, and what is there can be installed."""

import ast
import importlib
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
PROSE = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "clusters").glob("*.md")),
    *DECISIONS,
    REPOSITORY / "benchmarks" / "README.md",
]
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()
MAX_DECISION_WORDS = 400
MAX_READING_LINES = 1500
"""Of code, in 15 minutes."""
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
README = (REPOSITORY / "README.md").read_text()
SUFFIXES = (".py", ".md", ".yaml", ".toml", ".txt")


def in_backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def commands(text: str) -> Iterator[str]:
    """Every ferray command in a text, without its comment and without what a shell does after it."""
    names = r"(?:search|data|train|report)\b(?!\.\w)"
    for found in re.findall(rf"(?:python -m ferray\.|(?<=[`\s'])ferray ){names}[^`\n']*", text):
        yield re.split(r"\s#|\s{2,}|[;|]", found)[0].strip().removeprefix("python -m ferray.").removeprefix("ferray ")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """What imports what, as import-linter sees it."""
    return grimp.build_graph("ferray", include_external_packages=True, exclude_type_checking_imports=True)


@cache
def help_of(*words: str) -> str:
    main = importlib.import_module(f"ferray.{words[0]}.__main__").main
    with redirect_stdout(io.StringIO()) as out:
        assert main([*words[1:], "--help"]) == 0, words
    return out.getvalue()


def anchors(file: Path) -> set[str]:
    """The headings of a Markdown file as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("file", PROSE, ids=shown)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        path, _, anchor = target.partition("#")
        if not re.match(r"[a-z]+:", target):
            assert (file.parent / path).exists(), target
            assert not anchor or anchor in anchors(file.parent / path if path else file), target


def test_every_decision_has_a_date_a_status_a_reason_and_a_place_in_the_index() -> None:
    numbers = [file.name[:4] for file in DECISIONS]

    assert numbers == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for file in DECISIONS:
        text = file.read_text()
        assert text.startswith(f"# {file.name[:4]}. "), file.name
        assert re.search(r"^Date: 20\d\d-\d\d-\d\d.*\sStatus: \w+", text, re.MULTILINE), file.name
        assert {"## Decision", "## Reason", "## Consequences"} <= set(text.splitlines()), file.name
        assert len(text.split()) <= MAX_DECISION_WORDS, file.name
        assert ARCHITECTURE.count(f"(decisions/{file.name})") == 1, file.name


def num_words(text: str) -> int:
    """Words, without the bars of tables and the lines of drawings."""
    return sum(any(character.isalnum() for character in word) for word in text.split())


def test_the_life_of_a_trial_can_be_read_in_five_minutes() -> None:
    text = (REPOSITORY / "docs" / "life-of-a-trial.md").read_text()
    terms = text.split("## Glossary\n\n")[1].strip().splitlines()[2:]

    assert num_words(text) <= 900
    assert len(terms) <= 20
    assert all(re.fullmatch(r"\| [a-z ]+ \| .+ \|", line) for line in terms)


def test_the_layers_that_the_prose_draws_are_those_that_are_checked() -> None:
    drawn = re.search(r"^## Layers\n[\s\S]*?\n\n((?:    .+\n)+)", ARCHITECTURE, re.MULTILINE)
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]

    assert drawn is not None
    assert [line.strip() for line in drawn[1].splitlines()] == layers


@pytest.mark.parametrize("file", PROSE, ids=shown)
def test_every_path_in_the_prose_exists(file: Path) -> None:
    text = file.read_text()
    drawings = "".join(re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    for name in in_backticks(text) | set(re.findall(r"[\w.-]+/[\w./-]+\.py", drawings)):
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


def num_code_lines(file: Path) -> int:
    """Lines that are neither blank nor comments nor docstrings."""
    text = file.read_text()
    strings = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    documents = {
        line
        for node in strings
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type not in nothing]
    return len({line for one in tokens for line in range(one.start[0], one.end[0] + 1)} - documents)


def test_the_readme_is_short_and_its_reading_list_too() -> None:
    section = README.split("## Where to look\n\n")[1].split("The tree:")[0]
    listed = [REPOSITORY / name for name in re.findall(r"^\| `([\w./]+\.py)` \|", section, re.MULTILINE)]

    assert num_words(README) < 1000
    assert "`docs/life-of-a-trial.md`" in section
    assert [file.stem for file in listed] == ["run", "worker", "fit", "dispatcher", "decisions"]
    assert sum(num_code_lines(file) for file in listed) <= MAX_READING_LINES


def test_every_command_in_the_prose_is_one_and_has_its_options() -> None:
    texts = [*PROSE, *(REPOSITORY / "search_spaces").glob("*.yaml"), REPOSITORY / "cluster.yaml"]
    texts += sorted((REPOSITORY / "clusters").glob("*.*"))
    found = {command for file in texts for command in commands(file.read_text())}

    assert len(found) > 5
    for command in sorted(found):
        words = command.split()
        first = next(
            (place for place, word in enumerate(words) if not re.fullmatch("[a-z][a-z0-9]*", word)), len(words)
        )
        # A word in small letters after a subcommand may be its argument, such as a folder
        text = help_of(*words[: min(first, 3 if words[:2] == ["data", "prepare"] else 2)])
        for option in re.findall(r"(?<!\S)--[a-z0-9-]+", command):
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


def test_the_package_imports_every_dependency_and_nothing_that_only_tests_need(imports: grimp.ImportGraph) -> None:
    modules: dict[str, set[str]] = {}  # distribution -> its top modules
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(canonicalize_name(name), set()).add(module)
    project = PYPROJECT["project"]
    needed = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    extras = {
        name: {canonicalize_name(Requirement(line).name) for line in lines}
        for name, lines in project["optional-dependencies"].items()
    }
    for_tests = (
        extras["dev"] - extras["faces"] - extras["export"] - extras["mlflow"] - extras["reports"] - extras["timm"]
    )

    assert {name for name in needed if not modules[name] & imports.modules} == set()
    assert {name for name in for_tests if modules.get(name, set()) & imports.modules} == set()


def test_every_module_that_a_contract_allows_an_import_uses_it(imports: grimp.ImportGraph) -> None:
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "protected":
            continue
        protected = set(contract["protected_modules"])
        importers = set().union(*(imports.find_modules_that_directly_import(name) for name in protected))
        for allowed in contract["allowed_importers"]:
            pattern = re.escape(allowed).replace(r"\*\*", ".+").replace(r"\*", r"[^.]+")
            used = [module for module in importers if re.fullmatch(pattern, module)]
            assert used, f"{contract['name']}: {allowed} imports none of {sorted(protected)}"


def test_the_package_says_that_it_has_types() -> None:
    assert (REPOSITORY / "ferray" / "py.typed").exists()  # the wheel takes the whole folder
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["ferray"]
    assert "Typing :: Typed" in PYPROJECT["project"]["classifiers"]


def test_the_console_script_is_the_module() -> None:
    assert PYPROJECT["project"]["scripts"] == {"ferray": "ferray.__main__:main"}


def test_no_module_is_longer_than_one_sitting() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in (REPOSITORY / "ferray").rglob("*.py")
        if (lines := path.read_text().count("\n")) > 400
    }

    assert long == {}


def test_the_hooks_before_a_commit_are_the_steps_of_make_check() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    target = re.search(r"^check:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)

    assert target is not None
    assert [hook["entry"] for hook in hooks] == [
        line.strip().replace("$(BIN)", ".venv/bin") for line in target[1].splitlines()
    ]
    for hook in hooks:
        assert hook["language"] == "system"
        assert hook["always_run"]
        assert not hook["pass_filenames"]


def test_ci_runs_what_a_laptop_runs() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()

    assert "\nmake check\n" in script
    assert "\nmake test" in script
    assert (REPOSITORY / ".ci" / "run").stat().st_mode & 0o111
