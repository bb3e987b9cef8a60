"""Plots of what happened over time: the best so far, and learning curves. Begin at `progress_charts`."""

from collections.abc import Sequence
from typing import Any

from ferray.records.points import rank_trials
from ferray.records.trial import TrialRecord
from ferray.report.page.chart import OTHER, Chart, TextTable, by_column, categories, field, make_spec, named, six_digits
from ferray.report.results.read import SearchResults
from ferray.report.results.series import best_so_far, pick_evenly
from ferray.report.wording import in_words
from ferray.wording import count_of

MAX_CURVES = (150, 150)
"""Trials among the learning curves: of the best, and of the others."""

MAX_FAILED = 50
"""Failed trials among them."""

MAX_TABLE = 100
"""Rows of the table behind the learning curves; the table of all trials has every trial."""

_PLACES = ("best", "second", "third")
_BEST_COLORS = {"best": "var(--c2)", "second": "var(--c1)", "third": "var(--c3)", OTHER: "var(--line)"}
_PHASES = {"validation": [1, 0], "training": [5, 4]}
_SHAPES = {
    "stopped": "cross",
    "failed": "triangle-up",
    "interrupted": "square",
    "running": "circle",
    "queued": "circle",
}


def progress_charts(results: SearchResults) -> list[Chart]:
    """The best score so far against trials, epochs and seconds; none without a score."""
    steps = best_so_far(results.records)
    if not steps:
        return []
    score = in_words(results.metric)
    units = (
        ("trials", "trials begun", [step.trials for step in steps]),
        ("epochs", "epochs of all trials", [step.epochs for step in steps]),
        ("seconds", "seconds of training, all trials", [round(step.seconds, 1) for step in steps]),
    )
    data: dict[str, list[Any]] = {
        "score": [six_digits(step.score) for step in steps],
        "trial": [step.number for step in steps],
    }
    head = ("trials begun", "epochs", "seconds", f"best {score}", "trial")
    rows = [
        (f"{one.trials:,}", f"{one.epochs:,}", f"{one.seconds:,.1f}", f"{one.score:.4f}", str(one.number))
        for one in steps
    ]
    charts = []
    for unit, title, values in units:
        encoding = {
            "x": field("x", "quantitative", title, axis={"tickCount": 4, "grid": False, "tickMinStep": 1}),
            "y": field("score", "quantitative", f"best {score}", scale={"zero": False}, axis={"tickCount": 4}),
        }
        tooltip = [
            field("x", "quantitative", title),
            field("score", "quantitative", score, format=".4f"),
            field("trial", "nominal", "trial"),
        ]
        layers = [
            {
                "mark": {"type": "line", "interpolate": "step-after", "color": "var(--c1)", "strokeWidth": 2},
                "encoding": encoding,
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "color": "var(--c1)", "opacity": 1},
                "encoding": encoding | {"tooltip": tooltip},
            },
        ]
        charts.append(
            Chart(
                key=f"progress-{unit}",
                title=f"Best so far by {unit}",
                summary=f"The best {score} of one trial against {title}.",
                spec=make_spec(190, data=named("steps"), layer=layers),
                datasets={"steps": {"x": values, **data}},
                table=TextTable(head=head, rows=rows) if unit == "trials" else None,
                height_px=250,
            )
        )
    return charts


def curve_charts(results: SearchResults) -> list[Chart]:
    """The metric of every trial by epoch, with a mark where a trial was stopped, and the losses of the best three."""
    ranked = rank_trials(results.records)
    failed = [record for record in results.records if record.state == "failed" and record.epochs]
    if not ranked and not failed:
        return []
    shown = [*pick_evenly(ranked, max_best=MAX_CURVES[0], max_others=MAX_CURVES[1]), *failed[:MAX_FAILED]]
    names = {record.trial_id: _PLACES[place] for place, record in enumerate(ranked[:3])}
    score = in_words(results.metric)
    rows = [
        (record.number, row.epoch, six_digits(getattr(row, results.metric)), names.get(record.trial_id, OTHER))
        for record in reversed(shown)
        for row in record.epochs
    ]
    ends = [
        (record.number, record.epochs[-1].epoch, six_digits(getattr(record.epochs[-1], results.metric)), record.state)
        for record in shown
        if record.state != "done"
    ]
    num_epochs = max(len(record.epochs) for record in shown)
    x = field(
        "epoch",
        "quantitative",
        "epoch",
        axis={"tickMinStep": 1, "grid": False, "tickCount": 10, "format": "d"},
        scale={"domain": [1, max(2, num_epochs)], "nice": False},
    )
    y = field("score", "quantitative", score, scale={"zero": False}, axis={"tickCount": 6})
    tooltip = [
        field("trial", "nominal", "trial"),
        field("epoch", "quantitative", "epoch"),
        field("score", "quantitative", score, format=".4f"),
    ]
    is_best = f"datum.place != '{OTHER}'"
    line = {"type": "line", "point": num_epochs == 1}
    layers: list[dict[str, Any]] = [
        {
            "data": named("curves"),
            "mark": line,
            "encoding": {
                "x": x,
                "y": y,
                "detail": field("trial", "nominal"),
                "color": field(
                    "place",
                    "nominal",
                    scale=categories(_BEST_COLORS, [row[3] for row in rows]),
                    legend={"symbolStrokeWidth": 3},
                ),
                "strokeWidth": {"condition": {"test": is_best, "value": 2.5}, "value": 1},
                "opacity": {"condition": {"test": is_best, "value": 1}, "value": 0.6},
                "tooltip": tooltip,
            },
        },
    ]
    if ends:
        layers.append(
            {
                "data": named("ends"),
                "mark": {"type": "point", "filled": True, "size": 55, "color": "var(--ink)", "opacity": 0.75},
                "encoding": {
                    "x": x,
                    "y": y,
                    "shape": field("state", "nominal", scale=categories(_SHAPES, [end[3] for end in ends])),
                    "tooltip": [*tooltip, field("state", "nominal", "state")],
                },
            }
        )
    left_out = len(ranked) + len(failed) - len(shown)
    stopped = sum(record.state == "stopped" for record in results.records)
    notes = [f"{count_of(stopped, 'trial')} stopped early; a mark stands at the last epoch of each."] if stopped else []
    notes += (
        [f"Of {len(ranked):,} trials, the best {MAX_CURVES[0]} and others at even ranks are drawn."] if left_out else []
    )
    table_rows = [
        (str(one.number), one.state, ", ".join(f"{getattr(row, results.metric):.3f}" for row in one.epochs))
        for one in shown[:MAX_TABLE]
    ]
    curves = Chart(
        key="curves",
        title=f"{score.capitalize()} by epoch",
        summary=f"A line for each of {count_of(len(shown), 'trial')}: its {score} after each epoch; the three best in"
        " color.",
        spec=make_spec(320, layer=layers, resolve={"legend": {"color": "independent", "shape": "independent"}}),
        datasets={
            "curves": by_column(("trial", "epoch", "score", "place"), rows),
            "ends": by_column(("trial", "epoch", "score", "state"), ends),
        },
        table=TextTable(head=("trial", "state", f"{score}, epoch by epoch"), rows=table_rows),
        note=" ".join(notes),
        height_px=400,
    )
    return [curves, *([_losses(ranked[:3])] if ranked else [])]


def _losses(best: Sequence[TrialRecord]) -> Chart:
    rows = [
        (_PLACES[place], record.number, row.epoch, six_digits(getattr(row, key)), phase)
        for place, record in enumerate(best)
        for key, phase in (("val_loss", "validation"), ("train_loss", "training"))
        for row in record.epochs
    ]
    num_epochs = max(row[2] for row in rows)
    encoding = {
        "x": field(
            "epoch",
            "quantitative",
            "epoch",
            axis={"tickMinStep": 1, "grid": False, "tickCount": 10, "format": "d"},
            scale={"domain": [1, max(2, num_epochs)], "nice": False},
        ),
        "y": field("loss", "quantitative", "cross-entropy loss (nats)", scale={"zero": False}, axis={"tickCount": 6}),
        "color": field(
            "place",
            "nominal",
            scale=categories(_BEST_COLORS, [row[0] for row in rows]),
            legend={"symbolStrokeWidth": 3},
        ),
        "strokeDash": field(
            "phase",
            "nominal",
            scale=categories(_PHASES, _PHASES),
            legend={"symbolStrokeColor": "var(--ink)", "symbolType": "stroke", "symbolSize": 600},
        ),
        "tooltip": [
            field("trial", "nominal", "trial"),
            field("phase", "nominal", "pictures"),
            field("epoch", "quantitative", "epoch"),
            field("loss", "quantitative", "loss", format=".4f"),
        ],
    }
    return Chart(
        key="losses",
        title="Losses of the best trials",
        summary="Training and validation loss by epoch, for the three best trials.",
        spec=make_spec(
            320,
            data=named("losses"),
            mark={"type": "line", "strokeWidth": 2.5, "point": num_epochs == 1},
            encoding=encoding,
        ),
        datasets={"losses": by_column(("place", "trial", "epoch", "loss", "phase"), rows)},
        table=TextTable(
            head=("trial", "epoch", "training loss", "validation loss"),
            rows=[
                (str(record.number), str(row.epoch), f"{row.train_loss:.4f}", f"{row.val_loss:.4f}")
                for record in best
                for row in record.epochs
            ],
        ),
        note="Training losses are those seen while training, with dropout and altered pictures.",
        height_px=400,
    )
