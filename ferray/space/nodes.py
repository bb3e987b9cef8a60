"""A YAML text as values with their positions, so that an error can name file, line and key.

YAML is read as W&B reads it (version 1.1, PyYAML's safe loader), with one difference: `1e-3` is a number here, while
PyYAML reads a power of ten without a point as text. YAML's own tags, such as `!!float`, and `<<` are read; other tags
are refused, and so are keys that are given twice.

Begin at `read_yaml`.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ferray.errors import SpaceError
from ferray.wording import first_line

MAX_NODES = 100_000
"""A file of more values, such as one whose aliases multiply, is refused."""

MAX_SCALAR = 1000
"""Characters of a key or value; with more, numbers such as `1:1:1:1` take minutes to compute."""

MAX_NUMBER = 1e300
"""A larger number counts as infinite."""


_CORE = "tag:yaml.org,2002:"

_MERGE = f"{_CORE}merge"
"""The tag of the key `<<`."""

_TAGS = {
    f"{_CORE}{name}": kind
    for kind, names in (
        (yaml.ScalarEvent, ("float", "int", "str", "bool", "null")),
        (yaml.SequenceStartEvent, ("seq",)),
        (yaml.MappingStartEvent, ("map",)),
    )
    for name in names
}
"""YAML's own tags, each with what it stands before."""


@dataclass(frozen=True)
class Node:
    """A value and its position in a file."""

    value: Any
    """A scalar, a tuple of nodes, or a dict of nodes."""
    where: str
    """File and line, or an option."""
    place: str
    """Dotted keys, such as `parameters.learning_rate.values[2]`; empty for the whole file."""

    def plain(self) -> Any:
        """The value without positions: scalars, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, tuple) else self.value

    def error(self, what: str, way_out: str) -> SpaceError:
        """An error about this value: its place is the subject of `what`."""
        return SpaceError(self.where, f"{self.place} {what}".strip(), way_out)

    def mapping(self) -> dict[str, "Node"]:
        """The nodes of a mapping by their keys.

        Raises:
            SpaceError: The value is not a mapping, or an empty one.
        """
        if not isinstance(self.value, dict):
            raise self.error(f"is {describe_value(self.value)}, not a mapping", "Write `key: value` lines, indented")
        if not self.value:
            raise self.error("is empty", "Write `key: value` lines, indented")
        return self.value

    def sequence(self) -> tuple["Node", ...]:
        """The items of a list.

        Raises:
            SpaceError: The value is not a list, or an empty one.
        """
        if not isinstance(self.value, tuple):
            raise self.error(f"is {describe_value(self.value)}, not a list", "Write a list: [a, b]")
        if not self.value:
            raise self.error("is an empty list", "Name at least one value")
        return self.value

    def number(self) -> int | float:
        """The value as a finite number.

        Raises:
            SpaceError: It is not one.
        """
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"is {describe_value(value)}, not a number", "Write a number")
        if not -MAX_NUMBER <= value <= MAX_NUMBER:
            raise self.error(f"is {describe_value(value)}, not a finite number", "Write a finite number")
        return value

    def integer(self, *, at_least: int) -> int:
        """The value as a whole number; 2.0 is one, as for W&B.

        Raises:
            SpaceError: It is not one, or is too small.
        """
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.error(f"is {describe_value(value)}", f"Write a whole number, {at_least} or more")
        return value

    def text(self) -> str:
        """The value as a text.

        Raises:
            SpaceError: It is not one.
        """
        if not isinstance(self.value, str):
            raise self.error(f"is {describe_value(self.value)}, not a text", "Write a text, in quotes if need be")
        return self.value


def describe_value(value: Any) -> str:
    """A value for an error message: a scalar as it is, of anything else only the type."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple | list):
        return "a list"
    return "null" if value is None else textwrap.shorten(repr(value), 60)


def read_yaml(text: str, *, file: str) -> Node:
    """The one document of a YAML text.

    Args:
        text: The whole file.
        file: The name of the file, for errors.

    Raises:
        SpaceError: Not YAML, more than one document, a key that is given twice, or more than `MAX_NODES` values.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            raise SpaceError(file, "the file is empty", "Copy one of the shipped spaces and change it")
        return _Builder(file).build(root, "")
    except _TagError as error:
        where = f"{file}:{error.line}"
        known = ", ".join(f"!!{tag.removeprefix(_CORE)}" for tag in _TAGS)
        raise SpaceError(where, error.args[0], f"Leave it out; only YAML's own are known: {known}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}:{mark.line + 1}"
        what = getattr(error, "problem", None) or first_line(str(error))
        raise SpaceError(where, f"not YAML: {what}", "Check indentation, colons and quotes around this line") from error
    except RecursionError as error:
        raise SpaceError(file, "not a space: nested hundreds of levels deep", "Write it flat") from error


def to_node(value: Any, *, where: str, place: str) -> Node:
    """Plain Python values as a node; arguments as the fields of `Node`."""
    if isinstance(value, Mapping):
        pairs = value.items()
        return Node({key: to_node(child, where=where, place=_join(place, key)) for key, child in pairs}, where, place)
    if isinstance(value, list | tuple):
        children = (to_node(child, where=where, place=f"{place}[{index}]") for index, child in enumerate(value))
        return Node(tuple(children), where, place)
    return Node(value, where, place)


class _TagError(Exception):
    """A tag that is not read, and its line."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what, line)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which reads `1e-3` as a number here, and refuses other tags and texts over `MAX_SCALAR`."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None and not isinstance(event, _TAGS.get(tag, ())):
            shown = f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
            fault = "does not go with this value" if tag in _TAGS else "is not read"
            raise _TagError(f"the tag {shown} {fault}", event.start_mark.line + 1)
        if len(getattr(event, "value", "")) > MAX_SCALAR:
            what = f"a text of {len(event.value):,} characters"
            raise yaml.composer.ComposerError(None, None, what, event.start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


class _Builder:
    """Makes a `Node` of a node of PyYAML, which has a line but not the keys above it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, place: str) -> Node:
        where = f"{self._file}:{node.start_mark.line + 1}"
        self._count += 1
        if self._count > MAX_NODES:
            raise SpaceError(where, f"more than {MAX_NODES:,} values", "Write a range instead: min and max")
        if isinstance(node, yaml.MappingNode):
            return Node(dict(self._pairs(node, place)), where, place)
        if isinstance(node, yaml.SequenceNode):
            items = (self.build(child, f"{place}[{index}]") for index, child in enumerate(node.value))
            return Node(tuple(items), where, place)
        try:
            return Node(self._scalars.construct_object(node), where, place)
        # Such as the date 2026-13-01, int("0b"), an empty !!int, or !!bool maybe.
        except (ValueError, OverflowError, IndexError, KeyError) as error:
            reason = error if isinstance(error, ValueError | OverflowError) else describe_value(node.value)
            what = f"{place} cannot be read as {node.tag.rpartition(':')[2]}: {reason}"
            raise SpaceError(where, what.strip(), "Write it in quotes if it is a text") from error

    def _pairs(self, node: yaml.MappingNode, place: str) -> Iterator[tuple[str, Node]]:
        """Keys and values; those that `<<` takes from other mappings come first, and give way to the mapping's own."""
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        taken: dict[str, Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                where = f"{self._file}:{key_node.start_mark.line + 1}"
                for other in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(other, yaml.MappingNode):
                        what = f"{_join(place, '<<')} takes keys from what is no mapping".strip()
                        raise SpaceError(where, what, "Write `<<: *NAME`, with `&NAME` before a mapping")
                    self._count += 1
                    for key, value in self._pairs(other, place):
                        taken.setdefault(key, value)
        yield from taken.items()
        seen: dict[str, int] = {}
        for key_node, value_node in own:
            line = key_node.start_mark.line + 1
            where = f"{self._file}:{line}"
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise SpaceError(where, f"{place} has a key that is no text".strip(), "Write keys as plain words")
            if key in seen:
                raise SpaceError(
                    where, f"{_join(place, key)} is given twice, first in line {seen[key]}", "Remove one of the two"
                )
            seen[key] = line
            yield key, self.build(value_node, _join(place, key))


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
