"""What a search says when it is over, on stdout: the best points, how sure the winner is, the one test score.

Begin at `summarize`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ferray.data.store.reader import Store
from ferray.metrics.intervals import bracket_text
from ferray.records.trial import TrialRecord
from ferray.search.open import Search
from ferray.search.outcome.export import BestModel
from ferray.search.outcome.finals import Ranking
from ferray.search.outcome.significance import Significance
from ferray.search.plan import DEMO_COMMAND, Plan, short_path


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
        lines += [f"  {line}" for line in outcome.significance.lines(plan.space.metric.name)]
    for edge in outcome.ranking.edges:
        lines += [edge.sentence(), f"  {edge.way_out(plan)}"]
    failed = sum(record.state == "failed" for record in outcome.records)
    if failed:
        lines.append(f"{failed} of {len(outcome.records)} trials failed; the column `reason` of trials.csv says why")
    lines += ["", *_test_lines(plan, store, outcome.best), ""]
    lines.append(f"{short_path(plan.run.folder)}/: trials.csv, heatmap.png, curves.png, best/ (model, card, metrics)")
    lines.append(tracking)
    folders = f"{short_path(plan.run.best_dir)} --data {short_path(store.folder)}"
    lines.append(f"score it again: python -m ferray.report evaluate {folders}")
    if store.is_demo:
        lines.append(f"these were demo faces: this accuracy means nothing for real ones. Real data: {DEMO_COMMAND}")
    return "\n".join(lines)


def _test_lines(plan: Plan, store: Store, best: BestModel) -> list[str]:
    """The one test score and what guessing would score, or why there is none."""
    metrics = best.metrics
    if metrics is None and not any(store.manifest.counts["test"].values()):
        return ["no test split, so no test score"]
    if metrics is None:
        return [
            f"trial {best.record.number} has no test score: the test split was read for another model of this search.",
            f"To read it once more, on record: {plan.resume_command} --again",
        ]
    scores = metrics.scores
    accuracy = f"{scores.accuracy:.4f} {bracket_text(scores.intervals['accuracy'])}"
    baselines = {name: values["accuracy"] for name, values in scores.baselines.items() if values is not None}
    return [
        f"test accuracy of trial {best.record.number}: {accuracy} on {scores.num_faces:,}"
        f" faces; balanced {scores.balanced_accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}",
        f"  always the most frequent training class: {baselines['majority']:.4f};"
        f" best constant answer: {baselines['constant_guess']:.4f}; chance: {baselines['chance']:.4f}",
    ]


def _best_lines(plan: Plan, ranking: Ranking) -> list[str]:
    """A table of the five best points; of several trials each, their mean and its spread."""
    metric = plan.space.metric.name
    several = any(len(point.records) > 1 for point in ranking.points)
    lines = [f"{'trial':>5}  {metric:>12}  {'+- sd   trials' if several else 'epoch'}  settings"]
    for point in ranking.points[:5]:
        best = point.records[0].best()
        assert best is not None
        spread = f"{point.spread:.4f}" if point.spread is not None else ""
        column = f"{spread:>6} {len(point.records):>7}" if several else f"{best.epoch:>5}"
        names = [name for name in plan.space.searched if name != "seed" or not several]
        settings = ", ".join(f"{name} {getattr(point.recipe, name)}" for name in names)
        lines.append(f"{point.number:>5}  {point.mean:>12.4f}  {column}  {settings}")
    return lines
