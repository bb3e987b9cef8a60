"""Fonts for names in any script: matplotlib's own font has Latin, Greek, Cyrillic and few others.

Begin at `make_readable`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

FAMILY = "DejaVu Sans"
"""The font that comes with matplotlib, so that pictures are the same on every machine."""


@dataclass(frozen=True, kw_only=True)
class ReadableNames:
    """Names as a picture can show them."""

    texts: tuple[str, ...]
    """The names; `class N` for one that no installed font can write."""
    families: tuple[str, ...]
    """The fonts that they need, matplotlib's own first."""
    note: str
    """Which names were replaced; empty for none."""


def make_readable(names: Sequence[str]) -> ReadableNames:
    """Find installed fonts that can write names, and replace names that none can write by their numbers.

    Args:
        names: Of classes, in their order.
    """
    families = [FAMILY]
    missing = {ord(letter) for name in names for letter in name} - _signs(_path(FAMILY))
    if missing:
        for family, path in _installed():
            if found := missing & _signs(path):
                families.append(family)
                missing -= found
            if not missing:
                break
    texts = [f"class {place}" if missing & set(map(ord, name)) else name for place, name in enumerate(names)]
    replaced = [f"class {place}" for place, name in enumerate(names) if texts[place] != name]
    note = (
        f"{', '.join(replaced)}: no installed font can write the names, which classes.json has; numbers count from 0."
        if replaced
        else ""
    )
    return ReadableNames(texts=tuple(texts), families=tuple(families), note=note)


def _installed() -> list[tuple[str, str]]:
    """Name and file of all fonts, those that have the signs of many scripts first."""
    from matplotlib.font_manager import fontManager

    fonts = {(entry.name, entry.fname) for entry in fontManager.ttflist if entry.style == "normal"}
    fonts = {font for font in fonts if not font[0].startswith("Last Resort")}  # it draws boxes for everything
    return sorted(fonts, key=lambda font: ("CJK" not in font[0] and "Unicode" not in font[0], font))


def _path(family: str) -> str:
    from matplotlib.font_manager import findfont

    return str(findfont(family))


@functools.lru_cache(maxsize=256)
def _signs(path: str) -> frozenset[int]:
    """The code points that a font has a sign for; empty for a file that is no font any more."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
