"""Plots of models: overfitting of all trials, and the reliability of the best one. Begin at `gap_chart`."""

from ferray.metrics.calibration import Calibration
from ferray.records.points import rank_trials
from ferray.report.page.chart import (
    OTHER,
    WHOLE,
    WINNER,
    Chart,
    Columns,
    TextTable,
    by_column,
    categories,
    field,
    make_spec,
    named,
    six_digits,
)
from ferray.report.results.early import cut_in_words
from ferray.report.results.read import SearchResults
from ferray.report.results.series import overfitting, pick_evenly
from ferray.report.wording import in_words
from ferray.wording import count_of

MAX_DOTS = (2000, 2000)
"""Trials in the plot of overfitting: of the best, and of the others."""

MIN_JOINED = 20
"""Pictures of a bin from which on it is joined to its neighbors: the 95 % interval of fewer is 0.2 on each side."""


def gap_chart(results: SearchResults) -> Chart | None:
    """How far training was ahead of validation in each trial; None with fewer than two scores."""
    ranked = rank_trials(results.records)
    if len(ranked) < 2:
        return None
    shown = pick_evenly(ranked, max_best=MAX_DOTS[0], max_others=MAX_DOTS[1])
    left_out = len(ranked) - len(shown)
    score, cut = in_words(results.metric), cut_in_words(results.points)
    data: Columns = {
        "trial": [record.number for record in shown],
        "score": [six_digits(record.score() or 0.0) for record in shown],
        "gap": [six_digits(overfitting(record) or 0.0) for record in shown],
        "kind": [WINNER if place == 0 else OTHER for place in range(len(shown))],
        "end": [WHOLE if record.state == "done" else cut for record in shown],
    }
    colors = {WINNER: "var(--c2)", OTHER: "var(--c1)"}
    shapes = {WHOLE: "circle", cut: "cross"}
    legend = {"symbolFillColor": "var(--ink)", "direction": "vertical"}
    shape = {"shape": field("end", "nominal", scale=categories(shapes, data["end"]), legend=legend)} if cut else {}
    layers = [
        {"mark": {"type": "rule", "color": "var(--border)"}, "encoding": {"y": {"datum": 0}}},
        {
            "mark": {"type": "point", "filled": True, "opacity": 0.8 if len(shown) <= 300 else 0.35},
            "encoding": {
                "x": field("score", "quantitative", score, scale={"zero": False}, axis={"grid": False, "tickCount": 8}),
                "y": field(
                    "gap",
                    "quantitative",
                    "training minus validation" if results.maximize else "validation minus training",
                    axis={"tickCount": 6},
                ),
                "color": field("kind", "nominal", scale=categories(colors, colors)),
                **shape,
                "size": {"condition": {"test": f"datum.kind == '{WINNER}'", "value": 160}, "value": 50},
                "tooltip": [
                    field("trial", "nominal", "trial"),
                    field("score", "quantitative", score, format=".4f"),
                    field("gap", "quantitative", "gap", format="+.4f"),
                ],
            },
        },
    ]
    return Chart(
        key="gap",
        title="Training ahead of validation",
        summary=f"A dot for each of {count_of(len(shown), 'trial')}: its {score} and by how much its training score was"
        " better.",
        spec=make_spec(280, data=named("dots"), layer=layers),
        datasets={"dots": data},
        table=None,
        note="In the best epoch of each trial. Training scores are those seen while training: with dropout and altered"
        " pictures they can be below validation. A large gap says that the model knows its training pictures by heart."
        + (
            f" Of {len(ranked):,} trials, the best {MAX_DOTS[0]:,} and others at even ranks are drawn."
            if left_out
            else ""
        ),
        height_px=350,
    )


def reliability_chart(calibration: Calibration) -> Chart:
    """How often predictions were correct, by their confidence, before and after temperature scaling."""
    versions = {"as trained": calibration.before, "with temperature": calibration.after}
    joined = [
        (name, six_digits(one.confidence), six_digits(one.accuracy) if one.faces >= MIN_JOINED else None)
        for name, errors in versions.items()
        for one in errors.bins
    ]
    rows = [
        (name, six_digits(one.confidence), six_digits(one.accuracy), one.faces)
        for name, errors in versions.items()
        for one in errors.bins
        if one.faces
    ]
    colors = {"as trained": "var(--c2)", "with temperature": "var(--c1)"}
    x = field(
        "confidence",
        "quantitative",
        "mean probability of the predicted class",
        scale={"domain": [0, 1]},
        axis={"tickCount": 5, "grid": False},
    )
    y = field(
        "accuracy", "quantitative", "share of correct predictions", scale={"domain": [0, 1]}, axis={"tickCount": 5}
    )
    color = field("version", "nominal", scale=categories(colors, colors), legend={"symbolStrokeWidth": 3})
    layers = [
        {
            "data": named("diagonal"),
            "mark": {"type": "line", "strokeDash": [4, 4], "color": "var(--muted)"},
            "encoding": {"x": x, "y": y},
        },
        {
            "data": named("joined"),
            "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {"x": x, "y": y, "color": color},
        },
        {
            "data": named("bins"),
            "mark": {"type": "point", "filled": True, "opacity": 0.9},
            "encoding": {
                "x": x,
                "y": y,
                "color": color,
                "size": field("num", "quantitative", scale={"range": [25, 350]}, legend=None),
                "tooltip": [
                    field("version", "nominal", "probabilities"),
                    field("confidence", "quantitative", "mean probability", format=".3f"),
                    field("accuracy", "quantitative", "correct", format=".3f"),
                    field("num", "quantitative", "pictures", format=","),
                ],
            },
        },
    ]
    return Chart(
        key="reliability",
        title="Reliability of the probabilities",
        summary="For each bin of confidence, the share of correct predictions; on the dashed line both would be equal.",
        spec=make_spec(320, layer=layers),
        datasets={
            "diagonal": {"confidence": [0, 1], "accuracy": [0, 1]},
            "joined": by_column(("version", "confidence", "accuracy"), joined),
            "bins": by_column(("version", "confidence", "accuracy", "num"), rows),
        },
        table=TextTable(
            head=("probabilities", "mean probability", "correct", "pictures"),
            rows=[
                (name, f"{confidence:.3f}", f"{accuracy:.3f}", f"{num:,}") for name, confidence, accuracy, num in rows
            ],
        ),
        note=f"Larger dots stand for more pictures; those of fewer than {MIN_JOINED} are not joined by lines, since"
        " chance alone moves them by 0.2 and more. Below the dashed line the model is too sure of itself.",
        height_px=400,
    )
