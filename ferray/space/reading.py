"""Reading a sweep file, from its bytes to a checked `Space`.

It is checked as W&B checks sweeps, and strictly against the recipe: a parameter must be one of its fields, and the
recipe must accept every value that can be drawn. A feature of W&B that ferray lacks is refused with the reason; keys
that only concern W&B's agents (`program`, `command` and the like) are accepted and have no effect on a search.

Begin at `read_space`; the parameters are in `ferray.space.settings`, the rule for stopping early in
`ferray.space.hyperband`.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ferray.errors import SpaceError, StorageError
from ferray.files import untrusted
from ferray.recipe import METRICS, Recipe, is_maximized
from ferray.space.definition import ADAPTIVE, Method, Metric, Space
from ferray.space.hyperband import read_hyperband
from ferray.space.nodes import Node, describe_value, read_yaml, to_node
from ferray.space.parameter import OPTION, Parameter
from ferray.space.sampling import check_combinations
from ferray.space.settings import flatten, read_parameter
from ferray.wording import did_you_mean

log = logging.getLogger(__name__)

MAX_BYTES = 200_000
"""A larger file is refused; PyYAML may need two seconds for one of this size."""

_IGNORED = ("apiVersion", "kind", "description", "program", "command", "job", "image_uri", "controller")
_MAY_BE_NULL = ("early_terminate", "name", "project", "entity")
"""Keys that count as left out where they are null."""

AGENT_PROGRAM = "ferray.train"
"""The module that W&B's agents run for a point of a shipped space."""

_CAP = "run_cap"
_READ = (
    "method",
    "metric",
    "parameters",
    "early_terminate",
    "run_cap",
    "name",
    "project",
    "entity",
    "replicates",
    "finalists",
)


def find_space(name_or_path: str) -> Path:
    """The file of a space: a path, or a name in the folder `search_spaces/` here or in the one of the package.

    Raises:
        SpaceError: There is no such file; the known names are listed, and the nearest is offered.
    """
    given = Path(os.path.expanduser(name_or_path))
    folders = (Path("search_spaces"), _shipped_dir())
    for path in (given, *(folder / f"{name_or_path}.yaml" for folder in folders)):
        if os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    way_out = f"{did_you_mean(given.stem, known)}Known: {', '.join(known)}, or any file"
    raise SpaceError(f"--space {name_or_path}", "no such file or space", way_out)


def read_space(path: Path, overrides: Mapping[str, Any] | None = None, *, text: str | None = None) -> Space:
    """Read and check a sweep file.

    Args:
        path: The file.
        overrides: Settings of `--set`: a value, a list of values, or a distribution as a file has it, each in place of
            the file's parameter; or another `run_cap`.
        text: The content of the file, where it is known; the file is then not read.

    Raises:
        SpaceError: The file cannot be read, is not a sweep file, or has a value that the recipe refuses.
    """
    file = _short(path)
    text = _read_text(path, file) if text is None else text
    top = read_yaml(text, file=file)
    if isinstance(top.value, dict):
        kept = {key: node for key, node in top.value.items() if key not in _MAY_BE_NULL or node.value is not None}
        top = Node(kept, top.where, top.place)
    keys = dict(top.mapping())
    overrides = dict(overrides or {})
    if _CAP in overrides:
        keys[_CAP] = to_node(overrides.pop(_CAP), where=f"{OPTION} {_CAP}", place=_CAP)
    for key, node in keys.items():
        if key not in _READ + _IGNORED:
            raise _unknown_key(key, node)
    method = _read_method(top)
    metric = _read_metric(top, method)
    parameters = _read_parameters(top, method, overrides)
    halving = read_hyperband(keys["early_terminate"], _max_epochs(parameters)) if "early_terminate" in keys else None
    space = Space(
        name=path.stem,
        file=file,
        text=text,
        method=method,
        metric=metric,
        parameters=parameters,
        run_cap=keys[_CAP].integer(at_least=1) if _CAP in keys else None,
        early_terminate=halving,
        replicates=keys["replicates"].integer(at_least=1) if "replicates" in keys else 1,
        finalists=keys["finalists"].integer(at_least=1) if "finalists" in keys else Space.finalists,
        title=_read_title(keys["name"]) if "name" in keys else None,
        project=keys["project"].text() if "project" in keys else None,
        entity=keys["entity"].text() if "entity" in keys else None,
    )
    _warn_of_program(keys, space)
    _check_monitor(space)
    _check_folds(space)
    check_combinations(space)
    if space.is_adaptive and not space.searched:
        raise keys["parameters"].error("has nothing to search", "Give a parameter several values or a range")
    return space


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The values of `--set KEY=VALUE` options, read as a space file would read them.

    Raises:
        SpaceError: No `=`, no value, a name that is given twice, or not YAML.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        where = f"{OPTION} {setting}"
        name, sign, text = (part.strip() for part in setting.partition("="))
        if not sign or not name or not text:
            raise SpaceError(where, "not of the form KEY=VALUE", "For example --set epochs=5, --set hidden_units=null")
        if name in values:
            raise SpaceError(where, f"{name} is given twice", f"For a list: --set '{name}=[A, B]'")
        try:
            values[name] = read_yaml(text, file=where).plain()
        except SpaceError as error:
            raise SpaceError(where, *error.args[1:]) from error  # the line of an option means nothing
    return values


def _read_text(path: Path, file: str) -> str:
    try:
        data = untrusted.read_bytes(path, max_bytes=MAX_BYTES)
    except StorageError as error:
        raise SpaceError(file, error.args[1], error.args[2]) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpaceError(f"{file}:{line}", f"not UTF-8: byte 0x{data[error.start]:02x}", "Save it as UTF-8") from error


def _read_method(top: Node) -> Method:
    node = top.mapping().get("method")
    if node is None:
        raise top.error("method is missing", "Add `method: grid`, `random` or `bayes`")
    if node.value == "custom":
        raise node.error("is 'custom': its points come from a program", "Use grid, random or bayes")
    if node.value not in get_args(Method):
        raise node.error(f"is {describe_value(node.value)}", "Use grid, random or bayes")
    return cast(Method, node.value)


def _read_metric(top: Node, method: Method) -> Metric:
    keys = top.mapping()
    if "metric" not in keys:
        if method in ADAPTIVE or "early_terminate" in keys:
            reason = f"method {method}" if method in ADAPTIVE else "early_terminate"
            raise top.error(
                f"metric is missing, which {reason} needs", "Add metric: {name: val_accuracy, goal: maximize}"
            )
        return Metric(name="val_accuracy", goal="maximize")
    node = keys["metric"]
    parts = node.mapping()
    for key, child in parts.items():
        if key in ("impute", "impute_while_running"):
            log.warning("%s: %s has no effect: the searcher learns that a trial has failed", child.where, child.place)
        elif key == "target":
            raise child.error(
                "is not supported: a search ends with its points", "Leave it out; run_cap limits the trials"
            )
        elif key not in ("name", "goal"):
            raise child.error("is unknown", "A metric has a name and a goal")
    if "name" not in parts:
        raise node.error("has no name", f"Use one of {', '.join(METRICS)}")
    name = parts["name"].value
    if name not in METRICS:
        way_out = f"{did_you_mean(str(name), METRICS)}Known: {', '.join(METRICS)}"
        raise parts["name"].error(f"is {describe_value(name)}, which no epoch reports", way_out)
    goal: Literal["minimize", "maximize"] = "maximize" if is_maximized(name) else "minimize"
    given = parts["goal"] if "goal" in parts else Node("minimize", node.where, "metric.goal, left out,")  # as in W&B
    if given.value not in ("maximize", "minimize"):
        raise given.error(f"is {describe_value(given.value)}", "Use maximize or minimize")
    if given.value != goal:
        best = "largest" if goal == "maximize" else "smallest"
        raise given.error(f"is {given.value!r}, but the best {name} is the {best}", f"Write `goal: {goal}`")
    return Metric(name=name, goal=goal)


def _read_title(node: Node) -> str:
    """A name, which W&B also takes as a number."""
    return str(node.value) if isinstance(node.value, int | float) else node.text()


def _read_parameters(top: Node, method: Method, overrides: Mapping[str, Any]) -> tuple[Parameter, ...]:
    keys = top.mapping()
    if "parameters" not in keys:
        raise top.error("parameters is missing", "Add `parameters:`, and below it a setting of the recipe")
    nodes = flatten(keys["parameters"])
    for name, value in overrides.items():
        nodes |= flatten(Node({name: _override(name, value)}, f"{OPTION} {name}", ""))
    return tuple(read_parameter(name, node, method=method) for name, node in nodes.items())


def _override(name: str, value: Any) -> Node:
    """A setting of `--set` as a parameter of a file; its errors name the setting as it was typed."""
    where = f"{OPTION} {name}"
    if isinstance(value, Mapping):
        return to_node(value, where=where, place=name)
    key = "values" if isinstance(value, list) else "value"
    return Node({key: to_node(value, where=where, place=name)}, where, name)


def _max_epochs(parameters: tuple[Parameter, ...]) -> int:
    found = next((parameter.largest for parameter in parameters if parameter.name == "epochs"), None)
    return int(Recipe().epochs if found is None else found)


def _check_monitor(space: Space) -> None:
    for parameter in space.parameters:
        if parameter.name == "monitor" and parameter.values != (space.metric.name,):
            what = f"monitor is not the space's metric, {space.metric.name}"
            raise SpaceError(parameter.where, what, "Leave monitor out, or change metric.name in the file")


def _check_folds(space: Space) -> None:
    for parameter in space.parameters:
        if parameter.name == "fold":
            raise SpaceError(parameter.where, "fold is the search's to set", "Give `folds` alone: each fold is a trial")
        if parameter.name == "folds" and parameter.searched:
            what = "folds has several values: scores over other folds cannot be compared"
            raise SpaceError(parameter.where, what, "Give one number")
        if parameter.name == "folds" and space.folds > 1 and space.early_terminate is not None:
            what = f"folds is {space.folds}, but early_terminate stops single trials: means would lack some folds"
            raise SpaceError(parameter.where, what, "Leave one of the two out")
        if parameter.name == "seed" and parameter.searched and space.early_terminate is not None:
            log.warning(
                "%s: early_terminate stops single seeds, so that a point's mean has scores of unlike epochs; "
                "leave seed out, and train the best points with more seeds to their end: replicates",
                parameter.where,
            )


def _warn_of_program(keys: Mapping[str, Node], space: Space) -> None:
    """Say once that W&B's program is not run, and which settings its command names beside the parameters.

    A command that runs `ferray.train`, for W&B's agents, trains what ferray itself would, unless the metric is missing.
    """
    ignored = [key for key in ("program", "command") if key in keys]
    if not ignored:
        return
    words = keys["command"].value if "command" in keys else ()
    words = [str(word.value) for word in words] if isinstance(words, tuple) else str(words).split()
    node = keys[ignored[-1]]
    if AGENT_PROGRAM in (*words, keys["program"].value if "program" in keys else None):
        if space.metric.name != Recipe().monitor and all(one.name != "monitor" for one in space.parameters):
            what = f"an agent would keep the epoch with the best {Recipe().monitor}"
            log.warning("%s: %s; add the parameter `monitor: {value: %s}`", node.where, what, space.metric.name)
        return
    options = [word.split("=")[0] for word in words if re.match(r"--?[A-Za-z]\w+", word)]
    what = f"{' and '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect: ferray trains by itself"
    if options:
        what += f"; command sets {', '.join(options)}, to be written as parameters with a value"
    log.warning("%s: %s", node.where, what)


def _unknown_key(key: str, node: Node) -> SpaceError:
    if key == "scheduler":
        return node.error("is for W&B's agents", "Leave it out; trials at a time: --concurrent-trials 8")
    if key == "metrics":
        return node.error("goes with `method: custom`, which is not supported", "Leave it out; name one metric")
    near = "Did you mean 'run_cap'? " if key == "count" else did_you_mean(key, _READ + _IGNORED)
    way_out = f"{near}Known: {', '.join(_READ + _IGNORED)}"
    return node.error("is not a key of sweep files", way_out)


def _shipped_dir() -> Path:
    """The folder of the spaces that are shipped: inside an installed package, at the top of a clone."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def _short(path: Path) -> str:
    """A path relative to the current folder, where it is below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
