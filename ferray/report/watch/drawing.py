"""A `SearchView` as a screen of a terminal or a notebook, and as one line of a log.

At 80 by 24 characters nothing scrolls and no score is cut: how far, the best so far with its settings, what failed or
was stopped and why, what is waited for, the last message; then the running trials and the best of the others, as many
as there is room for.

Begin at `draw` and `describe`.
"""

import time
from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ferray.report.columns import GAP, SettingColumn, fit_settings
from ferray.report.watch.view import OVER, Phase, SearchView, TrialView
from ferray.wording import count_of, duration_text

TRAINING = "training"
"""What a worker group is doing most of the time; anything else is about features."""

MAX_ROWS = 30
"""Trials in the table, fewer where the terminal is low; a last row counts the others."""

MAX_ACTIVITIES = 2
"""Lines on features, which several trials may compute at a time."""

_LABEL = 9
"""Characters before the text of a line."""

_STYLES: dict[Phase, str] = {
    "starting": "bold cyan",
    "training": "bold green",
    "concluding": "bold cyan",
    "finished": "bold green",
    "interrupted": "bold yellow",
    "failed": "bold red",
    "silent": "bold yellow",
    "lost": "bold red",
}
_PHASES: dict[Phase, str] = {"silent": "nothing new", "lost": "ended without a report"}
"""Words for the phases that are not words."""


def draw(view: SearchView, *, width: int, height: int) -> Group:
    """The view as a screen of so many characters."""
    lines = [_title(view, width), _progress(view, width), _counts(view), Text()]
    lines += _leader(view)
    lines += _troubles(view)
    lines += [_line("features", text) for text in other_activities(view)[:MAX_ACTIVITIES]]
    lines += [_line("waits", view.waits, "yellow")] if view.waits else []
    if view.message:
        at = "last" if view.message_at is None else _clock(view.message_at)
        lines.append(_line(at, view.message))
    num_lines = len(lines)
    if view.way_out:  # to be copied, so it is not cut
        way_out = Text(f"go on: {view.way_out}", "bold", overflow="fold")
        lines.append(way_out)
        num_lines += 1 + 2 * (way_out.cell_len // width)  # words that do not fit move to the next line
    return Group(*lines, *_table(view, width=width, room=height - num_lines))


def describe(view: SearchView) -> str:
    """The view as one line of a log."""
    parts = [
        f"{_fraction(view)} trials",
        f"{count_of(view.num_epochs, 'epoch')}",
        f"{duration_text(view.spent_s)} spent",
    ]
    parts += _left(view)
    if (best := view.leader) is not None:
        parts.append(f"best {best.score:.4f} in trial {best.number}")
    doing = f" ({view.doing})" if view.doing else ""
    phase = "" if view.phase == TRAINING else f"{_phase(view)}{doing}: "
    waits = [f"waits: {view.waits}"] if view.waits else []
    return phase + "; ".join([", ".join(parts), *other_activities(view), *waits])


def describe_trial(trial: TrialView, metric: str, *, settings: bool = True) -> str:
    """How a trial ended, in one line.

    Args:
        trial: The trial.
        metric: Name of its score.
        settings: Whether to name those that are searched.
    """
    words = ", ".join(f"{name} {value}" for name, value in trial.settings.items()) if settings else ""
    head = f"trial {trial.number} {trial.state}" + (f" ({words})" if words else "")
    if trial.score is None or trial.state == "failed":
        return f"{head}: {trial.reason or 'no epoch'}"
    reason = f", {trial.reason}" if trial.reason else ""
    return f"{head}: {metric} {trial.score:.4f} in epoch {trial.best_epoch} of {trial.num_epochs}{reason}"


def other_activities(view: SearchView) -> list[str]:
    """What worker groups are doing besides training, such as computing features."""
    return [
        f"trial {trial.number}: {trial.activity.removeprefix('features: ')}"
        for trial in view.running
        if trial.activity not in ("", TRAINING)
    ]


def _title(view: SearchView, width: int) -> Text:
    """Name and phase, at the right the metric."""
    doing = f" {view.doing}" if view.doing.startswith("since ") else f": {view.doing}" if view.doing else ""
    left = Text.assemble((view.name, "bold"), "  ", (_phase(view), _STYLES[view.phase]), doing)
    right = "" if view.metric is None else f"{view.metric}, {'higher' if view.maximize else 'lower'} is better"
    gap = width - left.cell_len - len(right)
    return _cut(left.append(" " * gap).append(right, "dim") if gap >= GAP else left)


def _progress(view: SearchView, width: int) -> RenderableType:
    """A bar of the trials that have ended, and the time."""
    parts = [f"{duration_text(view.spent_s)} spent", *_left(view)]
    if view.left_s is not None and view.phase in ("starting", TRAINING):
        parts.append(f"done at about {_clock(view.at + view.left_s)[:5]}")
    if view.price is not None:
        total = "" if view.left_s is None else f" of about {view.price * (view.spent_s + view.left_s) / 3600:.2f}"
        parts.append(f"{view.price * view.spent_s / 3600:.2f}{total if _left(view) else ''} paid")
    text = ", ".join(parts)
    room = width - len(text) - GAP
    if view.total is None or room < 10:
        return _cut(Text(text))
    row = Table.grid(padding=(0, GAP, 0, 0))
    row.add_row(ProgressBar(total=max(1, view.total), completed=min(view.num_ended, view.total), width=room), text)
    return row


def _counts(view: SearchView) -> Text:
    parts = [f"{_fraction(view)} trials ended"]
    parts += [f"{view.num_stopped} stopped early"] if view.num_stopped else []
    parts += [f"{view.num_failed} failed"] if view.num_failed else []
    parts.append(count_of(view.num_epochs, "epoch"))
    if view.epochs_per_min is not None:
        parts.append(_rate(view.epochs_per_min))
    if view.new_points_s is not None:
        until = f"new points for {duration_text(view.new_points_s)}"
        parts.append(until if view.new_points_s > 0 else "no new points: the time is up")
    return _cut(Text(", ".join(parts)))


def _leader(view: SearchView) -> list[Text]:
    best = view.leader
    if best is None:
        return [_line("best", "no epoch yet", "dim")]
    running = ", still running" if best.state == "running" and view.phase not in OVER else ""
    text = f"{best.score:.4f} {view.metric}: trial {best.number}, epoch {best.best_epoch} of {best.max_epochs}{running}"
    settings = ", ".join(f"{name} {value}" for name, value in best.settings.items())
    return [_line("best", text, "bold green"), *([_line("", settings)] if settings else [])]


def _troubles(view: SearchView) -> Iterator[Text]:
    """The last trial that failed, and the last that was stopped, each with its reason and the numbers before it."""
    for label, trials, style in (("failed", view.failed, "red"), ("stopped", view.stopped, "")):
        if not trials:
            continue
        last, *others = trials
        where = f"trial {last.number} at epoch {last.num_epochs} of {last.max_epochs}"
        score = "" if last.score is None else f", {last.score:.4f}"
        before = f"; before: {', '.join(str(trial.number) for trial in others)}" if others else ""
        yield _line(label, f"{where}{score}: {last.reason}{before}", style)


def _table(view: SearchView, *, width: int, room: int) -> list[RenderableType]:
    """Running trials first, then the best of those that have ended, in so many lines."""
    ended = [trial for trial in (*view.best, *view.failed) if trial.number not in {one.number for one in view.running}]
    trials = [*view.running, *ended]
    if not trials:
        return []
    names = ("trial", "state", "epoch", "score", "best at", "left")
    shown = list(range(len(names)))
    num_trials = len(view.running) + view.num_ended
    columns: list[SettingColumn] = []
    left_out: list[str] = []
    num_rows = MAX_ROWS
    for _ in range(2):  # what is left out makes a line, and headers of several words more than one
        rows = trials[:num_rows]
        cells = [_cells(trial, view.phase) for trial in rows]
        widths = [max(map(len, texts)) for texts in zip(names, *cells, strict=True)]
        space = width - sum(widths) - GAP * (len(names) - 1)
        for place in (5, 4, 1):  # a narrow terminal: no score and no number is cut
            if space < 0 and place in shown:
                shown.remove(place)
            space += 0 if place in shown else widths[place] + GAP
        columns, left_out = fit_settings(view.columns, [trial.settings for trial in rows], room=space)
        header = max([1, *(column.header.count("\n") + 1 for column in columns)])
        num_lines = 2 + header + bool(left_out)  # a blank line above it, a rule below it
        if room <= num_lines + 1:  # a low terminal: trials without their settings
            columns, left_out, num_lines = [], [], 3
        num_rows = min(MAX_ROWS, room - num_lines, len(trials))
        num_rows -= num_trials > num_rows and num_rows == min(MAX_ROWS, room - num_lines)  # a row counts the others
        if num_rows < 1:
            return [_cut(Text(f"no room for {count_of(num_trials, 'trial')}", "dim"))] if room > 0 else []
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    first, others = [place for place in shown if place < 2], [place for place in shown if place >= 2]
    for name in (*(names[place] for place in first), *(column.header for column in columns)):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for place in others:
        table.add_column(names[place], justify="right", no_wrap=True)
    rows = trials[:num_rows]
    leader = view.leader
    for row, trial in enumerate(rows):
        texts = _cells(trial, view.phase)
        style = "bold green" if trial == leader else None if trial.state == "running" else "dim"
        values = (column.cells[row] for column in columns)
        table.add_row(*(texts[place] for place in first), *values, *(texts[place] for place in others), style=style)
    if num_trials > len(rows):
        table.add_row("...", Text(f"{num_trials - len(rows):,} more"), style="dim")
    return [Text(), table, *([_cut(Text(f"no room for {', '.join(left_out)}", "dim"))] if left_out else [])]


def _cells(trial: TrialView, phase: Phase) -> tuple[str, ...]:
    """Number, state, epochs, score, the epoch that has it, and the time that is left."""
    state: str = trial.state
    if state == "running" and phase in OVER:
        state = "unfinished"
    elif state == "running":
        state = "waiting" if not trial.activity else TRAINING if trial.activity == TRAINING else "features"
    left = "" if trial.left_s is None or state != TRAINING else duration_text(trial.left_s)
    score = "" if trial.score is None else f"{trial.score:.4f}"
    best = "" if trial.best_epoch is None else str(trial.best_epoch)
    return str(trial.number), state, f"{trial.num_epochs}/{trial.max_epochs}", score, best, left


def _left(view: SearchView) -> list[str]:
    if view.left_s is None or view.phase not in ("starting", TRAINING):
        return []
    return [f"about {duration_text(view.left_s)} left"]


def _rate(per_min: float) -> str:
    if per_min < 1:
        return f"{60 * per_min:.1f} an hour"
    return f"{per_min:.0f} a minute of training" if per_min >= 10 else f"{per_min:.1f} a minute of training"


def _fraction(view: SearchView) -> str:
    return f"{view.num_ended:,}/{'?' if view.total is None else f'{view.total:,}'}"


def _phase(view: SearchView) -> str:
    return _PHASES.get(view.phase, view.phase)


def _line(label: str, text: str, style: str = "") -> Text:
    return _cut(Text.assemble((f"{label:<{_LABEL}}", "dim"), (text, style)))


def _cut(text: Text) -> Text:
    """A text that takes one line, whatever its length."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(at: float) -> str:
    """A time of this machine's day: `12:03:10`."""
    return time.strftime("%H:%M:%S", time.localtime(at))
