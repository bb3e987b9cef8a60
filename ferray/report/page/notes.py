"""Sentences and small tables of the page: importance, calibration, slices, cost, commands. Begin at `commands_of`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ferray.data.subject import EXPRESSIONS
from ferray.files.location import short_location
from ferray.metrics.intervals import bracket_text
from ferray.report.page.chart import TextTable
from ferray.report.results.cost import Cost
from ferray.report.results.early import cut_in_words, is_cut
from ferray.report.results.importance import POINTS_PER_SETTING, Importance
from ferray.report.results.read import SearchResults
from ferray.report.results.scales import Scale
from ferray.report.slices import worst_in_words
from ferray.report.wording import in_words, setting_text
from ferray.wording import count_of, duration_text, short_path


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command to copy, and what it does."""

    text: str
    command: str
    is_whole: bool = True
    """Whether it can be typed as it is."""

    @property
    def can_copy(self) -> bool:
        """Whether it is one line: a shell carries out what stands before the end of a line as soon as it is pasted."""
        return self.is_whole and self.command.isprintable()


def edge_commands(results: SearchResults, indifferent: Sequence[Scale]) -> list[Command]:
    """How to go on beyond each edge on which the winner lies, of the settings that make a difference."""
    names = {scale.name for scale in indifferent}
    return [
        Command(
            text=f"Try {in_words(edge.name)} {setting_text(edge.name, edge.beyond)}, too",
            command=edge.way_out(results),
            is_whole="--set" in edge.way_out(results),
        )
        for edge in results.edges
        if edge.name not in names
    ]


def commands_of(results: SearchResults) -> list[Command]:
    """How to reproduce the winner, its score, and the search."""
    search, run = results.search, results.run
    data = shlex.quote(short_location(search.data.folder))
    best = shlex.quote(str(short_path(run.best_dir)))
    weights = "" if search.options.weights == "imagenet" else f" --weights {shlex.quote(search.options.weights)}"
    commands = []
    if results.is_finished:
        train = f"python -m ferray.train --recipe {best}/recipe.json --data {data}{weights}"
        commands.append(
            Command(text="Train the winner again", command=f"{train} --out {shlex.quote(f'runs/{run.name}-again')}")
        )
        commands.append(
            Command(
                text="Show its score on record; the test split is not read again",
                command=f"python -m ferray.report evaluate {best} --data {data}",
            )
        )
    commands.append(Command(text="The search", command=search.command))
    return commands


def importance_note(importance: Importance | None, results: SearchResults) -> str:
    """What the shares are, or why there are none."""
    if importance is None:
        return (
            "Not measured: it needs at least four points with different scores, and a setting that differs among them."
        )
    cut = sum(map(is_cut, results.points))
    fewer = (
        f" {cut:,} of {count_of(len(results.points), 'point')} ({cut_in_words(results.points)}) count with a score of"
        " fewer epochs, so the shares are also of how fast settings learn."
        if cut
        else ""
    )
    return (
        f"fANOVA on the scores of {count_of(importance.num_points, 'point')}: the share of their variance that each"
        f" setting explains by itself. Settings together explain another {importance.interactions:.0%}.{fewer}"
    )


def importance_warning(importance: Importance | None) -> str:
    """Why the shares are uncertain; empty where they are not."""
    if importance is None or not importance.is_uncertain:
        return ""
    wanted = POINTS_PER_SETTING * len(importance.shares)
    few = f"{importance.num_points} points are few for {count_of(len(importance.shares), 'setting')}"
    return f"Uncertain: {few}; {wanted} or more are better."


def stopped_note(results: SearchResults) -> str:
    """What early stopping does to the plots of settings; empty where nothing was stopped."""
    stopped = [len(record.epochs) for record in results.records if record.state == "stopped"]
    if not stopped:
        return ""
    return (
        f"{len(stopped):,} of {count_of(len(results.records), 'trial')} were stopped early, the first after"
        f" {count_of(min(stopped), 'epoch')}, and count by the best score until then: these plots also show which"
        " settings learn fast."
    )


def calibration_note(results: SearchResults) -> str:
    """The calibration errors; empty where they are not on record."""
    one = results.calibration
    if one is None:
        return ""
    return (
        f"Expected calibration error {one.before.ece:.3f} {bracket_text(one.before.intervals['ece'], 3)} as trained,"
        f" {one.after.ece:.3f} {bracket_text(one.after.intervals['ece'], 3)} with temperature {one.temperature:.3f},"
        f" which was fitted on {one.fitted_on:,} validation pictures."
    )


def slices_table(results: SearchResults) -> TextTable | None:
    """The slices with the lowest accuracy; None where none are on record."""
    summary = None if results.test_score is None else results.test_score.slices
    if summary is None or not summary.lowest:
        return None
    nouns = "pictures" if results.manifest is None else results.manifest.shown.nouns
    return TextTable(
        head=("slice", nouns, "top-1", "at equal labels", "95 % interval", "gap"),
        rows=[
            (
                f"{in_words(one.column)}: {one.value}",
                f"{one.n:,}",
                f"{one.accuracy:.3f}",
                f"{one.standardized:.3f}",
                bracket_text(one.standardized_interval, 3),
                f"{one.gap:+z.3f}",
            )
            for one in summary.lowest
        ],
    )


def slices_note(results: SearchResults) -> str:
    """The worst slice in words; empty where none are on record."""
    summary = None if results.test_score is None else results.test_score.slices
    if summary is None:
        return ""
    shown = EXPRESSIONS if results.manifest is None else results.manifest.shown
    return worst_in_words(summary.worst, shown).replace("**", "")


def cost_figures(cost: Cost) -> list[tuple[str, str]]:
    """The figures of the cost with their names."""
    figures = [
        ("Training, all trials", duration_text(cost.seconds)),
        ("Epochs", f"{cost.num_epochs:,}"),
        ("GPU time", "no GPU" if cost.gpu_seconds is None else duration_text(cost.gpu_seconds)),
        ("Lost to waiting", "not on record" if cost.idle is None else f"{cost.idle:.1%}"),
    ]
    lost = {state: cost.by_state[state] for state in ("stopped", "failed") if cost.by_state.get(state)}
    figures += [(f"Spent on {state} trials", f"{seconds / cost.seconds:.1%}") for state, seconds in lost.items()]
    if cost.devices:
        figures.append(("Trained on", ", ".join(cost.devices[:3])))
    return figures


def cost_table(cost: Cost) -> TextTable:
    """Seconds by the state of trials."""
    total = cost.seconds or 1.0
    return TextTable(
        head=("trials", "number", "seconds", "share"),
        rows=[
            (state, f"{cost.trials_by_state[state]:,}", f"{seconds:,.1f}", f"{seconds / total:.0%}")
            for state, seconds in sorted(cost.by_state.items(), key=lambda item: -item[1])
        ],
    )


def cost_note(cost: Cost) -> str:
    """What the seconds are, and what is not on record."""
    return (
        "Seconds are those of epochs, validation included; trials that ran side by side count each, and the first"
        " epochs on a frozen trunk include computing its features. Waiting is the share of time in which a worker group"
        f" had no trial. Worker groups were started {_times(cost.num_sessions)}; how long that took is not on"
        " record."
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
