"""Pictures of a search, as PNG files. Begin at `draw_heatmap` and `draw_curves`; helpers are below."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.intervals import Interval, range_text
from ferray.report.axes import Axis, pick_axes, settings_text
from ferray.report.figure import BEST_COLORS, ink, open_figure
from ferray.report.results.scales import log_edges
from ferray.report.wording import in_words, setting_text
from ferray.space import Metric

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_GRAY = "#BBBBBB"
_LETTER_INCHES = 0.085
"""Width of a letter on average, with room."""

_MAX_CELLS = 24
"""Values of a parameter up to which a table of cells can be read."""


def draw_heatmap(
    trials: "pandas.DataFrame",
    file: Path,
    *,
    metric: Metric,
    searched: Sequence[str],
    interval: Interval | None = None,
) -> None:
    """Show the effect of the settings: the metric by learning rate and batch size, the best over all other parameters.

    Where these two were not searched, the two parameters with the most values take their place. If few combinations
    were tried, as in a random search, each trial becomes a point. One parameter becomes a line or bars.

    Args:
        trials: From `ferray.records.tables.trials_frame`; trials without an epoch, and failed ones, are left out. Where
            rows are points of several trials, `place` is their order, and `num_trials` how many have the mean.
        file: The PNG file.
        metric: The validation metric that ranks trials.
        searched: Names of the parameters that can differ.
        interval: 95 %, of the best score; scores within it are marked, since chance may explain that they are lower.
            None where it is not known.

    Raises:
        StorageError: The file cannot be written.
    """
    ranked = _rank(trials, metric)
    scores = ranked[f"best_{metric.name}"].to_numpy(dtype=np.float64)
    axes = pick_axes(ranked, searched)
    with open_figure(file) as figure:
        if not len(ranked):
            _draw_empty(figure, f"No trial has a {in_words(metric.name)}")
        elif len(axes) < 2:
            note = _draw_line(figure, ranked, axes, scores, metric, interval)
        elif _is_table(axes[0], axes[1]):
            note = _draw_table(figure, axes, scores, metric, interval)
        else:
            note = _draw_cloud(figure, axes, scores, metric, interval)
        if len(ranked):
            _caption(figure, [f"{_best_line(ranked, axes, scores)}.", note])


def draw_curves(
    epochs: "pandas.DataFrame",
    trials: "pandas.DataFrame",
    file: Path,
    *,
    metric: Metric,
    searched: Sequence[str],
) -> None:
    """Show the metric and the losses by epoch, the three best trials in color.

    Args:
        epochs: From `ferray.records.tables.epochs_frame`.
        trials: From `ferray.records.tables.trials_frame`, of the same records.
        file: The PNG file.
        metric: The validation metric that ranks trials.
        searched: Names of the parameters that can differ.

    Raises:
        StorageError: The file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    ranked = _rank(trials, metric)
    best = ranked[: len(BEST_COLORS)]
    axes = pick_axes(ranked, searched)
    common = [axis for axis in axes if len(set(axis.places[: len(best)].tolist())) == 1] if len(best) > 1 else []
    differing = [axis for axis in axes if axis not in common]
    is_line = bool(len(epochs)) and epochs["epoch"].max() > 1
    with open_figure(file, size=(11, 5.4)) as figure:
        if not len(epochs) or not len(ranked):
            _draw_empty(figure, "No trial has an epoch")
            return
        left, right = figure.subplots(1, 2)
        rows = dict(iter(epochs.groupby("trial_id", sort=False)))
        names = best["trial_id"].tolist()
        for name, row in rows.items():
            if name not in names:
                left.plot(row["epoch"], row[metric.name], color=_GRAY, linewidth=0.7, **_dot(row))
                right.plot(row["epoch"], row["val_loss"], color=_GRAY, linewidth=0.7, **_dot(row))
        for place, name in reversed(list(enumerate(names))):  # the best last, on top
            row, color = rows[name], BEST_COLORS[place]
            setting = settings_text(place, differing)
            label = f"trial {best['number'].iloc[place]}" + (f": {setting}" if setting else "")
            left.plot(
                row["epoch"], row[metric.name], color=color, linewidth=1.8, label=textwrap.fill(label, 70), **_dot(row)
            )
            at = row["epoch"] == best["best_epoch"].iloc[place]
            left.plot(row["epoch"][at], row[metric.name][at], "o", color=color, markersize=7, markeredgecolor="white")
            right.plot(
                row["epoch"], row["train_loss"], color=color, linewidth=1.4, **_dot(row, "white"), linestyle="--"
            )
            right.plot(row["epoch"], row["val_loss"], color=color, linewidth=1.8, **_dot(row))
        left.set_title(f"{in_words(metric.name).capitalize()} by epoch", loc="left")
        right.set_title("Loss by epoch", loc="left")
        left.set_ylabel(in_words(metric.name))
        right.set_ylabel("cross-entropy loss (nats)")
        for panel in (left, right) if metric.name == "val_loss" else (right,):
            _limit_losses(panel, epochs, names)
        for panel in (left, right):
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
            panel.set_xlim(0.5, epochs["epoch"].max() + 0.5)
            panel.grid(color="#EEEEEE")
        _curve_legends(
            figure, left, num_others=len(rows) - len(names), common=settings_text(0, common), is_line=is_line
        )


def _curve_legends(figure: "Figure", left: "Axes", *, num_others: int, common: str, is_line: bool) -> None:
    """Below the panels: on the left which trial has which color, on the right what the lines mean."""
    from matplotlib.lines import Line2D

    handles, labels = left.get_legend_handles_labels()
    title = textwrap.fill("Best trials" + (f", all with {common}" if common else ""), 80)
    figure.legend(handles[::-1], labels[::-1], loc="outside lower left", frameon=False, title=title, alignment="left")
    gray: dict[str, Any] = {"color": "#555555", "linewidth": 1.8} | ({} if is_line else {"marker": "o"})
    training: dict[str, Any] = {"linestyle": "--"} if is_line else {"markerfacecolor": "white"}
    styles = [
        Line2D([], [], label="validation", **gray),
        Line2D([], [], label="training (loss only)", **gray, **training),
        Line2D([], [], label="best epoch", marker="o", linestyle="none", color="#555555", markersize=7),
    ]
    if num_others:
        others = "the other trial" if num_others == 1 else f"the other {num_others:,} trials"
        styles.append(Line2D([], [], color=_GRAY, linewidth=0.7, label=f"{others}, validation"))
    figure.legend(handles=styles, loc="outside lower right", frameon=False, title="Lines", alignment="left")


def _draw_table(
    figure: "Figure", axes: Sequence[Axis], scores: NDArray[np.float64], metric: Metric, interval: Interval | None
) -> str:
    """Draw two parameters as columns and rows; a cell shows the best of its trials. Returns the caption."""
    across, up = axes[:2]
    shape = (len(up.values), len(across.values))
    best, num = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    for x, y, score in zip(across.places, up.places, scores, strict=True):  # best first: the first of a cell stays
        best[y, x] = score if not num[y, x] else best[y, x]
        num[y, x] += 1
    figure.set_size_inches(max(6.4, 2.6 + 1.05 * shape[1]), max(3.8, 2.2 + 0.75 * shape[0]))
    panel = figure.subplots()
    colors, scale = _colors(best[num > 0], metric)
    panel.set_facecolor("#F0F0F0")
    image = panel.imshow(np.ma.masked_invalid(best), cmap=colors, norm=scale, aspect="auto", origin="lower")
    winner = (int(up.places[0]), int(across.places[0]))
    num_near = 0
    for y, x in np.ndindex(*shape):
        if num[y, x]:
            color = ink(colors(scale(best[y, x])))
            text = f"{best[y, x]:.3f}" + (f"\nbest of {num[y, x]}" if num[y, x] > 1 else "")
            panel.text(x, y, text, ha="center", va="center", color=color, fontsize=9)
            if (y, x) == winner:
                _frame(panel, x, y, color=BEST_COLORS[1], linewidth=2.5)
            elif _is_near(best[y, x], interval):
                num_near += 1
                _frame(panel, x, y, color=color, linewidth=1.2, linestyle=(0, (4, 3)))
    _name_columns(panel, across.names, inches=1.05)
    panel.set_yticks(range(shape[0]), labels=up.names)
    panel.set_xlabel(across.title)
    panel.set_ylabel(up.title)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    panel.set_title(_title(metric, axes, 2), loc="left")
    figure.colorbar(image, ax=panel, label=_scale_label(metric))
    rest = ", ".join(axis.title for axis in axes[2:])
    cells = f"A cell shows the best of its trials, which differ in {rest}. " if rest else ""
    note = _near_note(num_near, interval, "Dashed", what="cell") if (num > 0).sum() > 1 else ""
    return f"{cells}Solid frame: the best. {note}"


def _draw_cloud(
    figure: "Figure", axes: Sequence[Axis], scores: NDArray[np.float64], metric: Metric, interval: Interval | None
) -> str:
    """Draw two parameters as coordinates, one point per trial. Returns the caption."""
    figure.set_size_inches(7.6, 5.4)
    panel = figure.subplots()
    colors, scale = _colors(scores, metric)
    across, up = axes[:2]
    x, y = across.positions()[::-1], up.positions()[::-1]  # the best last, on top
    is_near = [_is_near(score, interval) for score in scores[::-1]]
    points = panel.scatter(
        x, y, c=scores[::-1], cmap=colors, norm=scale, s=70, linewidth=[1.6 if near else 0.6 for near in is_near],
        edgecolor=["#222222" if near else "white" for near in is_near],
    )  # fmt: skip
    panel.scatter(x[-1], y[-1], s=190, facecolor="none", edgecolor=BEST_COLORS[1], linewidth=2)
    _scale_axis(panel, across, "x")
    _scale_axis(panel, up, "y")
    panel.grid(color="#EEEEEE")
    panel.set_axisbelow(True)
    panel.set_title(_title(metric, axes, 2), loc="left")
    figure.colorbar(points, ax=panel, label=_scale_label(metric))
    note = _near_note(sum(is_near) - 1, interval, "Dark edge", what="point")
    return f"One point per trial. Orange ring: the best. {note}"


def _draw_line(
    figure: "Figure",
    ranked: "pandas.DataFrame",
    axes: Sequence[Axis],
    scores: NDArray[np.float64],
    metric: Metric,
    interval: Interval | None,
) -> str:
    """Draw one parameter: a line for numbers, else bars; bars of single trials where nothing was searched.

    Returns:
        The caption.
    """
    figure.set_size_inches(6.4, 4.4)
    panel = figure.subplots()
    if interval is not None and len(scores) > 1:
        panel.axhspan(*interval, color="#EEEEEE", zorder=0)
    if axes and axes[0].is_numeric:
        x = axes[0].positions()
        order = np.argsort(x)
        panel.plot(x[order], scores[order], "-o", color=BEST_COLORS[0])
        panel.plot(x[0], scores[0], "o", markersize=14, markerfacecolor="none", color=BEST_COLORS[1], markeredgewidth=2)
        for place in order if len(order) <= 12 else [0]:
            panel.annotate(
                f"{scores[place]:.3f}", (x[place], scores[place]), (0, 10), textcoords="offset points", ha="center"
            )
        _scale_axis(panel, axes[0], "x")
        panel.margins(y=0.2)
        panel.grid(color="#EEEEEE")
        best = "Orange ring: the best. "
    else:
        names = axes[0].names if axes else [f"trial {number}" for number in ranked["number"]]
        places = axes[0].places if axes else np.arange(len(ranked))
        colors = [BEST_COLORS[0] if rank else BEST_COLORS[1] for rank in range(len(scores))]
        bars = panel.bar(places, scores, color=colors, width=0.6)
        panel.bar_label(bars, fmt="%.3f", padding=2)
        panel.margins(y=0.1)
        figure.set_size_inches(max(6.4, 1.4 + 0.62 * len(names)), 4.4)  # a score above each bar
        _name_columns(panel, names, inches=(figure.get_figwidth() - 1.4) / len(names))
        panel.set_xlabel(axes[0].title if axes else "")
        panel.set_xlim(-1, len(names))
        best = "Orange: the best. " if axes else ""
    panel.set_title(_title(metric, axes, 1), loc="left")
    panel.set_ylabel(in_words(metric.name))
    num_near = sum(_is_near(score, interval) for score in scores) - 1
    return best + _near_note(num_near, interval, "Gray band", what="one") if len(scores) > 1 else best


def _is_near(score: float, interval: Interval | None) -> bool:
    """Whether chance may explain that a score is lower than the best one; that of fewer seeds may be higher."""
    return interval is not None and interval[0] <= score


def _near_note(num: int, interval: Interval | None, sign: str, *, what: str) -> str:
    """What the mark for scores within the interval of the best one means."""
    if interval is None:
        return "How far chance moves a score is not known here."
    if num <= 0:
        return f"No other {what} is within the 95 % interval of the best, {range_text(interval, 3)}."
    return f"{sign}: within the 95 % interval of the best, {range_text(interval, 3)}, so chance may explain the gap."


def _caption(figure: "Figure", sentences: Sequence[str]) -> None:
    """Write sentences below the picture."""
    text = textwrap.fill(" ".join(filter(None, sentences)), int(13.2 * figure.get_figwidth()))
    figure.supxlabel(text, fontsize=9, x=0.02, ha="left", color="#444444")


def _rank(trials: "pandas.DataFrame", metric: Metric) -> "pandas.DataFrame":
    """The trials with a score, best first, in the order of `ferray.records.points`."""
    column = f"best_{metric.name}"
    counted = trials[trials[column].notna() & (trials["state"] != "failed")]
    if "place" in counted:
        return counted.sort_values("place")
    return counted.sort_values([column, "best_epoch", "number"], ascending=[metric.goal == "minimize", True, True])


def _is_table(across: Axis, up: Axis) -> bool:
    """Whether at least half of the combinations were tried, or neither parameter is a number."""
    if not (across.is_numeric or up.is_numeric):
        return True
    sides = len(across.values), len(up.values)
    tried = len(set(zip(across.places.tolist(), up.places.tolist(), strict=True)))
    return max(sides) <= _MAX_CELLS and 2 * tried >= sides[0] * sides[1]


def _colors(scores: NDArray[np.float64], metric: Metric) -> tuple["Colormap", "Normalize"]:
    """A color map in which brighter is better, linear from the worst to the best score."""
    import matplotlib
    from matplotlib.colors import Normalize

    low, high = float(scores.min()), float(scores.max())
    if high - low < 1e-9:  # one score: as the best, of scores that there can be
        low, high = (low - 0.01, high) if metric.goal == "maximize" and low >= 0.01 else (low, high + 0.01)
    return matplotlib.colormaps["viridis" if metric.goal == "maximize" else "viridis_r"], Normalize(low, high)


def _name_columns(panel: "Axes", names: Sequence[str], *, inches: float) -> None:
    """Name columns of a width; names that would run into each other are turned, and end at their column."""
    settings: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    is_narrow = max(map(len, names)) * _LETTER_INCHES > inches
    panel.set_xticks(range(len(names)), labels=list(names), **(settings if is_narrow else {}))


def _scale_axis(panel: "Axes", axis: Axis, side: str) -> None:
    """Set the scale, ticks and title of a coordinate."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    ruler = panel.xaxis if side == "x" else panel.yaxis
    (panel.set_xlabel if side == "x" else panel.set_ylabel)(axis.title)
    few = len(axis.values) <= 8
    if not axis.is_numeric and side == "x":
        _name_columns(panel, axis.texts, inches=5.0 / len(axis.values))
        return
    if not axis.is_numeric:
        panel.set_yticks(range(len(axis.values)), labels=axis.texts)
        return
    if axis.is_log:
        (panel.set_xscale if side == "x" else panel.set_yscale)("log")
        ruler.set_minor_formatter(NullFormatter())
    if few or axis.is_log:  # powers of ten alone may all lie beyond the values
        ruler.set_major_locator(FixedLocator(list(axis.values) if few else log_edges(axis.values[0], axis.values[-1])))
    if few:
        ruler.set_minor_locator(NullLocator())
    ruler.set_major_formatter(FuncFormatter(lambda value, _: setting_text(axis.name, float(value))))


def _limit_losses(panel: "Axes", epochs: "pandas.DataFrame", best: Sequence[str]) -> None:
    """Cut the axis off where one diverged trial would flatten the curves of all others."""
    of_best = epochs[epochs["trial_id"].isin(list(best))]
    usual = max(of_best["val_loss"].max(), of_best["train_loss"].max(), epochs["val_loss"].median())
    if epochs["val_loss"].max() > 3 * usual:
        panel.set_ylim(0, 1.5 * usual)
        panel.text(0.99, 0.98, "higher losses are cut off", transform=panel.transAxes, ha="right", va="top", fontsize=8)


def _title(metric: Metric, axes: Sequence[Axis], num: int) -> str:
    names = " and ".join(axis.title for axis in axes[:num])
    return f"{in_words(metric.name).capitalize()}" + (f" by {names}" if names else "")


def _best_line(ranked: "pandas.DataFrame", axes: Sequence[Axis], scores: NDArray[np.float64]) -> str:
    """The best trial in words."""
    first = ranked.iloc[0]
    settings = settings_text(0, axes)
    who, num_trials = f"trial {first['number']}", first.get("num_trials", 1)
    what = f"{who}, {scores[0]:.3f} in epoch {first['best_epoch']:.0f}"
    if num_trials > 1:
        what = f"the point of {who}, mean {scores[0]:.3f} of {num_trials} trials"
    text = f"Best of {len(ranked):,}: {what}"
    return text + (f" ({settings})" if settings else "")


def _scale_label(metric: Metric) -> str:
    return f"{in_words(metric.name)}\n({'higher' if metric.goal == 'maximize' else 'lower'} is better)"


def _frame(panel: "Axes", x: int, y: int, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    panel.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fill=False, **style))


def _dot(row: "pandas.DataFrame", face: str | None = None) -> dict[str, Any]:
    """A marker for a line of one point, which would be invisible."""
    return {"marker": "o", "markersize": 6, "markerfacecolor": face} if len(row) == 1 else {}


def _draw_empty(figure: "Figure", text: str) -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center")
