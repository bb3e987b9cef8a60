"""Pictures of a search, as PNG files. Begin at `draw_heatmap` and `draw_curves`; helpers are below."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.report.axes import Axis, pick_axes, settings_text
from ferray.report.figure import BEST_COLORS, open_figure
from ferray.report.wording import in_words, value_text
from ferray.space import Metric

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_GRAY = "#BBBBBB"
_MAX_CELLS = 24
"""Values of a parameter up to which a table of cells can be read."""


def draw_heatmap(trials: "pandas.DataFrame", file: Path, *, metric: Metric, searched: Sequence[str]) -> None:
    """Show the effect of the settings: the metric by learning rate and batch size, the best over all other parameters.

    Where these two were not searched, the two parameters with the most values take their place. If few combinations
    were tried, as in a random search, each trial becomes a point. One parameter becomes a line or bars.

    Args:
        trials: From `ferray.records.tables.trials_frame`; trials without an epoch, and failed ones, are left out.
        file: The PNG file.
        metric: The validation metric that ranks trials.
        searched: Names of the parameters that can differ.

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
            _draw_line(figure, ranked, axes, scores, metric)
        elif _is_table(axes[0], axes[1]):
            _draw_table(figure, axes, scores, metric)
        else:
            _draw_cloud(figure, axes, scores, metric)
        if len(ranked):
            line = textwrap.fill(_best_line(ranked, axes, scores), int(12.5 * figure.get_figwidth()))
            figure.suptitle(line, fontsize=9, x=0.01, ha="left", color="#444444")


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
    with open_figure(file, size=(11, 5.2)) as figure:
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
            setting = settings_text(place, axes)
            label = f"trial {best['number'].iloc[place]}" + (f": {setting}" if setting else "")
            left.plot(
                row["epoch"], row[metric.name], color=color, linewidth=1.8, label=textwrap.fill(label, 110), **_dot(row)
            )
            at = row["epoch"] == best["best_epoch"].iloc[place]
            left.plot(row["epoch"][at], row[metric.name][at], "o", color=color, markersize=7, markeredgecolor="white")
            right.plot(
                row["epoch"], row["train_loss"], color=color, linewidth=1.4, **_dot(row, "white"), linestyle="--"
            )
            right.plot(row["epoch"], row["val_loss"], color=color, linewidth=1.8, **_dot(row))
        left.set_title(f"{in_words(metric.name).capitalize()} by epoch, dot: best epoch", loc="left")
        sign = "dashed" if epochs["epoch"].max() > 1 else "hollow"
        right.set_title(f"Loss by epoch, solid: validation, {sign}: training", loc="left")
        left.set_ylabel(in_words(metric.name))
        right.set_ylabel("cross-entropy loss (nats)")
        _limit_losses(right, epochs, names)
        for panel in (left, right):
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
            panel.set_xlim(0.5, epochs["epoch"].max() + 0.5)
            panel.grid(color="#EEEEEE")
        handles, labels = left.get_legend_handles_labels()
        others = len(rows) - len(names)
        title = "best trials" + (f"; gray: the other {others}" if others else "")
        figure.legend(
            handles[::-1], labels[::-1], loc="outside lower left", frameon=False, title=title, alignment="left"
        )


def _draw_table(figure: "Figure", axes: Sequence[Axis], scores: NDArray[np.float64], metric: Metric) -> None:
    """Draw two parameters as columns and rows; a cell shows the best of its trials."""
    across, up = axes[:2]
    shape = (len(up.values), len(across.values))
    best, num = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    for x, y, score in zip(across.places, up.places, scores, strict=True):  # best first: the first of a cell stays
        best[y, x] = score if not num[y, x] else best[y, x]
        num[y, x] += 1
    figure.set_size_inches(max(5.5, 2.6 + 1.05 * shape[1]), max(3.4, 1.9 + 0.75 * shape[0]))
    panel = figure.subplots()
    colors, scale = _colors(best[num > 0], metric)
    panel.set_facecolor("#F0F0F0")
    image = panel.imshow(np.ma.masked_invalid(best), cmap=colors, norm=scale, aspect="auto", origin="lower")
    for y, x in np.ndindex(*shape):
        if num[y, x]:
            text = f"{best[y, x]:.3f}" + (f"\nn = {num[y, x]}" if num[y, x] > 1 else "")
            panel.text(x, y, text, ha="center", va="center", color=_ink(colors(scale(best[y, x]))), fontsize=9)
    _frame(panel, int(across.places[0]), int(up.places[0]))
    panel.set_xticks(range(shape[1]), labels=across.texts, rotation=0 if shape[1] < 9 else 45)
    panel.set_yticks(range(shape[0]), labels=up.texts)
    panel.set_xlabel(across.title)
    panel.set_ylabel(up.title)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    panel.set_title(_title(metric, axes, 2) + _of_the_rest(axes[2:]), loc="left")
    figure.colorbar(image, ax=panel, label=_scale_label(metric))


def _draw_cloud(figure: "Figure", axes: Sequence[Axis], scores: NDArray[np.float64], metric: Metric) -> None:
    """Draw two parameters as coordinates, one point per trial."""
    figure.set_size_inches(7.6, 5.2)
    panel = figure.subplots()
    colors, scale = _colors(scores, metric)
    across, up = axes[:2]
    x, y = across.positions()[::-1], up.positions()[::-1]  # the best last, on top
    points = panel.scatter(x, y, c=scores[::-1], cmap=colors, norm=scale, s=70, edgecolor="white", linewidth=0.6)
    panel.scatter(x[-1], y[-1], s=190, facecolor="none", edgecolor=BEST_COLORS[1], linewidth=2)
    _scale_axis(panel, across, "x")
    _scale_axis(panel, up, "y")
    panel.grid(color="#EEEEEE")
    panel.set_axisbelow(True)
    panel.set_title(_title(metric, axes, 2) + ", one point per trial, ring: best", loc="left")
    figure.colorbar(points, ax=panel, label=_scale_label(metric))


def _draw_line(
    figure: "Figure", ranked: "pandas.DataFrame", axes: Sequence[Axis], scores: NDArray[np.float64], metric: Metric
) -> None:
    """Draw one parameter: a line for numbers, else bars; bars of single trials where nothing was searched."""
    figure.set_size_inches(6.4, 4.2)
    panel = figure.subplots()
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
        panel.set_title(_title(metric, axes, 1) + ", ring: best", loc="left")
    else:
        names = axes[0].texts if axes else [f"trial {number}" for number in ranked["number"]]
        places = axes[0].places if axes else np.arange(len(ranked))
        colors = [BEST_COLORS[0] if rank else BEST_COLORS[1] for rank in range(len(scores))]
        bars = panel.bar(places, scores, color=colors, width=0.6)
        panel.bar_label(bars, fmt="%.3f", padding=2)
        panel.set_xticks(range(len(names)), labels=names, rotation=0 if len(names) < 7 else 45)
        panel.set_xlabel(axes[0].title if axes else "")
        panel.set_xlim(-1, len(names))
        panel.set_title(_title(metric, axes, 1) + ", orange: best" * bool(axes), loc="left")
    panel.set_ylabel(in_words(metric.name))


def _rank(trials: "pandas.DataFrame", metric: Metric) -> "pandas.DataFrame":
    """The trials with a score, best first, in the order of `ferray.records.run.rank`."""
    column = f"best_{metric.name}"
    counted = trials[trials[column].notna() & (trials["state"] != "failed")]
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
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    return matplotlib.colormaps["viridis" if metric.goal == "maximize" else "viridis_r"], Normalize(low, high)


def _scale_axis(panel: "Axes", axis: Axis, side: str) -> None:
    """Set the scale, ticks and title of a coordinate."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    ruler = panel.xaxis if side == "x" else panel.yaxis
    (panel.set_xlabel if side == "x" else panel.set_ylabel)(axis.title)
    few = len(axis.values) <= 8
    if not axis.is_numeric:
        ruler.set_major_locator(FixedLocator(list(range(len(axis.values)))))
        ruler.set_major_formatter(FuncFormatter(lambda place, _: axis.texts[int(place)]))
        return
    if axis.is_log:
        (panel.set_xscale if side == "x" else panel.set_yscale)("log")
        ruler.set_minor_formatter(NullFormatter())
    if few:
        ruler.set_major_locator(FixedLocator(list(axis.values)))
        ruler.set_minor_locator(NullLocator())
    ruler.set_major_formatter(FuncFormatter(lambda value, _: value_text(float(value))))


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


def _of_the_rest(rest: Sequence[Axis]) -> str:
    return f"\nbest over {', '.join(axis.title for axis in rest)}" if rest else ""


def _best_line(ranked: "pandas.DataFrame", axes: Sequence[Axis], scores: NDArray[np.float64]) -> str:
    """The best trial in words."""
    first = ranked.iloc[0]
    settings = settings_text(0, axes)
    text = f"best of {len(ranked)}: trial {first['number']}, {scores[0]:.3f} in epoch {first['best_epoch']:.0f}"
    return text + (f" ({settings})" if settings else "")


def _scale_label(metric: Metric) -> str:
    return f"{in_words(metric.name)}\n({'higher' if metric.goal == 'maximize' else 'lower'} is better)"


def _ink(color: tuple[float, float, float, float]) -> str:
    """Black or white, whichever is more legible on a color."""
    red, green, blue, _ = color
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _frame(panel: "Axes", x: int, y: int) -> None:
    from matplotlib.patches import Rectangle

    panel.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, fill=False, edgecolor=BEST_COLORS[1], linewidth=2.5))


def _dot(row: "pandas.DataFrame", face: str | None = None) -> dict[str, Any]:
    """A marker for a line of one point, which would be invisible."""
    return {"marker": "o", "markersize": 6, "markerfacecolor": face} if len(row) == 1 else {}


def _draw_empty(figure: "Figure", text: str) -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center")
