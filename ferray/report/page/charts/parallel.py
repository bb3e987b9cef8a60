"""All points as parallel coordinates: beside each other, or below each other where there is little room.

Begin at `parallel_chart`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ferray.report.page.chart import (
    OTHER,
    WHOLE,
    WINNER,
    Chart,
    by_column,
    categories,
    field,
    make_spec,
    named,
    six_digits,
)
from ferray.report.page.charts.settings import noise_note
from ferray.report.results.early import cut_in_words, epochs_in_words, is_cut
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

AXIS_PX = 130
"""Width that an axis needs beside others; with less, the axes are drawn below each other."""

ROW_PX = 72
"""Height of an axis below others."""

LETTERS = 44
"""Letters that fit beside each other on a phone."""

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
    cut = cut_in_words(points)
    ends = [cut if is_cut(points[place]) else WHOLE for place in places]
    rows = [
        (place, axis, six_digits(position))
        for place, score in zip(places, scores, strict=True)
        for score_at in [(score - low) / span]
        for axis, position in enumerate([*(_spread(scale, place, score_at) for scale in scales), score_at])
    ]
    last = len(scales)
    score_name = in_words(results.metric)
    score_ticks = [(share, f"{low + share * span:.3f}") for share in (0, 0.25, 0.5, 0.75, 1)]
    all_ticks = [*(scale.ticks for scale in scales), score_ticks]
    drawn_last_on_top = sorted(rows, key=lambda row: (-row[0], row[1]))
    texts = [", ".join(f"{scale.title} {scale.labels[place]}" for scale in scales) for place in places]
    note = noise_note(noise)
    if len(points) > len(places):
        note += f" Of {len(points):,} points, the best {MAX_LINES[0]} and others at even ranks are drawn."
    lines = _lines(score_name, kinds, ends, num=len(places))
    return Chart(
        key="parallel",
        title="All points",
        summary=f"One line for each of {count_of(len(places), 'point')}, through the value of each searched setting to"
        f" its {score_name}.",
        spec=make_spec(380, layer=_beside(last, lines)),
        narrow=make_spec(ROW_PX * (last + 1), layer=_below(last, lines)),
        narrow_below_px=AXIS_PX * (last + 1),
        datasets={
            "lines": by_column(("place", "axis", "at"), drawn_last_on_top),
            "points": {
                "place": places,
                "trial": [points[place].number for place in places],
                "score": [six_digits(score) for score in scores],
                "kind": kinds,
                "end": ends,
                "epochs": [epochs_in_words(points[place]) for place in places],
                "text": texts,
            },
            "axes": {
                "axis": list(range(last + 1)),
                "at": [0] * (last + 1),
                "to": [1] * (last + 1),
                "title": [*(scale.title for scale in scales), score_name],
            },
            "ticks": by_column(
                ("axis", "at", "text"), [(axis, at, text) for axis, ticks in enumerate(all_ticks) for at, text in ticks]
            ),
            "few_ticks": by_column(
                ("axis", "at", "text"),
                [(axis, at, text) for axis, ticks in enumerate(all_ticks) for at, text in _few_ticks(ticks)],
            ),
        },
        table=None,
        note=note,
        height_px=420,
    )


def _lines(score: str, kinds: Sequence[str], ends: Sequence[str], *, num: int) -> dict[str, Any]:
    """The lines of so many points, wherever the axes are; those of fewer epochs are dashed."""
    encoding: dict[str, Any] = {
        "detail": field("place", "nominal"),
        "color": field("kind", "nominal", scale=categories(_COLORS, kinds), legend={"symbolStrokeWidth": 3}),
        "order": field("axis", "quantitative"),
        "strokeWidth": {
            "condition": [
                {"param": "pointed", "empty": False, "value": 4},
                {"test": f"datum.kind == '{WINNER}'", "value": 3},
            ],
            "value": 1.2,
        },
        "opacity": {
            "condition": [
                {"param": "pointed", "empty": False, "value": 1},
                {"test": f"datum.kind == '{WINNER}'", "value": 1},
            ],
            "value": 0.75 if num <= 60 else 0.4,
        },
        "tooltip": [
            field("trial", "nominal", "trial"),
            field("score", "quantitative", score, format=".4f"),
            field("epochs", "nominal", "epochs"),
            field("text", "nominal", "settings"),
        ],
    }
    if set(ends) != {WHOLE}:
        dashes = {WHOLE: [1, 0]} | {end: [5, 3] for end in ends if end != WHOLE}
        legend = {"symbolStrokeColor": "var(--ink)", "symbolType": "stroke", "symbolSize": 600, "direction": "vertical"}
        encoding["strokeDash"] = field("end", "nominal", scale=categories(dashes, ends), legend=legend)
    return {
        "data": named("lines"),
        "transform": [
            {
                "lookup": "place",
                "from": {
                    "data": named("points"),
                    "key": "place",
                    "fields": ["trial", "score", "kind", "end", "epochs", "text"],
                },
            }
        ],
        "params": [
            {
                "name": "pointed",
                "select": {"type": "point", "on": "pointerover", "fields": ["place"], "clear": "pointerout"},
            }
        ],
        "mark": {"type": "line", "interpolate": "monotone"},
        "encoding": encoding,
    }


def _beside(last: int, lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Upright axes from left to right, the score at the right."""
    x: Any = field("axis", "quantitative", axis=None, scale={"domain": [-0.15, last + 0.35], "nice": False})
    y: Any = field("at", "quantitative", axis=None, scale={"domain": [-0.05, 1.12], "nice": False})
    return [
        _rules(x, y, {"y2": {"field": "to"}}),
        lines | {"encoding": {"x": x, "y": y, **lines["encoding"]}},
        *_texts("ticks", "text", {"x": x, "y": y}, {"align": "left", "dx": 6}),
        *_texts("axes", "title", {"x": x, "y": {"datum": 1.09}}, {"align": "center"}, fontWeight="bold"),
    ]


def _below(last: int, lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Level axes from top to bottom, the score at the bottom: on a phone, all of them are seen."""
    x: Any = field("at", "quantitative", axis=None, scale={"domain": [-0.04, 1.04], "nice": False})
    y: Any = field(
        "axis", "quantitative", axis=None, scale={"domain": [-0.45, last + 0.4], "nice": False, "reverse": True}
    )
    inward = {"expr": "datum.at < 0.1 ? 'left' : datum.at > 0.9 ? 'right' : 'center'"}
    return [
        _rules(x, y, {"x2": {"field": "to"}}),
        lines
        | {
            "mark": lines["mark"] | {"interpolate": "linear"},
            "encoding": {"x": x, "y": y, **lines["encoding"]},
        },
        *_texts("few_ticks", "text", {"x": x, "y": y}, {"align": inward, "dy": 12}),
        *_texts("axes", "title", {"x": {"datum": 0}, "y": y}, {"align": "left", "dy": -13}, fontWeight="bold"),
    ]


def _rules(x: Any, y: Any, to: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": named("axes"),
        "mark": {"type": "rule", "color": "var(--border)"},
        "encoding": {"x": x, "y": y, **to},
    }


def _texts(dataset: str, name: str, at: dict[str, Any], place: dict[str, Any], **look: Any) -> list[dict[str, Any]]:
    """Texts at their places, on a margin that keeps lines off them."""
    encoding = at | {"text": field(name, "nominal")}
    margin = {"stroke": "var(--card)", "strokeWidth": 3, "fill": "var(--card)", "strokeJoin": "round"}
    return [
        {"data": named(dataset), "mark": {"type": "text", **place, **look, **colors}, "encoding": encoding}
        for colors in (margin, {"fill": "var(--ink)"})
    ]


def _few_ticks(ticks: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks of an axis that fit beside each other on a phone, the words cut to their share of the width."""
    ordered = sorted(ticks)
    longest = max(4, LETTERS // max(1, len(ordered)) - 1)
    shown: list[tuple[float, str]] = []
    for at, text in ordered:
        short = text if len(text) <= longest else f"{text[: longest - 1]}\u2026"
        if not shown or (at - shown[-1][0]) * LETTERS > (len(short) + len(shown[-1][1])) / 2:
            shown.append((at, short))
    return shown


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
