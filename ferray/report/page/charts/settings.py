"""Plots of what the settings do: parallel coordinates, and importance. Begin at `parallel_chart`."""

from collections.abc import Sequence
from typing import Any

from ferray.report.page.chart import (
    OTHER,
    WINNER,
    Chart,
    TextTable,
    by_column,
    categories,
    field,
    make_spec,
    named,
    six_digits,
)
from ferray.report.results.importance import Importance
from ferray.report.results.noise import Noise
from ferray.report.results.read import SearchResults
from ferray.report.results.scales import Scale
from ferray.report.results.series import pick_evenly
from ferray.report.wording import in_words
from ferray.wording import count_of

MAX_LINES = (500, 700)
"""Points in the parallel coordinates: of the best, and of the others."""

SPREAD = 0.06
"""Of an axis, over which the lines of points with one value are spread, by their scores."""

NEAR = "within noise of it"

_COLORS = {WINNER: "var(--c2)", NEAR: "var(--c1)", OTHER: "var(--line)"}


def parallel_chart(results: SearchResults, scales: Sequence[Scale], noise: Noise | None) -> Chart | None:
    """One line a point through all searched settings to its score; None with fewer than two points or no setting."""
    points = results.points
    if len(points) < 2 or not scales:
        return None
    places = pick_evenly(range(len(points)), max_best=MAX_LINES[0], max_others=MAX_LINES[1])
    scores = [points[place].mean for place in places]
    low, high = min(scores), max(scores)
    span = high - low or 1.0
    kinds = [_kind(place, points[place].mean, noise) for place in places]
    rows = [
        (place, axis, six_digits(position))
        for place, score in zip(places, scores, strict=True)
        for score_at in [(score - low) / span]
        for axis, position in enumerate([*(_spread(scale, place, score_at) for scale in scales), score_at])
    ]
    last = len(scales)
    ticks = [(axis, at, text) for axis, scale in enumerate(scales) for at, text in scale.ticks]
    ticks += [(last, share, f"{low + share * span:.3f}") for share in (0, 0.25, 0.5, 0.75, 1)]
    titles = [*(scale.title for scale in scales), in_words(results.metric)]
    x: Any = field("axis", "quantitative", axis=None, scale={"domain": [-0.15, last + 0.35], "nice": False})
    y: Any = field("at", "quantitative", axis=None, scale={"domain": [-0.05, 1.12], "nice": False})
    lines = {
        "data": named("lines"),
        "transform": [
            {
                "lookup": "place",
                "from": {"data": named("points"), "key": "place", "fields": ["trial", "score", "kind", "text"]},
            }
        ],
        "params": [
            {
                "name": "pointed",
                "select": {"type": "point", "on": "pointerover", "fields": ["place"], "clear": "pointerout"},
            }
        ],
        "mark": {"type": "line", "interpolate": "monotone"},
        "encoding": {
            "x": x,
            "y": y,
            "detail": field("place", "nominal"),
            "color": field("kind", "nominal", scale=categories(_COLORS, kinds), legend={"symbolStrokeWidth": 3}),
            "order": field("axis", "quantitative"),
            "strokeWidth": {
                "condition": [
                    {"param": "pointed", "empty": False, "value": 4},
                    {"test": "datum.kind == 'winner'", "value": 3},
                ],
                "value": 1.2,
            },
            "opacity": {
                "condition": [
                    {"param": "pointed", "empty": False, "value": 1},
                    {"test": "datum.kind == 'winner'", "value": 1},
                ],
                "value": 0.75 if len(places) <= 60 else 0.4,
            },
            "tooltip": [
                field("trial", "nominal", "trial"),
                field("score", "quantitative", in_words(results.metric), format=".4f"),
                field("text", "nominal", "settings"),
            ],
        },
    }
    label = {"type": "text", "align": "left", "dx": 6}
    halo = label | {"stroke": "var(--card)", "strokeWidth": 3, "fill": "var(--card)", "strokeJoin": "round"}
    at_ticks = {"x": x, "y": y, "text": field("text", "nominal")}
    layers = [
        {
            "data": named("axes"),
            "mark": {"type": "rule", "color": "var(--border)"},
            "encoding": {"x": x, "y": y, "y2": {"field": "to"}},
        },
        lines,
        {"data": named("ticks"), "mark": halo, "encoding": at_ticks},
        {"data": named("ticks"), "mark": label | {"fill": "var(--ink)"}, "encoding": at_ticks},
        {
            "data": named("axes"),
            "mark": {"type": "text", "align": "center", "fontWeight": "bold", "fill": "var(--ink)"},
            "encoding": {"x": x, "y": {"datum": 1.09}, "text": field("title", "nominal")},
        },
    ]
    drawn_last_on_top = sorted(rows, key=lambda row: (-row[0], row[1]))
    texts = [", ".join(f"{scale.title} {scale.labels[place]}" for scale in scales) for place in places]
    left_out = len(points) - len(places)
    return Chart(
        key="parallel",
        title="All points",
        summary=f"One line for each of {count_of(len(places), 'point')}, through the value of each searched setting to"
        f" its {in_words(results.metric)}.",
        spec=make_spec(380, layer=layers),
        datasets={
            "lines": by_column(("place", "axis", "at"), drawn_last_on_top),
            "points": {
                "place": places,
                "trial": [points[place].number for place in places],
                "score": [six_digits(score) for score in scores],
                "kind": kinds,
                "text": texts,
            },
            "axes": {"axis": list(range(last + 1)), "at": [0] * (last + 1), "to": [1] * (last + 1), "title": titles},
            "ticks": by_column(("axis", "at", "text"), ticks),
        },
        table=None,
        note=noise_note(noise)
        + (
            f" Of {len(points):,} points, the best {MAX_LINES[0]} and others at even ranks are drawn."
            if left_out
            else ""
        ),
        min_width_px=130 * (last + 1),
        height_px=420,
    )


def importance_chart(importance: Importance) -> Chart:
    """A bar for each setting."""
    names = [in_words(name) for name in importance.shares]
    shares = list(importance.shares.values())
    bars = {
        "y": field(
            "name", "nominal", sort=None, axis={"labelLimit": 200, "domain": False, "ticks": False, "labelFontSize": 13}
        ),
        "x": field(
            "share",
            "quantitative",
            "share of the variance of scores",
            scale={"domain": [0, 1]},
            axis={"format": "%", "tickCount": 5},
        ),
    }
    layers = [
        {
            "mark": {"type": "bar", "color": "var(--c1)", "height": 18, "cornerRadiusEnd": 3},
            "encoding": bars
            | {"tooltip": [field("name", "nominal", "setting"), field("share", "quantitative", "share", format=".1%")]},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "fill": "var(--ink)"},
            "encoding": bars | {"text": field("share", "quantitative", format=".0%")},
        },
    ]
    height = 34 * len(names)
    return Chart(
        key="importance",
        title="What moved the score",
        summary="A bar for each searched setting: the share of the variance of scores that it explains by itself.",
        spec=make_spec(height, data=named("bars"), layer=layers),
        datasets={"bars": {"name": names, "share": [six_digits(share) for share in shares]}},
        table=TextTable(
            head=("setting", "share"), rows=[(name, f"{share:.1%}") for name, share in zip(names, shares, strict=True)]
        ),
        height_px=height + 60,
    )


def noise_note(noise: Noise | None) -> str:
    """What "within noise" means; empty where noise is not known."""
    if noise is None:
        return ""
    how = ", which is rough: it comes from the number of validation pictures alone" if noise.is_rough else ""
    low, high = noise.interval
    return f"Within noise: inside the 95 % interval of the winner, {low:.3f} to {high:.3f}{how}."


def _spread(scale: Scale, place: int, score_at: float) -> float:
    """A position on an axis; those that many points share are spread a little, so that lines can be told apart.

    Args:
        scale: The axis.
        place: Of the point.
        score_at: Where its score lies between the lowest, 0, and the highest, 1.
    """
    return scale.positions[place] + (SPREAD * (score_at - 0.5) if scale.is_shared else 0.0)


def _kind(place: int, score: float, noise: Noise | None) -> str:
    if place == 0:
        return WINNER
    return NEAR if noise is not None and noise.covers(score) else OTHER
