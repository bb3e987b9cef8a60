"""Arguments of the Python API as the options of the commands, each checked where it comes in.

Begin at `make_options`; a wrong argument is a `FerrayError` that names its parameter.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from ferray.errors import FerrayError
from ferray.files.location import local_path

Options = TypeVar("Options")
AnyPath = str | os.PathLike[str]

MAX_SHOWN = 60
"""Characters of a wrong value in an error."""


def make_options(kind: type[Options], given: Mapping[str, Any], error: type[FerrayError]) -> Options:
    """An instance of a dataclass of options, each value of the type and within the bounds that its annotation names.

    Args:
        kind: The dataclass.
        given: Its fields; numbers of numpy count as Python's.
        error: Raised with the parameter, its value and what it should be.
    """
    checks = _checks(kind)
    plain = {name: to_plain(value) for name, value in given.items()}
    for name, value in plain.items():
        try:
            plain[name] = checks[name].validate_python(value, strict=True)
        except ValidationError as found:
            what = found.errors()[0]["msg"]
            way_out = f"Its type is {_type_text(kind, name)}"
            raise error(describe_argument(name, given[name]), what[:1].lower() + what[1:], way_out) from found
    return kind(**plain)


def to_path(name: str, value: Any, error: type[FerrayError]) -> str:
    """A path or an address as text; `~` is the user's home.

    Raises:
        FerrayError: As `error`: it is no path.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise error(describe_argument(name, value), "not a path", "Give a str or a pathlib.Path")
    return os.path.expanduser(value)


def to_local(name: str, value: Any, error: type[FerrayError]) -> str:
    """As `to_path`, of this machine alone, which may be named by `file:///PATH`.

    Raises:
        FerrayError: As `error`: it is no path.
        StorageError: It names a bucket, or another machine.
    """
    return os.path.expanduser(local_path(to_path(name, value, error), option=name))


def to_settings(overrides: Any, error: type[FerrayError]) -> tuple[str, ...]:
    """Settings by name as the command takes them, `KEY=VALUE`.

    >>> to_settings({"epochs": 5, "dropout": [0.0, 0.5], "hidden_units": None}, FerrayError)
    ('epochs=5', 'dropout=[0.0, 0.5]', 'hidden_units=null')

    Raises:
        FerrayError: As `error`: it is no mapping of names.
    """
    if not isinstance(overrides, Mapping):
        way_out = "Give a dict such as {'epochs': 5, 'dropout': [0, 0.5]}"
        raise error(describe_argument("overrides", overrides), "not a mapping of settings", way_out)
    for name in overrides:
        if not isinstance(name, str) or not name.isidentifier():
            raise error(describe_argument("overrides", overrides), f"{name!r} is no name of a setting", "Use a str")
    return tuple(f"{name}={_to_yaml('overrides', value, error, flow=True)}" for name, value in overrides.items())


def to_sweep_text(space: Mapping[str, Any], error: type[FerrayError]) -> str:
    """A sweep file's content from its keys; errors as `to_settings`."""
    return _to_yaml("space", space, error, flow=False) + "\n"


def to_plain(value: Any) -> Any:
    """A value without types of numpy, tuples as they are; what is no number, list or mapping stays."""
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return (tuple if isinstance(value, tuple) else list)(map(to_plain, value))
    return value.tolist() if type(value).__module__ == "numpy" and hasattr(value, "tolist") else value


def describe_argument(name: str, value: Any) -> str:
    """A parameter and its value, for errors: `max_trials=0`."""
    shown = repr(value)
    return f"{name}={shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}"


class _Dumper(yaml.SafeDumper):
    """Writes values as they are, the same list twice if it is there twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _to_yaml(name: str, value: Any, error: type[FerrayError], *, flow: bool) -> str:
    try:
        text = yaml.dump(
            to_plain(value), Dumper=_Dumper, default_flow_style=flow, sort_keys=False, width=float("inf"),
            allow_unicode=True,
        )  # fmt: skip
    except (yaml.YAMLError, RecursionError) as fault:
        what = "has a value that is neither a number nor a text, a list or a mapping"
        raise error(describe_argument(name, value), what, "Use what a sweep file can hold") from fault
    return text.removesuffix("\n").removesuffix("\n...")


def _type_text(kind: type, name: str) -> str:
    """The type of a field, without its bounds."""
    text = str(get_type_hints(kind)[name]).replace("typing.", "").removeprefix("<class '").removesuffix("'>")
    return re.sub(r"^Optional\[(.*)\]$", r"\1 or None", text)


def _checks(kind: type) -> dict[str, TypeAdapter[Any]]:
    """A check of each field."""
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
