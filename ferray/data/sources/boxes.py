"""The order of the four box columns of a list, inferred from the boxes themselves.

Every box of ExpW is a square, so the right order is the one in which width equals height. Two orders that only exchange
x and y both pass; the sizes of the photographs decide between them. Begin at `infer_box_order`.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

from ferray.data.sources.rows import INTEGER, MAX_LIST_BYTES, Box
from ferray.files import untrusted

BoxOrder = tuple[str, str, str, str]

EXPW_ORDER: BoxOrder = ("top", "left", "right", "bottom")
KNOWN_ORDERS: tuple[BoxOrder, ...] = (
    EXPW_ORDER,
    *((a, b, c, d) for a, b, c, d in permutations(("left", "top", "right", "bottom")) if (a, b, c, d) != EXPW_ORDER),
    ("left", "top", "width", "height"),
    ("top", "left", "height", "width"),
)
"""ExpW's own first, then every other order of its columns, then corner and size."""

MAX_WRONG_SHARE = 0.1
"""Largest share of boxes that do not fit the right order: lists made by hand have errors."""
MIN_LINES = 20
"""With fewer lines, the order cannot be inferred."""
SQUARE_TOLERANCE = 0.03
"""Largest difference of width and height of a square, as a fraction of the longer side; one pixel is added, since boxes
of a set that was scaled are rounded."""


def to_box(values: Sequence[int], order: BoxOrder) -> Box:
    """A box from four columns in an order of `KNOWN_ORDERS`."""
    named = dict(zip(order, values, strict=True))
    if "width" in named:
        named |= {"right": named["left"] + named["width"], "bottom": named["top"] + named["height"]}
    return Box(named["top"], named["left"], named["right"], named["bottom"])


def infer_box_order(
    columns: Sequence[tuple[str, Sequence[int]]], sizes: Mapping[str, tuple[int, int]]
) -> BoxOrder | None:
    """Find the order in which nearly all boxes are squares within their photographs.

    Args:
        columns: The photograph and the four numbers of each line.
        sizes: Height and width of some of the photographs.

    Returns:
        ExpW's own order where it fits or where there are too few lines; None where no order fits.
    """
    if len(columns) < MIN_LINES:
        return EXPW_ORDER
    fitting = [order for order in KNOWN_ORDERS if _share_of_squares(columns, order) >= 1 - MAX_WRONG_SHARE]
    if not fitting or EXPW_ORDER in fitting:
        return EXPW_ORDER if fitting else None
    return max(fitting, key=lambda order: _count_inside(columns, order, sizes))


def read_box_columns(labels: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Read the photograph and the box columns of every line of an ExpW list that has them.

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


def _share_of_squares(columns: Sequence[tuple[str, Sequence[int]]], order: BoxOrder) -> float:
    boxes = [to_box(values, order) for _, values in columns]
    return sum(_is_square(box) for box in boxes) / len(boxes)


def _is_square(box: Box) -> bool:
    width, height = box.right - box.left, box.bottom - box.top
    return min(width, height) > 0 and abs(width - height) <= 1 + SQUARE_TOLERANCE * max(width, height)


def _count_inside(
    columns: Sequence[tuple[str, Sequence[int]]], order: BoxOrder, sizes: Mapping[str, tuple[int, int]]
) -> int:
    boxes = [(to_box(values, order), sizes[name]) for name, values in columns if name in sizes]
    return sum(box.bottom <= height and box.right <= width for box, (height, width) in boxes)
