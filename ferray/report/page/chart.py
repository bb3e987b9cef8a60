"""A plot of the page: a specification of Vega-Lite, its data as columns, and the same in a table.

Colors are variables of the page's style sheet, so that plots follow its theme without being drawn again. Data are kept
out of the specification, and all names of fields in it are ferray's own: no string of the data is ever read as code.

Begin at `Chart`; the modules of `ferray.report.page.charts` make them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "domainColor": "var(--border)",
        "tickColor": "var(--border)",
        "gridColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 4,
    },
    "legend": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "orient": "bottom",
        "labelLimit": 320,
        "columnPadding": 10,
        "symbolSize": 140,
        "layout": {"bottom": {"anchor": "start", "direction": "vertical", "margin": 10}},
    },
    "text": {"fill": "var(--muted)", "fontSize": 12, "font": FONT},
}

WINNER, OTHER = "winner", "others"
"""Kinds of points and trials in legends."""

WHOLE = "trained to the end"
"""Of points and trials in legends, beside those that have fewer epochs."""

Columns = Mapping[str, Sequence[Any]]
"""A table of values by column, of equal lengths."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of texts."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One plot of the page."""

    key: str
    """Its id in the page."""
    title: str
    summary: str
    """What it shows, for people who do not see it."""
    spec: Mapping[str, Any]
    """Vega-Lite, without data: layers name their `datasets`."""
    datasets: Mapping[str, Columns]
    table: TextTable | None
    """The same values; None where the table of all trials has them."""
    note: str = ""
    """A sentence below the plot."""
    narrow: Mapping[str, Any] | None = None
    """What is drawn of the same data instead where the place is narrower than `narrow_below_px`."""
    narrow_below_px: int = 0
    height_px: int = 300

    def to_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        other = {} if self.narrow is None else {"narrow": self.narrow, "narrow_below_px": self.narrow_below_px}
        return {"spec": self.spec, "datasets": self.datasets, "config": CONFIG, **other}


def make_spec(height_px: int, **content: Any) -> dict[str, Any]:
    """A specification as wide as its place in the page."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height_px,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **content,
    }


def named(dataset: str) -> dict[str, str]:
    """The data of a layer."""
    return {"name": dataset}


def field(name: str, kind: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A channel of an encoding.

    Args:
        name: A column.
        kind: `quantitative`, `nominal` or `ordinal`.
        title: Of the axis or in the tooltip; None for none.
        more: Other keys.
    """
    return {"field": name, "type": kind, "title": title, **more}


def categories(colors: Mapping[str, Any], present: Iterable[str]) -> dict[str, Any]:
    """A scale from words to colors, shapes or dashes.

    Args:
        colors: Of all words that there may be, in the order of the legend.
        present: The words that the data have.
    """
    found = set(present)
    shown = {word: color for word, color in colors.items() if word in found}
    return {"domain": list(shown), "range": list(shown.values())}


def by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def six_digits(value: float) -> float:
    """Six digits, to keep the page small."""
    return float(f"{value:.6g}")
