"""Hostile variants of valid files.

A case is a valid file and a few edits, each three numbers in [0, 1). Hypothesis draws and shrinks them for the tests,
`faults/fuzz.py` draws them by the million; both get the same files out of them. Begin at `edit_text` and `edit_json`.
"""

import copy
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

Edit = tuple[float, float, float]
"""What kind of edit, where, and with which value: places in lists of any length."""
Edits = Sequence[Edit]

DEEP = 3000
"""Levels of nesting, more than Python's recursion allows."""

TOKENS = (
    b"", b" ", b"0", b"-1", b"--5", b"+7", b"1e999", b"-1e999", b"1e-320", b"NaN", b"nan", b"Infinity", b"inf",
    b"1_000",
    b"9" * 30, b"9" * 400, b"9" * 5000, b"0x" + b"F" * 300, b"0x" + b"F" * 5000, b"0b" + b"1" * 20000,
    b"1:" * 300 + b"1",
    b"256", b"2147483648", b"9223372036854775808", b"1.5", b"null", b"true", b"False", b"~", b"''", b'"', b"'",
    b"../../etc/passwd", b"/etc/passwd", b"..", b".", b"C:\\x", b"a\\..\\b", b"//x", b"a" * 300, b"a" * 70_000,
    b"\x00", b"\x00" * 100, b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n", b"\n\n",
    b"\t", b"\x0b",
    b"\x1b[31m", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xd9\xa3", b"\xc2\xb2", b"[" * DEEP, b"{" * DEEP,
    b"- " * 500, b"[[]]", b"{}", b"[]", b"[a, b]", b"{a: b}", b"&a [*a]", b"&a {x: *a}", b"*a", b"<<", b"? ",
    b": ", b"|",
    b"!!python/object/apply:os.system [id]", b"!!int x", b"!!int ''", b"!!bool x", b"!!timestamp x", b"!!binary \xff",
    b"!!set {a, b}", b"!x y", b"!!float ''", b"2026-13-01", b"2026-11-25", b"%YAML 9.9", b"--- ", b"...", b"#",
    b",", b",,,",
    b"=", b'"a\nb"', b"\\", b"\\ud800",
)  # fmt: skip
"""Pieces of text that parsers stumble over."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, 1e308, -1e308, 5e-324, float("nan"),
    float("inf"), float("-inf"), "", " ", "5", "nan", "\x00", "\ud800", "../../etc/passwd", "/etc/passwd", ".",
    "x" * 10_000,
    "\x1b[31m", "\u202e", [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, [1, 2, 3], list(range(2000)),
    [[0] * 3] * 3,
    {"format": 1}, {str(n): n for n in range(300)}, reduce(lambda inner, _: [inner], range(60), []),
)  # fmt: skip
"""Values of JSON that are not what was expected."""

_WORD = re.compile(rb"[^\s,:;=|\[\]{}\"']+")


def pick(options: Sequence[Any], place: float) -> Any:
    """One of some options."""
    return options[int(place * len(options))]


def edit_text(data: bytes, edits: Edits, *, other: bytes = b"") -> bytes:
    """Apply edits to a text or to any bytes.

    Args:
        data: A valid file.
        edits: To be applied one after the other.
        other: Another valid file, for splices.
    """
    for kind, place, value in edits:
        data = pick(_TEXT_EDITS, kind)(data, int(place * (len(data) + 1)), value, other)[: 1 << 20]
    return data


def edit_json(data: bytes, edits: Edits, *, seal: Callable[[Any], Any] = lambda value: value) -> bytes:
    """Apply edits to a JSON text: first some to its values, then, where the last edit's number is large, to the text.

    Args:
        data: A valid file.
        edits: To be applied one after the other.
        seal: Puts a checksum in that is right for the changed values.
    """
    as_text = edits[-1:] if edits and edits[-1][0] >= 0.5 else []
    value = json.loads(data)
    for kind, place, number in edits[: len(edits) - len(as_text)]:
        value = _edit_value(value, kind, place, number)
    return edit_text(_dump(value, seal), [((kind - 0.5) * 2, place, number) for kind, place, number in as_text])


def _dump(value: Any, seal: Callable[[Any], Any]) -> bytes:
    with suppress(TypeError, ValueError, AttributeError):  # what cannot be sealed goes out as it is
        value = seal(value)
    return json.dumps(value).encode()


def _edit_value(root: Any, kind: float, place: float, number: float) -> Any:
    """One place of a value replaced, removed, doubled, renamed, or exchanged for the value of another place."""
    places = list(_places(root, ()))
    path = pick(places, place)
    if not path:
        return copy.deepcopy(pick(VALUES, number))
    parent, key = _at(root, path[:-1]), path[-1]
    act = pick(("replace", "replace", "replace", "remove", "exchange", "rename", "double"), kind)
    if act == "replace":
        parent[key] = copy.deepcopy(pick(VALUES, number))
    elif act == "remove":
        del parent[key]
    elif act == "exchange":
        parent[key] = json.loads(json.dumps(_at(root, pick(places, number))))
    elif isinstance(parent, dict):
        name = pick(TOKENS[:60], number).decode("utf-8", "surrogateescape")
        parent[name] = parent[key] if act == "double" else parent.pop(key)
    else:
        parent.insert(key, parent[key])
    return root


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(value, dict | list) and len(path) < 20:
        for key in value if isinstance(value, dict) else range(min(len(value), 50)):
            yield from _places(value[key], (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    return reduce(lambda inner, key: inner[key], path, value)


def _flip(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << int(value * 8))]) + data[at + 1 :] if at < len(data) else data


def _cut(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[:at]


def _drop(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[:at] + data[at + 1 + int(value**3 * len(data)) :]


def _double(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[: at + int(value * 200)] + data[at:]


def _insert(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[:at] + pick(TOKENS, value) + data[at:]


def _replace_word(data: bytes, at: int, value: float, other: bytes) -> bytes:
    found = _WORD.search(data, at) or _WORD.search(data)
    return data if found is None else data[: found.start()] + pick(TOKENS, value) + data[found.end() :]


def _replace_line(data: bytes, at: int, value: float, other: bytes) -> bytes:
    begin = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    return data[:begin] + pick(TOKENS, value) + data[end if end >= 0 else len(data) :]


def _splice(data: bytes, at: int, value: float, other: bytes) -> bytes:
    return data[:at] + other[int(value * len(other)) :]


def _swap(data: bytes, at: int, value: float, other: bytes) -> bytes:
    to = int(value * len(data))
    low, high = min(at, to), max(at, to)
    return data[:low] + data[high : high + 20] + data[low + 20 : high] + data[low : low + 20] + data[high + 20 :]


def _recode(data: bytes, at: int, value: float, other: bytes) -> bytes:
    """Another line end, byte-order mark or encoding for the whole file."""
    text = data.decode("utf-8", "replace")
    return pick(
        (
            data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r"), b"\xef\xbb\xbf" + data, text.encode("utf-16"),
            text.encode("utf-32"), text.encode("latin-1", "replace"), data[::-1],
        ),
        value,
    )  # fmt: skip


_TEXT_EDITS = (
    _flip, _cut, _drop, _double, _insert, _insert, _replace_word, _replace_word, _replace_word, _replace_line, _splice,
    _swap, _recode,
)  # fmt: skip
