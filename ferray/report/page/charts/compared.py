"""Plots of several searches: the best so far of each against what it had spent. Begin at `compared_charts`."""

from typing import Any

from ferray.report.page.chart import Chart, TextTable, by_column, categories, field, make_spec, named, six_digits
from ferray.report.results.compared.budgets import UNITS, Unit, spent_of
from ferray.report.results.compared.comparison import SearchComparison
from ferray.report.results.compared.searches import LETTERS
from ferray.report.wording import in_words

_TITLES: dict[Unit, str] = {
    "trials": "trials begun",
    "epochs": "epochs of all trials",
    "seconds": "seconds of training, all trials",
}
_COLORS = {letter: f"var(--c{place})" for place, letter in enumerate(LETTERS, start=1)}
_DASHES = dict(zip(LETTERS, ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [10, 4], [4, 4]), strict=True))
_LEGEND = {"symbolType": "stroke", "symbolSize": 600, "symbolStrokeWidth": 2, "direction": "horizontal"}


def compared_charts(comparison: SearchComparison) -> list[Chart]:
    """The best score of each search against trials, epochs and seconds; none where a search has no score."""
    return [_chart(comparison, unit) for unit in UNITS] if comparison.budgets else []


def _chart(comparison: SearchComparison, unit: Unit) -> Chart:
    score, title = in_words(comparison.metric), _TITLES[unit]
    rows = [
        (one.letter, round(spent_of(step, unit), 1), six_digits(step.score), step.number)
        for one in comparison.searches
        for step in one.steps
    ]
    letters = [one.letter for one in comparison.searches]
    x = field("x", "quantitative", title, axis={"tickCount": 4, "grid": False, "tickMinStep": 1})
    line: dict[str, Any] = {
        "x": x,
        "y": field("score", "quantitative", f"best {score}", scale={"zero": False}, axis={"tickCount": 4}),
        "color": field(
            "search", "nominal", "search", scale=categories(_COLORS, letters),
            legend=_LEGEND,
        ),
    }  # fmt: skip
    dash = field("search", "nominal", "search", scale=categories(_DASHES, letters), legend=_LEGEND)
    tooltip = [
        field("search", "nominal", "search"),
        field("x", "quantitative", title),
        field("score", "quantitative", score, format=".4f"),
        field("trial", "nominal", "trial"),
    ]
    layers: list[dict[str, Any]] = [
        {
            "data": named("steps"),
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
            "encoding": line | {"strokeDash": dash},
        },
        {
            "data": named("steps"),
            "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
            "encoding": line | {"tooltip": tooltip},
        },
    ]
    datasets = {"steps": by_column(("search", "x", "score", "trial"), rows)}
    if not comparison.are_stages:
        (equal,) = (one.equal for one in comparison.budgets if one.unit == unit)
        datasets["equal"] = {"x": [round(equal, 1)]}
        layers.append(
            {
                "data": named("equal"),
                "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [3, 3]},
                "encoding": {"x": x, "tooltip": [field("x", "quantitative", f"equal budget, {title}")]},
            }
        )
    return Chart(
        key=f"compared-{unit}",
        title=f"Best so far by {unit}",
        summary=f"The best {score} of one trial of each search against {title}; a line marks the equal budget.",
        spec=make_spec(220, layer=layers),
        datasets=datasets,
        table=TextTable(
            head=("search", title, f"best {score}", "trial"),
            rows=[(letter, f"{at:,.1f}" if unit == "seconds" else f"{at:,.0f}", f"{best:.4f}", str(number))
                  for letter, at, best, number in rows],
        ),
        height_px=300,
    )  # fmt: skip
