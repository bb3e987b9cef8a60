"""The order of a label list's four box columns, told by the boxes themselves.

Every box of ExpW is a square, so the right order is the one in which width equals height. Two orders that
differ in exchanging x and y pass alike; the photographs' sizes tell them apart. Begin at `find_box_order`.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

from ferray.data.sources.rows import INTEGER, MAX_LIST_BYTES, Box
from ferray.files import untrusted

Order = tuple[str, str, str, str]

EXPW_ORDER: Order = ("top", "left", "right", "bottom")
KNOWN_ORDERS: tuple[Order, ...] = (
    EXPW_ORDER,
    *((a, b, c, d) for a, b, c, d in permutations(("left", "top", "right", "bottom")) if (a, b, c, d) != EXPW_ORDER),
    ("left", "top", "width", "height"),
    ("top", "left", "height", "width"),
)
"""ExpW's own first, then every other order of its columns, then corner and size."""

MOST_WRONG = 0.1
"""Share of boxes that may not fit the right order: hand-made lists have slips."""
LEAST_LINES = 20
TOLERANCE = 0.03
"""Difference of width and height, beside the longer, that still makes a square, and one pixel more: boxes of a set that
was scaled are rounded."""


def to_box(values: Sequence[int], order: Order) -> Box:
    """A box from four columns in an order of `KNOWN_ORDERS`."""
    named = dict(zip(order, values, strict=True))
    if "width" in named:
        named |= {"right": named["left"] + named["width"], "bottom": named["top"] + named["height"]}
    return Box(named["top"], named["left"], named["right"], named["bottom"])


def find_box_order(columns: Sequence[tuple[str, Sequence[int]]], sizes: Mapping[str, tuple[int, int]]) -> Order | None:
    """The order in which nearly all boxes are squares within their photographs.

    Args:
        columns: Each line's photograph and its four numbers.
        sizes: Height and width of some of the photographs.

    Returns:
        ExpW's own where it fits or where there are too few lines to tell; None where no order fits.
    """
    if len(columns) < LEAST_LINES:
        return EXPW_ORDER
    fitting = [order for order in KNOWN_ORDERS if _share(columns, order) >= 1 - MOST_WRONG]
    if not fitting or EXPW_ORDER in fitting:
        return EXPW_ORDER if fitting else None
    return max(fitting, key=lambda order: _num_inside(columns, order, sizes))


def read_box_columns(labels: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Photograph and box columns of every line of an ExpW list that has them; other lines are left to `read_expw`.

    Raises:
        StorageError: The list cannot be read.
    """
    content = untrusted.read_bytes(labels, max_bytes=MAX_LIST_BYTES)
    found = []
    for line in content.decode("utf-8-sig", errors="replace").split("\n"):
        fields = line.split()
        if len(fields) == 8 and all(map(INTEGER.fullmatch, fields[2:6])):
            found.append((fields[0], tuple(int(field) for field in fields[2:6])))
    return found


def _share(columns: Sequence[tuple[str, Sequence[int]]], order: Order) -> float:
    boxes = [to_box(values, order) for _, values in columns]
    return sum(_is_square(box) for box in boxes) / len(boxes)


def _is_square(box: Box) -> bool:
    width, height = box.right - box.left, box.bottom - box.top
    return min(width, height) > 0 and abs(width - height) <= 1 + TOLERANCE * max(width, height)


def _num_inside(
    columns: Sequence[tuple[str, Sequence[int]]], order: Order, sizes: Mapping[str, tuple[int, int]]
) -> int:
    boxes = [(to_box(values, order), sizes[name]) for name, values in columns if name in sizes]
    return sum(box.bottom <= height and box.right <= width for box, (height, width) in boxes)
