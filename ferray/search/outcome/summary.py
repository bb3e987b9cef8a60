"""What a search says when it is over, on stdout: the best points, how sure the winner is, the one test score.

Begin at `summarize`.
"""

import io
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from ferray.data.store.reader import Store
from ferray.metrics.intervals import bracket_text
from ferray.recipe import to_values
from ferray.records.points import Point
from ferray.records.trial import TrialRecord
from ferray.report.columns import GAP, WIDTH, fit_settings
from ferray.report.results.sentences import recorded_indifference
from ferray.report.results.verdict import Significance
from ferray.search.open import Search
from ferray.search.outcome.export import BestModel
from ferray.search.outcome.finals import Ranking
from ferray.search.plan import DEMO_COMMAND, Plan
from ferray.wording import count_of, short_path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search came to."""

    records: Sequence[TrialRecord]
    """All trials."""
    ranking: Ranking
    significance: Significance | None
    """How sure the winner is; None where that was not computed."""
    best: BestModel


def summarize(search: Search, outcome: Outcome, *, tracking: str) -> str:
    """The lines that end a search.

    Args:
        search: The search.
        outcome: What it came to.
        tracking: Where the W&B runs are, in a sentence.
    """
    plan, store = search.plan, search.store
    lines = ["", *_best_lines(plan, outcome.ranking)]
    if outcome.significance is not None:
        lines += _wrapped(map(store.manifest.shown.reword, outcome.significance.lines(plan.space.metric.name)))
    sentence, indifferent = recorded_indifference(plan.run, outcome.records)
    for edge in outcome.ranking.edges:
        if edge.name not in indifferent:
            lines += [*_wrapped([edge.sentence()]), f"    {edge.way_out(plan)}"]
    lines += _wrapped([sentence] if sentence else [])
    failed = sum(record.state == "failed" for record in outcome.records)
    if failed:
        trials = count_of(len(outcome.records), "trial")
        text = f"{failed:,} of {trials} failed; the column `reason` of trials.csv says why"
        lines += _wrapped([text], indent="")
    lines += ["", *_test_lines(plan, store, outcome.best), ""]
    folder = f"{short_path(plan.run.folder)}/" + ("" if plan.run.address is None else f", and {plan.run.address}")
    files = "report.html, trials.csv, heatmap.png, curves.png, best/ (model, card, metrics)"
    lines += _wrapped([f"{folder}: {files}"], indent="")
    lines += _wrapped(tracking.splitlines()[:1], indent="")
    lines += [f"    {line}" for line in tracking.splitlines()[1:]]
    if outcome.best.metrics is not None:
        best, data = (shlex.quote(str(short_path(one))) for one in (plan.run.best_dir, store.folder))
        lines += ["all of its scores:", f"    python -m ferray.report evaluate {best} --data {data}"]
    if store.is_demo:
        text = "these were demo faces: this accuracy means nothing for real ones. Real data:"
        lines += [*_wrapped([text], indent=""), f"    {DEMO_COMMAND}"]
    return "\n".join(lines)


def _wrapped(texts: Iterable[str], *, indent: str = "  ") -> list[str]:
    """Texts as lines that fit a terminal; commands are not wrapped, since they are copied."""
    lines: list[str] = []
    for text in texts:
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _test_lines(plan: Plan, store: Store, best: BestModel) -> list[str]:
    """The one test score and what guessing would score, or why there is none."""
    metrics = best.metrics
    if metrics is None and not any(store.manifest.counts["test"].values()):
        return ["no test split, so no test score"]
    if metrics is None:
        text = (
            f"trial {best.record.number} has no test score: the test split was read for another model of this search."
        )
        return [
            *_wrapped([f"{text} To read it once more, on record:"], indent=""),
            f"    {plan.resume_command} --again",
        ]
    scores = metrics.scores
    accuracy = f"{scores.accuracy:.4f} {bracket_text(scores.intervals['accuracy'])}"
    baselines = {name: values["accuracy"] for name, values in scores.baselines.items() if values is not None}
    return [
        f"test accuracy of trial {best.record.number}: {accuracy} on"
        f" {count_of(scores.num_faces, store.manifest.shown.noun)}",
        f"  balanced {scores.balanced_accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}",
        f"  without looking: {baselines['majority']:.4f} for always the most frequent training class,",
        f"  {baselines['constant_guess']:.4f} for the best constant answer, {baselines['chance']:.4f} by chance",
    ]


def _best_lines(plan: Plan, ranking: Ranking) -> list[str]:
    """A table of the five best points; of several trials each, their mean and its spread."""
    points = ranking.points[:5]
    several = any(len(point.records) > 1 for point in ranking.points)
    rows = [_cells(point, several=several) for point in points]
    names = ["trial", "score", *(["+- sd", "trials"] if several else ["epoch"])]
    widths = [max(map(len, texts)) for texts in zip(names, *rows, strict=True)]
    searched = [name for name in plan.space.searched if name != "seed" or not several]
    room = WIDTH - sum(widths) - GAP * (len(widths) - 1)
    settings, left_out = fit_settings(searched, [to_values(point.recipe) for point in points], room=room)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in [*names, *(column.header for column in settings)]:
        table.add_column(name, justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        table.add_row(*row, *(column.cells[place] for column in settings))
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    note = f"score: {plan.space.metric.name}" + (f"; no room for {', '.join(left_out)}" if left_out else "")
    return [*lines, *_wrapped([note])]


def _cells(point: Point, *, several: bool) -> list[str]:
    """Number, mean and, for points of several trials, spread and how many; else the best epoch."""
    best = point.records[0].best()
    assert best is not None
    spread = f"{point.spread:.4f}" if point.spread is not None else ""
    rest = [spread, str(len(point.records))] if several else [str(best.epoch)]
    return [str(point.number), f"{point.mean:.4f}", *rest]
